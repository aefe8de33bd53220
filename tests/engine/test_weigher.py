"""Weights of continuations: equal to a plain forward of each pair alone, however they are laid out together."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from kilter.engine import forest, weigher
from kilter.engine.weigher import Pair, Weigher
from tiny_models import ARCHITECTURES, VOCABULARY, make


def pairs_of(seed: int) -> list[Pair]:
    """Shots, questions below them, choices below these; some choices equal, some of one token; and pairs apart."""
    draw = random.Random(seed)

    def ids(count: int) -> list[int]:
        return [draw.randrange(3, VOCABULARY) for _ in range(count)]

    found = []
    for shots in (ids(30), ids(12)):
        for _ in range(4):
            question = shots + ids(draw.randrange(1, 14))
            found += [Pair(question, [letter]) for letter in (5, 6, 7, 8)]
            same = ids(3)
            found += [Pair(question, same + ids(draw.randrange(1, 6))) for _ in range(3)]
            found.append(Pair(question, found[-1].continuation))
            found.append(Pair(question, found[-1].continuation[:-1] or [5]))
    found += [Pair(ids(1), ids(2)), Pair(found[0].context[:9], ids(4))]
    draw.shuffle(found)
    return found


@torch.no_grad()
def alone(model: torch.nn.Module, pair: Pair) -> tuple[float, bool]:
    tokens = torch.tensor([[*pair.context, *pair.continuation]])
    logs = torch.log_softmax(model(tokens[:, :-1], use_cache=False).logits[0].float(), -1)[len(pair.context) - 1 :]
    targets = torch.tensor(pair.continuation)
    return logs.gather(1, targets[:, None]).sum().item(), bool((logs.argmax(-1) == targets).all())


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "qwen3"])
@pytest.mark.parametrize("tokens", [64, 8192])
def test_weights_equal_each_pair_alone(name: str, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert name in ARCHITECTURES
    monkeypatch.setitem(weigher.TOKENS, "cpu", tokens)
    monkeypatch.setitem(weigher.CHUNK, "cpu", 5 * VOCABULARY)
    model = make(name)
    pairs = pairs_of(0)
    wanted = [alone(model, pair) for pair in pairs]
    greedy = max(range(len(pairs)), key=lambda i: wanted[i][0])
    context = torch.tensor([pairs[greedy].context])
    with torch.no_grad():
        best = model(context).logits[0, -1].argmax().item()
    pairs.append(Pair(pairs[greedy].context, [best]))
    wanted.append(alone(model, pairs[-1]))
    found = dict(Weigher(model).weigh(pairs))
    assert sorted(found) == list(range(len(pairs)))
    for i, (logprob, likeliest) in enumerate(wanted):
        assert found[i].logprob == pytest.approx(logprob, abs=2e-4)
        assert found[i].greedy == likeliest
        assert found[i].tokens == len(pairs[i].continuation)
    assert found[len(pairs) - 1].greedy


def test_a_model_that_cannot_be_laid_out_is_padded() -> None:
    model = make("llama")
    pairs = pairs_of(1)
    padded = Weigher(model, ragged=False)
    found = dict(padded.weigh(pairs))
    for i, pair in enumerate(pairs):
        assert found[i].logprob == pytest.approx(alone(model, pair)[0], abs=2e-4)


def test_what_sequences_share_is_there_once() -> None:
    shots, tail = np.arange(40), np.arange(100, 110)
    rows = [np.concatenate((shots, tail + 20 * q, [c])) for q in range(3) for c in (1, 2)]
    rows = [rows[i] for i in forest.ordered(rows)]
    grove = forest.grow(rows)
    # The shots once, each question once, and a token for each choice.
    assert len(grove.batch.tokens) == 40 + 3 * 10 + 6
    for row, places in zip(rows, grove.places, strict=True):
        assert grove.batch.tokens[places].tolist() == row.tolist()
        assert grove.batch.positions[places].tolist() == list(range(len(row)))
    parents = {segment.parent for segment in grove.batch.layout.segments}
    assert parents == {-1, 0, 1, 4, 7}


def test_short_beginnings_are_not_forked_and_batches_keep_to_their_size() -> None:
    rows = [np.asarray([1, 2, 3, *range(start, start + 20)]) for start in range(10, 90, 10)]
    rows = [rows[i] for i in forest.ordered(rows)]
    assert all(segment.parent == -1 for segment in forest.grow(rows).batch.layout.segments)
    assert [len(batch) for batch in forest.cut(rows, 46, 10**9)] == [2, 2, 2, 2]
    assert [len(batch) for batch in forest.cut(rows, 10**9, 23 * 23)] == [1] * 8
    assert [len(batch) for batch in forest.cut(rows, 1, 1)] == [1] * 8


def test_one_sequence_may_be_the_beginning_of_another() -> None:
    rows = [np.arange(10), np.arange(30), np.arange(31)]
    grove = forest.grow(rows)
    assert len(grove.batch.tokens) < 10 + 30 + 31
    for row, places in zip(rows, grove.places, strict=True):
        assert grove.batch.tokens[places].tolist() == row.tolist()
