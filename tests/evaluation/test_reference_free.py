"""G-Eval, GPTScore, explicit scores, LLM-Eval, rubrics of tasks, and a model in the place of people."""

from __future__ import annotations

import json
import math

import pytest
from judges import Says

from kilter.errors import KilterError
from kilter.evaluation import result
from kilter.evaluation.explicit import explicit
from kilter.evaluation.geval import geval
from kilter.evaluation.given import correlation, texts
from kilter.evaluation.gptscore import gptscore, mean_logprob, rephrased, trimmed
from kilter.evaluation.llm_human_alt import filled, llm_human_alt, welch
from kilter.evaluation.llmeval import llmeval
from kilter.evaluation.rescore import rescore
from kilter.evaluation.task_judges import RUBRICS, task_judges
from kilter.feedback.judge import Case
from kilter.models.drive import wait
from kilter.records import Demonstration, Group, Message, Prompt

USER = Message("user", "Sum it up.")


def groups(n: int = 3) -> list[Group]:
    return [Group([Message("user", f"doc {at}")], ["t1", "t3", "t5"], scores=[1.0, 2.0, 3.0]) for at in range(n)]


def says_its_number(messages, sampling, k) -> str:
    """A judge that reads the number in `t3`."""
    return messages[-1].content.split("[Answer]")[1].split("t")[1][0]


# ------------------------------------------------------------------------------------------------------------- G-Eval


def test_geval_is_the_sum_of_scores_by_their_probabilities():
    said = ["4"] * 10 + ["5"] * 6 + ["2"] * 4

    def judge(messages, sampling, k):
        return "1. Read.\n2. Judge." if sampling.n == 1 else said[k]

    asked = Says(judge)
    found = wait(geval([Demonstration([USER, Message("assistant", "text")])], judge=asked, probes=0))
    assert found.measures["score"].value == pytest.approx(0.5 * 4 + 0.3 * 5 + 0.2 * 2)
    assert len(found.samples[0]["judgements"]) == 20
    assert "1. Read.\n2. Judge." in asked.asked[1]  # the steps it wrote itself stand in the form
    assert "coherence (1 to 5)" in asked.asked[1]


def test_geval_leaves_out_what_is_no_number_in_range_and_says_how_much():
    said = ["4", "9", "well", "2"]
    found = wait(
        geval(
            [Demonstration([USER, Message("assistant", "t")])],
            judge=Says(lambda m, s, k: said[k]), evidences=4, steps="Read it.", probes=0,
        )
    )  # fmt: skip
    assert found.measures["score"].value == 3  # not (4 + 0 + 0 + 2) / 4
    assert found.measures["judge:parsed"].value == 0.5
    assert any("2 of 4 judgements hold no verdict" in note for note in found.notes)


def test_geval_by_the_probabilities_of_a_real_model_equals_them(tiny_model):
    from kilter.models.local import Local

    local = Local(str(tiny_model))
    record = Demonstration([USER, Message("assistant", "t")])
    found = wait(geval([record], judge=local, verdict="logprobs", steps="Read.", probes=0, low=1, high=3))
    spread = json.loads(found.samples[0]["judgements"][0]["text"])
    assert list(spread) == ["1", "2", "3"]
    assert sum(spread.values()) == pytest.approx(1)
    assert found.measures["score"].value == pytest.approx(sum(int(s) * p for s, p in spread.items()))


def test_correlations_are_by_record_and_skip_constant_ones(tmp_path):
    assert correlation([(1, 1), (1, 2)]) is None
    assert correlation([(1, 2), (2, 2)]) is None
    assert correlation([(1, 1), (2, 3), (3, 2)])[0] == pytest.approx(0.5)
    flat = Group([Message("user", "flat")], ["t1", "t5"], scores=[1.0, 1.0])
    found = wait(geval([*groups(), flat], judge=Says(says_its_number), steps="s", evidences=1, probes=0))
    assert found.measures["spearman"].value == pytest.approx(1)
    assert found.measures["kendall"].n == 3
    assert any("1 of 4 records" in note for note in found.notes)
    result.write(found, tmp_path / "g.json")
    assert rescore(data=str(tmp_path / "g.json")).measures["score"] == found.measures["score"]


def test_geval_refuses_what_it_cannot_do():
    with pytest.raises(KilterError, match="What 'beauty' means is not known"):
        wait(geval(groups(), judge=Says(says_its_number), criterion="beauty"))
    with pytest.raises(KilterError, match="lowest one below the highest"):
        wait(geval(groups(), judge=Says(says_its_number), low=5, high=1))
    with pytest.raises(KilterError, match="hold no responses"):
        wait(geval([Prompt([USER])], judge=Says(says_its_number), steps="s"))
    assert len(texts([Prompt([USER])], Says(says_its_number))) == 1  # a model writes it


# ------------------------------------------------------------------------------------------------------------ GPTScore


class Known:
    """Log-probs by hand: each character of the text has the one that stands for it."""

    name = "known"

    def __init__(self, table: dict[str, float]) -> None:
        self.table = table
        self.asked: list[tuple[str, str]] = []

    async def ask(self, messages, sampling):
        raise NotImplementedError

    async def score(self, messages, response):
        self.asked.append((messages[-1].content, response))
        return [*(self.table.get(c, -1.0) for c in response), -9.0]


def test_gptscore_is_the_mean_log_prob_of_the_texts_tokens():
    model = Known({"a": -0.5, "b": -1.5})
    found = wait(gptscore(model, [Group([USER], ["aab.", "bb"], scores=[2.0, 1.0])]))
    assert [s["outcomes"]["score"] for s in found.samples] == [pytest.approx(-2.5 / 3), -1.5]
    assert model.asked[0][1] == "aab"  # the full stop is left out
    assert found.measures["spearman"].value == pytest.approx(1)
    assert trimmed("好。") == "好"


def test_gptscores_directions_are_means_and_the_best_reference_counts():
    model = Known({"a": -0.5, "b": -1.5})
    assert wait(rephrased(model, "bb", "aa", "is good")) == -0.5
    assert "In other words," in model.asked[-1][0]
    record = Group([USER], ["aa"], meta={"reference": "bb"})
    scores = {
        d: wait(gptscore(model, [record], direction=d)).measures["score"].value for d in ("precision", "recall", "f")
    }
    assert scores == {"precision": -0.5, "recall": -1.5, "f": -1.0}
    with pytest.raises(KilterError, match="needs references"):
        wait(gptscore(model, groups(), direction="f"))
    with pytest.raises(KilterError, match="What 'taste' means"):
        wait(gptscore(model, groups(), aspect="taste"))


def test_gptscore_of_a_real_model_is_the_mean_of_its_score(tiny_model):
    from kilter.models.local import Local

    local = Local(str(tiny_model))
    told = wait(local.score([USER], "it is blue"))
    assert wait(mean_logprob(local, [USER], "it is blue.")) == pytest.approx(math.fsum(told[:-1]) / (len(told) - 1))


# ----------------------------------------------------------------------------------------------------- explicit scores


def test_an_explicit_score_is_held_between_0_and_100():
    said = {"t1": "140", "t3": "-5 points", "t5": "no idea"}
    judge = Says(lambda m, s, k: next(v for t, v in said.items() if t in m[-1].content))
    found = wait(explicit(groups(1), judge=judge, probes=0))
    assert sorted(s["outcomes"].get("score", -1) for s in found.samples) == [-1, 0, 100]
    assert found.measures["judge:parsed"].value == pytest.approx(2 / 3)


def test_an_implicit_score_is_the_share_of_yes_in_yes_and_no():
    class Sure(Known):
        async def score(self, messages, response):
            return [math.log(0.6 if response == "Yes" else 0.2), -5.0]

    found = wait(explicit(groups(1), judge=Sure({}), by="implicit", probes=0))
    assert found.measures["score"].value == pytest.approx(0.75)


def test_pairs_are_held_against_what_people_say():
    def judge(messages, sampling, k):
        text = messages[-1].content
        first, second = (text.split(f"[Answer {x}]")[1].strip()[:2] for x in "AB")
        return "[[A]]" if first > second else "[[B]]"

    found = wait(explicit(groups(2), judge=Says(judge), by="pairwise", probes=0))
    assert (found.measures["accuracy"].value, found.measures["accuracy"].n) == (1.0, 6)
    with pytest.raises(KilterError, match="scored or ranked"):
        wait(explicit([Prompt([USER])], judge=Says(judge), by="pairwise"))


# ---------------------------------------------------------------------------------------------------- tables of scores


def test_llm_eval_asks_once_for_all_dimensions_and_refuses_another_schema():
    table = {"appropriateness": 5, "content": 4, "grammar": 5, "relevance": 2}
    judge = Says(lambda *_: json.dumps(table))
    found = wait(llmeval([Demonstration([USER, Message("assistant", "t")])], judge=judge, probes=0))
    assert len(judge.asked) == 1
    assert found.measures["score"].value == 4
    assert found.measures["skill:relevance"].value == 2
    for wrong in ({**table, "grammar": 7}, {"content": 4}, {**table, "grammar": "fine"}):
        answer = json.dumps(wrong)
        with pytest.raises(KilterError, match="No answer has a verdict"):
            wait(
                llmeval(
                    [Demonstration([USER, Message("assistant", "t")])], judge=Says(lambda *_, a=answer: a), probes=0
                )
            )
    percent = wait(llmeval(groups(1), judge=Says(lambda *_: json.dumps(dict.fromkeys(table, 80))), scale="0-100"))
    assert percent.measures["score"].value == 80
    assert percent.measures["judge:verbosity"].value == 0


def test_another_rubric_changes_the_prompt_and_nothing_else():
    prompts = []
    for task, rubric in RUBRICS.items():
        answer = json.dumps(dict.fromkeys(rubric.dimensions, rubric.most))
        judge = Says(lambda *_, a=answer: f"Thinking. {a}")
        found = wait(task_judges(groups(1), judge=judge, task=task, probes=0))
        assert found.measures["score"].value == rubric.most
        assert len(judge.asked) == 3
        prompts.append(judge.asked[0])
    assert len(set(prompts)) == len(RUBRICS)
    assert RUBRICS["code"].most == 4


# --------------------------------------------------------------------------------------------- in the place of people


def test_the_model_and_people_are_given_the_same_sheet(tmp_path):
    judge = Says(lambda m, s, k: "345"[k])
    records = [Demonstration([USER, Message("assistant", f"text {at}")]) for at in range(3)]
    path = tmp_path / "sheets.md"
    found = wait(llm_human_alt(records, judge=judge, sheet=str(path), probes=0))
    assert found.measures["score"].value == 4
    written = path.read_text(encoding="utf-8")
    for asked in judge.asked:
        assert asked in written
    sheet = filled(Case("q"), "r", "How good? (1 to 5)")[-1].content
    assert "How good? (1 to 5)" in sheet


def test_people_and_model_are_compared_in_their_means(tmp_path):
    records = [Demonstration([USER, Message("assistant", f"text {at}")], id=f"d{at}") for at in range(6)]
    judge = Says(lambda m, s, k: str(2 + int(m[-1].content.split("[Answer]\ntext ")[1][0]) // 2))
    rows = [{"id": f"d{at}", "rating": 1 + at // 2, "rater": r} for at in range(6) for r in "xy"]
    path = tmp_path / "people.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"id": "d0", "rating": "good"}]))
    found = wait(llm_human_alt(records, judge=judge, people=str(path), probes=0))
    assert found.measures["difference"].value == pytest.approx(1.0)
    assert found.measures["spearman"].value == pytest.approx(1.0)
    assert found.measures["people"].value == 2
    assert any("1 of 13 ratings" in note for note in found.notes)
    assert welch([1, 2, 3], [1, 2, 3]).p == pytest.approx(1)
    assert welch([5, 5], [1, 1]).p == 0
    path.write_text('{"id": "z", "rating": 3}')
    with pytest.raises(KilterError, match="rates none of these texts"):
        wait(llm_human_alt(records, judge=judge, people=str(path), probes=0))
    with pytest.raises(KilterError, match="There is no question for 'depth'"):
        wait(llm_human_alt(records, judge=judge, attribute="depth"))
