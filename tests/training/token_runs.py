"""Online training in the token world: every word of what is expected of it is exact."""

from jsonl import metrics
from kilter.training import online_setup
from kilter.training.run import train
from worlds.tokens import Gold, TokenWorld

OPTIONS = {
    "learning_rate": 3e-3,
    "batch_size": 2,
    "samples": 32,
    "max_tokens": 4,
    "warmup": 0,
    "schedule": "constant",
    "log_every": 1,
    "precision": "fp32",
    "checkpoint_every": 0,
    "max_length": 16,
    "feedback": "gold",
}


class Tokens:
    """A token world, a model of it in a folder, and runs that are rewarded by its truth."""

    def __init__(self, folder, monkeypatch, **world):
        self.world, self.folder = TokenWorld(**world), folder
        self.start = self.world.save(folder / "start", self.world.model(seed=1, scale=2.0))
        named = online_setup.named
        monkeypatch.setattr(online_setup, "named", lambda name: Gold(self.world) if name == "gold" else named(name))

    def run(self, name, out=None, **options):
        """Train by the method so named; return the policy and the lines of its metrics."""
        out = self.folder / (out or name)
        data = self.world.prompts(copies=options.pop("copies", 1))
        train(name, model=self.start, data=data, out=out, say=lambda notes: None, **OPTIONS | options)
        return self.model(out), metrics(out)

    def model(self, folder=None):
        from transformers import LlamaForCausalLM

        return LlamaForCausalLM.from_pretrained(folder or self.start).eval()

    def reward(self, model):
        """Return the expected reward, exactly, the mean of both prompts."""
        return sum(self.world.exact(model, prompt).reward.item() for prompt in "xy") / 2

    def kl(self, model):
        found = [self.world.exact(model, prompt, self.model()).kl.item() for prompt in "xy"]
        return sum(found) / 2

    def entropy(self, model):
        return sum(self.world.exact(model, prompt).entropy.item() for prompt in "xy") / 2
