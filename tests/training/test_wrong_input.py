"""Wrong data for objectives that learn from records: refused in a sentence, or left out and counted; never a NaN."""

import json
import math

import pytest

from kilter import registry
from kilter.errors import KilterError
from kilter.records import Demonstration, Group, Message
from kilter.training.blank import without_blanks
from kilter.training.objective import kind_of, online_of, role_of
from kilter.training.run import options_of, train

FAST = {"steps": 2, "batch_size": 8, "max_length": 64, "log_every": 1, "learning_rate": 1e-2, "precision": "fp32"}
ASK = [Message("user", "is it blue?")]
# Objectives over responses, which need a better and a worse one, or good and bad ones.
COMPARING = [
    row.id
    for row in registry.methods("training")
    if kind_of(row.function) in ("pairs", "scores", "labels")
    and online_of(row.function) is None
    and role_of(row.function) == "policy"
    and row.function.__module__.startswith("kilter.")
]
OURS = [
    "bco",
    "conditional-bc",
    "cringe",
    "dpo",
    "dpo-hinge",
    "dpo-listwise",
    "dpo-robust",
    "f-dpo",
    "ipo",
    "kto",
    "orpo",
    "pro",
    "rrhf",
    "simpo",
    "slic",
    "slic-hf",
    "unlikelihood",
]


def good(count=4):
    return [
        Group([Message("user", f"is {i} blue?")], ["it is blue", "no", "it"], scores=[1.0, 0.0, 0.5])
        for i in range(count)
    ]


def run(method, data, model, tmp_path, **options):
    return train(method, model=model, data=data, out=tmp_path / "out", say=lambda notes: None, **FAST | options)


def test_the_table_has_every_one_of_them():
    assert set(OURS) <= set(COMPARING)


@pytest.mark.parametrize("method", OURS)
def test_what_teaches_nothing_is_left_out_and_the_rest_is_learned(tiny_model, tmp_path, method):
    """Ties, one response alone, no scores, an empty response and one that is too long, beside four that are right."""
    wrong = [
        Group(ASK, ["a", "b"], scores=[1.0, 1.0]),
        Group(ASK, ["a"], scores=[1.0]),
        Group(ASK, ["a", "b"]),
        Group(ASK, ["yes", " \n"], scores=[1.0, 0.0]),
        Group(ASK, ["yes", "it is " * 60], scores=[1.0, 0.0]),
    ]
    done = run(method, [*good(), *wrong], tiny_model, tmp_path)
    assert all(math.isfinite(loss) for loss in done.losses)
    said = " ".join(done.notes)
    assert "1 empty response left out." in said
    assert "over 64 tokens" in said
    lines = (tmp_path / "out" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    for line in lines:
        assert all(math.isfinite(value) for value in json.loads(line).values())


@pytest.mark.parametrize("method", ["dpo", "rrhf", "slic", "kto", "cringe"])
@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([Group(ASK, ["a", "b"], scores=[2.0, 2.0])], "no pair of a better|scores that differ"),
        ([Group(ASK, ["a", "b"])], "no pair of a better|no responses with scores"),
        ([Group(ASK, ["a", "b"], scores=[1.0, math.nan])], "has the score nan; leave that record out or score it"),
        ([Group(ASK, ["a", "b"], scores=[-math.inf, 0.0])], "has the score -inf"),
        ([Group(ASK, ["", " "], scores=[1.0, 0.0])], "no pair of a better|no responses with scores"),
        ([Demonstration([*ASK, Message("assistant", "yes")])], "no pair of a better|no responses with scores"),
    ],
)
def test_where_nothing_is_left_it_is_said_before_a_model_is_touched(tiny_model, tmp_path, method, data, said):
    with pytest.raises(KilterError, match=said) as raised:
        run(method, data, tiny_model, tmp_path)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", [name for name in OURS if "beta" in registry.find(name, "training").options])
@pytest.mark.parametrize("beta", [0.0, -0.1, math.inf, math.nan])
def test_a_beta_that_makes_no_sense_is_refused(method, beta):
    # What beta only weighs may be 0: then nothing of it is learned.
    if method == "orpo" and beta == 0.0:
        return
    with pytest.raises(KilterError, match=f"Option 'beta' of method '{method}'"):
        registry.validate(options_of(registry.find(method, "training")), {"beta": beta}, f"method '{method}'")


def test_scores_that_are_missing_in_a_file_are_told_with_their_line(tiny_model, tmp_path):
    rows = [{"prompt": f"is {i} blue?", "responses": ["yes", "no"], "scores": [1.0, 0.0]} for i in range(4)]
    rows[1]["scores"] = [1.0]
    rows[2]["scores"] = [None, 0.0]
    file = tmp_path / "scored.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    done = run("rrhf", file, tiny_model, tmp_path)
    rejected = [json.loads(line) for line in (tmp_path / "out.rejects.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["line"] for row in rejected] == [2, 3]
    assert "2 lines could not be read" in done.notes[0]
    assert all(math.isfinite(loss) for loss in done.losses)


def test_blank_responses_go_with_what_is_known_of_them():
    group = Group(ASK, ["a", "", "c"], scores=[1.0, 5.0, 2.0], ranking=[2, 0, 1], labels=[True, True, False])
    talk = Demonstration([*ASK, Message("assistant", "hm"), *ASK, Message("assistant", "\t")])
    found, notes = without_blanks([group, talk, Group(ASK, [" "]), good(1)[0]])
    assert (found[0].responses, found[0].scores, found[0].ranking) == (["a", "c"], [1.0, 2.0], [2, 1])
    assert found[0].labels == [True, False]
    assert len(found) == 2
    assert notes == ["3 empty responses left out."]
    assert without_blanks(good()) == (good(), [])
