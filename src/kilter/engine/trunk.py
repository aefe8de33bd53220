"""What Scorer and Valuer stand on: a transformers model whose trunk runs over a ragged batch and gives hidden states.

Whether a model can be laid out ragged is not looked up but tried: a small forest goes through it, and what is read must
be what the ordinary forward gives. A model that fails (its attention is its own, or its layers carry a state along the
row) is run with padding, which costs time and memory but not correctness; a warning says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from kilter.engine import recurring
from kilter.engine.adapters import dropouts
from kilter.engine.attention import NAME
from kilter.engine.batch import Ragged, Tree, collate
from kilter.engine.designed import Designed
from kilter.engine.unread import LastLayer
from kilter.engine.virtual import has_front, virtual
from kilter.errors import KilterError

# What a trial may differ by, in the unit of `Trunk._distance`: rounding, for the precision of the weights.
ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-6}


class Trunk(nn.Module):
    """Wraps a transformers model (or a PEFT model of one), whose weights it shares.

    While it exists the model's attention is "kilter", which without a layout is the ordinary one; `release` puts back
    what was there. Dropout is off: the model is in evaluation mode; only an adapter's own is on, where gradients are.
    What is read from the hidden states is the subclass's matter: it has a `forward`, and `_trial` and `_distance` for
    the test of the layout.
    """

    reads = "results"  # what the trial compares, in the words of the warning
    reads_some = False  # whether `_hidden` is told which states are read
    drops = True  # whether an adapter's dropout is on where something is learned

    def __init__(self, model: Any, *, ragged: bool | None = None, bf16: bool = False) -> None:
        """`ragged`: whether to lay batches out; None tries it, and warns where it cannot be. `bf16`: under autocast."""
        super().__init__()
        self.model = model.eval()
        self._dropouts = dropouts(model)
        self.bf16 = bf16
        self._last: LastLayer | None = None
        self._before = self._plain.config._attn_implementation
        self.ragged = bool(ragged)
        if ragged is None:
            obstacle = self._obstacle()
            self.ragged = not obstacle
            if obstacle:
                name = type(self._plain).__name__
                if isinstance(model, Designed) and has_front(model):
                    raise KilterError(f"{name} takes no prefix of a design: {obstacle}; leave P out of the design.")
                warnings.warn(f"{name} is trained with padding, which is slower: {obstacle}.", stacklevel=3)
        if self.ragged:
            self._plain.set_attn_implementation(NAME)
            self._last = self._shortened() if self.reads_some else None

    @property
    def _plain(self) -> Any:
        """The transformers model itself, below PEFT's wrapping."""
        return below(self.model)

    def release(self) -> None:
        """Give the model back its own attention."""
        self._plain.set_attn_implementation(self._before)

    def checkpoint_activations(self) -> None:
        """Compute each layer's activations again on the way back instead of keeping them (less memory, more time).

        Raises KilterError for a prefix adapter of a model that is run with padding: transformers would drop the prefix.
        """
        if not self.ragged and has_front(self.model):
            raise KilterError(
                f"{type(self._plain).__name__} is trained with padding, and its prefix would be lost where activations "
                "are computed again; leave gradient_checkpointing off."
            )
        plain, self._last = self._plain, None  # what is computed again has to be what was computed
        # Its older name is what transformers 5.0 has.
        enable = getattr(plain, "activation_checkpointing_enable", None) or plain.gradient_checkpointing_enable
        enable({"use_reentrant": False})
        for layer in plain.modules():
            # transformers checkpoints layers in training mode only; no dropout may come along with it.
            if isinstance(layer, GradientCheckpointingLayer):
                layer.training = True
                for name in [n for n, value in vars(layer).items() if "drop" in n and isinstance(value, float)]:
                    setattr(layer, name, 0.0)

    @contextmanager
    def _manner(self, batch: Ragged) -> Iterator[None]:
        """Compute in the precision that was asked for, with an adapter's dropout where something is learned."""
        before = [layer.training for layer in self._dropouts]
        learns = self.drops and torch.is_grad_enabled()
        try:
            for layer in self._dropouts:
                layer.training = learns
            with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=self.bf16):
                yield
        finally:
            # After a forward that learns it stays on: activations may have to be computed again on the way back.
            for layer, mode in zip(self._dropouts, before, strict=True):
                layer.training = learns or mode

    def _hidden(self, batch: Ragged, at: Tensor | None = None) -> Tensor:
        """Return the hidden state of every token of a batch that is laid out, [T, H] and perhaps rows behind these.

        With `at` only those are right.
        """
        # A mask of four dimensions is taken as ready by every architecture; the attention function does not look at it.
        ready = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=batch.tokens.device)
        plain, before = self._plain, virtual(self.model)
        given: dict[str, Any] = {
            "input_ids": batch.tokens[None], "position_ids": batch.positions[None], "layout": batch.layout,
        }  # fmt: skip
        if before is not None:
            given = before.lay(plain, batch)
        count = given["position_ids"].shape[1]
        grain = recurring.grain(recurring.ROW, batch.tokens.device, plain.dtype)
        if extra := recurring.lacking(count, grain):
            given = _longer(given, extra)
        shortened = self._last is not None and at is not None and len(at) and "input_ids" in given
        cut = self._last.only(at, given["layout"], grain) if shortened else nullcontext(given["layout"])  # type: ignore[union-attr,arg-type]
        with cut as given["layout"]:
            found: Tensor = plain.base_model(**given, attention_mask=ready, use_cache=False).last_hidden_state[0]
        return found[count - len(batch.tokens) :]

    def _rows(self, batch: Ragged) -> tuple[Tensor, Tensor]:
        """Return every response in a row of its own, behind its prompt: tokens and attention mask, [R, longest]."""
        segments = batch.layout.segments
        rows = []
        for leaf in batch.leaves:
            start, length, parent = segments[leaf]
            row = batch.tokens[start : start + length]
            while parent >= 0:
                start, length, parent = segments[parent]
                row = torch.cat((batch.tokens[start : start + length], row))
            rows.append(row)
        tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return tokens, nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)

    def _forest(self) -> Ragged:
        """Return a batch of 21 tokens on which the model is tried: two prompts, with two responses and with one."""
        words = self._plain.config.get_text_config().vocab_size
        draw = [(7 * i + 3) % words for i in range(21)]
        masks = [[True] * 4, [True] * 3]
        trees = [Tree(draw[:5], [draw[5:9], draw[9:12]], masks), Tree(draw[12:15], [draw[15:21]], [[True] * 6])]
        return collate(trees).to(next(self._plain.parameters()).device)

    def _trial(self, batch: Ragged, *, laid_out: bool) -> Tensor:
        """Return what is compared between the layout and the ordinary forward."""
        raise NotImplementedError

    def _distance(self, found: Tensor, ordinary: Tensor) -> float:
        """Return how far two results of `_trial` are apart."""
        return float((found - ordinary).abs().max())

    @torch.no_grad()
    def _shortened(self) -> LastLayer | None:
        """Return the last layer as it is cut to what is read, where that leaves what is read as it was."""
        plain = self._plain
        last = LastLayer.of(plain)
        if last is None:
            return None
        batch = self._forest()
        try:
            whole = self._hidden(batch).index_select(0, batch.at)
            self._last = last
            found = self._hidden(batch, batch.at).index_select(0, batch.at)
        except Exception:  # any model at all may stand here; that of _obstacle went through
            return None
        finally:
            self._last = None
        return last if torch.allclose(found, whole, atol=ROUNDING.get(plain.dtype, 0.1)) else None

    @torch.no_grad()
    def _obstacle(self) -> str:
        """Return why this model cannot be laid out, or an empty string; tried on a forest of 21 tokens."""
        plain = self._plain
        config = plain.config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ())
        if strange := sorted(kinds - {"full_attention", "sliding_attention"}):
            return f"it has layers of the kind {strange[0]}"
        batch = self._forest()
        batch.layout.watch = []
        try:
            ordinary = self._trial(batch, laid_out=False)
            plain.set_attn_implementation(NAME)
            found = self._trial(batch, laid_out=True)
        except Exception as error:  # any model at all may stand here, and refuse in any way
            return f"it does not take a layout ({type(error).__name__}: {str(error).splitlines()[0]})"
        finally:
            plain.set_attn_implementation(self._before)
        sliding = "sliding_attention" in kinds or (not kinds and getattr(config, "sliding_window", None) is not None)
        if sliding and all(window is None for window in batch.layout.watch):
            return "its sliding window does not reach the attention function"
        off = self._distance(found, ordinary)
        if not off <= ROUNDING.get(plain.dtype, 0.1):
            return f"its {self.reads} come out different by {off:.2g}"
        return ""


def _longer(given: dict[str, Any], count: int) -> dict[str, Any]:
    """Return what a trunk is called with, for `count` tokens more at the row's end, whatever they are."""
    longer = {"layout": given["layout"].longer(count), "position_ids": F.pad(given["position_ids"], (0, count))}
    for name, behind in (("input_ids", (0, count)), ("inputs_embeds", (0, 0, 0, count))):
        if name in given:
            longer[name] = F.pad(given[name], behind)
    return longer


def below(model: Any) -> Any:
    """Return the transformers model itself, below PEFT's wrapping where there is one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
