"""What a policy earns on a prompt, on average, told from the prompt: a small head on the frozen trunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

HEADS, HIDDEN = 4, 64
# Of the prompts whose earnings are known so many are kept apart, to stop where the head begins to learn them by heart.
HELD = 0.2


class PromptValue(nn.Module):
    """V(x) = low + (high - low) sigmoid(MLP(attention pooling of the prompt's hidden states))."""

    def __init__(self, width: int, low: float, high: float) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(HEADS, width))
        self.out = nn.Sequential(nn.LayerNorm(HEADS * width), nn.Linear(HEADS * width, HIDDEN), nn.GELU())
        self.last = nn.Linear(HIDDEN, 1)
        nn.init.zeros_(self.last.weight)
        self.low, self.high = low, high

    def forward(self, states: Tensor, there: Tensor) -> Tensor:
        """Return [N] of states [N, L, H], of which `there` [N, L] are real."""
        heat = torch.einsum("nlh,kh->nkl", states, self.query) / states.shape[-1] ** 0.5
        share = heat.masked_fill(~there[:, None], -torch.inf).softmax(-1)
        pooled = torch.einsum("nkl,nlh->nkh", share, states).flatten(1)
        return self.low + (self.high - self.low) * torch.sigmoid(self.last(self.out(pooled)))[:, 0]


@torch.no_grad()
def hidden(model: Any, prompts: Sequence[Sequence[int]]) -> list[Tensor]:
    """Return the last hidden states [L, H] of each prompt (token ids) under a causal language model."""
    device = next(model.parameters()).device
    trunk = model.get_base_model().base_model if hasattr(model, "get_base_model") else model.base_model
    asked = [torch.tensor([list(ids)], device=device) for ids in prompts]
    return [trunk(input_ids=ids, use_cache=False).last_hidden_state[0].float().cpu() for ids in asked]


def fit(states: Sequence[Tensor], earned: Sequence[float], *, steps: int, seed: int) -> PromptValue:
    """Return the head that tells `earned` [N], means of rewards, from the prompts' states, by least squares.

    What it does on the prompts that are held apart decides which step's head is returned; with fewer than ten nothing
    is held apart, and the mean is what there is to tell.
    """
    target = torch.tensor(earned, dtype=torch.float32)
    low, high = float(target.min()), float(target.max())
    room = 0.05 * (high - low) + 1e-6
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = PromptValue(states[0].shape[1], low - room, high + room)
        share = (float(target.mean()) - head.low) / (head.high - head.low)
        nn.init.constant_(head.last.bias, float(torch.logit(torch.tensor(share))))
        if len(states) < 10:
            return head
        order = torch.randperm(len(states))
        apart, learned = order[: int(HELD * len(states))], order[int(HELD * len(states)) :]
        optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=1e-2)
        best, kept = torch.inf, {name: x.clone() for name, x in head.state_dict().items()}
        for step in range(steps):
            if step % 10 == 0:
                missed = float(((told(head, [states[i] for i in apart]) - target[apart]) ** 2).mean())
                if missed < best:
                    best, kept = missed, {name: x.clone() for name, x in head.state_dict().items()}
            chosen = learned[torch.randperm(len(learned))[:64]]
            optimizer.zero_grad()
            loss = ((head(*_padded([states[i] for i in chosen])) - target[chosen]) ** 2).mean()
            loss.backward()
            optimizer.step()
        head.load_state_dict(kept)
    return head


@torch.no_grad()
def told(head: PromptValue, states: Sequence[Tensor]) -> Tensor:
    """Return V(x) [N] of prompts with these states."""
    found = [head(*_padded(states[at : at + 64])) for at in range(0, len(states), 64)]
    return torch.cat(found)


def _padded(states: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    x = nn.utils.rnn.pad_sequence(list(states), batch_first=True)
    sizes = torch.tensor([len(each) for each in states])
    return x, torch.arange(x.shape[1])[None] < sizes[:, None]
