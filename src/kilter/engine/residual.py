"""Dropout of what layers add to the residual stream, more of it the deeper the layer.

A decoder layer adds to its input what its attention and then what its feed-forward part found: x + a + m. Which of a
layer's modules give a and m differs from one architecture to another, and is not looked up but tried: the two outputs
have to make up the difference between what comes out of the layer and what goes in.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kilter.engine.layers import layers_of
from kilter.engine.trunk import below
from kilter.errors import KilterError

NAME = "residual_dropout"  # what the layer of dropout is called in the module whose output it drops
# Where architectures norm what they add, the norms are the last to see it.
BRANCHES = (
    ("post_attention_layernorm", "post_feedforward_layernorm"),
    ("self_attn", "mlp"),
    ("attention", "mlp"),
    ("attn", "mlp"),
    ("self_attn", "fc2"),
)
ROUNDING = 1e-3  # what the parts may miss of the whole, as a share of it


def drop_residuals(model: Any, highest: float) -> list[float]:
    """Have `model` drop parts of what its layers add; return the rate of each layer, from the first to the last.

    The rate rises linearly from 0 at the first of L layers to `highest` at the last, p_l = highest l / (L - 1). It acts
    where the engine computes something to learn from, and there alone. Raises KilterError for a model whose layers are
    not of the form x + a + m.
    """
    plain = below(model)
    layers = layers_of(plain)
    if layers is None:
        raise KilterError(f"{type(plain).__name__} has no row of layers to drop from; set residual_dropout to 0.")
    branches = _branches(plain, layers)
    rates = depth_rates(len(layers), highest)
    for layer, rate in zip(layers, rates, strict=True):
        for branch in (getattr(layer, name) for name in branches):
            branch.add_module(NAME, nn.Dropout(rate).eval())
            branch.register_forward_hook(_drop)
    return rates


def depth_rates(layers: int, highest: float) -> list[float]:
    """Return the rate of each of so many layers; of a single one it is the highest."""
    return [highest * (i / (layers - 1) if layers > 1 else 1.0) for i in range(layers)]


def _drop(branch: nn.Module, _: Any, out: Any) -> Any:
    dropped = getattr(branch, NAME)
    if isinstance(out, tuple):
        return (dropped(out[0]), *out[1:])
    return dropped(out)


@torch.no_grad()
def _branches(plain: Any, layers: nn.ModuleList) -> tuple[str, str]:
    """Return the names of the two modules of a layer whose outputs are what it adds, found in a forward."""
    layer = layers[0]
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
            seen[name] = (out[0] if isinstance(out, tuple) else out).detach()
            if name == "layer":
                seen["before"] = (args[0] if args else kwargs["hidden_states"]).detach()

        return hook

    names = {name for pair in BRANCHES for name in pair if isinstance(getattr(layer, name, None), nn.Module)}
    watched = [layer, *(getattr(layer, name) for name in names)]
    hooks = [
        module.register_forward_hook(keep(name), with_kwargs=True)
        for module, name in zip(watched, ["layer", *names], strict=True)
    ]
    try:
        plain(input_ids=torch.arange(8, device=plain.device)[None] % plain.config.get_text_config().vocab_size)
    finally:
        for hook in hooks:
            hook.remove()
    added = seen["layer"] - seen["before"]
    for pair in BRANCHES:
        if set(pair) <= names:
            parts = sum(seen[name].reshape(added.shape) for name in pair)
            if float((parts - added).norm()) <= ROUNDING * float(added.norm()):
                return pair
    raise KilterError(
        f"The layers of {type(plain).__name__} do not add the outputs of an attention and a feed-forward part to what "
        "goes in, so that there is nothing to drop; set residual_dropout to 0."
    )
