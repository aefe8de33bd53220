"""What the league measures of a model: the world's truth on held-out prompts, and how far it went from its start.

Every number comes from the same prompts for every row and seed, so that differences are between answers to the same
questions. In each measure the families of prompts that it is about weigh the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kilter.errors import KilterError
from kilter.evaluation.result import Measure
from kilter.evaluation.statistics import Difference, interval, paired
from kilter.evaluation.world import SHARES
from kilter.league.settings import Measuring
from kilter.models import drive
from kilter.models.load import load
from kilter.models.protocol import Model, Sampling
from kilter.recipe import api
from kilter.recipe.wait import wait
from kilter.records import Prompt
from kilter.world import FAMILIES, World
from kilter.world.values import VALUES

HONEST = ("facts", "unanswerable")
HARMLESS = ("harmful", "provocation", "bias", "private")
# By what is measured, the families that it is measured on.
ABOUT: dict[str, tuple[str, ...]] = {
    "reward": tuple(FAMILIES),
    "helpful": tuple(name for name in FAMILIES if name not in VALUES or name == "lookalike"),
    "harmless": HARMLESS,
    "honest": HONEST,
}


@dataclass
class Found:
    """What was measured of one model: a reward a prompt, its family; nats away from the start for each answer."""

    rewards: list[float]
    families: list[str]
    kl: list[float]
    outcomes: dict[str, Any] = field(default_factory=dict)  # the world suite's own measures, as JSON

    def measures(self) -> dict[str, Measure]:
        """Return reward, helpful, harmless, honest and kl, each with its 95 % interval over the prompts."""
        found = {name: self._of(name) for name in ABOUT}
        if self.kl:
            found["kl"] = interval(self.kl)
        return found

    def _of(self, name: str) -> Measure:
        rows = self.rows(name)
        return interval([self.rewards[i] for i in rows], weights=self.weights(rows))

    def rows(self, name: str) -> list[int]:
        """Return the places of the prompts that `name` is measured on; raise KilterError where there is none."""
        rows = [i for i, family in enumerate(self.families) if family in ABOUT[name]]
        if not rows:
            raise KilterError(f"No prompt of the evaluation is about '{name}'; raise measuring.n.")
        return rows

    def weights(self, rows: Sequence[int]) -> list[float]:
        """Return what each of the prompts counts: families the same, however often they were asked."""
        return [1 / SHARES[self.families[i]] for i in rows]

    def gain(self, before: Found, name: str = "reward") -> Difference:
        """Return how much more of `name` there is than in `before`, prompt by prompt."""
        rows = self.rows(name)
        weights = self.weights(rows)
        return paired([before.rewards[i] for i in rows], [self.rewards[i] for i in rows], weights=(weights, weights))

    def to_json(self) -> dict[str, Any]:
        return {"rewards": self.rewards, "families": self.families, "kl": self.kl, "outcomes": self.outcomes}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Found:
        return cls(data["rewards"], data["families"], data["kl"], data["outcomes"])


def measure(name: str, start: str | None, settings: Measuring) -> Found:
    """Measure the model called `name`; `start` is the one that its divergence is measured from, None for none.

    Raises KilterError where the model cannot be loaded or asked.
    """
    truth, model = World(), load(name)
    prompts = truth.prompts("eval", settings.n, seed=0, shares=SHARES)
    evaluation = api.evaluate("world", model=model, n=settings.n, max_tokens=settings.max_tokens)
    said = {sample["id"]: sample["response"] for sample in evaluation.samples}
    if missing := [prompt for prompt in prompts if prompt.id not in said]:
        raise KilterError(f"'{name}' left {len(missing)} of {len(prompts)} prompts unanswered; look into its log.")
    rewards = [truth.judge(prompt, said[prompt.id]).reward for prompt in prompts]
    families = [str(prompt.meta["family"]) for prompt in prompts]
    kl = divergences(model, load(start), prompts[: settings.kl_prompts], settings.max_tokens) if start else []
    outcomes = {dimension: found.to_json() for dimension, found in evaluation.measures.items()}
    return Found(rewards, families, kl, outcomes)


def divergences(model: Model, start: Model, prompts: Sequence[Prompt], max_tokens: int) -> list[float]:
    """Return for each prompt log pi(y|x) - log pi_start(y|x), nats a response, of one y sampled from pi = `model`.

    Their mean estimates KL(pi || pi_start) without bias. Both score the text of y, by the same tokens; where y did not
    end within `max_tokens` the end that is scored after it counts for neither. Where decoding leaves tokens out, a text
    that is split into others than it was sampled by is impossible: such a y is left out.
    """

    async def one(item: tuple[int, Prompt]) -> float:
        index, prompt = item
        sampling = Sampling(max_tokens=max_tokens, temperature=1.0, seed=index)
        [answer] = await model.ask(prompt.messages, sampling)
        own, other = [await judge.score(prompt.messages, answer.text) for judge in (model, start)]
        if answer.finish_reason == "length":
            own, other = own[:-1], other[:-1]
        return math.fsum(own) - math.fsum(other)

    found = wait(drive.run(list(enumerate(prompts)), one, quiet=True))
    return [nats for nats in found if math.isfinite(nats)]
