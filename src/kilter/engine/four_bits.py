"""Weights in four bits by bitsandbytes (QLoRA, Dettmers et al. 2023, section 3): NF4 in blocks of 64.

    w ~ c_k s_b,  k one of 16 codes that are the quantiles of a normal distribution, s_b the largest |w| of its block

The scales are 8-bit numbers themselves (double quantisation): 4.127 bits a weight. Products are computed with the
weights decoded; their gradient goes to what is below, never to the weights. Whether bitsandbytes works on a machine is
tried.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from kilter.errors import KilterError, first_line

BLOCK = 64


def check() -> None:
    """Raise KilterError where bitsandbytes is not there."""
    if find_spec("bitsandbytes") is None:
        raise KilterError(
            "adapter=qlora keeps weights in four bits by bitsandbytes, which is not installed; "
            "install it (pip install 'kilter[qlora]'), or use adapter=lora."
        )


def is_quantised(model: nn.Module) -> bool:
    """Whether some weights of `model` are in four bits."""
    return any(hasattr(p, "quant_state") for p in model.parameters())


def quantise(model: Any, *, device: torch.device, compute: torch.dtype) -> None:
    """Keep the linear layers of `model`, but for its head, in four bits, in place; products are computed in `compute`.

    Raises KilterError where bitsandbytes does not work on `device`, or where a layer's rows are no whole blocks.
    """
    check()
    heads = (model.get_output_embeddings(), getattr(model, "score", None))
    found = [(n, m) for n, m in model.named_modules() if type(m) is nn.Linear and m not in heads]
    if not found:
        raise KilterError(f"{type(model).__name__} has no linear layers that four bits could hold; use adapter=lora.")
    for name, layer in found:
        if layer.in_features % BLOCK:
            raise KilterError(
                f"The layer {name} has rows of {layer.in_features} weights, and four bits come in blocks of {BLOCK}; "
                "use adapter=lora."
            )
    _try(device)
    for name, layer in found:
        model.set_submodule(name, _coded(layer, device, compute), strict=True)
    # Whereby peft knows how to go about such layers.
    model.is_loaded_in_4bit = True


def compute_in(model: nn.Module, dtype: torch.dtype) -> None:
    """Have the products of layers in four bits computed in `dtype`."""
    module: Any
    for module in model.modules():
        if hasattr(getattr(module, "weight", None), "quant_state") and hasattr(module, "compute_dtype"):
            module.compute_dtype = dtype


def _coded(layer: nn.Linear, device: torch.device, compute: torch.dtype) -> Any:
    import bitsandbytes

    has_bias = layer.bias is not None
    made = bitsandbytes.nn.Linear4bit(
        layer.in_features, layer.out_features, bias=has_bias, compute_dtype=compute, quant_type="nf4", device="meta"
    )
    made.weight = bitsandbytes.nn.Params4bit(
        layer.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4", module=made
    )
    if has_bias:
        made.bias = nn.Parameter(layer.bias.data, requires_grad=False)
    made = made.to(device)
    # On some CPUs bitsandbytes repacks the weights at the first forward without gradients, into a form from which no
    # gradient comes back any more.
    made.support_avx512bf16_for_cpu = False
    return made


def _try(device: torch.device) -> None:
    """Put a small layer through forward and backward; raise KilterError where that does not work."""
    layer = nn.Linear(BLOCK, BLOCK, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 1, BLOCK * BLOCK).reshape(BLOCK, BLOCK))
    given = torch.linspace(0, 1, 2 * BLOCK, device=device).reshape(2, BLOCK).requires_grad_()
    try:
        coded = _coded(layer, device, torch.float32)
        out = coded(given)
        out.sum().backward()
        weight = decoded(coded).to(device)
        right = torch.allclose(out, given @ weight.T, atol=1e-2)
        right = right and given.grad is not None and torch.allclose(given.grad, weight.sum(0).expand(2, -1), atol=1e-2)
    except Exception as error:  # a library of its own kernels may fail in any way
        raise KilterError(
            f"bitsandbytes does not work here, on {device.type} ({first_line(error)}); use adapter=lora."
        ) from error
    if not right:
        raise KilterError(f"bitsandbytes computes wrong numbers here, on {device.type}; use adapter=lora.")


def decoded(layer: Any) -> torch.Tensor:
    """Return the weights [out, in] that a layer in four bits stands for, fp32."""
    import bitsandbytes

    found: torch.Tensor = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    return found.float()


def dense(model: Any) -> Any:
    """Return the transformers model below PEFT's wrapping with ordinary linear layers again, adapters in their weights.

    The weights are those that the adapter was trained on, rounded as four bits round them, and its update, in fp32.
    """
    plain = model.get_base_model()
    for name, module in list(plain.named_modules()):
        adapted = hasattr(module, "get_base_layer") and hasattr(module, "get_delta_weight")
        layer = module.get_base_layer() if adapted else module
        if not hasattr(getattr(layer, "weight", None), "quant_state"):
            continue
        if not adapted and ".base_layer" in name:
            continue  # below one that was done as a whole
        weight = decoded(layer)
        if adapted:
            weight = weight + module.get_delta_weight(model.active_adapter).to(weight)
        made = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        made.weight = nn.Parameter(weight.detach(), requires_grad=False)
        if layer.bias is not None:
            made.bias = nn.Parameter(layer.bias.data.float(), requires_grad=False)
        plain.set_submodule(name, made)
    plain.is_loaded_in_4bit = False
    return plain
