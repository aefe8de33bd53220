"""A report of judged runs: the judge's panel, the parts of the score, and no biases among the comparisons."""

from __future__ import annotations

import json
import re

from kilter import report
from kilter.evaluation import result
from kilter.evaluation.result import Evaluation, dimension, group_of
from kilter.evaluation.statistics import summarize


def evaluation(model: str, score: float, bias: float) -> Evaluation:
    samples = []
    for at in range(40):
        kind = ("math", "code", "prose")[at % 3]
        value = score + at % 2
        outcomes = {
            "score": value,
            f"category:{kind}": value,
            "judge:position": bias if at % 5 else 0.0,
            "judge:parsed": 1.0,
        }
        samples.append(
            {"id": str(at), "prompt": [{"role": "user", "content": f"q{at}"}], "response": "a", "family": kind,
             "language": "", "outcomes": outcomes}
        )  # fmt: skip
    return Evaluation(model, summarize(samples), samples, suite="judge", seed=0)


def run(folder, bias: float = 1.0):
    stage = folder / "stages" / "judged"
    stage.mkdir(parents=True)
    result.write(evaluation("a", 4.0, bias), stage / "base.json")
    result.write(evaluation("b", 6.0, 0.0), stage / "sft.json")
    models = {"base": "a", "sft": "b"}
    stages = [
        {
            "name": "judged",
            "kind": "eval",
            "method": "judge",
            "folder": "stages/judged",
            "status": "done",
            "models": models,
        }
    ]
    (folder / "run.json").write_text(json.dumps({"name": "judged", "stages": stages}))
    return report.build(folder)


def test_dimensions_of_the_judge_and_of_parts_are_no_comparisons():
    assert group_of("judge:position") == "judge"
    assert group_of("stage:category:math") == "category"
    assert group_of("stage:score") == ""
    assert group_of("score") == ""
    assert dimension("judge:position").follows
    assert dimension("category:math").follows
    assert dimension("judge:position").direction == "zero"


def test_the_judges_biases_have_a_panel_of_their_own_and_decide_nothing(tmp_path):
    page = run(tmp_path).read_text(encoding="utf-8")
    panel = re.search(r'<section id="judge">(.*?)</section>', page, re.DOTALL).group(1)
    assert "prefers what it is shown first" in panel
    assert "shows no position bias beyond chance" in panel or "0.0" in panel
    changed = re.search(r'<section id="results">(.*?)</section>', page, re.DOTALL).group(1)
    assert "Position bias" not in changed
    told = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert {c["dimension"] for c in told["comparisons"]} == {"score"}
    assert "judge:position" in told["results"]["base"]
    assert "## The judge" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_categories_are_drawn_as_a_radar_with_a_table_below(tmp_path):
    page = run(tmp_path).read_text(encoding="utf-8")
    part = re.search(r'<section id="parts">(.*?)</section>', page, re.DOTALL).group(1)
    assert part.count("<polygon") == 4 + 2  # the web, and a line a model
    for kind in ("math", "code", "prose"):
        assert f">{kind}</text>" in part
    assert '<a href="#parts">' in page
