"""RL4F: a small critic writes the feedback by which a black box mends its own answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.errors import KilterError
from kilter.feedback.numbers import check, rewards
from kilter.feedback.protocol import Feedback, Signal
from kilter.models.drive import run, wait
from kilter.models.load import load
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Message, Prompt, Record
from kilter.registry import Amount, Count, Share, method
from kilter.training import ppo
from kilter.training.objective import learns_online
from kilter.training.rollouts import Rollout

PROMPTS = Prompts(__file__)
ASKED, DRAFT = "rl4f_asked", "rl4f_draft"  # in a critic's prompt: what the box was asked, and what it said


def drafted(
    records: list[Record], *, box: str, box_temperature: Amount = 0.0, box_tokens: Count = 128, turns: Count = 1
) -> tuple[list[Record], list[str]]:
    """Return a prompt for the critic for each prompt, with the answer that the black box gives to it by itself."""
    model, sampling = load(box), Sampling(max_tokens=box_tokens, temperature=box_temperature)

    async def one(prompt: Prompt) -> Prompt:
        [answer] = await model.ask(prompt.messages, sampling)
        return criticised(prompt, answer.text)

    found: list[Record] = list(wait(run([r for r in records if isinstance(r, Prompt)], one, label="drafts")))
    return found, []


def criticised(prompt: Prompt, draft: str) -> Prompt:
    """Return what the critic is asked of a `draft` to a prompt."""
    *before, last = prompt.messages
    asked = PROMPTS("critique", request=last.content, draft=draft)
    told = [(message.role, message.content) for message in prompt.messages]
    return replace(prompt, messages=[*before, *asked], meta={**prompt.meta, ASKED: told, DRAFT: draft})


class Refined:
    """A critique is worth what the answer is that a black box makes of it."""

    def __init__(self, box: Model, metric: Feedback, sampling: Sampling, turns: int) -> None:
        self.box, self.metric, self.sampling, self.turns = box, metric, sampling, turns
        self.name = f"{metric.name} of {box.name}, refined"

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Raise KilterError if there is a prompt on which the answers can not be judged."""
        check(self.metric, [asked(prompt)[0] for prompt in prompts])

    async def __call__(self, prompt: Prompt, responses: list[str]) -> list[Signal]:
        """Return one score a critique."""
        first, draft = asked(prompt)
        answers = [await self.refine(first, draft, critique) for critique in responses]
        return [Signal(score=score) for score in await rewards(self.metric, first, answers)]

    async def refine(self, prompt: Prompt, draft: str, critique: str) -> str:
        """Return the answer after `turns` times the same critique; an empty one leaves the draft as it is."""
        if not critique.strip():
            return draft
        *before, last = prompt.messages
        for _ in range(self.turns):
            told = PROMPTS("refine", request=last.content, draft=draft, critique=critique)
            [answer] = await self.box.ask([*before, *told], self.sampling)
            draft = answer.text
        return draft


def asked(prompt: Prompt) -> tuple[Prompt, str]:
    """Return what the box was asked and what it said, of a critic's prompt."""
    if ASKED not in prompt.meta:
        raise KilterError(f"Prompt {prompt.id} has no draft of the black box; give prompts, and rl4f asks for drafts.")
    told = [Message(role, content) for role, content in prompt.meta[ASKED]]
    return replace(prompt, messages=told), prompt.meta[DRAFT]


def refined(
    feedback: Feedback, *, box: str, box_temperature: Amount = 0.0, box_tokens: Count = 128, turns: Count = 1
) -> Feedback:
    """Return what judges a critique by the answer that `box` makes of it. Raises KilterError for no model."""
    return Refined(load(box), feedback, Sampling(max_tokens=box_tokens, temperature=box_temperature), turns)


def shape(
    rollout: Rollout,
    *,
    kl_coef: Amount = 0.001,
    kl_target: Amount | None = 2.0,
    gamma: Share = 1.0,
    lam: Share = 0.95,
) -> None:
    """Put "advantages" and "returns" into a rollout, as PPO does."""
    ppo.shape(rollout, kl_coef=kl_coef, kl_target=kl_target, gamma=gamma, lam=lam)


@method("rl4f", wing="training", paper="arXiv:2305.08844", survey="S1 §4.3.1")
@learns_online(
    reference="kl_coef",
    critic=True,
    shape=shape,
    records=drafted,
    through=refined,
    trains="guide",
    samples=1,
    updates=5,
    max_tokens=20,
    learning_rate=1e-6,
)
def rl4f(
    policy: LogProbs,
    group: Groups,
    *,
    cliprange: Annotated[float, Field(gt=0)] = 0.2,
    cliprange_value: Annotated[float, Field(gt=0)] = 0.2,
    vf_coef: Amount = 0.5,
) -> Loss:
    """RL4F: natural-language feedback by reinforcement learning (Akyürek et al. 2023).

    A black box answers a prompt, y0. The policy is a critic: it reads prompt and answer and writes a critique c; the
    box answers again, y1 ~ LLM(x, y0, c), `turns` times, and c is rewarded with what the feedback says of the last
    answer. The policy climbs by `rlhf-ppo` with a KL penalty to itself at the start, which should have been fine-tuned
    (`sft`) on critiques that people wrote, in the words of prompts/rl4f/critique.jinja. The prompt itself is not
    touched, which is the difference to `dsp`; an empty critique leaves y0 as it is.

    policy: log-probs of R critiques, with values; group: behaviour, advantages, returns, values [P]. The result is per
    response [R], weighted by its tokens.

    Options:
        box: the black box: a model by its name, such as http://host:port/v1#name; it is never trained
        box_temperature: of its sampling
        box_tokens: its longest answer, in tokens
        turns: how often it answers again by the same critique
        kl_coef: what a nat away from the policy at the start costs at each token; 0 needs no reference policy
        kl_target: nats a response that kl_coef adapts itself to hold; none leaves it as it is
        gamma: discount of rewards, a token
        lam: of generalised advantage estimates
        cliprange: how far the ratio may leave 1 before the clip holds the gradient back
        cliprange_value: how far a value may leave what the critic said at the rollout before its loss is clipped
        vf_coef: weight of the critic's loss
    """
    return ppo.ppo(policy, group, cliprange=cliprange, cliprange_value=cliprange_value, vf_coef=vf_coef)
