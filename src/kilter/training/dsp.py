"""Directional stimulus prompting: a small policy writes the hint by which a black box answers better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.feedback.numbers import check, rewards
from kilter.feedback.protocol import Feedback, Signal
from kilter.models.load import load
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Prompt
from kilter.registry import Amount, Count, Share, Whole, method
from kilter.training import ppo
from kilter.training.objective import learns_online
from kilter.training.rollouts import Rollout

PROMPTS = Prompts(__file__)


class Guided:
    """A stimulus is worth what the answers that a black box gives with it are worth, on average."""

    def __init__(self, box: Model, metric: Feedback, sampling: Sampling, scale: float) -> None:
        self.box, self.metric, self.sampling, self.scale = box, metric, sampling, scale
        self.name = f"{metric.name} of {box.name}"

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Raise KilterError if there is a prompt on which the answers can not be judged."""
        check(self.metric, prompts)

    async def __call__(self, prompt: Prompt, responses: list[str]) -> list[Signal]:
        """Return one score a stimulus."""
        return [Signal(score=await self._one(prompt, stimulus)) for stimulus in responses]

    async def _one(self, prompt: Prompt, stimulus: str) -> float:
        *before, last = prompt.messages
        # No hint, no talk of one: the box is asked as if there were no policy.
        guided = PROMPTS("guided", request=last.content, stimulus=stimulus) if stimulus else [last]
        found = await self.box.ask([*before, *guided], self.sampling)
        scores = await rewards(self.metric, prompt, [answer.text for answer in found])
        return self.scale * sum(scores) / len(scores)


def guided(
    feedback: Feedback,
    *,
    box: str,
    box_samples: Count = 4,
    box_temperature: Amount = 0.7,
    box_tokens: Count = 128,
    scale: Annotated[float, Field(gt=0)] = 10.0,
    seed: Whole = 0,
) -> Feedback:
    """Return what judges a stimulus by the answers of `box` to the prompt with it. Raises KilterError for no model."""
    sampling = Sampling(max_tokens=box_tokens, temperature=box_temperature, n=box_samples, seed=seed)
    return Guided(load(box), feedback, sampling, scale)


def shape(
    rollout: Rollout,
    *,
    kl_coef: Amount = 0.01,
    kl_target: Amount | None = 0.2,
    gamma: Share = 1.0,
    lam: Share = 0.95,
) -> None:
    """Put "advantages" and "returns" into a rollout, as PPO does."""
    ppo.shape(rollout, kl_coef=kl_coef, kl_target=kl_target, gamma=gamma, lam=lam)


@method("dsp", wing="training", paper="arXiv:2302.11520", survey="S1 §4.3.1", aliases=("directional-stimulus",))
@learns_online(
    reference="kl_coef",
    critic=True,
    shape=shape,
    through=guided,
    mask=True,
    trains="guide",
    mask_top_p=0.9,
    samples=1,
    updates=4,
    learning_rate=2e-6,
)
def dsp(
    policy: LogProbs,
    group: Groups,
    *,
    cliprange: Annotated[float, Field(gt=0)] = 0.2,
    cliprange_value: Annotated[float, Field(gt=0)] = 0.2,
    vf_coef: Amount = 0.5,
) -> Loss:
    """Directional stimulus prompting (Li et al. 2023).

    The policy writes a stimulus z to the prompt x, keywords or a plan; a black box, a model of which nothing but its
    answers is known, answers y ~ LLM(x, z); z is rewarded with `scale` times the mean of what the feedback says of
    `box_samples` answers, and the policy climbs by `rlhf-ppo` with a KL penalty to itself as it was at the start, whose
    weight adapts to hold `kl_target` nats. What it draws is in the top-p set of the policy as it was some rollouts ago,
    which is NLPO (Ramamurthy et al. 2022): pi is cut to that set and normalised wherever it is sampled and learned
    from, while the KL penalty is on the policy itself. Start from a policy that was fine-tuned (`sft`) on stimuli of
    known worth, such as the keywords of references. At its use the stimulus goes into the prompt as here
    (prompts/dsp/guided.jinja).

    The paper's policy is T5-large; it rewards single keywords that are in the reference as well, which a rule as
    feedback says of the answer. The released code (RL4LMs) has every mask leave the special tokens, and a least number
    of tokens: here it is the top-p set, in which the likeliest token always is.

    policy: log-probs of R stimuli under the mask, with values; group: behaviour, advantages, returns, values [P]. The
    result is per response [R], weighted by its tokens.

    Options:
        box: the black box: a model by its name, such as http://host:port/v1#name; it is never trained
        box_samples: its answers to a prompt with a stimulus, whose rewards are averaged
        box_temperature: of its sampling
        box_tokens: its longest answer, in tokens
        scale: what the feedback is multiplied by
        seed: Seed of everything random.
        kl_coef: what a nat away from the policy at the start costs at each token; 0 needs no reference policy
        kl_target: nats a response that kl_coef adapts itself to hold; none leaves it as it is
        gamma: discount of rewards, a token
        lam: of generalised advantage estimates
        cliprange: how far the ratio may leave 1 before the clip holds the gradient back
        cliprange_value: how far a value may leave what the critic said at the rollout before its loss is clipped
        vf_coef: weight of the critic's loss
    """
    return ppo.ppo(policy, group, cliprange=cliprange, cliprange_value=cliprange_value, vf_coef=vf_coef)
