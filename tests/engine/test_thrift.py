"""The gradient of a vocabulary that is embedding and head: gathered in place it is the one that autograd sums."""

import pytest
import torch
from transformers import LlamaConfig

from kilter.engine import head, thrift, tiles
from kilter.engine.batch import collate
from kilter.engine.loop import LoopOptions, train
from kilter.engine.scorer import Scorer
from kilter.training.sft import sft
from tiny_models import ARCHITECTURES, SHARED, make, some_trees


@pytest.fixture
def by_tiles(monkeypatch):
    """A head that goes by tiles of seven words, whatever the vocabulary."""
    monkeypatch.setattr(head, "by_tiles", lambda weight: True)
    monkeypatch.setattr(tiles, "SIDE", 7)


def tied():
    ARCHITECTURES["tied"] = lambda: LlamaConfig(**SHARED, tie_word_embeddings=True)
    try:
        return make("tied")
    finally:
        del ARCHITECTURES["tied"]


def gradients(model, context):
    """Return what two micro-batches leave, the second of them adding to the first's."""
    scorer, trees = Scorer(model), some_trees()
    with context:
        for part in (trees[:2], trees[2:]):
            scorer(collate(part)).tokens.pow(2).sum().backward()
    scorer.release()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def test_gathered_in_place_it_is_the_same(by_tiles):
    one, other = tied(), tied()
    shared = one.get_input_embeddings()
    found = gradients(one, thrift.thrifty(one))
    expected = gradients(other, torch.enable_grad())
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        assert not found[name].is_sparse
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4)
    assert (shared.sparse, tiles.gathered) == (False, set())


def test_it_is_left_alone_where_there_is_nothing_to_gain(by_tiles, monkeypatch):
    assert thrift.shared_vocabulary(tied()) is not None
    assert thrift.shared_vocabulary(make("llama")) is None, "two matrices"
    assert thrift.shared_vocabulary(tied().requires_grad_(False)) is None, "nothing to learn"
    monkeypatch.setattr(head, "by_tiles", lambda weight: False)
    model = tied()
    with thrift.thrifty(model):
        assert not model.get_input_embeddings().sparse


def test_a_run_comes_to_the_same_losses(by_tiles, tmp_path, monkeypatch):
    options = LoopOptions(
        steps=4, batch_size=4, micro_tokens=40, learning_rate=1e-2, precision="fp32", log_every=1, checkpoint_every=0
    )
    gathered = []
    spared = thrift.thrifty

    def watched(model):
        gathered.append(thrift.shared_vocabulary(model) is not None)
        return spared(model)

    monkeypatch.setattr("kilter.engine.loop.thrifty", watched)
    found = train(tied(), some_trees(), sft, options, tmp_path / "thrifty").losses
    monkeypatch.setattr("kilter.engine.loop.thrifty", lambda model: torch.enable_grad())
    expected = train(tied(), some_trees(), sft, options, tmp_path / "plain").losses
    assert gathered == [True]
    assert found == pytest.approx(expected, rel=1e-4)
    assert found[-1] < found[0]
