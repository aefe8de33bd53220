"""Adapters in the loop: what is trained, what stands still, and what a run leaves."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from kilter.engine import Scorer, adapters, collate, reference
from kilter.engine.adalora import ranks_of
from kilter.engine.adapter_files import put_on
from kilter.engine.loop import LoopOptions, train
from kilter.errors import KilterError
from kilter.training.dpo import dpo
from kilter.training.sft import sft
from tiny_models import ARCHITECTURES, make, ordinary, pair_trees, some_trees, stirred

FAST = {"learning_rate": 1e-2, "batch_size": 4, "warmup": 1, "log_every": 2, "precision": "fp32", "checkpoint_every": 0}
LAYERS = ("lora", "dora", "adalora")
KINDS = (*LAYERS, "prefix", "prompt")
CPU = torch.device("cpu")


def options(kind, **more):
    own = {"virtual_tokens": 4} if kind in ("prefix", "prompt") else {"adapter_rank": 4}
    return LoopOptions(**FAST | {"steps": 6, "adapter": kind} | own | more)


def attached(kind, name="llama", **more):
    return adapters.attach(make(name), options(kind, **more), steps=6, device=CPU, bf16=False)


def weights(folder):
    found = load_file(folder / "adapter_model.safetensors")
    return torch.cat([value.reshape(-1) for _, value in sorted(found.items())])


def scores(model, trees):
    scorer = Scorer(model)
    with torch.no_grad():
        found = scorer(collate(trees)).tokens
    scorer.release()
    return found


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_fresh_adapter_of_layers_changes_nothing_and_a_trained_one_what_peft_says(name, kind):
    trees, model = some_trees(), attached(kind, name)
    assert float((scores(model, trees) - ordinary(make(name), trees)).abs().max()) <= 2e-5
    stirred(model)
    with torch.no_grad():
        expected = ordinary(model, trees)
    assert float((scores(model, trees) - expected).abs().max()) <= 2e-5
    assert float((expected - ordinary(make(name), trees)).abs().max()) > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_adapter_is_trained(tmp_path, kind):
    model, before = make(), make()
    done = train(model, pair_trees(8), sft, options(kind, epochs=5, steps=None, learning_rate=3e-2), tmp_path)
    assert done.losses[-1] < done.losses[0]
    held = dict(before.named_parameters())
    for name, parameter in model.named_parameters():
        plain = name.replace(".base_layer", "")
        if plain in held:
            assert torch.equal(parameter, held[plain])
            assert parameter.grad is None
            assert not parameter.requires_grad
    found = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(value.numel() for value in found.values()) < 0.4 * sum(p.numel() for p in before.parameters())


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_is_the_same_weights_with_the_adapter_off(tmp_path, monkeypatch, kind, made):
    def second_copy(*_):
        raise AssertionError("the model was copied")

    monkeypatch.setattr(reference, "copy", SimpleNamespace(deepcopy=second_copy))
    seen, base = [], make()

    def watching(policy, reference, group):
        seen.append(reference.tokens.clone())
        return dpo(policy, reference, group)

    def step_by_step(step):
        return pair_trees(4, seed=step)

    fixed = pair_trees(4)
    done = train(make(), step_by_step if made else fixed, watching, options(kind), tmp_path)
    assert len(seen) == done.steps
    for step, tokens in enumerate(seen):
        expected = ordinary(base, step_by_step(step) if made else fixed)
        # The loop has an order of its own.
        assert float((tokens.sort().values - expected.sort().values).abs().max()) <= 2e-5
    if kind in LAYERS:
        assert done.losses[0] == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_in_bf16_it_learns_nearly_the_same(tmp_path, kind):
    one, two = (
        train(make(), pair_trees(8), dpo, options(kind, precision=each, adapter_dropout=None), tmp_path / each)
        for each in ("fp32", "bf16")
    )
    assert one.losses != two.losses
    assert one.losses == pytest.approx(two.losses, abs=0.08)
    assert all(value.dtype == torch.float32 for value in load_file(two.out / "adapter_model.safetensors").values())


def test_the_reference_of_an_adapter_that_goes_on_is_the_adapter_as_it_was():
    model, trees = stirred(attached("lora", adapter_dropout=0.0)), some_trees()
    model.fresh = False
    scorer = Scorer(model)
    held = reference.standing(scorer, None, CPU)
    with torch.no_grad():
        before = scorer(collate(trees)).tokens
        stirred(model)
        assert float((scorer(collate(trees)).tokens - before).abs().max()) > 1e-2
        assert torch.equal(held(collate(trees)).tokens, before)
        assert {id(p) for p in model.parameters()} == {id(p) for p in scorer.parameters()}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_adapter_s_dropout_is_on_where_it_learns_and_follows_the_seed(checkpointing):
    model, batch = stirred(attached("lora", adapter_dropout=0.5)), collate(some_trees())
    scorer = Scorer(model)
    if checkpointing:
        scorer.checkpoint_activations()

    def learn(seed):
        torch.manual_seed(seed)
        found = scorer(batch).tokens
        with torch.no_grad():
            scorer(batch)  # a look in between leaves the way back alone
        return found, torch.autograd.grad(found.sum(), [p for p in model.parameters() if p.requires_grad])

    (one, slopes), (again, others), (other, _) = learn(1), learn(1), learn(2)
    assert torch.equal(one, again)
    assert all(torch.equal(a, b) for a, b in zip(slopes, others, strict=True))
    assert float((one - other).detach().abs().max()) > 1e-2
    with torch.no_grad():
        assert torch.equal(scorer(batch).tokens, scorer(batch).tokens)
    plain = Scorer(stirred(attached("lora", adapter_dropout=0.5)))
    if checkpointing:
        plain._last = None  # a layer that is not cut to what is read draws for more tokens
    torch.manual_seed(1)
    expected = plain(batch).tokens
    torch.testing.assert_close(one, expected)
    trained = [p for p in plain.parameters() if p.requires_grad]
    for a, b in zip(slopes, torch.autograd.grad(expected.sum(), trained), strict=True):
        torch.testing.assert_close(a, b)


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    ("setting", "made"),
    [
        ({"adapter": "lora", "adapter_dropout": 0.3, "gradient_checkpointing": True}, True),
        ({"adapter": "lora", "adapter_dropout": 0.3, "precision": "bf16"}, False),
        ({"adapter": "dora", "adapter_rank": 2}, False),
        ({"adapter": "adalora", "adapter_rank": 2}, True),
        ({"adapter": "prefix", "virtual_tokens": 4}, False),
        ({"adapter": "prompt", "virtual_tokens": 4}, True),
    ],
    ids=lambda value: value["adapter"] if isinstance(value, dict) else "made" if value else "fixed",
)
def test_a_run_that_was_stopped_continues_to_the_same_bits(tmp_path, setting, made):
    given = LoopOptions(**FAST | {"checkpoint_every": 3} | setting, steps=8)

    def stopping(at):
        calls = iter(range(1, 10**6))

        def stop(policy, reference, group):
            if next(calls) == at:
                raise Stop
            return dpo(policy, reference, group)

        return stop

    def run(out, at=0):
        return train(
            make(), (lambda step: pair_trees(4, seed=step)) if made else pair_trees(9), stopping(at), given, out
        )

    expected = run(tmp_path / "whole")
    with pytest.raises(Stop):
        run(tmp_path / "parts", at=6)
    [state] = (tmp_path / "parts").glob("state-*")
    held, moments = load_file(state / "model.safetensors"), load_file(state / "optimizer.safetensors")
    assert not any("base_layer" in name or "lm_head" in name for name in held)
    means = [moment for name, moment in moments.items() if name.endswith(".exp_avg")]
    assert sum(moment.numel() for moment in means) == sum(value.numel() for value in held.values())
    found = run(tmp_path / "parts")
    assert found.losses == expected.losses
    assert torch.equal(weights(tmp_path / "parts"), weights(tmp_path / "whole"))


def last_logits(model, trees):
    with torch.no_grad():
        return torch.stack([model(torch.tensor([[*t.prompt, *t.responses[0]]])).logits[0, -1] for t in trees])


def saved_base(folder):
    model = make()
    model.save_pretrained(folder)
    model.name_or_path = str(folder)
    return model


def from_base(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.name_or_path = str(folder)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_peft_loads_what_is_left_and_finds_the_same(tmp_path, kind):
    base, out, trees = tmp_path / "base", tmp_path / "out", some_trees()
    trained = train(saved_base(base), pair_trees(8), sft, options(kind, learning_rate=3e-2), out).out
    expected = last_logits(AutoPeftModelForCausalLM.from_pretrained(trained).eval(), trees)
    assert float((expected - last_logits(make(), trees)).abs().max()) > 1e-3
    ours = put_on(from_base(base), out, "out")
    torch.testing.assert_close(last_logits(ours, trees), expected, atol=2e-5, rtol=0)
    assert hasattr(ours, "merged_from") == (kind in LAYERS)
    assert sorted(path.name for path in out.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "metrics.jsonl",
        "training.json",
    ]


@pytest.mark.parametrize("kind", LAYERS)
def test_merged_it_is_an_ordinary_checkpoint(tmp_path, kind):
    trees = some_trees()
    for merge in (False, True):
        train(saved_base(tmp_path / "base"), pair_trees(8), sft, options(kind, merge=merge), tmp_path / str(merge))
    alone = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "False").eval()
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "True")
    assert not list((tmp_path / "True").glob("adapter*"))
    torch.testing.assert_close(last_logits(whole, trees), last_logits(alone, trees), atol=2e-5, rtol=0)
    # What stood there before as an adapter is no adapter any more.
    train(
        saved_base(tmp_path / "base"), pair_trees(8), sft, options(kind, merge=True), tmp_path / "False", overwrite=True
    )
    assert not list((tmp_path / "False").glob("adapter*"))


@pytest.mark.parametrize("kind", ["lora", "dora", "prefix", "prompt"])
def test_an_adapter_is_continued(tmp_path, kind):
    base, trees = tmp_path / "base", pair_trees(8)
    first = train(saved_base(base), trees, sft, options(kind, steps=12, learning_rate=3e-2), tmp_path / "first")
    model = put_on(from_base(base), tmp_path / "first", "first", train=kind)
    before = last_logits(model, trees)
    torch.testing.assert_close(
        before, last_logits(put_on(from_base(base), tmp_path / "first", "first"), trees), atol=2e-5, rtol=0
    )
    more = LoopOptions(**FAST, steps=6, adapter=kind)
    second = train(model, trees, sft, more, tmp_path / "second")
    assert second.losses[-1] < first.losses[0]
    after = last_logits(put_on(from_base(base), tmp_path / "second", "second"), trees)
    assert float((after - before).abs().max()) > 1e-3


def test_adalora_deals_out_its_ranks(tmp_path):
    model = make()
    given = LoopOptions(**FAST, steps=30, adapter="adalora", adapter_rank=2, adapter_targets="q_proj,v_proj")
    train(model, pair_trees(8), dpo, given, tmp_path)
    values = {name: p for name, p in model.named_parameters() if "lora_E" in name}
    assert len(values) == 4
    assert {len(p) for p in values.values()} == {3}  # one and a half times the rank at the start
    assert sum(int((p != 0).sum()) for p in values.values()) == 4 * 2
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(len(p) for name, p in saved.items() if "lora_E" in name) == 4 * 2


def test_adalora_keeps_directions_apart():
    model = stirred(attached("adalora", adapter_rank=2))
    pairs = [(n, p) for n, p in model.named_parameters() if "lora_A" in n or "lora_B" in n]
    for _, p in pairs:
        p.grad = torch.ones_like(p)
    scale = torch.tensor(0.25)
    ranks_of(model, None).spread(scale)
    distances = []
    for name, p in pairs:
        square = p @ p.T if "lora_A" in name else p.T @ p
        distances.append((square - torch.eye(3)).square().sum().sqrt())
    expected = torch.autograd.grad(0.1 * sum(distances) / len(distances), [p for _, p in pairs])
    for (_, p), slope in zip(pairs, expected, strict=True):
        torch.testing.assert_close(p.grad * scale, scale + slope)
    assert not ranks_of(make(), attached("lora")).memory()


def test_what_is_adapted_is_what_the_papers_adapt():
    def layers(kind, name="llama", **more):
        config = attached(kind, name, **more).active_peft_config
        return set(config.target_modules), getattr(config, "r", None), config.lora_alpha, config.lora_dropout

    everything = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert layers("lora", adapter_rank=None) == ({"q_proj", "v_proj"}, 4, 32, 0.1)
    assert layers("dora", adapter_rank=None) == (everything - {"o_proj", "gate_proj"}, 32, 64, 0.05)
    assert layers("adalora")[0] == everything
    assert layers("lora", adapter_targets="all")[0] == everything
    assert layers("lora", adapter_targets=" o_proj, mlp.up_proj", adapter_alpha=3)[0] == {"o_proj", "mlp.up_proj"}
    assert layers("lora", "gpt2")[0] == {"c_attn"}
    assert layers("lora", "phi3")[0] == {"qkv_proj"}
    assert attached("prompt", virtual_tokens=None).active_peft_config.num_virtual_tokens == 100
    prefix = attached("prefix", virtual_tokens=None).active_peft_config
    assert (prefix.num_virtual_tokens, prefix.prefix_projection, prefix.encoder_hidden_size) == (10, True, 512)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            {"adapter": "lora", "adapter_targets": "q_prj"},
            r"no linear layer 'q_prj'.* it has down_proj, .*mean 'q_proj'",
        ),
        ({"adapter": "lora", "adapter_targets": "lm_head"}, "no linear layer 'lm_head'"),
        ({"adapter": "lora", "adapter_targets": " "}, "no linear layer"),
        (
            {"adapter": "prefix", "adapter_rank": 4},
            "adapter_rank is set, which belongs to .* lora, dora, adalora or qlora",
        ),
        ({"adapter": "none", "adapter_alpha": 4}, "adapter_alpha is set.* adapter is none"),
        ({"adapter": "lora", "virtual_tokens": 4}, "virtual_tokens is set, which belongs to .* prefix or prompt"),
        ({"adapter": "prompt", "merge": True}, "virtual tokens .prompt. have no place"),
        ({"merge": True}, "there is none"),
    ],
)
def test_settings_that_do_not_go_together_are_said(tmp_path, setting, said):
    with pytest.raises(KilterError, match=said) as caught:
        train(make(), pair_trees(4), sft, LoopOptions(**FAST, steps=1, **setting), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_model_without_attention_takes_no_virtual_tokens(tmp_path):
    with pytest.raises(KilterError, match="MambaForCausalLM takes no prefix adapter"):
        train(make("mamba"), pair_trees(4), sft, options("prefix"), tmp_path)


def test_another_adapter_than_the_one_that_is_there_is_refused(tmp_path):
    base, out = tmp_path / "base", tmp_path / "out"
    train(saved_base(base), pair_trees(4), sft, options("lora"), out)

    def on(model, **setting):
        train(model, pair_trees(4), sft, LoopOptions(**FAST, steps=1, **setting), tmp_path / "more", overwrite=True)

    trained = partial(put_on, folder=out, name="out", train="lora")
    with pytest.raises(KilterError, match="adapter of the kind lora, and adapter is dora"):
        on(trained(from_base(base)), adapter="dora")
    with pytest.raises(KilterError, match="adapter_rank is 8, and that of the adapter that is continued 4"):
        on(trained(from_base(base)), adapter="lora", adapter_rank=8)
    with pytest.raises(KilterError, match="settled"):
        on(trained(from_base(base)), adapter="lora", adapter_targets="all")
    with pytest.raises(KilterError, match=r"'out' is itself an adapter \(lora\)"):
        on(put_on(from_base(base), out, "out"), adapter="dora")
    on(put_on(from_base(base), out, "out"))  # all weights, the adapter's among them

    train(saved_base(base), pair_trees(4), sft, options("prompt"), tmp_path / "prompt")
    with pytest.raises(KilterError, match="cannot be merged, and adapter is none"):
        on(put_on(from_base(base), tmp_path / "prompt", "prompt"))
    train(saved_base(base), pair_trees(4), sft, options("adalora"), tmp_path / "adalora")
    with pytest.raises(KilterError, match="ranks are settled"):
        on(put_on(from_base(base), tmp_path / "adalora", "x", train="adalora"), adapter="adalora")
