"""Packed weights: the same products, for plain linear layers alone, and the model as it was behind them."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from kilter.engine import packed as subject
from kilter.engine.packed import packed
from tiny_models import make


def layers(kind=torch.float32, bias=True):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 40, bias=bias), nn.Linear(40, 16, bias=bias)).to(kind)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_products_are_those_of_before(kind, bias):
    model, rows = layers(kind, bias), torch.randn(3, 1, 24).to(kind)
    with torch.no_grad():
        expected = model(rows)
        with packed(model):
            assert all("forward" in vars(layer) for layer in model)
            found, none = model(rows), model(rows[:0])
        assert torch.equal(model(rows), expected)
    assert not any("forward" in vars(layer) for layer in model)
    assert found.dtype == kind
    assert none.shape == (0, 1, 16)
    assert float((found.float() - expected.float()).abs().max()) <= (1e-6 if kind == torch.float32 else 1e-2)


def test_under_autocast_they_are_of_its_precision():
    model, rows = layers(), torch.randn(5, 24)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = model(rows)
        with packed(model):
            found = model(rows)
    assert found.dtype == expected.dtype == torch.bfloat16
    assert float((found.float() - expected.float()).abs().max()) <= 1e-2


def test_new_weights_are_read_when_it_begins_anew():
    model, rows = layers(), torch.randn(2, 24)
    with torch.no_grad():
        with packed(model):
            before = model(rows)
        model[1].bias += 1.0
        with packed(model):
            assert torch.allclose(model(rows), before + 1.0, atol=1e-6)


def test_layers_of_another_kind_are_left_alone(monkeypatch):
    class Own(nn.Linear):
        pass

    adapted = get_peft_model(make("llama"), LoraConfig(target_modules=["q_proj"]))
    for model in (nn.Sequential(Own(4, 4)), layers(torch.float64)):
        with packed(model):
            assert not any("forward" in vars(layer) for layer in model.modules())
    with packed(adapted):
        changed = [name for name, layer in adapted.named_modules() if "forward" in vars(layer)]
    assert any("lora_A" in name for name in changed)
    assert any("q_proj.base_layer" in name for name in changed)
    monkeypatch.setattr(subject, "MOST", 1)
    model = layers()
    with packed(model):
        assert not any("forward" in vars(layer) for layer in model)


def test_they_are_put_back_where_sampling_fails():
    model = layers()
    with pytest.raises(ZeroDivisionError), packed(model):
        raise ZeroDivisionError
    assert not any("forward" in vars(layer) for layer in model)
