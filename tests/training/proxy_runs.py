"""Runs whose policy learns from a preference model, from several starts of a token world, and exact measures.

A start of random weights says every word about as often as the next; the seed of a run is also that of its start.
"""

from functools import partial

import torch
from token_runs import OPTIONS

from kilter.models.drive import wait
from kilter.models.rewarder import Rewarder
from kilter.records import Message
from kilter.training import online_setup, reward_overopt, rlhf_online
from kilter.training.run import train
from worlds.tokens import PROMPTS, Gold

LOOP = {name: OPTIONS[name] for name in ("warmup", "schedule", "precision", "max_length", "checkpoint_every")}


class ProxyRuns:
    """Runs of methods from starts of `world`; `gold` is its truth, `feedbacks` are others by their names."""

    def __init__(self, world, folder, patch, **feedbacks):
        self.world, self.folder = world, folder
        known = {"gold": Gold(world), **feedbacks}
        for module in (online_setup, reward_overopt, rlhf_online):
            patch.setattr(module, "named", partial(_named, known, module.named))

    def start(self, seed):
        return self.world.model(seed, scale=2.0)

    def train(self, method, out, seed, data, **options):
        """Train from the start of this seed; return the folder."""
        told = {"model": self.world.save(self.folder / f"start-{seed}", self.start(seed)), "say": lambda notes: None}
        return train(method, data=data, out=self.folder / out, seed=seed, **told, **LOOP | options).out

    def logs(self, model):
        """Return [2, N]: the log-prob of every response to each prompt; of a model or of what a folder holds."""
        if not isinstance(model, torch.nn.Module):
            from transformers import LlamaForCausalLM

            model = LlamaForCausalLM.from_pretrained(model).eval()
        with torch.no_grad():
            return torch.stack([self.world.log_probs(model, prompt) for prompt in PROMPTS])

    def worth(self, model, rewards=None):
        """Return the expected reward, exactly, the mean of both prompts; `rewards` [N]: by another measure."""
        return float((self.logs(model).exp() * (self.world.rewards if rewards is None else rewards)).sum(1).mean())

    def says(self, folder):
        """Return [2, N]: what the preference model in a folder says of every response to each prompt."""
        judge, texts = Rewarder(str(folder)), [self.world.text(n) for n in range(len(self.world))]
        said = [wait(judge.rewards([Message("user", prompt)], texts)) for prompt in PROMPTS]
        return torch.tensor(said, dtype=torch.float64)


def clear(differences, least=0.0):
    """Whether the mean of paired differences lies two standard errors above 0, and above `least`."""
    found = torch.tensor(differences, dtype=torch.float64)
    return bool(found.mean() > 2 * found.std() / len(found) ** 0.5) and bool(found.mean() > least)


def _named(known, plain, name):
    return known[name] if isinstance(name, str) and name in known else plain(name)
