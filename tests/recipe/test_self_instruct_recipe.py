"""The shipped recipe that grows its own data: it resolves, its stages fit together, its data stages run for real."""

from kilter import formats, registry
from kilter.models.desk import Desk
from kilter.models.teacher import known
from kilter.recipe.making import make_file
from kilter.recipe.plan import check_literals, plan
from kilter.recipe.resolve import resolve


def test_its_stages_fit_together():
    steps = plan(resolve("self-instruct"))
    assert [(step.name, step.method.id) for step in steps] == [
        ("seeds", "world-demonstrations"), ("instructions", "self-instruct"), ("filtered", "quality"), ("sft", "sft"),
        ("evaluation", "world"),
    ]  # fmt: skip
    check_literals(steps)


def test_its_data_is_true_and_nothing_is_asked_twice(tmp_path):
    recipe = resolve("self-instruct")

    def stage(name, number, **more):
        method = registry.find(recipe.stages[name].data, "data")
        out, rejects = tmp_path / f"{name}.jsonl", tmp_path / f"{name}.rejects.jsonl"
        options = {**recipe.stages[name].options, **number}
        return make_file(method, options, out=out, rejects=rejects, desk=Desk(tmp_path / "journal", local=True), **more)

    stage("seeds", {"n": 60})
    first = stage("instructions", {"n": 40}, model="kilter/teacher", records=tmp_path / "seeds.jsonl")
    assert first.records >= 40
    text = (tmp_path / "instructions.jsonl").read_bytes()
    again = stage("instructions", {"n": 40}, model="kilter/teacher", records=tmp_path / "seeds.jsonl")
    assert again.account["requests"] == first.account["requests"]
    assert (tmp_path / "instructions.jsonl").read_bytes() == text
    stage("filtered", {}, records=tmp_path / "instructions.jsonl")
    kept = formats.read(tmp_path / "filtered.jsonl", want="demonstrations").records
    assert len(kept) >= 40
    assert all(known(r.messages[:-1]).judged(r.messages[-1].content).reward == 1 for r in kept)
