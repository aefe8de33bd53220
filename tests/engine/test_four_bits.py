"""QLoRA: weights in four bits by bitsandbytes. Where that is not installed, only what is then said is tested."""

from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig

from kilter.engine import Scorer, adapters, collate, four_bits
from kilter.engine.adapter_files import put_on
from kilter.engine.loop import LoopOptions, train
from kilter.errors import KilterError
from kilter.training.dpo import dpo
from tiny_models import IDS, VOCABULARY, make, ordinary, pair_trees, some_trees

needs_it = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
FAST = {"learning_rate": 1e-2, "batch_size": 4, "warmup": 1, "log_every": 2, "precision": "fp32"}
CPU = torch.device("cpu")


def wide(seed=0):
    """A llama whose rows are whole blocks of 64."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        **IDS,
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0 if parameter.ndim > 1 else 1.0)
    return model


def quantised(dtype=torch.float32):
    model = wide()
    four_bits.quantise(model, device=CPU, compute=dtype)
    return model


def test_without_bitsandbytes_it_is_said_before_anything(tmp_path, monkeypatch):
    monkeypatch.setattr(four_bits, "find_spec", lambda name: None)
    with pytest.raises(
        KilterError, match=r"not installed; install it \(pip install 'kilter\[qlora\]'\), or use adapter=lora"
    ):
        train(wide(), pair_trees(4), dpo, LoopOptions(**FAST, steps=1, adapter="qlora"), tmp_path)


@needs_it
def test_weights_are_the_nearest_of_sixteen_codes_in_blocks_of_64():
    # Table 5 of the paper: quantiles of a normal distribution, with zero among them.
    below = [-1, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500]
    above = [0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1]
    codes = torch.tensor([*below, 0, *above])
    for exact, layer in zip(wide().model.layers, quantised().model.layers, strict=True):
        weight, found = exact.mlp.up_proj.weight.detach(), four_bits.decoded(layer.mlp.up_proj)
        blocks = weight.reshape(-1, 64)
        largest = blocks.abs().amax(1, keepdim=True)
        nearest = codes[(blocks / largest)[..., None].sub(codes).abs().argmin(-1)] * largest
        # The scales are in eight bits themselves, hence one part in some hundred.
        assert float((found.reshape(-1, 64) - nearest).abs().max()) <= 0.02 * float(largest.max())
        assert layer.mlp.up_proj.weight.data.nbytes == weight.numel() / 2


@needs_it
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_and_gradients_are_those_of_the_decoded_weights(dtype):
    """Also after a forward without gradients, at which some CPUs' kernels repack the weights."""
    coded, dense = quantised(dtype), wide()
    with torch.no_grad():
        for (_, one), (_, two) in zip(coded.named_modules(), dense.named_modules(), strict=True):
            if hasattr(getattr(one, "weight", None), "quant_state"):
                two.weight.copy_(four_bits.decoded(one))
    trees, slopes = some_trees(), []
    for model in (coded, dense):
        model.requires_grad_(False)
        model.get_input_embeddings().weight.requires_grad_(True)
        scorer = Scorer(model, bf16=dtype == torch.bfloat16)
        with torch.no_grad():
            scorer(collate(trees))
        found = scorer(collate(trees)).tokens
        slopes.append((found.detach(), torch.autograd.grad(found.sum(), model.get_input_embeddings().weight)[0]))
    near = 1e-4 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(slopes[0][0], slopes[1][0], atol=near, rtol=near)
    torch.testing.assert_close(slopes[0][1], slopes[1][1], atol=10 * near, rtol=10 * near)


@needs_it
def test_dpo_on_four_bits_from_start_to_merged_checkpoint(tmp_path):
    trees, losses = pair_trees(8), {}
    for kind, merge in (("qlora", False), ("qlora", True), ("lora", False)):
        out = tmp_path / f"{kind}{merge}"
        given = LoopOptions(**FAST, steps=6, adapter=kind, adapter_rank=4, adapter_targets="all", merge=merge)
        model = wide()
        done = train(model, trees, dpo, given, out)
        losses[kind, merge] = done.losses
        if kind == "qlora" and not merge:
            held = {name for name, p in model.named_parameters() if p.requires_grad}
            assert held
            assert all("lora_" in name for name in held)
            saved = load_file(out / "adapter_model.safetensors")
            assert all("lora_" in name for name in saved)
    assert losses["qlora", False] == losses["qlora", True]
    assert losses["qlora", False] == pytest.approx(losses["lora", False], abs=0.1)

    # The merged one is what was trained: the rounded weights with the update.
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "qloraTrue")
    base = wide()
    base.name_or_path = "base"
    trained = put_on(base, tmp_path / "qloraFalse", "x", train="qlora")
    assert adapters.kind_of(trained) == "qlora"
    with torch.no_grad():
        one, two = ordinary(merged, trees), Scorer(trained)(collate(trees)).tokens
        assert float((one - two).abs().max()) <= 1e-3
        exact = put_on(wide(), tmp_path / "qloraFalse", "x")
        assert 1e-4 < float((ordinary(exact, trees) - one).abs().max()) < 1.0


@needs_it
def test_rows_that_are_no_whole_blocks_are_said(tmp_path):
    with pytest.raises(KilterError, match=r"q_proj has rows of 32 weights, and four bits come in blocks of 64"):
        train(make(), pair_trees(4), dpo, LoopOptions(**FAST, steps=1, adapter="qlora"), tmp_path)
    with pytest.raises(KilterError, match="no linear layers that four bits could hold"):
        four_bits.quantise(make("gpt2"), device=CPU, compute=torch.float32)


@needs_it
def test_a_machine_on_which_it_does_not_work_is_said(monkeypatch):
    import bitsandbytes

    def broken(*_, **__):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(bitsandbytes.nn.Linear4bit, "forward", broken)
    with pytest.raises(KilterError, match=r"does not work here, on cpu \(no kernel image is available\)"):
        quantised()
    monkeypatch.setattr(bitsandbytes.nn.Linear4bit, "forward", lambda self, x: x * 0.0)
    with pytest.raises(KilterError, match="computes wrong numbers here"):
        quantised()
