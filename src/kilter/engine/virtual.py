"""Virtual tokens: what a prompt or prefix adapter puts before every sequence, laid out once for the whole batch.

Prompt tuning (Lester et al. 2021) learns embeddings of V tokens that no vocabulary has: they are a root above all trees
of the row, and go through the layers once for all of them. Prefix tuning (Li & Liang 2021) learns the keys and values
that V such tokens would have in every layer: the row stays as it is, and every query sees them too. Either way a
token's place in its sequence counts the V before it, as it does in peft's own forward. The prefixes of a design
(designed.py) stand before some layers only, each as long as it likes, and count for no places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from kilter.engine.batch import Ragged
from kilter.engine.designed import Designed
from kilter.engine.layout import Layout, Segment

# By layer, keys and values [Hkv, V, D].
Front = dict[int, tuple[Tensor, Tensor]]


@dataclass(slots=True)
class Virtual:
    """What stands before every sequence of a model, differentiable: `embedded` [count, H], or a `front` for layers.

    `count` are the places that it takes in a sequence.
    """

    count: int
    embedded: Tensor | None
    front: Front | None

    @property
    def ahead(self) -> int:
        """The most keys and values that a layer has before every sequence."""
        return self.count if self.front is None else max(keys.shape[1] for keys, _ in self.front.values())

    def lay(self, plain: Any, batch: Ragged) -> dict[str, Any]:
        """Return what the trunk of `plain` is called with to run `batch` behind the virtual tokens."""
        if self.front is not None:
            return {
                "input_ids": batch.tokens[None],
                "position_ids": batch.positions[None] + self.count,
                "layout": batch.layout.behind(self.front, self.ahead),
            }
        assert self.embedded is not None
        embedded = plain.get_input_embeddings()(batch.tokens)
        first = torch.arange(self.count, device=batch.positions.device)
        return {
            "inputs_embeds": torch.cat((self.embedded, embedded))[None],
            "position_ids": torch.cat((first, batch.positions + self.count))[None],
            "layout": batch.layout.below_root(self.count),
        }

    def alone(self) -> dict[str, Any]:
        """Return what a trunk is called with to run embedded virtual tokens by themselves."""
        assert self.embedded is not None
        places = torch.arange(self.count, device=self.embedded.device)[None]
        layout = Layout((Segment(0, self.count, -1),), self.count)
        return {"inputs_embeds": self.embedded[None], "position_ids": places, "layout": layout}


def virtual(model: Any) -> Virtual | None:
    """Return what stands before every sequence of a model with an adapter, as its weights are now; None where nothing.

    Raises ValueError where a layer does not keep as many keys as there are virtual tokens (a short sliding window).
    """
    if isinstance(model, Designed):
        own = model.front()
        return None if own is None else Virtual(0, None, own)
    count = count_virtual(model)
    if not count:
        return None
    given = model.get_prompt(batch_size=1)
    if not isinstance(given, Cache):
        return Virtual(count, given[0].to(model.get_input_embeddings().weight.dtype), None)
    layers: Any = given.layers
    front = {i: (layer.keys[0], layer.values[0]) for i, layer in enumerate(layers)}
    if any(keys.shape[1] != count for keys, _ in front.values()):
        raise ValueError(f"a sliding window is shorter than {count} virtual tokens")
    return Virtual(count, None, front)


def rows(model: Any, plain: Any, tokens: Tensor, seen: Tensor) -> dict[str, Any]:
    """Return what the trunk of `plain` is called with to run padded rows, tokens and mask [R, L], behind them.

    For prompt tuning the trunk then answers for V places more, at the left.
    """
    count = count_virtual(model)
    if isinstance(model, Designed) and has_front(model):
        return {"input_ids": tokens, "attention_mask": seen, "front": model.front()}
    if not count:
        return {"input_ids": tokens, "attention_mask": seen}
    given = model.get_prompt(batch_size=len(tokens))
    mask = torch.cat((seen.new_ones(len(seen), count), seen), dim=1)
    if isinstance(given, Cache):
        return {"input_ids": tokens, "past_key_values": given, "attention_mask": mask}
    embedded = plain.get_input_embeddings()(tokens)
    return {"inputs_embeds": torch.cat((given.to(embedded.dtype), embedded), dim=1), "attention_mask": mask}


def count_virtual(model: Any) -> int:
    """Return how many virtual tokens stand before every sequence of `model` now; 0 for most."""
    config = getattr(model, "active_peft_config", None)
    if config is None or not config.is_prompt_learning or model._adapters_disabled:
        return 0
    return int(config.num_virtual_tokens)


def has_front(model: Any) -> bool:
    """Whether keys and values of its layers stand before every sequence of `model`."""
    if isinstance(model, Designed):
        return model.front() is not None
    return count_virtual(model) > 0 and model.active_peft_config.peft_type == "PREFIX_TUNING"


def room(model: Any) -> int:
    """Return the most tokens that a sequence of `model` may have: its positions, without those of virtual tokens."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31
    return int(positions) - count_virtual(model)
