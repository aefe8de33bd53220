"""What is pushed to vLLM: whole weights under the names of a checkpoint, an adapter's update among them."""

import importlib.util

import pytest
import torch

from kilter.engine import adapters, vllm_sampler
from kilter.engine.loop import LoopOptions
from kilter.errors import KilterError
from tiny_models import make

CPU = torch.device("cpu")


def adapted(kind):
    options = LoopOptions(adapter=kind, adapter_rank=4, learning_rate=1e-2)
    model = adapters.attach(make("llama"), options, steps=6, device=CPU, bf16=False)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.full_like(parameter, 0.1))
    return model


def test_a_model_s_weights_are_those_of_its_checkpoint(tmp_path):
    from safetensors.torch import load_file

    model = make("qwen2")
    model.save_pretrained(tmp_path)
    kept, found = load_file(tmp_path / "model.safetensors"), dict(vllm_sampler.weights(model))
    assert set(kept) <= set(found)
    assert all(torch.equal(kept[name], found[name]) for name in kept)


def test_lora_is_added_and_the_model_stays_as_it_is():
    model = adapted("lora")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        found = dict(vllm_sampler.weights(model))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    merged = adapters.merged(model).state_dict()
    assert set(found) == set(merged)
    for name, tensor in merged.items():
        torch.testing.assert_close(found[name], tensor)
    base = dict(make("llama").state_dict())
    assert any(not torch.equal(base[name], tensor) for name, tensor in found.items())


def test_what_cannot_be_pushed_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(KilterError, match="pip install vllm"):
        vllm_sampler.check(make("llama"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    vllm_sampler.check(make("llama"))
    with pytest.raises(KilterError, match="a dora adapter cannot be added to them"):
        vllm_sampler.check(adapted("dora"))
