"""Linear layers with their weights in the order in which oneDNN computes, for as long as a model samples on a CPU.

A step of the sampler multiplies a few rows with every weight, and oneDNN puts a weight's parts in its own order each
time: for 8 to 64 rows that is a quarter to a half of the product's time. Here it is done once a call of the sampler.
The products are those of before: to the bit in bf16, up to the order of the sums in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kilter.engine.precision import computed_in

MOST = 2**31  # bytes of weights: a second copy of them stands beside the model while it samples
KINDS = (torch.float32, torch.bfloat16)


@contextmanager
def packed(model: nn.Module) -> Iterator[None]:
    """Within, the linear layers of `model` compute with packed weights, where that suits them; gradients do not pass.

    Under autocast weights are packed in its precision, as they are used. Weights are read once, at the beginning.
    """
    changed: list[nn.Linear] = []
    try:
        for module in _suited(model):
            setattr(module, "forward", _packed(module))  # noqa: B010 - a method, to the type checker
            changed.append(module)
        yield
    finally:
        for module in changed:
            del module.forward


def _suited(model: nn.Module) -> list[nn.Linear]:
    # A layer of a class of its own (four bits, eight bits) or with another forward knows better.
    found = [m for m in model.modules() if type(m) is nn.Linear and "forward" not in vars(m)]
    weights = [m.weight for m in found]
    if any(w.device.type != "cpu" or w.dtype not in KINDS for w in weights) or not torch.backends.mkldnn.is_available():
        return []
    if torch.bfloat16 in map(_kind, weights) and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return []
    return found if sum(w.numel() * _kind(w).itemsize for w in weights) <= MOST else []


def _kind(weight: Tensor) -> torch.dtype:
    return computed_in(weight.device, weight.dtype)


def _packed(module: nn.Linear) -> Callable[[Tensor], Tensor]:
    kind = _kind(module.weight)
    weight = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach().to(kind).contiguous(), None)
    bias = None if module.bias is None else module.bias.detach().to(kind)

    def forward(rows: Tensor) -> Tensor:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(rows.to(kind), weight, bias, "none", [], "")
        return found

    return forward
