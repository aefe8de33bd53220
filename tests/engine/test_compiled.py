"""Compiled layers: the same numbers, no new compilation for another shape, and a way back where there is none."""

import shutil

import pytest
import torch
from torch import nn

from kilter.engine import compiled
from kilter.engine.batch import Tree, collate
from kilter.engine.compiled import as_written, compile_layers, worthwhile
from kilter.engine.feed import Feed
from kilter.engine.loop import LoopOptions, train
from kilter.engine.sampler import sample
from kilter.engine.scorer import Scorer
from kilter.training.sft import sft
from tiny_models import make, some_trees

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, compiled.COMPILERS)), reason="there is no C++ compiler, which torch.compile needs"
)


def learned(scorer, batch):
    """Return log-probs of a batch, and the gradients that they give."""
    scorer.zero_grad(set_to_none=True)
    tokens = scorer(batch).tokens
    tokens.sum().backward()
    return tokens.detach(), [p.grad.clone() for p in scorer.parameters()]


@needs_compiler
def test_compiled_layers_give_the_same_numbers_for_every_shape_from_one_compilation():
    model = make("llama")
    scorer = Scorer(model)
    batches = [collate(some_trees()), collate(some_trees()[:2]), collate([Tree([], [[5] * 40], [[True] * 40])])]
    before = [learned(scorer, batch) for batch in batches]
    [[alone]] = sample(model, [[5, 9, 13]], max_tokens=6)
    scorer.zero_grad(set_to_none=True)

    assert compile_layers(scorer)
    assert all(p.grad is None for p in scorer.parameters())  # the trial leaves nothing behind
    torch._dynamo.utils.counters.clear()
    for batch, (tokens, gradients) in zip(batches, before, strict=True):
        found, slopes = learned(scorer, batch)
        assert torch.allclose(found, tokens, atol=1e-4)
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(slopes, gradients, strict=True))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0

    # The sampler takes the layers as they are written: nothing is compiled for it.
    [[again]] = sample(model, [[5, 9, 13]], max_tokens=6)
    assert again.tokens == alone.tokens
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0
    with as_written(model):
        assert model.model.layers[0]._compiled_call_impl is None
    assert model.model.layers[0]._compiled_call_impl is not None


def test_layers_that_cannot_be_compiled_run_as_they_are_written(monkeypatch):
    def failing(layer, **options):
        def call(*args, **kwargs):
            raise RuntimeError("no way\nthrough")

        layer._compiled_call_impl = call

    monkeypatch.setattr(nn.Module, "compile", failing)
    scorer = Scorer(make("llama"))
    batch = collate(some_trees())
    before = learned(scorer, batch)[0]
    with pytest.warns(UserWarning, match=r"without torch\.compile, which is slower: RuntimeError: no way\.$"):
        assert not compile_layers(scorer)
    assert torch.equal(learned(scorer, batch)[0], before)


def test_layers_that_compile_to_something_else_run_as_they_are_written(monkeypatch):
    def wrong(layer, **options):
        layer._compiled_call_impl = lambda hidden, *args, **kwargs: hidden * 2

    monkeypatch.setattr(nn.Module, "compile", wrong)
    with pytest.warns(UserWarning, match="its hidden states come out different by"):
        assert not compile_layers(Scorer(make("llama")))


def test_only_long_runs_are_compiled(monkeypatch):
    monkeypatch.setattr(compiled, "COMPILERS", ("python3",))
    model, cpu = make("llama"), torch.device("cpu")
    weights = sum(p.numel() for p in model.parameters())
    tree = Tree([], [[5] * 100], [[True] * 100])
    steps = round(compiled.WORTH["cpu"] / (6 * weights * 100 * 8))

    def feed(source, steps):
        return Feed.of(source, batch_size=8, epochs=1, steps=steps, seed=0)

    assert worthwhile(model, feed([tree] * 8, 2 * steps), cpu)
    assert not worthwhile(model, feed([tree] * 8, steps // 2), cpu)
    assert not worthwhile(model, feed(lambda step: [tree], 2 * steps), cpu)
    monkeypatch.setattr(compiled, "COMPILERS", ("no-such-compiler",))
    monkeypatch.setenv("CXX", "")
    assert not worthwhile(model, feed([tree] * 8, 2 * steps), cpu)


@pytest.mark.parametrize("wish", ["on", "off", "auto"])
def test_the_option_decides(wish, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("kilter.engine.loop.compile_layers", asked.append)
    tree = Tree([], [[5] * 10], [[True] * 10])
    train(make("llama"), [tree], sft, LoopOptions(steps=1, compile=wish), tmp_path / "out")
    assert len(asked) == (wish == "on")
