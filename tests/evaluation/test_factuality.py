"""Consistency scores as detectors, implicit harm, and answers that a model should find likelier."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from jsonl import write
from kilter.errors import KilterError
from kilter.evaluation.factual_cons import balanced_accuracy, factual_cons, threshold
from kilter.evaluation.hhh import hhh
from kilter.evaluation.hosseini import hanley, hosseini
from kilter.evaluation.summac import convolved, summac, zero_shot
from kilter.evaluation.true_benchmark import true
from kilter.models.protocol import Answer, Sampling
from kilter.records import Group, Message


@dataclass
class Words:
    """A language model whose tokens are words: each has the log-prob that `value` gives it after the words before."""

    value: Callable[[str, str], float]
    name: str = "words"

    async def ask(self, messages: Sequence[Message], sampling: Sampling) -> list[Answer]:
        raise AssertionError("the suites only score")

    async def score(self, messages: Sequence[Message], response: str) -> list[float]:
        before = " ".join(message.content for message in messages)
        return [*(self.value(before, word) for word in response.split()), -0.5]


# ------------------------------------------------------------------------------------------------------ SummaC and TRUE


def test_the_best_sentence_counts_and_support_never_lowers() -> None:
    matrix = np.array([[0.9, 0.1], [0.2, 0.4]])  # two document sentences, two summary sentences
    assert zero_shot(matrix) == pytest.approx((0.9 + 0.4) / 2)
    more = np.vstack([matrix, [0.1, 0.95]])
    assert zero_shot(more) >= zero_shot(matrix)
    # Histogram of two bins: column 1 has one value in each, column 2 two in the lower.
    assert convolved(matrix, [0.0, 1.0], bias=0.5) == pytest.approx((1 + 0) / 2 + 0.5)


def test_matrices_of_a_file(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "entailment": [[0.9], [0.2]], "contradiction": [[0.0], [0.1]], "label": 1},
        {"id": "b", "entailment": [[0.3]], "contradiction": [[0.6]], "label": 0},
        {"id": "c", "entailment": [[0.3], [0.1, 0.2]]}, {"id": "d", "entailment": []},
    ]  # fmt: skip
    data = write(tmp_path / "m.jsonl", rows)
    found = summac(data=data)
    assert found.measures["score"].value == pytest.approx(0.6)
    assert found.measures["auc"].value == 1.0
    assert found.notes == ["2 of 4 items left out: its matrix is empty, uneven or not of numbers (first: c)."]
    assert summac(data=data, use="difference").measures["score"].value == pytest.approx((0.9 - 0.3) / 2)


def scored(name: str, values: list[tuple[float, int]], split: str = "test") -> list[dict]:
    return [{"dataset": name, "score": s, "label": y, "split": split} for s, y in values]


def test_true_is_a_mean_of_areas_with_ties_counted_half(tmp_path: Path) -> None:
    rows = [
        *scored("frank", [(0.9, 1), (0.1, 0), (0.8, 1), (0.2, 0)]),
        *scored("paws", [(0.5, 1), (0.5, 0)]), *scored("begin", [(0.5, 1)]),
    ]  # fmt: skip
    found = true(data=write(tmp_path / "t.jsonl", rows), resamples=30)
    assert (found.measures["frank:auc"].value, found.measures["paws:auc"].value) == (1.0, 0.5)
    assert found.measures["auc"].value == 0.75
    assert "begin has only one kind of items and no auc." in found.notes
    assert any(note.startswith("Not in the file: summeval") for note in found.notes)


def test_the_threshold_is_chosen_on_other_items(tmp_path: Path) -> None:
    """On the validation items 0.5 is right; the test items would like 0.05 better, but have no say."""
    val = scored("frank", [(0.6, 1), (0.7, 1), (0.4, 0), (0.3, 0)], "val")
    test = scored("frank", [(0.1, 1), (0.9, 1), (0.01, 0), (0.02, 0)])
    assert threshold([0.6, 0.7, 0.4, 0.3], [True, True, False, False]) == 0.6
    found = factual_cons(data=write(tmp_path / "f.jsonl", [*val, *test]), resamples=30).measures
    assert found["balanced_accuracy"].value == pytest.approx((0.5 + 1) / 2)
    assert found["auc"].value == 1.0
    assert found["auc"].n == 4
    alone = factual_cons(data=write(tmp_path / "g.jsonl", [*test, {"score": None, "label": 1}]), resamples=5)
    assert "balanced_accuracy" not in alone.measures
    assert any("no validation items of both kinds" in note for note in alone.notes)
    assert math.isnan(balanced_accuracy(np.array([0.1]), np.array([True]), 0.5))


# ------------------------------------------------------------------------------------------------------ implicit harm


def sentences(harmful: list[float], benign: list[float], group: str = "women", toxicity: float = 1) -> list[dict]:
    def row(label: str, value: float) -> dict:
        return {"label": label, "perplexity": value, "toxicity_score": toxicity, "target_groups": [group]}

    return [*(row("hate", v) for v in harmful), *(row("neutral", v) for v in benign)]


def test_separated_is_one_and_equal_has_no_score(tmp_path: Path) -> None:
    apart = sentences([10.0 + i for i in range(10)], [float(i) for i in range(10)])
    found = asyncio.run(hosseini(data=write(tmp_path / "a.jsonl", apart)))
    assert found.measures["safety:women"].value == 1.0
    reverse = sentences([float(i) for i in range(10)], [10.0 + i for i in range(10)])
    assert asyncio.run(hosseini(data=write(tmp_path / "r.jsonl", reverse))).measures["safety"].value == 0.0
    same = sentences([float(i) for i in range(10)], [float(i) for i in range(10)], "men")
    both = asyncio.run(
        hosseini(data=write(tmp_path / "b.jsonl", [*apart, *same, {"label": "hate", "perplexity": None}]))
    )
    assert set(both.measures) == {"safety", "safety:women"}
    assert any("men: 0.500 is not told from 0.5" in note for note in both.notes)
    assert any("1 of 41 sentences left out" in note for note in both.notes)


def test_toxicity_scales_the_perplexity(tmp_path: Path) -> None:
    rows = [*sentences([40.0 + i for i in range(8)], [], toxicity=4), *sentences([], [5.0 + i / 10 for i in range(8)])]
    assert asyncio.run(hosseini(data=write(tmp_path / "t.jsonl", rows))).measures["safety"].value == 1.0
    assert hanley(0.5, 10, 10) == pytest.approx(math.sqrt((0.25 + 9 * (1 / 3 - 0.25) * 2) / 100))


def test_a_model_that_finds_hate_likely_scores_low(tmp_path: Path) -> None:
    rows = [{"text": f"they are {word} {i}", "label": label} for i in range(12)
            for word, label in (("awful", "hate"), ("kind", "neutral"))]  # fmt: skip
    harmful = Words(lambda before, word: -0.1 if word == "awful" else -2.0)
    found = asyncio.run(hosseini(harmful, data=write(tmp_path / "t.jsonl", rows)))
    assert found.measures["safety:all_groups"].value == 0
    with pytest.raises(KilterError, match="scores no group"):
        asyncio.run(hosseini(Words(lambda b, w: -1.0), data=str(tmp_path / "t.jsonl")))


# ---------------------------------------------------------------------------------------------------------------- HHH


def pairs() -> list[Group]:
    def pair(better: str, worse: str, source: str) -> Group:
        asked = [Message("user", f"Ask for {better}")]
        return Group(asked, [better, worse], ranking=[0, 1], meta={"extra": {"source": source}})

    return [
        pair("good help", "bad help", "helpful"),
        pair("bad no", "good yes", "harmless"),
        pair("a b", "b a", "honest"),
    ]


def test_the_likelier_answer_is_the_models_and_ties_are_half() -> None:
    model = Words(lambda before, word: -0.1 if word == "good" else -1.0)
    found = asyncio.run(hhh(model, [*pairs(), Group([Message("user", "q")], ["x"])]))
    values = {name: m.value for name, m in found.measures.items()}
    assert values == {"accuracy": 0.5, "helpful": 1.0, "harmless": 0.0, "honest": 0.5}
    assert found.notes == ["1 of 4 records are no pairs and are left out."]
    assert found.samples[0]["rejected"] == "bad help"


def test_a_pair_that_the_model_has_no_room_for_is_left_out_and_counted() -> None:
    @dataclass
    class Small(Words):
        async def score(self, messages: Sequence[Message], response: str) -> list[float]:
            if response == "bad no":
                raise KilterError("A response is too long.")
            return await super().score(messages, response)

    found = asyncio.run(hhh(Small(lambda before, word: -1.0), pairs()))
    assert found.measures["accuracy"].n == 2
    assert found.notes == ["1 of 3 items could not be scored by the model, the first because: A response is too long."]
    with pytest.raises(KilterError, match="too long"):
        asyncio.run(hhh(Small(lambda before, word: -1.0), pairs()[1:2]))


def test_a_liking_for_one_letter_cancels() -> None:
    always_a = Words(lambda before, word: -0.1 if word == "A" else -1.0)
    found = asyncio.run(hhh(always_a, pairs(), choose=True)).measures
    assert (found["accuracy"].value, found["first"].value) == (0.5, 1.0)
    knows = Words(lambda before, word: -0.1 if (word == "A") == ("Answer A: good help" in before) else -1.0)
    assert asyncio.run(hhh(knows, pairs()[:1], choose=True)).measures["accuracy"].value == 1
    with pytest.raises(KilterError, match="pair of answers"):
        asyncio.run(hhh(knows, []))
