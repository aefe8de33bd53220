"""Sizes that are rounded up: shapes recur, and what comes out is what it was."""

import random

import pytest
import torch
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode

from kilter.engine import Scorer, Tree, collate, recurring
from kilter.engine.values import Valuer
from tiny_models import ARCHITECTURES, SINKS, make, make_judge, some_trees


@pytest.fixture
def in_fp32(monkeypatch):
    """Round up in fp32 too, where what differs can be told from rounding."""
    monkeypatch.setattr(recurring, "compiles", lambda device, kind: True)


def told(scorer, batch):
    """Return log-probs, their entropies, and the gradients of both."""
    found = scorer(batch, entropy=True)
    numbers = torch.stack((found.tokens, found.entropy))
    parameters = [p for p in scorer.parameters() if p.requires_grad]
    return numbers.detach(), torch.autograd.grad(numbers.pow(2).sum(), parameters, allow_unused=True)


def same(one, two):
    torch.testing.assert_close(one[0], two[0], atol=2e-5, rtol=0)
    for slope, other in zip(one[1], two[1], strict=True):
        assert (slope is None) == (other is None)
        if slope is not None:
            torch.testing.assert_close(slope, other, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("name", [*ARCHITECTURES, *SINKS])
def test_log_probs_entropies_and_gradients_stay(name, request):
    scorer, batch = Scorer(make(name)), collate(some_trees())
    assert scorer.ragged
    expected = told(scorer, batch)
    request.getfixturevalue("in_fp32")
    same(told(scorer, collate(some_trees())), expected)


@pytest.mark.parametrize("kind", [PromptTuningConfig, PrefixTuningConfig])
def test_behind_virtual_tokens_too(kind, request):
    scorer = Scorer(get_peft_model(make(), kind(task_type="CAUSAL_LM", num_virtual_tokens=4)))
    expected = told(scorer, collate(some_trees()))
    request.getfixturevalue("in_fp32")
    same(told(scorer, collate(some_trees())), expected)


def test_a_reward_models_scores_stay(request):
    valuer, batch = Valuer(make_judge()), collate(some_trees())
    with torch.no_grad():
        expected = valuer(batch, tokens=True)
        request.getfixturevalue("in_fp32")
        found = valuer(collate(some_trees()), tokens=True)
    torch.testing.assert_close(found.ends, expected.ends, atol=2e-5, rtol=0)
    torch.testing.assert_close(found.tokens, expected.tokens, atol=2e-5, rtol=0)


class Shapes(TorchDispatchMode):
    """Writes down the shapes of all matrix products."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ("mm", "addmm", "bmm", "baddbmm", "baddbmm_"):
            self.seen.add((name, *(tuple(x.shape) for x in args if isinstance(x, torch.Tensor))))
        return func(*args, **(kwargs or {}))


def shapes(scorer, batches):
    with Shapes() as mode:
        for batch in batches:
            scorer(batch).tokens.sum().backward()
    return len(mode.seen)


def test_in_bf16_shapes_come_again(monkeypatch):
    draw = random.Random(0)

    def batches():
        def tree():
            prompt, response = draw.randint(10, 60), draw.randint(5, 60)
            ids = [draw.randrange(50) for _ in range(prompt + response)]
            return Tree(ids[:prompt], [ids[prompt:]], [[True] * response])

        return [collate([tree() for _ in range(4)]) for _ in range(30)]

    scorer = Scorer(make(), bf16=True)
    rounded = shapes(scorer, batches())
    monkeypatch.setattr(recurring, "compiles", lambda device, kind: False)
    assert rounded < 0.5 * shapes(scorer, batches())


def test_in_fp32_nothing_is_added():
    scorer = Scorer(make())
    with Shapes() as mode:
        scorer(collate([Tree(list(range(7)), [[1, 2, 3, 4]], [[True] * 4])]))
    rows = {shape[0] for name, *given in mode.seen for shape in given[:1] if name in ("mm", "addmm")}
    assert rows <= {11, 4}, "eleven tokens, of which four are read"


@pytest.mark.parametrize(("count", "lacks"), [(0, 0), (1, 31), (32, 0), (33, 31), (64, 0)])
def test_what_a_count_lacks(count, lacks):
    assert recurring.lacking(count, 32) == lacks
