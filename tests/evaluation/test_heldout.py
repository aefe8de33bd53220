from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from kilter.errors import KilterError, SetAside
from kilter.evaluation.heldout import heldout
from kilter.evaluation.result import Evaluation, read, write
from kilter.models.protocol import Answer, Sampling
from kilter.records import Demonstration, Group, Message, Prompt
from kilter.registry import find


@dataclass
class Letters:
    """A language model whose tokens are letters: each vowel has probability 1/2, any other letter 1/16."""

    name: str = "letters"
    room: int = 1000

    async def ask(self, messages: list[Message], sampling: Sampling) -> list[Answer]:
        return [Answer("a" * sampling.max_tokens, sampling.max_tokens, None, "length")] * sampling.n

    async def score(self, messages: list[Message], response: str) -> list[float]:
        if len(response) > self.room:
            raise SetAside(f"A response of {len(response)} tokens does not fit in {self.room}; shorten it.", "refused")
        return [math.log(1 / 2 if letter in "aeiou" else 1 / 16) for letter in response]


def ask(text: str) -> list[Message]:
    return [Message("user", text)]


def evaluate(records: list, model: Letters | None = None, **options: int) -> Evaluation:
    return asyncio.run(heldout(model or Letters(), records, **options))


def test_loss_is_over_all_tokens_and_perplexity_and_bits_follow() -> None:
    records = [
        Demonstration([*ask("x"), Message("assistant", "aa")]),
        Demonstration([*ask("y"), Message("assistant", "bbbbbb")]),
    ]
    found = evaluate(records)
    loss = (2 * math.log(2) + 6 * math.log(16)) / 8
    assert found.measures["loss"].value == pytest.approx(loss)
    assert found.measures["perplexity"].value == pytest.approx(math.exp(loss))
    assert found.measures["bits_per_byte"].value == pytest.approx((2 * 1 + 6 * 4) / 8)
    assert found.measures["loss"].n == 2
    assert found.measures["perplexity"].low == pytest.approx(math.exp(found.measures["loss"].low))
    assert list(found.measures) == ["loss", "perplexity", "bits_per_byte"]


def test_every_turn_of_the_assistant_counts_and_bytes_are_bytes() -> None:
    turns = [*ask("x"), Message("assistant", "ab"), *ask("y"), Message("assistant", "好a")]
    found = evaluate([Demonstration(turns), Demonstration([*ask("z"), Message("assistant", "a")])])
    sample = found.samples[0]
    assert sample["weights"] == {"loss": 4, "bits_per_byte": 6}
    assert sample["outcomes"]["loss"] == pytest.approx((2 * math.log(2) + 2 * math.log(16)) / 4)
    assert [turn["role"] for turn in sample["prompt"]] == ["user", "assistant", "user"]
    assert (sample["response"], sample["given"]) == ("好a", True)


def test_preferences_are_judged_by_the_sum_and_by_the_mean() -> None:
    records = [
        # Summed, the shorter one is likelier; per token, the longer one is.
        Group(ask("1"), ["aaaaaaa", "b"], ranking=[0, 1]),
        Group(ask("2"), ["a", "b"], ranking=[0, 1]),
        Group(ask("3"), ["b", "a"], ranking=[0, 1]),
        Group(ask("4"), ["e", "a"], scores=[2.0, 1.0]),
    ]
    found = evaluate(records)
    assert [s["outcomes"]["preference_accuracy"] for s in found.samples] == [0.0, 1.0, 0.0, 0.5]
    assert [s["outcomes"]["preference_accuracy_mean"] for s in found.samples] == [1.0, 1.0, 0.0, 0.5]
    assert found.measures["preference_accuracy"].value == pytest.approx(1.5 / 4)
    # The loss is that of the preferred responses.
    assert found.measures["loss"].value == pytest.approx((9 * math.log(2) + math.log(16)) / 10)
    assert found.samples[0]["rejected"] == "b"


def test_a_group_of_many_counts_each_of_its_pairs() -> None:
    found = evaluate([Group(ask("1"), ["a", "b", "ab"], scores=[3, 2, 1]), Group(ask("2"), ["b", "a"], scores=[1, 0])])
    assert found.samples[0]["outcomes"]["preference_accuracy"] == 1.0
    assert found.samples[0]["weights"]["preference_accuracy"] == 3
    assert found.measures["preference_accuracy"].value == pytest.approx(3 / 4)


def test_groups_on_one_prompt_are_one_cluster() -> None:
    same = [Group(ask("x"), [f"{'a' * i}", "b" * i], ranking=[0, 1]) for i in range(1, 7)]
    apart = [Group(ask(f"x{i}"), group.responses, ranking=[0, 1]) for i, group in enumerate(same)]
    assert evaluate(same).measures["preference_accuracy"].low == -math.inf or (
        evaluate(same).measures["preference_accuracy"].low < evaluate(apart).measures["preference_accuracy"].low
    )
    assert len({sample["cluster"] for sample in evaluate(same).samples}) == 1


def test_what_does_not_fit_is_left_out_and_counted() -> None:
    records = [
        Demonstration([*ask("x"), Message("assistant", "aaa")]),
        Demonstration([*ask("y"), Message("assistant", "a" * 20)]),
    ]
    found = evaluate(records, Letters(room=10))
    assert found.measures["loss"].n == 1
    assert found.notes == [
        "1 of 2 held-out records were left out, the first because:"
        " A response of 20 tokens does not fit in 10; shorten it."
    ]
    with pytest.raises(KilterError, match="does not fit in 1"):
        evaluate(records, Letters(room=1))


def test_prompts_without_a_response_are_left_out_and_counted() -> None:
    whole = Demonstration([*ask("x"), Message("assistant", "aaa")])
    tied = Group(ask("x"), ["a", "b"], scores=[1, 1])
    found = evaluate([whole, Prompt(ask("y")), Prompt(ask("z")), tied])
    assert found.measures["loss"].n == 1
    assert found.notes == [
        "2 of 4 records are prompts without a response and were left out.",
        "1 of 2 held-out records were left out: they hold no response, or several of which none is the better.",
    ]


def test_records_that_cannot_be_scored_say_so() -> None:
    with pytest.raises(KilterError, match="no demonstration"):
        evaluate([Prompt(ask("x"))])
    with pytest.raises(KilterError, match="None of the records"):
        evaluate([Group(ask("x"), ["a", "b"], scores=[1, 1]), Demonstration(ask("x"))])


def test_equal_records_are_all_counted() -> None:
    found = evaluate([Demonstration([*ask("x"), Message("assistant", "ab")])] * 3)
    assert len({sample["id"] for sample in found.samples}) == 3
    assert found.measures["loss"].n == 3


def test_a_draw_depends_on_the_seed_alone(tmp_path: Path) -> None:
    records = [Demonstration([*ask(str(i)), Message("assistant", "a" * (i + 1))]) for i in range(30)]
    first, again, other = evaluate(records, n=5), evaluate(records, n=5), evaluate(records, n=5, seed=1)
    assert first == again
    assert {s["id"] for s in first.samples} != {s["id"] for s in other.samples}
    write(first, tmp_path / "letters.json")
    assert read(tmp_path / "letters.json") == first


def test_it_is_in_the_catalogue() -> None:
    method = find("heldout", "evaluation")
    assert method.inputs == ("model", "records")
    assert method.check({"n": 5}) == {"n": 5, "seed": 0}
    assert all(option.help for option in method.options.values())
