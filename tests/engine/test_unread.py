"""The last layer for the tokens that are read: what is read stays as it was, and so do gradients."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from kilter.engine import Scorer, collate
from kilter.engine.layout import Layout, Segment
from kilter.engine.unread import NAMES
from kilter.engine.written_out import attend
from tiny_models import ARCHITECTURES, make, some_trees

# Of these all parts are called otherwise, or want more than the tokens they work on.
WHOLE = {"bloom", "mamba"}
# Of these every part that a layer can be cut at is.
ALL = {"llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3", "olmo2", "smollm3"}


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
        parts = [part.whole for part in scorer._last.parts]
        assert (len(parts) == len(NAMES)) == (name in ALL)
        for part in parts:
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
        assert set(seen[: len(parts)]) == {len(batch.at.unique())}
        assert len(batch.at.unique()) < len(batch.tokens)
        assert not any("forward" in vars(part) for part in parts), "they are put back"


def test_in_a_layout_that_is_cut_what_is_read_looks_at_what_it_did():
    # A prompt with two responses, and one alone: of the first prompt the last token is read, of the other nothing.
    whole = Layout((Segment(0, 6, -1), Segment(6, 3, 0), Segment(9, 4, 0), Segment(13, 5, -1)), 18)
    read = torch.tensor([5, 6, 7, 9, 10, 11])
    cut = whole.cut_to(3, read)
    assert cut.at(2) is cut
    assert cut.at(3).ranges(torch.device("cpu")) is cut.ranges(torch.device("cpu"))
    plans = [layout.plan(torch.device("cpu")) for layout in (whole, cut.at(3))]
    noise = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(18, heads, 8, generator=noise) for heads in (4, 2, 2))
    one, two = (attend(q, k, v, plan, 0.3, None) for plan in plans)
    torch.testing.assert_close(one[read], two[read])
    looked = sorted(token for call in plans[1].calls for token in call.tokens.reshape(-1).tolist() if token >= 0)
    assert looked == [5, 6, 7, 9, 10, 11]
    assert not two[13:].any()


def test_where_activations_are_computed_again_all_are():
    scorer = Scorer(make("llama"))
    assert scorer._last is not None
    scorer.checkpoint_activations()
    assert scorer._last is None


def test_models_in_several_threads_are_cut_each_to_its_own():
    scorers = [Scorer(make(seed=seed)) for seed in range(2)]
    batches = [collate(some_trees(seed, ((30 + 7 * seed, (9, 5)),) * 4)) for seed in range(2)]

    def scored(which):
        with torch.no_grad():
            return [scorers[which](batches[which]).tokens for _ in range(30)]

    expected = [scored(which)[0] for which in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for alone, together in zip(expected, pool.map(scored, range(2)), strict=True):
            for found in together:
                torch.testing.assert_close(found, alone)
