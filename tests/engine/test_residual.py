"""Dropout by depth: which rates, of what, and when."""

import pytest
import torch

from kilter.engine import collate
from kilter.engine.loop import LoopOptions, train
from kilter.engine.residual import NAME, depth_rates, drop_residuals
from kilter.engine.scorer import Scorer
from kilter.errors import KilterError
from kilter.training.sft import sft
from tiny_models import ARCHITECTURES, make, pair_trees


def test_the_rate_rises_linearly_from_none_at_the_first_layer():
    assert depth_rates(4, 0.3) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    # 80 layers, as LIMA had: the middle has half of it.
    assert depth_rates(80, 0.3)[0] == 0
    assert sum(depth_rates(80, 0.3)) / 80 == pytest.approx(0.15)
    assert depth_rates(1, 0.3) == [0.3]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_the_last_layer_adds_is_dropped_where_something_is_learned(name):
    model = make(name)
    batch = collate(pair_trees(3))
    before = Scorer(make(name), ragged=True)(batch).tokens.detach()
    assert drop_residuals(model, 0.5) == [0.0, 0.5]
    assert len(model.state_dict()) == len(make(name).state_dict())
    scorer = Scorer(model, ragged=True)
    with torch.no_grad():
        torch.testing.assert_close(scorer(batch).tokens, before)
    kept = {}

    def watch(layer, _, out):
        kept[layer] = (out.flatten(0, -2)[batch.at] == 0).float().mean()  # what nothing is read from is 0 before

    for module in model.modules():
        if hasattr(module, NAME):
            getattr(module, NAME).register_forward_hook(watch)
    torch.manual_seed(0)
    dropped = scorer(batch).tokens
    assert [round(float(share), 1) for share in kept.values()] == [0.0, 0.0, 0.5, 0.5]
    assert float((dropped.detach() - before).abs().max()) > 1e-3
    scorer.drops = False
    torch.testing.assert_close(scorer(batch).tokens.detach(), before)


def test_a_layer_of_another_form_is_refused():
    with pytest.raises(KilterError, match="set residual_dropout to 0"):
        drop_residuals(make("mamba"), 0.3)


def test_a_continued_run_drops_what_the_whole_one_did(tmp_path):
    options = LoopOptions(
        steps=6,
        batch_size=4,
        learning_rate=1e-2,
        log_every=1,
        precision="fp32",
        residual_dropout=0.5,
        checkpoint_every=3,
    )
    trees = pair_trees(8)
    whole = train(make(), trees, sft, options, tmp_path / "whole")
    plain = train(make(), trees, sft, options.model_copy(update={"residual_dropout": 0.0}), tmp_path / "plain")
    assert whole.losses[0] != plain.losses[0]

    class Stop(Exception):
        pass

    def stopping(policy, group, count=[0]):  # noqa: B006 - counts over the calls of this one run
        count[0] += 1
        if count[0] == 5:
            raise Stop
        return sft(policy, group)

    stopping.__qualname__ = "sft"
    with pytest.raises(Stop):
        train(make(), trees, stopping, options, tmp_path / "cut")
    again = train(make(), trees, sft, options, tmp_path / "cut")
    assert again.losses == whole.losses
