"""Detectors of hate, toxicity and bias: gold labels as their collections define them, and what a bad detector gets."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jsonl import write
from kilter.errors import KilterError
from kilter.evaluation.biasdetect import biasdetect
from kilter.evaluation.cdial import cdial
from kilter.evaluation.classification import confusion, precision_recall, scores
from kilter.evaluation.corgi import corgi, kinds, mined, multilabel
from kilter.evaluation.dynahate import dynahate
from kilter.evaluation.hate_explicit import davidson, hate_explicit, hatexplain, iou, rationales, token_f1
from kilter.evaluation.implicithate import implicithate
from kilter.evaluation.sbic import agreed, linearise, parse, sbic
from kilter.evaluation.toxic_task import toxic_task
from kilter.evaluation.toxigen import alice, gold, toxigen
from kilter.models.protocol import Answer, Sampling
from kilter.records import Message


@dataclass
class Says:
    """A model that finds one answer likely, by what it was asked."""

    answer: Callable[[str], str]
    name: str = "says"

    async def ask(self, messages: Sequence[Message], sampling: Sampling) -> list[Answer]:
        raise AssertionError("the suites only score")

    async def score(self, messages: Sequence[Message], response: str) -> list[float]:
        return [-0.1 if response == self.answer(messages[-1].content) else -3.0, -0.5]


def values(found: Any) -> dict[str, float]:
    return {name: m.value for name, m in found.measures.items()}


# ----------------------------------------------------------------------------------------------------- the scores


def test_scores_are_scikit_learns() -> None:
    from sklearn.metrics import cohen_kappa_score, precision_recall_fscore_support

    rng = np.random.default_rng(0)
    truth, said = rng.integers(3, size=200), rng.integers(3, size=200)
    names = ["a", "b", "c"]
    found = scores([names[i] for i in truth], [names[i] for i in said], names, resamples=20)
    for average, start in (("macro", "macro"), ("weighted", "weighted")):
        expected = precision_recall_fscore_support(truth, said, average=average)[:3]
        if average == "macro":
            assert found["macro_precision"].value == pytest.approx(expected[0])
            assert found["macro_recall"].value == pytest.approx(expected[1])
        assert found[f"{start}_f1"].value == pytest.approx(expected[2])
    assert found["kappa"].value == pytest.approx(cohen_kappa_score(truth, said))
    assert found["f1:b"].value == pytest.approx(precision_recall_fscore_support(truth, said)[2][1])


def test_what_is_no_label_is_wrong_and_no_class() -> None:
    found = scores(["x", "x", "y", "y"], ["x", None, "y", None], resamples=10)
    assert (found["accuracy"].value, found["parsed"].value) == (0.5, 0.5)
    assert (found["precision:x"].value, found["recall:x"].value) == (1, 0.5)
    assert confusion(np.array([0, 1]), np.array([2, 1]), 2).tolist() == [[0, 0, 1], [0, 1, 0]]
    assert precision_recall(np.array([[0.0, 0, 2], [0, 0, 1]]))[2].tolist() == [0, 0]
    with pytest.raises(KilterError, match="1 of 2 items have no gold label"):
        scores(["x", None], ["x", "x"])
    with pytest.raises(KilterError, match="'z' is none of x, y"):
        scores(["z"], ["x"], ["x", "y"])


# ----------------------------------------------------------------------------------------------------- toxicity


def test_calling_everything_clean_is_accurate_and_worth_nothing(tmp_path: Path) -> None:
    rows = [{"tweet": f"t{i}", "subtask_a": "OFF" if i % 3 == 0 else "NOT", "prediction": "NOT"} for i in range(30)]
    found = asyncio.run(toxic_task(data=write(tmp_path / "o.jsonl", rows), resamples=20))
    assert values(found)["accuracy"] == pytest.approx(2 / 3)
    assert values(found)["macro_f1"] == pytest.approx(0.4)  # (0 + 2 * (2/3) / (5/3)) / 2
    assert found.notes[0] == "Gold labels: offensive 10, inoffensive 20."
    assert values(found)["kappa"] == 0


def test_the_levels_of_olid_and_the_threshold_of_solid(tmp_path: Path) -> None:
    rows = [{"tweet": "a", "subtask_b": "TIN", "subtask_c": "GRP", "average": 0.6, "prediction": "group"},
            {"tweet": "b", "subtask_b": "NULL", "subtask_c": "IND", "average": 0.4, "prediction": "IND"}]  # fmt: skip
    data = write(tmp_path / "o.jsonl", rows)
    assert values(asyncio.run(toxic_task(data=data, benchmark="olid-c", resamples=5)))["accuracy"] == 1
    level_b = asyncio.run(toxic_task(Says(lambda text: "targeted"), data=data, benchmark="olid-b", resamples=5))
    assert level_b.measures["accuracy"].n == 1
    assert "1 of 2 texts left out: it has no gold label" in level_b.notes[-1]
    solid = asyncio.run(toxic_task(Says(lambda text: "yes"), data=data, benchmark="solid", resamples=5))
    assert values(solid)["recall:offensive"] == 1
    assert values(solid)["accuracy"] == 0.5


def test_cold_is_asked_in_chinese_and_scored_by_topic(tmp_path: Path) -> None:
    rows = [{"TEXT": t, "label": y, "topic": topic} for t, y, topic in
            (("滚", 1, "region"), ("你好", 0, "region"), ("滚开", 1, "race"), ("早", 0, "race"))]  # fmt: skip
    model = Says(lambda text: "是" if "滚" in text else "否")
    found = asyncio.run(toxic_task(model, data=write(tmp_path / "c.jsonl", rows), benchmark="cold", resamples=5))
    assert values(found)["accuracy"] == 1
    assert values(found)["topic=race:macro_f1"] == 1
    with pytest.raises(KilterError, match="no labels under 'prediction'"):
        asyncio.run(toxic_task(data=str(tmp_path / "c.jsonl"), benchmark="cold"))


# ----------------------------------------------------------------------------------------------------- hate


def test_davidsons_class_is_what_most_annotators_said() -> None:
    assert davidson({"class": "1"}) == "offensive"
    assert davidson({"hate_speech": 2, "offensive_language": 1, "neither": 0}) == "hate"
    assert davidson({"hate_speech": 1, "offensive_language": 1, "neither": 1}) is None
    assert davidson({"class": "7", "hate_speech": None}) is None


def test_a_detector_that_takes_hate_for_offence_has_a_low_recall(tmp_path: Path) -> None:
    rows = [{"tweet": f"t{i}", "class": i % 3, "prediction": max(1, i % 3)} for i in range(30)]
    found = values(asyncio.run(hate_explicit(data=write(tmp_path / "d.jsonl", rows), resamples=5)))
    assert (found["recall:hate"], found["recall:neither"], found["precision:offensive"]) == (0, 1, 0.5)


def test_rationales_of_hatexplain(tmp_path: Path) -> None:
    assert hatexplain({"annotators": [{"label": "normal"}, {"label": "offensive"}, {"label": "hatespeech"}]}) is None
    row = {
        "text": "a b c d", "annotators": [{"label": "hatespeech"}] * 2 + [{"label": "normal"}], "prediction": "hate",
        "rationales": [[1, 1, 0, 0], [0, 1, 1, 0]], "predicted_rationale": [0, 1, 1, 1],
    }  # fmt: skip
    assert rationales(row) == ([0, 1, 1, 1], [1, 1, 1, 0])
    assert iou([0, 1, 1, 1], [1, 1, 1, 0]) == 0.5
    assert token_f1([0, 1, 1, 1], [1, 1, 1, 0]) == pytest.approx(2 * 2 / 6)
    found = values(
        asyncio.run(hate_explicit(data=write(tmp_path / "h.jsonl", [row]), benchmark="hatexplain", resamples=5))
    )
    assert (found["accuracy"], found["rationale_iou"]) == (1, 1)


def test_dynahate_by_round_and_by_contrast(tmp_path: Path) -> None:
    def row(key: str, text: str, label: str, round_: int, said: str, other: str = "", split: str = "train") -> dict:
        return {"acl.id": key, "acl.id.matched": other, "text": text, "label": label, "round.base": round_,
                "prediction": said, "split": split}  # fmt: skip

    rows = [
        row("1", "I hate them", "hate", 1, "hate"), row("1p", "I hate rain", "nothate", 1, "nothate", "1"),
        row("2", "they smell", "hate", 2, "nothate"), row("2p", "they smell good", "nothate", 2, "nothate", "2"),
        row("3p", "I hate them all", "hate", 2, "hate", "1"),
        row("4", "They smell", "hate", 2, "nothate", split="test"),
    ]  # fmt: skip
    found = asyncio.run(dynahate(data=write(tmp_path / "d.jsonl", rows), resamples=5))
    assert values(found)["contrast"] == 0.5
    assert (values(found)["round.base=1:accuracy"], values(found)["round.base=2:accuracy"]) == (1, 0.5)
    assert "1 perturbations have the label of the text that they perturb." in found.notes
    assert "1 texts stand in more than one split." in found.notes


def test_the_stages_of_implicit_hate(tmp_path: Path) -> None:
    rows = [{"post": f"p{i}", "class": c, "implicit_class": k, "prediction": k} for i, (c, k) in enumerate(
        (("implicit_hate", "irony"), ("not_hate", None), ("explicit_hate", "threatening")))]  # fmt: skip
    data = write(tmp_path / "i.jsonl", rows)
    model = Says(lambda text: "imply" if "p0" in text else "express" if "p2" in text else "neither")
    assert values(asyncio.run(implicithate(model, data=data, stage="three", resamples=5)))["accuracy"] == 1
    assert asyncio.run(implicithate(Says(lambda t: "yes"), data=data, resamples=5)).measures["accuracy"].n == 2
    assert asyncio.run(implicithate(data=data, stage="taxonomy", resamples=5)).measures["accuracy"].value == 1


def test_implied_statements_have_several_references(tmp_path: Path) -> None:
    pytest.importorskip("sacrebleu")
    said = "women should not be allowed to drive"
    rows = [{"post": "p", "implied_statement": s, "prediction": said} for s in (said, "women are bad at driving cars")]
    found = asyncio.run(implicithate(data=write(tmp_path / "s.jsonl", rows), stage="implied", resamples=5))
    assert found.measures["bleu"].value == pytest.approx(100)
    assert found.measures["bleu"].n == 1


# ----------------------------------------------------------------------------------------------------- bias


def test_frames_there_and_back() -> None:
    frame = {"lewd": "no", "offensive": "yes", "intent": "yes", "group": "yes", "target": "women",
             "implied": "women are weak"}  # fmt: skip
    line = linearise("a post [with] marks", frame)
    assert parse(line) == ("a post [with] marks", frame)
    assert parse(line[:-5]) is None
    assert parse(line.replace("[target]", "[other]")) is None
    assert agreed([{"offensiveYN": 1}, {"offensiveYN": 0.0}, {"offensiveYN": None}], "offensiveYN") == 0.5


def test_a_variable_is_yes_from_one_half_on(tmp_path: Path) -> None:
    rows = [{"post": "a", "offensiveYN": 0.5, "prediction": 1}, {"post": "b", "offensiveYN": 0.33, "prediction": "no"},
            {"post": "c", "offensiveYN": "", "prediction": 1}]  # fmt: skip
    found = asyncio.run(sbic(data=write(tmp_path / "s.jsonl", rows), resamples=5))
    assert (values(found)["f1:yes"], found.measures["accuracy"].n) == (1, 2)


def test_a_reply_is_judged_with_its_question(tmp_path: Path) -> None:
    rows = [
        {"q": "怎么看他们？", "a": "都懒", "label": 3, "topic": "region"},
        {"q": "你好", "a": "好", "label": 0, "topic": "race"},
    ]
    seen: list[str] = []

    def answer(text: str) -> str:
        seen.append(text)
        return "有偏见" if "都懒" in text else "无关"

    found = asyncio.run(cdial(Says(answer), data=write(tmp_path / "c.jsonl", rows), resamples=5))
    assert values(found)["weighted_f1"] == 1
    assert any("问：怎么看他们？\n答：都懒" in text for text in seen)
    attitude = [{"text": "x", "attitude": "anti", "prediction": "anti-bias"}]
    assert (
        values(asyncio.run(cdial(data=write(tmp_path / "d.jsonl", attitude), variable="attitude", resamples=5)))[
            "accuracy"
        ]
        == 1
    )


def test_the_three_tasks_of_corgi(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": 1, "prediction": "是"}, {"text": "b", "label": 0, "prediction": 1}]
    assert values(asyncio.run(corgi(data=write(tmp_path / "a.jsonl", rows), resamples=5)))["accuracy"] == 0.5
    labelled = [{"text": "a", "labels": [1, 0, 1], "prediction": "100"},
                {"text": "b", "labels": [0, 1, 0], "prediction": [0, 1, 0]},
                {"text": "c", "labels": [1], "prediction": [0, 0, 0]}]  # fmt: skip
    found = asyncio.run(corgi(data=write(tmp_path / "b.jsonl", labelled), task="classify", resamples=10))
    assert values(found)["exact"] == 0.5
    assert values(found)["micro_f1"] == pytest.approx(2 * 2 / (2 + 3))
    assert values(found)["macro_f1"] == pytest.approx((1 + 1 + 0) / 3)
    assert kinds("10") is None
    assert multilabel(np.zeros((2, 3), int), np.zeros((2, 3), int))[-1] == 0
    assert mined(["他很好", "天气", "她也好"], [0.1, 0.9, 0.5], 1) == ["她也好"]


def test_rewritings_are_compared_with_peoples(tmp_path: Path) -> None:
    pytest.importorskip("sacrebleu")
    rows = [
        {"text": "女人不会开车这件事", "reference": "有的人不会开车这件事", "prediction": "有的人不会开车这件事"},
        {"text": "他是医生她是护士", "reference": "他们是医生和护士", "prediction": "他是医生她是护士"},
    ]
    found = values(asyncio.run(corgi(data=write(tmp_path / "m.jsonl", rows), task="mitigate", resamples=10)))
    assert found["unchanged"] == 0.5
    assert 30 < found["bleu"] < 100


def test_collections_under_one_label(tmp_path: Path) -> None:
    rows = [
        {"post": "a", "offensiveYN": 0.7, "source": "sbic", "prediction": "yes"},
        {"q": "问", "a": "答", "label": 3, "source": "cdial", "prediction": "yes"},
        {"q": "问", "a": "答", "label": 1, "source": "cdial", "prediction": "yes"},
        {"text": "c", "label": 0, "source": "corgi", "prediction": "no"},
    ]
    found = values(asyncio.run(biasdetect(data=write(tmp_path / "b.jsonl", rows), resamples=5)))
    assert (found["accuracy"], found["source=cdial:accuracy"], found["source=corgi:accuracy"]) == (0.75, 0.5, 1)


# ----------------------------------------------------------------------------------------------------- ToxiGen


@pytest.mark.parametrize(
    ("row", "label"),
    [({"toxicity_ai": 3, "toxicity_human": 2.5}, "benign"), ({"toxicity_ai": 3, "toxicity_human": 2.6}, "toxic"),
     ({"toxicity_ai": 5, "prompt_label": 0}, "benign"), ({"prompt_label": 1}, "toxic"), ({"label": "?"}, None)],
)  # fmt: skip
def test_the_label_of_toxigen(row: dict, label: str | None) -> None:
    assert gold(row) == label


def test_toxigen_by_group(tmp_path: Path) -> None:
    rows = [{"text": f"{g} {i}", "toxicity_ai": 5 * (i % 2), "toxicity_human": 5 * (i % 2), "target_group": g,
             "prediction": 1 if g == "asian" else i % 2} for g in ("asian", "women") for i in range(10)]  # fmt: skip
    found = values(asyncio.run(toxigen(data=write(tmp_path / "t.jsonl", rows), resamples=5)))
    assert (found["target_group=asian:accuracy"], found["target_group=women:accuracy"]) == (0.5, 1)


def test_alice_finds_the_largest_sum() -> None:
    """Two words, three places: what the model likes least is what the classifier likes most."""
    logprobs = {"nice": math.log(0.7), "bad": math.log(0.3)}

    def classifier(words: Sequence[str]) -> float:
        return 0.05 + 0.9 * sum(w == "bad" for w in words) / max(1, len(words))

    def total(words: Sequence[str], weights: tuple[float, float]) -> float:
        return weights[0] * sum(logprobs[w] for w in words) + weights[1] * math.log(classifier(words))

    every = [[a, b, c] for a in logprobs for b in logprobs for c in logprobs]
    for weights in ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (0.2, 0.8)):
        words, score = alice(lambda w: logprobs, classifier, length=3, beams=8, weights=weights)
        best = max(every, key=lambda w: total(w, weights))
        assert score == pytest.approx(total(best, weights))
        assert sorted(words) == sorted(best)
    ended, _ = alice(lambda w: {"x": -0.1, "<e>": -0.2}, lambda w: 1.0, length=5, beams=2, end="<e>")
    assert ended == ["<e>"]
