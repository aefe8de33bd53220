"""The last layer's feed-forward part where its result is read: what is read stays as it was, and so do gradients."""

import pytest
import torch

from kilter.engine import Scorer, collate
from tiny_models import ARCHITECTURES, make, some_trees

# Of these the part is called otherwise, or wants more than the tokens it works on.
WHOLE = {"opt", "bloom", "mamba"}


def slopes(scorer, batch):
    found = scorer(batch).tokens
    parameters = [p for p in scorer.parameters() if p.requires_grad]
    return found.detach(), torch.autograd.grad(found.pow(2).sum(), parameters, allow_unused=True)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_log_probs_and_gradients_stay(name):
    model, batch = make(name), collate(some_trees())
    scorer = Scorer(model)
    assert (scorer._last is None) == (name in WHOLE)
    seen = []
    if scorer._last is not None:
        part = scorer._last.part
        part.register_forward_hook(lambda _, given, out: seen.append(int((out != 0).any(-1).sum())))
    found, slope = slopes(scorer, batch)
    scorer._last = None
    expected, other = slopes(scorer, batch)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    for one, two in zip(slope, other, strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(one, two, atol=2e-4, rtol=1e-3)
    if seen:
        assert seen[0] == len(batch.at.unique()) < len(batch.tokens)
        assert "forward" not in vars(part), "it is put back"


def test_where_activations_are_computed_again_all_are():
    scorer = Scorer(make("llama"))
    assert scorer._last is not None
    scorer.checkpoint_activations()
    assert scorer._last is None
