"""Preference losses against what TRL computed on the same batch (fixtures/make_trl_preferences.py recorded it)."""

import pytest
import torch
from transformers import LlamaForCausalLM

import tiny_llama
from kilter.engine import Scorer, Tree, collate
from kilter.training.dpo_hinge import dpo_hinge
from kilter.training.dpo_robust import dpo_robust
from kilter.training.f_dpo import f_dpo
from kilter.training.ipo import ipo
from kilter.training.orpo import orpo
from kilter.training.simpo import simpo
from kilter.training.slic_hf import slic_hf
from worlds.bandit import mean


@pytest.fixture(scope="module")
def recorded():
    return tiny_llama.recorded("trl_preferences.safetensors")[0]


@pytest.fixture(scope="module")
def models():
    values, _ = tiny_llama.recorded("trl_reference.safetensors")
    made = []
    for name in ("policy", "reference"):
        made.append(LlamaForCausalLM(tiny_llama.config(tie_word_embeddings=True)))
        made[-1].load_state_dict(tiny_llama.part(values, name), strict=False)
    return made


def cut(ids, seen, scored):
    """Return (prompt, completion) of each row as TRL padded it."""
    found = []
    for row, here, learned in zip(ids, seen, scored, strict=True):
        whole, start = row[here.bool()].tolist(), int(learned.long().argmax())
        found.append((whole[:start], whole[start:]))
    return found


def pairs(recorded, name):
    """Return the trees of the batch that TRL had for the variant `name`."""
    if f"{name}.input_ids" in recorded:
        columns = (recorded[f"{name}.{key}"] for key in ("input_ids", "attention_mask", "completion_mask"))
        rows = cut(*columns)
        both = zip(rows[: len(rows) // 2], rows[len(rows) // 2 :], strict=True)
    else:
        sides = []
        for side in ("chosen", "rejected"):
            ids, seen, labels = (recorded[f"{name}.{side}_{key}"] for key in ("input_ids", "attention_mask", "labels"))
            sides.append(cut(ids, seen, labels != -100))
        both = zip(*sides, strict=True)
    made = []
    for (prompt, chosen), (same, rejected) in both:
        assert prompt == same
        masks = [[True] * len(chosen), [True] * len(rejected)]
        made.append(Tree(prompt, [chosen, rejected], masks, info={"pairs": [(0, 1)], "order": [1.0, 0.0]}))
    return made


def check(recorded, name, policy, loss):
    # An exponential of the log-ratio (forward-kl, alpha) carries the rounding of the log-probs along.
    assert loss.item() == pytest.approx(recorded[f"{name}.loss"].item(), abs=2e-6, rel=1e-5)
    policy.zero_grad()
    loss.backward()
    found, expected = policy.model.embed_tokens.weight.grad, recorded[f"{name}.gradient"]
    torch.testing.assert_close(found, expected, atol=3e-6 * max(1.0, float(expected.abs().max())), rtol=1e-4)


def scored(model, trees):
    return Scorer(model)(collate(trees))


@pytest.mark.parametrize(
    ("name", "objective", "options"),
    [
        ("hinge", dpo_hinge, {}),
        ("ipo", ipo, {"per_token": True}),
        ("robust", dpo_robust, {"label_smoothing": 0.2}),
        ("forward", f_dpo, {"divergence": "forward-kl"}),
        ("js", f_dpo, {"divergence": "js"}),
        ("alpha", f_dpo, {"divergence": "alpha", "alpha": 0.5}),
    ],
)
def test_variants_of_dpo_are_trl_s(recorded, models, name, objective, options):
    policy, reference = models
    trees = pairs(recorded, name)
    with torch.no_grad():
        held = scored(reference, trees)
    loss = objective(scored(policy, trees), held, collate(trees).groups, beta=0.3, **options)
    check(recorded, name, policy, mean(loss))


@pytest.mark.parametrize(
    ("name", "objective", "scale", "options"),
    [
        ("slic", slic_hf, 2.0, {"delta": 2.0, "sft_weight": 0.0}),
        ("simpo", simpo, 1.0, {"beta": 2.0, "gamma": 1.0}),
    ],
)
def test_losses_without_a_reference_are_trl_s(recorded, models, name, objective, scale, options):
    trees = pairs(recorded, name)
    loss = mean(objective(scored(models[0], trees), collate(trees).groups, **options))
    check(recorded, name, models[0], loss / scale)


def test_orpo_s_odds_ratio_is_trl_s(recorded, models):
    trees = pairs(recorded, "orpo")
    policy, group = scored(models[0], trees), collate(trees).groups
    loss = mean(orpo(policy, group, beta=0.1)) - mean(orpo(policy, group, beta=0.0))
    check(recorded, "orpo", models[0], loss)
