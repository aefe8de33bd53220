"""What is held out: nothing is learned from it, it says when to stop, and the best model is the one that is left."""

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from train_once import HELD, killed, run, slowly
from transformers import AutoModelForCausalLM

from jsonl import metrics
from kilter.engine import held_out
from kilter.engine.loop import LoopOptions, train
from kilter.engine.loss import Loss
from kilter.errors import KilterError
from kilter.records import Message, Prompt
from kilter.training.dpo import dpo
from kilter.training.run import train as train_by_name
from kilter.training.sft import sft
from tiny_models import make, make_judge, ordinary, pair_trees

FAST = {"batch_size": 4, "warmup": 1, "log_every": 2, "precision": "fp32", "checkpoint_every": 0}
# By then nine trees are learned by heart, and other ones are no likelier for it.
OVER = FAST | {"learning_rate": 3e-3, "steps": 12, "eval_share": 0.3, "eval_every": 2}


def options(**given):
    return LoopOptions(**OVER | given)


def parted(trees, given):
    """Return the trees that are learned from, and those held out."""
    held = held_out.choose(trees, given.eval_share, given.seed)
    return [tree for i, tree in enumerate(trees) if i not in held], [trees[i] for i in held]


def weights(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def on_disk(out, name="model.safetensors"):
    return torch.cat([value.reshape(-1).float() for _, value in sorted(load_file(out / name).items())])


@torch.no_grad()
def nats(model, trees):
    """Return the mean over scored tokens, by the model's own forward."""
    return -float(ordinary(model, trees).mean())


def steps_of(out):
    """Return the steps of the best models that are kept below a run's folder."""
    return [int(path.stem.removeprefix("best-")) for path in sorted(out.glob("best-*"))]


def prompt():
    return Prompt([Message("user", "what is 1 + 1?")])


def timeless(out):
    return [{**line, "seconds": 0} for line in metrics(out)]


def noisily(policy, group):
    """Maximum likelihood with a weight for each example that is drawn."""
    found = sft(policy, group)
    return Loss(found.per_example * torch.rand_like(found.per_example), found.weight)


@pytest.mark.parametrize("objective", [sft, noisily])
def test_nothing_is_learned_from_it_and_measuring_disturbs_nothing(tmp_path, objective):
    trees, given = pair_trees(12), options(keep_best=False, seed=2)
    learned, held = parted(trees, given)
    assert len(held) == 4
    model, alone = make(), make()
    done = train(model, trees, objective, given, tmp_path / "held")
    expected = train(
        alone, learned, objective, LoopOptions(**FAST, learning_rate=3e-3, steps=12, seed=2), tmp_path / "b"
    )
    assert done.losses == expected.losses
    assert torch.equal(weights(model), weights(alone))
    assert expected.eval_losses == []
    assert expected.kept_step is None


def test_the_best_model_is_kept_and_its_loss_is_the_reported_one(tmp_path):
    trees, model = pair_trees(12), make()
    done = train(model, trees, sft, options(), tmp_path)
    _, held = parted(trees, options())
    losses = dict(done.eval_losses)
    assert list(losses) == list(range(0, 13, 2))
    assert losses[0] == pytest.approx(nats(make(), held), abs=1e-5)
    assert 0 < done.kept_step < done.steps
    assert losses[done.kept_step] == min(losses.values())
    assert done.losses[-1] < losses[12] - 0.5
    for left in (model, AutoModelForCausalLM.from_pretrained(tmp_path)):
        assert nats(left, held) == pytest.approx(losses[done.kept_step], abs=1e-5)
    assert f"least at step {done.kept_step} of 12" in done.notes[-1]
    assert {line["step"]: line["eval_loss"] for line in metrics(tmp_path) if "eval_loss" in line} == losses
    assert steps_of(tmp_path) == []
    again = train(make(), trees, sft, options(), tmp_path)
    assert (again.kept, again.eval_losses, again.kept_step) == (True, done.eval_losses, done.kept_step)


def test_the_last_model_is_kept_where_that_is_said(tmp_path):
    trees, model, best = pair_trees(12), make(), make()
    done = train(model, trees, sft, options(keep_best=False), tmp_path / "last")
    other = train(best, trees, sft, options(), tmp_path / "best")
    assert done.eval_losses == other.eval_losses
    assert done.kept_step == 12
    assert not torch.equal(weights(model), weights(best))
    assert nats(model, parted(trees, options())[1]) == pytest.approx(done.eval_losses[-1][1], abs=1e-5)
    assert "the last model is kept" in done.notes[-1]


@pytest.mark.parametrize("patience", [1, 2])
def test_patience_ends_a_run(tmp_path, patience):
    trees = pair_trees(12)
    whole = train(make(), trees, sft, options(steps=30), tmp_path / "whole")
    done = train(make(), trees, sft, options(steps=30, patience=patience), tmp_path / "ended")
    assert done.steps == whole.kept_step + 2 * patience
    assert len(done.losses) == done.steps
    assert metrics(tmp_path / "ended")[-1]["step"] == done.steps
    assert done.kept_step == whole.kept_step
    assert done.eval_losses == whole.eval_losses[: len(done.eval_losses)]
    assert torch.equal(on_disk(tmp_path / "ended"), on_disk(tmp_path / "whole"))
    assert f"ended at step {done.steps} of 30" in done.notes[0]


def test_a_run_that_only_does_harm_leaves_the_model_that_it_started_from(tmp_path):
    model = make()
    done = train(model, pair_trees(12), sft, options(learning_rate=0.3, steps=4), tmp_path)
    assert done.kept_step == 0
    assert torch.equal(weights(model), weights(make()))
    assert "the model that training started from is kept" in done.notes[-1]


def test_an_objective_that_draws_measures_with_the_same_numbers_every_time(tmp_path):
    done = train(make(), pair_trees(12), noisily, options(learning_rate=1e-30), tmp_path)
    assert len({loss for _, loss in done.eval_losses}) == 1
    assert len(set(done.losses)) > 1


def test_where_a_loss_has_a_value_that_is_what_is_measured(tmp_path):
    def surrogate(policy, group):
        found = sft(policy, group)
        return Loss(found.per_example, found.weight, value=3 * found.weight - found.per_example)

    plain = train(make(), pair_trees(12), sft, options(steps=4), tmp_path / "plain")
    done = train(make(), pair_trees(12), surrogate, options(steps=4), tmp_path / "value")
    assert done.losses == plain.losses
    for (_, loss), (_, value) in zip(plain.eval_losses, done.eval_losses, strict=True):
        assert value == pytest.approx(3 - loss, abs=1e-5)
    assert plain.kept_step == 4
    assert done.kept_step == 0


def test_preferences_are_measured_against_the_reference(tmp_path):
    trees, model, given = pair_trees(12), make(), options()
    learned, held = parted(trees, given)
    done = train(model, trees, dpo, given, tmp_path / "a", reference=make(seed=1))
    alone = train(
        make(), learned, dpo, LoopOptions(**FAST, learning_rate=3e-3, steps=12), tmp_path / "b", reference=make(seed=1)
    )
    assert done.losses == pytest.approx(alone.losses, abs=1e-4)
    with torch.no_grad():
        lead = (ordinary(model, held) - ordinary(make(seed=1), held)).split([len(r) for t in held for r in t.responses])
    margins = torch.stack([part.sum() for part in lead]).view(-1, 2) @ torch.tensor([1.0, -1.0])
    by_hand = -torch.nn.functional.logsigmoid(0.1 * margins).mean()
    assert dict(done.eval_losses)[done.kept_step] == pytest.approx(float(by_hand), abs=1e-5)


# At these rates the loss on what is held out falls smoothly for some steps, and rises for all others.
@pytest.mark.parametrize(("kind", "learning_rate"), [("lora", 5e-3), ("adalora", 1e-2)])
def test_the_best_adapter_is_kept_with_its_ranks(tmp_path, kind, learning_rate):
    trees, base = pair_trees(12), make()
    base.save_pretrained(tmp_path / "base")
    base.name_or_path = str(tmp_path / "base")
    given = options(
        adapter=kind, adapter_dropout=0.0, adapter_targets="all", learning_rate=learning_rate, steps=60, eval_every=3
    )
    done = train(base, trees, sft, given, tmp_path / "out")
    assert 0 < done.kept_step < 30
    left = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert nats(left, parted(trees, given)[1]) == pytest.approx(dict(done.eval_losses)[done.kept_step], abs=1e-5)


@pytest.mark.parametrize("given", [{"residual_dropout": 0.5}, {"gradient_checkpointing": True}])
def test_nothing_is_dropped_where_it_is_measured(tmp_path, given):
    trees = pair_trees(12)
    done = train(make(), trees, sft, options(steps=1, **given), tmp_path)
    assert done.eval_losses[0][1] == pytest.approx(nats(make(), parted(trees, options())[1]), abs=1e-5)


class Stop(Exception):
    pass


@pytest.mark.parametrize(("at", "best"), [(2, [0]), (6, [3, 4]), (9, [4])])
def test_a_run_that_was_stopped_comes_to_the_same_choice(tmp_path, at, best):
    """Where no state was kept yet, where the best is newer than the state that is gone on from, and where it is not."""
    calls = iter(range(1, 10**6))

    def stopping(policy, group):
        if torch.is_grad_enabled() and next(calls) == at:
            raise Stop
        return sft(policy, group)

    stopping.__qualname__ = sft.__qualname__
    given = options(eval_every=1, checkpoint_every=3, patience=6, steps=40)
    expected = train(make(), pair_trees(12), sft, given, tmp_path / "whole")
    assert (expected.steps, expected.kept_step) == (10, 4)
    out = tmp_path / "parts"
    with pytest.raises(Stop):
        train(make(), pair_trees(12), stopping, given, out)
    assert steps_of(out) == best
    found = train(make(), pair_trees(12), sft, given, out)
    assert (found.losses, found.eval_losses) == (expected.losses, expected.eval_losses)
    assert (found.steps, found.kept_step, found.notes) == (expected.steps, expected.kept_step, expected.notes)
    assert timeless(out) == timeless(tmp_path / "whole")
    assert torch.equal(on_disk(out), on_disk(tmp_path / "whole"))
    assert steps_of(out) == []


def test_a_critic_is_kept_as_it_was_at_the_same_step(tmp_path):
    def both(policy, group):
        found = sft(policy, group)
        loss = found.per_example + 0.01 * policy.total((policy.values - 1) ** 2)
        return Loss(loss, found.weight, value=found.per_example)

    def stopping(policy, group):
        if torch.is_grad_enabled() and next(calls) > done.kept_step:
            raise Stop
        return both(policy, group)

    stopping.__qualname__ = both.__qualname__
    critic, calls = make_judge(seed=1), iter(range(1, 10**6))
    done = train(make(), pair_trees(12), both, options(eval_every=1, steps=20), tmp_path / "whole", critic=critic)
    assert 0 < done.kept_step < done.steps
    given = options(eval_every=1, steps=20, checkpoint_every=done.kept_step)
    with pytest.raises(Stop):
        train(make(), pair_trees(12), stopping, given, tmp_path / "parts", critic=make_judge(seed=1))
    [state] = (tmp_path / "parts").glob("state-*")
    assert int(state.name.removeprefix("state-")) == done.kept_step
    then = load_file(state / "model.safetensors")
    for name, parameter in critic.named_parameters():
        assert torch.equal(parameter, then["critic." + name])
    left = load_file(tmp_path / "whole" / "critic" / "model.safetensors")
    assert torch.equal(left["score.weight"], then["critic.score.weight"])


def test_a_run_that_was_killed_comes_to_the_same_choice(tmp_path):
    out = tmp_path / "held-slow"
    killed(tmp_path, "held-slow")
    found, expected = run(out, dpo_as_slowly, **HELD), run(tmp_path / "whole", dpo_as_slowly, **HELD)
    assert (found.losses, found.eval_losses) == (expected.losses, expected.eval_losses)
    assert found.kept_step == expected.kept_step
    assert torch.equal(on_disk(out), on_disk(tmp_path / "whole"))


def dpo_as_slowly(policy, reference, group):
    return dpo(policy, reference, group)


dpo_as_slowly.__qualname__ = slowly.__qualname__  # a run knows its objective by that


def test_what_cannot_be_held_out_is_said(tmp_path):
    with pytest.raises(KilterError, match="of one record none can be held out; give more data"):
        train(make(), pair_trees(1), sft, options(), tmp_path)
    with pytest.raises(KilterError, match="step by step none can be held out; set eval_share to 0"):
        train(make(), lambda step: pair_trees(4), sft, options(), tmp_path)
    with pytest.raises(KilterError, match="patience is 3, and nothing is held out to go by; set eval_share"):
        train(make(), pair_trees(4), sft, options(eval_share=0.0, patience=3), tmp_path)
    for method, given in {
        "grpo": {"feedback": "world"},
        "rlhf-online": {"feedback": "world"},
        "reward-overopt": {"gold": "world"},
    }.items():
        with pytest.raises(KilterError, match="learns from its own samples has no data to hold out; set eval_share"):
            train_by_name(method, model="none", data=[prompt()], out=tmp_path / method, eval_share=0.1, **given)
    assert not (tmp_path / "grpo").exists()


def test_trees_that_leave_nothing_to_measure_are_said(tmp_path):
    trees = pair_trees(4)
    for tree in trees:
        tree.masks = [[False] * len(response) for response in tree.responses]
    with pytest.raises(KilterError, match="nothing to measure on the one record held out; raise eval_share"):
        train(make(), trees, sft, options(), tmp_path)


def test_what_is_held_out_is_a_matter_of_the_seed():
    trees = pair_trees(100)
    assert held_out.choose(trees, 0.0, 0) == []
    assert len(held_out.choose(trees[:3], 0.01, 0)) == 1
    assert len(held_out.choose(trees[:3], 0.99, 0)) == 2
    found = [held_out.choose(trees, 0.2, seed) for seed in range(5)]
    assert found[0] == held_out.choose(trees, 0.2, 0)
    assert all(len({*held}) == 20 and held == sorted(held) for held in found)
    assert len({tuple(held) for held in found}) == 5


def test_records_with_the_same_prompt_are_held_out_together():
    trees = pair_trees(30)
    for i, tree in enumerate(trees):
        tree.prompt = [5, 5, i % 10]
    held = held_out.choose(trees, 0.3, 0)
    assert len(held) == 9
    assert len({i % 10 for i in held}) == 3
    # Most of the data has one prompt: the others can be held out.
    for tree in trees[4:]:
        tree.prompt = [6]
    assert set(held_out.choose(trees, 0.1, 0)) < {0, 1, 2, 3}
    for tree in trees:
        tree.prompt = []
    assert len(held_out.choose(trees, 0.3, 0)) == 9
    for tree in trees:
        tree.prompt = [5]
    assert len(held_out.choose(trees, 0.3, 0)) == 9
