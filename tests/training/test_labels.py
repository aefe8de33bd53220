"""The objectives over labelled responses: values and slopes, TRL's where it has them, and how labels are found."""

import math

import pytest
import torch
from test_trl_preferences import cut, models, pairs, scored

import tiny_llama
from kilter.engine import Scorer, Tree, collate
from kilter.engine.asks import Asks
from kilter.engine.loop import LoopOptions, train
from kilter.errors import KilterError
from kilter.records import Group, Message
from kilter.training.bco import bco
from kilter.training.bco import survey as bco_survey
from kilter.training.cringe import cringe
from kilter.training.kto import kto
from kilter.training.kto import survey as kto_survey
from kilter.training.labels import labelled, with_asides
from kilter.training.unlikelihood import unlikelihood
from tiny_models import make, pair_trees
from worlds.bandit import as_groups, as_responses, mean

__all__ = ["models"]  # a fixture

LENGTHS = [2, 3, 1, 4]
LABELS = [1.0, 0.0, 0.0, 1.0]


@pytest.fixture
def drawn():
    torch.manual_seed(7)
    tokens = [(-2 * torch.rand(10, dtype=torch.float64)).requires_grad_(), -2 * torch.rand(10, dtype=torch.float64)]
    return as_responses(tokens[0], LENGTHS), as_responses(tokens[1], LENGTHS), as_groups(labels=LABELS)


def surveyed(found):
    return {name: (values.sum() / weights.sum()).detach() for name, (values, weights) in found.items()}


@pytest.mark.parametrize("z", [-1.0, 0.0, 0.8])
def test_kto_is_its_formula(drawn, z):
    policy, reference, group = drawn
    weights = {"desirable_weight": 1.3, "undesirable_weight": 0.6}
    told = kto(policy, reference, group, {"kl": torch.tensor(z)}, beta=0.4, **weights)
    ratio, held = policy.sum() - reference.sum(), max(z, 0.0)
    wanted = torch.stack(
        [
            1.3 * (1 - torch.sigmoid(0.4 * (r - held))) if good else 0.6 * (1 - torch.sigmoid(0.4 * (held - r)))
            for r, good in zip(ratio, LABELS, strict=True)
        ]
    )
    torch.testing.assert_close(told.per_example, wanted)
    same = kto(reference, reference, group, {"kl": torch.tensor(0.0)})
    torch.testing.assert_close(same.per_example, torch.full((4,), 0.5, dtype=torch.float64))


def test_kto_is_trl_s(models):
    recorded = tiny_llama.recorded("trl_preferences.safetensors")[0]
    policy, reference = models

    def trees(prefix, labels):
        columns = (recorded[f"kto.{prefix}{key}"] for key in ("input_ids", "attention_mask", "completion_mask"))
        rows = zip(cut(*columns), labels, strict=True)
        return [Tree(p, [r], [[True] * len(r)], info={"labels": [bool(good)]}) for (p, r), good in rows]

    labels = recorded["kto.label"].tolist()
    asides, own = trees("KL_", labels), trees("", labels)
    with torch.no_grad():
        told = surveyed(kto_survey(scored(policy, asides), scored(reference, asides), collate(asides).groups))
        held = scored(reference, own)
    options = {"beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.8}
    loss = mean(kto(scored(policy, own), held, collate(own).groups, told, **options))
    assert loss.item() == pytest.approx(recorded["kto.loss"].item(), abs=2e-6)
    policy.zero_grad()
    loss.backward()
    torch.testing.assert_close(policy.model.embed_tokens.weight.grad, recorded["kto.gradient"], atol=5e-6, rtol=1e-4)


def test_bco_is_its_formula(drawn):
    policy, reference, group = drawn
    ratio = 0.4 * (policy.sum() - reference.sum())
    told = surveyed(bco_survey(policy, reference, group))
    middle = ((ratio[0] + ratio[3]) / 2 + (ratio[1] + ratio[2]) / 2).detach() / 2
    signs = torch.tensor([1, -1, -1, 1])
    wanted = -torch.nn.functional.logsigmoid(signs * (ratio - middle))
    torch.testing.assert_close(bco(policy, reference, group, told, beta=0.4).per_example, wanted)


def test_bco_at_threshold_0_is_trl_s_over_pairs(models):
    recorded = tiny_llama.recorded("trl_preferences.safetensors")[0]
    policy, reference = models
    trees = pairs(recorded, "bco")
    for tree in trees:
        tree.info["labels"] = [True, False]
    with torch.no_grad():
        held = scored(reference, trees)
    none = {"good": torch.tensor(0.0), "bad": torch.tensor(0.0)}
    loss = bco(scored(policy, trees), held, collate(trees).groups, none, beta=0.3)
    assert 2 * mean(loss).item() == pytest.approx(recorded["bco.loss"].item(), abs=2e-6)


def test_unlikelihood_lowers_a_bad_token_by_its_probability():
    torch.manual_seed(0)
    logits = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([2, 4, 0])
    logs = torch.log_softmax(logits, -1)[torch.arange(3), targets]
    loss = unlikelihood(as_responses(logs, [1, 2]), as_groups(labels=[1.0, 0.0]), alpha=0.5)
    p = torch.softmax(logits.detach(), -1)
    wanted = -logs[0] - 0.5 * (1 - p[1, 4]).log() - 0.5 * (1 - p[2, 0]).log()
    torch.testing.assert_close(loss.per_example.sum(), wanted)
    loss.per_example.sum().backward()
    assert logits.grad[1, 4].item() == pytest.approx(0.5 * p[1, 4].item())
    assert logits.grad[2, 0].item() == pytest.approx(0.5 * p[2, 0].item())
    certain = as_responses(torch.zeros(1, requires_grad=True))
    loss = unlikelihood(certain, as_groups(labels=[0.0]))
    loss.per_example.sum().backward()
    assert loss.per_example.isfinite().all()
    assert certain.tokens.grad.isfinite().all()


def test_cringe_s_slopes_are_on_two_logits_only():
    torch.manual_seed(1)
    logits = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([1, 5, 8, 3])
    others = logits.detach().scatter(1, targets[:, None], -torch.inf).argmax(1)
    logs = torch.log_softmax(logits, -1)
    policy = as_responses(logs[torch.arange(4), targets], [1, 3])
    policy.rivals = logs[torch.arange(4), others]
    loss = cringe(policy, as_groups(labels=[1.0, 0.0]), alpha=0.7)
    assert loss.weight.tolist() == [1, 3]
    loss.per_example.sum().backward()
    for t in range(1, 4):
        own, rival = logits.detach()[t, targets[t]], logits.detach()[t, others[t]]
        wanted = torch.zeros(9, dtype=torch.float64)
        wanted[targets[t]] = 0.7 * torch.sigmoid(own - rival)
        wanted[others[t]] = -wanted[targets[t]]
        torch.testing.assert_close(logits.grad[t], wanted)
    # A good response is fine-tuned on and its rival left alone.
    good = torch.softmax(logits.detach()[0], 0) - torch.nn.functional.one_hot(targets[0], 9)
    torch.testing.assert_close(logits.grad[0], good)


OPTIONS = LoopOptions(
    steps=6, learning_rate=3e-3, warmup=0, batch_size=6, precision="fp32", checkpoint_every=0, log_every=12
)


def labelled_trees(count=6):
    trees = pair_trees(count)
    for tree in trees:
        tree.info["labels"] = [True, False]
    return trees


@pytest.mark.parametrize("objective", [unlikelihood, cringe])
def test_trained_on_labels_bad_responses_become_less_likely_and_good_ones_more(tmp_path, objective):
    trees, model = labelled_trees(), make(scale=1.0)
    batch = collate(trees)

    def likely():
        with torch.no_grad():
            both = Scorer(model)(batch).mean()
        return both[0::2].mean().item(), both[1::2].mean().item()

    good, bad = likely()
    train(model, trees, objective, OPTIONS, tmp_path)
    after = likely()
    assert after[0] > good
    assert after[1] < bad


@pytest.mark.parametrize("objective", [kto, bco])
def test_a_survey_is_of_the_whole_step_however_it_is_cut(tmp_path, objective):
    losses = []
    for name, micro in (("whole", 4096), ("cut", 24)):
        options = OPTIONS.model_copy(update={"micro_tokens": micro, "steps": 3})
        trees = with_asides(labelled_trees()) if objective is kto else labelled_trees()
        losses.append(train(make(), trees, objective, options, tmp_path / name).losses)
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert losses[0][0] == pytest.approx(0.5 if objective is kto else math.log(2), abs=1e-5)
    assert losses[0][-1] < losses[0][0]


def test_an_aside_is_a_response_to_another_prompt():
    trees = with_asides([*pair_trees(3), *pair_trees(1)])
    for tree in trees:
        aside = tree.info["aside"]
        assert list(aside.prompt) == list(tree.prompt)
        assert not any(list(aside.responses[0]) == list(own) for own in tree.responses)
        assert len(aside) <= max(len(one.prompt) + max(map(len, one.responses)) for one in trees)
    with pytest.raises(KilterError, match="all prompts are the same"):
        with_asides([*pair_trees(1), *pair_trees(1)])


def test_the_best_is_good_and_the_worst_is_bad():
    ask = [Message("user", "x")]
    records = [
        Group(ask, ["a", "b", "c", "d"], scores=[1.0, 3.0, 1.0, 2.0]),
        Group(ask, ["a", "b"], labels=[False, False]),
        Group(ask, ["a", "b"], scores=[2.0, 2.0]),
        Group(ask, ["a", "b"], ranking=[1, 0]),
    ]
    found, notes = labelled(records)
    assert [(group.responses, group.labels) for group in found] == [
        (["a", "b", "c"], [False, True, False]),
        (["a", "b"], [False, False]),
        (["a", "b"], [False, True]),
    ]
    assert notes == [
        "1 of 4 records left out: their responses are scored alike, none good or bad.",
        "1 response left out: neither the best nor the worst to a prompt.",
        "Learning from 2 good and 5 bad responses.",
    ]
    with pytest.raises(KilterError, match="give labels, or scores that differ"):
        labelled(records[2:3])


def test_what_is_missing_is_said():
    plain = as_responses(torch.zeros(2))
    with pytest.raises(KilterError, match="'unlikelihood' learns from labels"):
        unlikelihood(plain, as_groups([1.0, 0.0]))
    with pytest.raises(ValueError, match="gives to one that asks"):
        cringe(plain, as_groups(labels=LABELS[:2]))
    assert cringe.asks(k=3) == Asks(rivals=3)
