"""Layers compiled by torch: what stands between the matrix products becomes a few loops over memory.

Each decoder layer is compiled, and the norm behind the last, not the model: the layers share one code, and attention
stays what it is (attention.py), with the layer's code before and behind it in a graph each. Lengths are left open, so
that a batch of another shape asks for nothing new. The compiler takes about a minute the first time (torch keeps its
results on disk), so only long runs gain: `worthwhile` says which. Whether a model's layers can be compiled is not
looked up but tried.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.modeling_layers import GradientCheckpointingLayer

from kilter.engine.attention import NAME, attention
from kilter.engine.feed import Feed
from kilter.engine.trunk import Trunk

# Operations of a run (6 for each weight and token) from which compiling pays: about a quarter of an hour.
WORTH = {"cpu": 2e14, "cuda": 1e17}
COMPILERS = ("g++", "c++", "clang++")
# What hidden states may differ by (they are of about unit size), computed in bf16 or not.
ROUNDING = {True: 0.1, False: 1e-3}


def worthwhile(model: nn.Module, feed: Feed, device: torch.device) -> bool:
    """Whether compiling pays for a run; that depends on model and data alone, not on the clock.

    Where the policy learns from its own samples these count as if all were as long as they may be.
    """
    tokens = feed.total * feed.tokens_a_step
    if device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX") or "", *COMPILERS))):
        return False
    return 6 * sum(p.numel() for p in model.parameters()) * tokens >= WORTH.get(device.type, float("inf"))


def compile_layers(module: nn.Module) -> bool:
    """Compile the layers of all trunks in `module`; say in a warning why not, where one cannot be, and return False."""
    AttentionInterface.register(NAME, _entered)
    trunks = [part for part in module.modules() if isinstance(part, Trunk) and part.ragged]
    for trunk in trunks:
        written = _tried(trunk)
        for layer in _layers(trunk):
            layer.compile(dynamic=True)
        try:
            off = float((_tried(trunk) - written).abs().max())
            why = f"its hidden states come out different by {off:.2g}" if off > ROUNDING[trunk.bf16] else ""
        except Exception as error:  # a compiler may fail in any way
            why = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        if why:
            AttentionInterface.register(NAME, attention)
            for other in trunks:
                for layer in _layers(other):
                    layer._compiled_call_impl = None
            name = type(trunk._plain).__name__
            warnings.warn(f"{name} is trained without torch.compile, which is slower: {why}.", stacklevel=2)
            return False
    return bool(trunks)


@contextmanager
def as_written(model: nn.Module) -> Iterator[None]:
    """Within this the layers run as they are written: they were not compiled for one token at a time."""
    held = {layer: layer._compiled_call_impl for layer in _layers(model)}
    try:
        for layer in held:
            layer._compiled_call_impl = None
        yield
    finally:
        for layer, compiled in held.items():
            layer._compiled_call_impl = compiled


def _entered(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **rest: Any
) -> tuple[Tensor, None]:
    """What a compiler sees of attention: under autocast rotary embeddings leave queries and keys in fp32.

    They become what values are in the loop that turns them, and are not written down twice.
    """
    return _apart(module, query.to(value.dtype), key.to(value.dtype), value, attention_mask, **rest)


@torch.compiler.disable
def _apart(*args: Any, **kwargs: Any) -> tuple[Tensor, None]:
    """Attention that no compiler looks into: the layout is a matter of Python objects, another one every time.

    What it returns is no view of anything, as code behind it is compiled for how that is strided, too.
    """
    found, _ = attention(*args, **kwargs)
    return found.clone(memory_format=torch.contiguous_format), None


def _layers(model: nn.Module) -> list[Any]:
    """Return the layers of a model, and the norm behind the last one, which stands beside their list."""
    found: list[Any] = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and {*m} & {*found}]
    beside = [child for m in model.modules() if {*m.children()} & {*lists} for child in m.children()]
    return found + [child for child in beside if "norm" in type(child).__name__.lower()]


def _tried(trunk: Trunk) -> Tensor:
    """Return the states [P, H] that are read of a small forest, having gone back through them: no gradient is left."""
    parameters = [p for p in trunk.parameters() if p.requires_grad]
    batch = trunk._forest()
    before = [p.grad for p in parameters]
    drops, trunk.drops = trunk.drops, False
    with trunk._manner(batch):
        hidden = trunk._hidden(batch, batch.at).index_select(0, batch.at)
    trunk.drops = drops
    hidden.float().sum().backward()
    for parameter, grad in zip(parameters, before, strict=True):
        parameter.grad = grad
    return hidden.detach().float()
