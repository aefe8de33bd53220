"""A model with a design: the few weights that each of its layers was given, beside its own, which stay as they are.

    A adapter   y + U silu(D y + d) + u, behind the output projections of attention and feed-forward part (Houlsby et
                al. 2019); U and u begin as zeros
    P prefix    learned keys and values before those of every sequence (Li & Liang 2021), in this layer; they begin near
                zero, at which a trained decoder minds them least
    B BitFit    a learned addition to the bias of every linear layer, and of norms that have one (Ben Zaken et al.
                2022); where a linear layer has no bias, as in Llama, this is one; it begins as zeros
    L LoRA      W + B A on queries and values (Hu et al. 2021), A [r, in], B [out, r]; B begins as zeros

Activation, places and scale (alpha = r) are those of adapter-transformers, which the authors of the design spaces
built on. Prefixes are learned as they stand, without a network that makes them, since that would have more weights
than the budget; a token's place in its sequence does not count them, so that layers may differ in how many they have.
With the design off the model is the one that it was, and a fresh design without prefixes changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from kilter.engine.attention import NAME
from kilter.engine.design import Part, Sizes
from kilter.engine.layers import layers_of
from kilter.errors import KilterError

# What projects back into the residual stream, by the names of the architectures.
OUTPUTS = {"o_proj", "out_proj", "dense", "c_proj", "wo", "down_proj", "fc2", "dense_4h_to_h", "w2"}
PREFIX = "P:prefix"
SPREAD = 0.02  # standard deviation of the numbers that a prefix begins with


class Changed(nn.Module):
    """A linear layer, or a norm, with what a design adds to it."""

    def __init__(self, base: Any, *, rank: int = 0, width: int = 0, bias: int = 0) -> None:
        """Of LoRA the `rank`, of an adapter the `width`, and 1 where BitFit adds to the `bias`."""
        super().__init__()
        self.base_layer, self.on = base, True
        inside, outside = _shape(base)
        like = {"device": base.weight.device, "dtype": base.weight.dtype}
        if rank:
            self.lora_a = nn.Parameter(torch.empty(rank, inside, **like))
            self.lora_b = nn.Parameter(torch.zeros(outside, rank, **like))
            nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))
        if bias:
            self.bitfit = nn.Parameter(torch.zeros(outside, **like))
        if width:
            self.down, self.up = nn.Linear(outside, width, **like), nn.Linear(width, outside, **like)
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)
        self.rank, self.width, self.adds = rank, width, bias

    # Some models look at a layer's own weight, at its precision for example.
    @property
    def weight(self) -> Tensor:
        """The weight of the layer itself."""
        found: Tensor = self.base_layer.weight
        return found

    @property
    def bias(self) -> Tensor | None:
        """The bias of the layer itself."""
        found: Tensor | None = self.base_layer.bias
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., out] for [..., in]."""
        y: Tensor = self.base_layer(x)
        if not self.on:
            return y
        if self.rank:
            y = y + F.linear(F.linear(x, self.lora_a), self.lora_b).to(y.dtype)
        if self.adds:
            y = y + self.bitfit.to(y.dtype)
        if self.width:
            y = y + self.up(F.silu(self.down(y))).to(y.dtype)
        return y


class Designed(nn.Module):
    """A transformers model with a design, in the place of the model itself; what is not here, that one is asked for."""

    fresh = False  # whether with the design off it is the model that training started from
    base_digest: str | None = None

    def __init__(
        self,
        base: Any,
        design: str,
        sizes: Sizes,
        *,
        learns: bool = True,
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Put a design of these `sizes` on `base`, which is changed in place.

        `learns`: whether it is to be trained; `weights` are those that it had, by name, where it is not a fresh one.
        Raises ValueError where sizes or weights do not suit the model.
        """
        super().__init__()
        base.requires_grad_(False)
        self.base, self.design, self.sizes, self.learns, self.on = base, design, sizes, learns, True
        held = {id(p) for p in base.parameters()}
        lengths = {i: own[PREFIX] for i, own in enumerate(sizes) if PREFIX in own}
        begun = _begun(base, lengths) if weights is None else _kept(base, lengths, weights)
        self.prefix = nn.ParameterDict({str(i): nn.Parameter(pair) for i, pair in begun.items()})
        for layer, own in zip(_layers(base), sizes, strict=True):
            for name, what in _by_module(own).items():
                parent, _, last = name.rpartition(".")
                try:
                    place = layer.get_submodule(parent)
                    setattr(place, last, Changed(place.get_submodule(last), **what))
                except AttributeError:
                    raise ValueError(f"its layers have no {name}") from None
        if hasattr(base, "score"):
            # The head of a reward model learns too, as it does beside peft's adapters.
            base.score = Head(base.score)
        self.own = [name for name, p in self.named_parameters() if id(p) not in held]
        for p in self.parameters():
            p.requires_grad_(learns and id(p) not in held)
        if lengths:
            # Without a layout or a prefix this is the ordinary attention.
            base.set_attn_implementation(NAME)
        if weights is not None:
            self._load(weights)
        self.eval()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base":
                raise
            return getattr(self.base, name)

    def forward(self, *args: Any, **given: Any) -> Any:
        """Call the model; keys and values of prefixes are handed to its attention."""
        if (front := self.front()) is not None:
            given["front"] = front
        return self.base(*args, **given)

    def generate(self, *args: Any, **given: Any) -> Any:
        """Have transformers generate; raise KilterError where it would not see a prefix."""
        if self.front() is not None:
            raise KilterError(
                f"{type(self.base).__name__} cannot be sampled with the prefixes of its design; "
                "train one without P, or another kind of adapter."
            )
        return self.base.generate(*args, **given)

    def get_base_model(self) -> Any:
        """Return the transformers model, whose linear layers are changed where the design says so."""
        return self.base

    def front(self) -> dict[int, tuple[Tensor, Tensor]] | None:
        """Return by layer keys and values [Hkv, V, D] before every sequence; None where there are none now."""
        if not self.on or not len(self.prefix):
            return None
        return {int(name): (pair[0], pair[1]) for name, pair in self.prefix.items()}

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Within, the model is the one that it was."""
        parts = [self, *(m for m in self.modules() if isinstance(m, Changed | Head))]
        before = [part.on for part in parts]
        try:
            for part in parts:
                part.on = False
            yield
        finally:
            for part, on in zip(parts, before, strict=True):
                part.on = on

    def weights(self) -> dict[str, Tensor]:
        """Return the design's own weights by name."""
        known = dict(self.named_parameters())
        return {name: known[name].detach() for name in self.own}

    def _load(self, weights: Mapping[str, Tensor]) -> None:
        known = dict(self.named_parameters())
        for name in self.own:
            if name not in weights:
                if name == "base.score.own":
                    continue  # made of a language model with its design: the head is the base's then
                raise ValueError(f"it lacks the weights {name}")
            if weights[name].shape != known[name].shape:
                raise ValueError(f"its weights {name} are of another shape")
            known[name].data.copy_(weights[name])


class Head(nn.Module):
    """The head of a reward model with another weight in its place."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer, self.on = base, True
        self.own = nn.Parameter(base.weight.detach().clone())

    @property
    def weight(self) -> Tensor:
        """The weight that is in use."""
        return self.own if self.on else self.base_layer.weight

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., out] for [..., in]."""
        return F.linear(x, self.weight, self.base_layer.bias)


def parts_of(model: Any, queries: Collection[str]) -> list[list[Part]]:
    """Return for every layer of `model` what a design may give it; `queries` names the layers that LoRA changes.

    Only shapes are looked at, so that a model without weights (on the device meta) will do. Raises KilterError where
    there is no row of layers.
    """
    heads, size = _heads(model)
    found = []
    for layer in _layers(model):
        parts = [Part("P", PREFIX.partition(":")[2], 0, 2 * heads * size)] if heads else []
        for name, module in layer.named_modules():
            last = name.rpartition(".")[2]
            linear = isinstance(module, nn.Linear | Conv1D)
            if not linear and (not isinstance(module, nn.LayerNorm) or module.bias is None):
                continue
            inside, outside = _shape(module)
            parts.append(Part("B", name, outside, 0))
            if linear and last in queries:
                parts.append(Part("L", name, 0, inside + outside))
            if linear and last in OUTPUTS:
                parts.append(Part("A", name, outside, 2 * outside + 1))
        found.append(parts)
    return found


def _layers(model: Any) -> nn.ModuleList:
    if (found := layers_of(model)) is None:
        raise KilterError(
            f"{type(model).__name__} has no row of layers to put a design on; choose another kind of adapter."
        )
    return found


def _shape(module: Any) -> tuple[int, int]:
    """Return inputs and outputs of a linear layer; of a norm the latter twice."""
    shape = module.weight.shape
    if isinstance(module, Conv1D):
        return int(shape[0]), int(shape[1])
    return int(shape[-1]), int(shape[0])


def _by_module(own: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Return for every module that a layer's sizes name what it is given."""
    found: dict[str, dict[str, Any]] = {}
    for key, size in own.items():
        strategy, _, name = key.partition(":")
        if key != PREFIX:
            found.setdefault(name, {})[{"L": "rank", "A": "width", "B": "bias"}[strategy]] = size
    return found


def _begun(base: Any, lengths: Mapping[int, int]) -> dict[int, Tensor]:
    """Return by layer [2, Hkv, V, D]: keys and values that begin near 0, of which no query makes much."""
    heads, size = _heads(base)
    like = base.get_input_embeddings().weight
    made = {i: torch.randn(2, heads, length, size) * SPREAD for i, length in lengths.items()}
    return {i: pair.to(like.device, like.dtype) for i, pair in made.items()}


def _kept(base: Any, lengths: Mapping[int, int], weights: Mapping[str, Tensor]) -> dict[int, Tensor]:
    """Return by layer the keys and values [2, Hkv, V, D] that a prefix had, as the base computes."""
    heads, size = _heads(base)
    like = base.get_input_embeddings().weight
    found = {}
    for i, length in lengths.items():
        shape = (2, heads, length, size)
        if (pair := weights.get(f"prefix.{i}")) is None or pair.shape != shape:
            raise ValueError(f"it lacks the weights prefix.{i} of the shape {list(shape)}")
        found[i] = pair.to(like.device, like.dtype)
    return found


def _heads(model: Any) -> tuple[int, int]:
    """Return how many keys a token has in a layer, and how wide one is; 0 where there is no attention."""
    config = model.config.get_text_config()
    asking = getattr(config, "num_attention_heads", 0)
    heads = getattr(config, "num_key_value_heads", None) or asking
    return heads, getattr(config, "head_dim", None) or config.hidden_size // max(1, asking)
