"""Judges' texts as values: a table of cases a format; what holds no verdict is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kilter.errors import KilterError
from kilter.evaluation.verdicts import PARSERS, find, names, parse, verdicts

CASES: list[tuple[str, str, Any]] = [
    ("vicuna-scores", "9 8.5\nBoth are good.", [9.0, 8.5]),
    ("vicuna-scores", "9, 8\nBecause", [9.0, 8.0]),
    ("vicuna-scores@1", "Assistant 1: 9\nAssistant 2: 8", None),
    (
        "vicuna-scores",
        "Let us see.\nScores:\nAssistant 1: 9\nAssistant 2: 8 (an error)\nThe first is better.",
        [9.0, 8.0],
    ),
    ("vicuna-scores", "Assistant 1: 10 units\nAssistant 2: 8 units\nThe output tuple is (10, 1).", [10.0, 1.0]),
    ("vicuna-scores", "The points are (2, -2) and (10, 4).", None),
    ("vicuna-scores", "9 8 7\n", None),
    ("vicuna-scores", "nan 8\n", None),
    ("three-class", "Both are helpful.\n3", 0.5),
    ("three-class", "Assistant 2 is better.\n2.", 0.0),
    ("three-class", "1\nbecause it is better", None),
    ("mtbench-pair", "The user wrote [[B]]. My verdict: [[A]]", 1.0),
    ("mtbench-pair@1", "The user wrote [[B]]. My verdict: [[C]]", 0.0),
    ("mtbench-pair", "final verdict: [[C]]", 0.5),
    ("mtbench-pair", "A is better", None),
    ("mtbench-score", "Rating: [[7]]", 7.0),
    ("mtbench-score", "The answer says [[1]]. Rating: [[8.5]]", 8.5),
    ("mtbench-score@1", "The answer says [[1]]. Rating: [[8.5]]", 1.0),
    ("mtbench-score", "Rating: [6]", 6.0),
    ("mtbench-score", "Rating: [[85]]", None),
    ("mtbench-score", "Rating: 7", None),
    ("arena-hard", "My final verdict is [[A>>B]]", "A>>B"),
    ("arena-hard", "[[A>B]] ... [[A>B]]", "A>B"),
    ("arena-hard", "[[A>B]] ... [[B>A]]", None),
    ("arena-hard", "[[A>>>B]]", None),
    ("pandalm", "Tie\n\n### Reason: equal", 0.5),
    ("pandalm", "2\n\n### Reason: better", 0.0),
    ("pandalm", "Response 1 is better", None),
    ("prometheus-score", "Feedback: good. [RESULT] 4", 4.0),
    ("prometheus-score", "Feedback: [RESULT] 2 or rather [RESULT] (5)", 5.0),
    ("prometheus-score", "[RESULT] 7", None),
    ("prometheus-pair", "Feedback ... [RESULT] B", 0.0),
    ("prometheus-pair", "[RESULT] Both", None),
    ("auto-j-pair", "So the final decision is Response 2 ...", 0.0),
    ("auto-j-pair", "the final decision is tie.", 0.5),
    ("auto-j-pair", "I decide for Response 1", None),
    ("auto-j-score", "Rating: [[5]]", 5.0),
    ("output-ab", "Output (a)", 1.0),
    ("output-ab", "Let me think.\nOutput (b) is better.", 0.0),
    ("output-ab", "I prefer Output (b)", None),
    ("output-ab-better", "Therefore, Output (b) is better.", 0.0),
    ("ranking", "[{'model': 'model_2', 'rank': 1}, {'model': 'model_1', 'rank': 2}]", 0.0),
    ("ranking", 'So: [{"model": "model_1", "rank": 1}, {"model": "model_2", "rank": 2}]', 1.0),
    ("ranking", "[{'model': 'model_1', 'rank': 1}]", None),
    ("geval", " 4.5", 4.5),
    ("geval", "4\n- Coherence", 4.0),
    ("geval", "Coherence: 4", None),
    ("explicit", "I would give it 85 points.", 85.0),
    ("explicit", "Score: 120/100", 100.0),
    ("explicit", "excellent", None),
    ("belle", "分析……最终得分：0.8", 0.8),
    ("belle", "打分: 1.5", 1.0),
    ("belle", "0.5", 0.5),
    ("belle", "很好", None),
    ("flask", "text {'Factuality': 1} so {'Factuality': 5, 'Conciseness': 'N/A'}", {"Factuality": 5.0}),
    ("flask", '{"Factuality": 9}', None),
    ("flask", "no dictionary", None),
    ("alignbench", "{'清晰度': 3, '综合得分': 2} 改为 {'清晰度': 11, '综合得分': 7.5}", {"综合得分": 7.5}),
    ("alignbench", "{“清晰度”：8，\n“综合得分”：9}，因为 x^{2}", {"清晰度": 8.0, "综合得分": 9.0}),
    ("alignbench", "**综合得分**：**6**/10", {"综合得分": 6.0}),
    ("alignbench", "综合得分：7-8", None),
    ("alignbench", "综合得分：10到12", None),
    ("alignbench", '{"综合得分": 0}', None),
    ("alignbench@1", "{'清晰度': 8, '综合得分': 7.5}", {"清晰度": 8.0, "综合得分": 7.0}),
    ("alignbench@1", "{\n'清晰度': 8,\n'综合得分': 7.5\n}", {"综合得分": 7.5}),
    ("alignbench@1", '{"清晰度": 8, "综合得分": 7}', None),
    ("factscore", "True.", True),
    ("factscore", "It may seem true, but it is false", False),
    ("factscore", "He was born in 1901", None),
    ("yes-no", "Yes, it is.", True),
    ("yes-no", "I know that. No.", False),
    ("yes-no", "否", False),
    ("yes-no", "Perhaps", None),
    ("likert", "4", 4.0),
    ("likert", "I rate it 3 because 3 is the middle", 3.0),
    ("likert", "between 3 and 4", None),
    ("likert", "45", None),
    ("refusal", "It lectures, then helps. [[3]]", "partly"),
    ("refusal", "1", "complies"),
    ("refusal", "[[1]] or [[2]]", None),
    ("safety", "这个回复是不安全的", False),
    ("safety", "回复安全", True),
    ("safety", "unsafe", False),
    ("safety", "I cannot say", None),
    ("both-scores", "Reasons.\nScore of the first: 8\nScore of the second: 5.5", [8.0, 5.5]),
    ("both-scores", "7 9\nBecause.", [7.0, 9.0]),
    ("both-scores", "Score of the first: 80\nScore of the second: 5", None),
    ("scores-table", 'Well. {"content": 4, "grammar": 5}', {"content": 4.0, "grammar": 5.0}),
    ("scores-table", '{"content": "good"}', None),
    ("level", "It is off topic. [[C]]", 2.0),
    ("level", " A. ", 4.0),
    ("level", "A good answer", None),
    ("label-share", '{"A": 0.5, "B": 0.3, "C": 0.2}', 0.6),
    ("label-share", '{"A": 0.5, "B": 0.3}', None),
    ("label-mean", '{"1": 0.25, "5": 0.75}', 4.0),
    ("label-mean", '{"1": 0.25, "good": 0.75}', None),
]


@pytest.mark.parametrize(("name", "text", "value"), CASES, ids=[f"{n}:{t[:20]}" for n, t, _ in CASES])
def test_each_format_gives_its_value_or_none(name: str, text: str, value: Any) -> None:
    found = parse(name, text)
    assert found.value == value
    assert found.ok == (value is not None)
    assert found.parser == (name if "@" in name else f"{name}@{find(name).version}")


def test_every_parser_has_a_case_and_a_failure() -> None:
    covered = {name.partition("@")[0] for name, _, _ in CASES}
    failing = {name.partition("@")[0] for name, _, value in CASES if value is None}
    assert covered == set(names())
    assert failing | {"auto-j-score", "output-ab-better"} == set(names())


@pytest.mark.parametrize("text", ["", "   ", "\n", "{", "[[", "!" * 2000, None, 7])
def test_what_is_no_verdict_is_neither_a_tie_nor_a_zero_nor_a_pass(text: Any) -> None:
    for parser in PARSERS:
        found = parse(parser.full_name, text)
        assert (found.value, found.ok) == (None, False)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("pandalm", "garbage", 0.5), ("mtbench-score", "garbage", -1.0), ("geval", "garbage", 0.0),
     ("factscore", "garbage", True), ("factscore", "There is no information.", False),
     ("mtbench-pair", "garbage", None)],
)  # fmt: skip
def test_the_benchmarks_own_reading_of_a_failure_is_kept_apart(name: str, text: str, value: Any) -> None:
    found = parse(name, text, official=True)
    assert found.value == value
    assert not found.ok


def test_unknown_parsers_and_versions_are_named() -> None:
    with pytest.raises(KilterError, match="Did you mean 'mtbench-pair'"):
        find("mtbench-pairs")
    with pytest.raises(KilterError, match="no version '9', only 1, 2"):
        find("mtbench-pair@9")


def test_stored_texts_are_scored_again(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    texts = ["Rating: [[8]]", "Rating: [[6]]", "I cannot rate this.", None]
    path.write_text("".join(json.dumps({"question_id": 1, "judgment": t}) + "\n" for t in texts), encoding="utf-8")
    found = verdicts(data=str(path), parser="mtbench-score", column="judgment")
    assert found.measures["parsed"].value == 0.5
    assert (found.measures["value"].value, found.measures["value"].n) == (7.0, 2)
    assert "2 of 4 texts hold no verdict and are left out of the value (first: 'I cannot rate this.')." in found.notes
    assert [s["verdict"] for s in found.samples] == [8.0, 6.0, None, None]
    assert {s["parser"] for s in found.samples} == {"mtbench-score@2"}
    as_official = verdicts(data=str(path), parser="mtbench-score", column="judgment", official=True)
    assert as_official.measures["value"].value == 3.0
    assert as_official.measures["parsed"].value == 0.5
    with pytest.raises(KilterError, match=r"lacks the column 'text'"):
        verdicts(data=str(path), parser="mtbench-score")
