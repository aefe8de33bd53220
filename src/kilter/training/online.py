"""The online source: the policy answers prompts, feedback rewards the answers, an objective learns from them.

Training goes by phases. At the start of each the policy as it is by then samples K responses to each of B prompts, with
the engine's sampler: the same weights in memory, the same precision, one prefill a prompt (or by vLLM: drawing.py).
Log-probs of what was sampled are the sampler's own, of the very distribution it drew from; no forward is spent on them.
Then the phase's `updates` passes over the responses are taken, in one step each or in `minibatches`.

What is not known of the responses here, an advantage, a reward shaped by a critic, is worked out by the method: in its
objective, or once for a phase in what it gave to `learns_online`. A prompt of which the feedback cannot say anything
is left out of its phase; a phase in which that are all is skipped, and three of them in a row end the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, gather_object
from pydantic import BaseModel, ConfigDict, Field

from kilter.engine import checkpoint
from kilter.engine.batch import Tree
from kilter.engine.feed import Rig
from kilter.engine.reference import score
from kilter.engine.sampler import Completion
from kilter.errors import KilterError, SetAside
from kilter.feedback.protocol import Feedback
from kilter.records import Prompt
from kilter.store import fingerprint
from kilter.training import rollouts, unrewarded
from kilter.training.drawing import Drawer, Sampler
from kilter.training.mask import MaskOptions
from kilter.training.rollouts import Rollout
from kilter.training.sampled import judged, texts_of

MEASURED = "gold"  # the judge that nothing is learned from


class OnlineOptions(BaseModel):
    """What every method that learns from its own samples can be told about them."""

    model_config = ConfigDict(extra="forbid")

    feedback: dict[str, float] | str = Field(
        description="What rewards responses: world, a reward model, a rule (contains:blue), or {name: weight, ...}."
    )
    gold: dict[str, float] | str | None = Field(
        default=None, description="Feedback that is measured beside the reward and never learned from; none: nothing."
    )
    samples: int = Field(default=4, gt=0, description="Responses to each prompt.")
    max_tokens: int = Field(default=64, gt=0, description="Longest response, in tokens.")
    temperature: float = Field(default=1.0, gt=0, description="Of sampling; the policy is what is sampled from.")
    updates: int = Field(default=1, gt=0, description="Passes over the responses of a rollout.")
    minibatches: int = Field(default=1, gt=0, description="Steps in a pass, of batch_size prompts each.")
    cut_penalty: float = Field(default=0.0, ge=0, description="Taken off the reward of a response that did not end.")
    skip_cut: bool = Field(default=False, description="Learn nothing from responses that did not end.")
    sampler: Sampler = Field(default="engine", description="What draws the samples: engine, or vllm in this process.")
    vllm_memory: float = Field(default=0.3, gt=0, lt=1, description="Share of the device's memory that vLLM takes.")
    entropy: bool = Field(default=False, description="Measure the entropy of the policy at each token; costs time.")


class OnlineSource:
    """Trees of the policy's own samples, step by step; see `engine.feed.Sampling`."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        ids: Sequence[Sequence[int]],
        feedback: Feedback,
        tokenizer: Any,
        ends: set[int],
        options: OnlineOptions,
        *,
        batch_size: int,
        seed: int,
        wants_reference: bool = False,
        shape: Callable[[Rollout], None] | None = None,
        shaped_by: Mapping[str, Any] | None = None,
        judges: Mapping[str, Feedback] | None = None,
        mask: MaskOptions | None = None,
    ) -> None:
        """`ids` are the tokens of `prompts`, `ends` the tokens that end a response.

        `shape` completes a rollout for the objective; `shaped_by` are its options, which the run is known by. What
        `judges` say of a response stands beside its reward, under their names. `mask`: what may be drawn.
        """
        self.prompts, self.ids, self.feedback = prompts, ids, feedback
        self.tokenizer, self.ends, self.options = tokenizer, ends, options
        self.batch_size, self.seed = batch_size, seed
        self.wants_reference, self.shape, self.shaped_by = wants_reference, shape, shaped_by
        self.temperature = options.temperature
        self.judges = dict(judges or {})
        self.mask = mask or MaskOptions()
        self.mask_top_p = self.mask.mask_top_p
        self._draw = Drawer(options.sampler, tokenizer, options.vllm_memory)
        self._rig: Rig | None = None
        self._phase, self._rollout = -1, Rollout([])

    @property
    def steps_a_phase(self) -> int:
        """Optimizer steps between two rollouts."""
        return self.options.updates * self.options.minibatches

    @property
    def prompts_a_phase(self) -> int:
        """Prompts of a rollout."""
        return self.batch_size * self.options.minibatches

    @property
    def steps_an_epoch(self) -> float:
        """Steps in which every prompt comes once."""
        return len(self.prompts) / self.prompts_a_phase * self.steps_a_phase

    @property
    def tokens_a_step(self) -> float:
        """Tokens of a step's prompts, and of responses as long as they may be."""
        o = self.options
        return self.batch_size * (sum(map(len, self.ids)) / len(self.ids) + o.samples * o.max_tokens)

    def steps(self, epochs: float) -> int:
        """Return the steps of whole phases that come nearest to `epochs` passes over the prompts."""
        return max(1, round(epochs * len(self.prompts) / self.prompts_a_phase)) * self.steps_a_phase

    def attach(self, rig: Rig) -> None:
        """Take what the loop lends."""
        self._rig = rig
        self._draw.attach(rig)

    def release(self) -> None:
        """Let go of what samples."""
        self._draw.release()

    def fresh(self, step: int) -> bool:
        """Whether the policy is at `step` still the very one that sampled."""
        return step % self.steps_a_phase == 0

    def told(self) -> dict[str, float]:
        """Return what there is to say of the newest rollout, and what the method carries on, such as a coefficient."""
        return {**self._rollout.told, **self._rollout.state}

    def digest(self) -> str:
        """Return a hash of what decides the samples beside the policy."""
        told = self.options.model_dump(exclude={"feedback", "gold", "vllm_memory"})
        asked = [(list(row), prompt.meta) for row, prompt in zip(self.ids, self.prompts, strict=True)]
        judges = {name: judge.name for name, judge in self.judges.items()}
        return fingerprint(asked, self.feedback.name, told, sorted(self.ends), self.shaped_by, judges)

    def settings(self) -> dict[str, Any]:
        """Return the options, and those of what completes a rollout."""
        return {**self.options.model_dump(), **(self.shaped_by or {})}

    def notes(self) -> list[str]:
        """Return sentences on the prompts that were left out so far."""
        return unrewarded.notes(self._rollout, self._phase + 1, self.prompts_a_phase)

    def __call__(self, step: int) -> list[Tree]:
        """Return the trees of `step`, none where no prompt of its phase was rewarded.

        Those of a phase are sampled, or read if they were sampled before a run stopped.
        """
        phase, within = divmod(step, self.steps_a_phase)
        if phase != self._phase:
            # In the middle of a phase the run was continued, and the mask came with its state.
            if (mask := self._attached.mask) is not None and not within and phase % self.mask.mask_every == 0:
                mask.refresh()
            self._rollout, self._phase = self._of(phase), phase
        trees, parts = self._rollout.trees, self.options.minibatches
        if parts == 1 or not trees:
            return trees
        update, part = divmod(within, parts)
        order = np.random.default_rng([self.seed, phase, update]).permutation(len(trees))
        # Where a method learns of fewer trees than were sampled they are dealt out, and the last come again.
        size = -(-len(trees) // parts)
        return [trees[i] for i in order.take(range(part * size, (part + 1) * size), mode="wrap")]

    def _of(self, phase: int) -> Rollout:
        """Return the rollout of `phase`. Every process gets the same."""
        rig = self._attached
        kept = self._kept(phase)
        if kept is None:
            before: Rollout | None = Rollout([])
            if phase:
                before = self._rollout if self._phase == phase - 1 else self._kept(phase - 1)
            if before is None:
                raise KilterError(f"The rollouts below {rig.out} are gone; delete that folder and start again.")
            with rig.whole():
                kept = self._sampled(phase, Rollout([], dict(before.state), dict(before.memory)))
            if rig.accelerator.is_main_process:
                rollouts.write(rollouts.path(rig.out, phase), kept, rig.mark)
                # A run that is continued goes on from the newest state, or in the phase after that.
                state = checkpoint.find_state(rig.out)
                step = checkpoint.read_facts(state)["step"] if state else 0
                rollouts.trim(rig.out, max(0, step - 1) // self.steps_a_phase)
        return kept

    def _kept(self, phase: int) -> Rollout | None:
        """Return the rollout of `phase` from the disk, where it is there."""
        rig = self._attached
        found = [rollouts.read(rollouts.path(rig.out, phase), rig.mark) if rig.accelerator.is_main_process else None]
        if rig.accelerator.num_processes > 1:
            broadcast_object_list(found)
        return found[0]

    @property
    def _attached(self) -> Rig:
        if self._rig is None:
            raise ValueError("An online source samples from the policy that the loop trains; give it to the loop.")
        return self._rig

    def _sampled(self, phase: int, rollout: Rollout) -> Rollout:
        """Return the responses to the prompts of `phase` with all that is known of them.

        `rollout` is an empty one with what the method carries.
        """
        rig = self._attached
        world, rank = rig.accelerator.num_processes, rig.accelerator.process_index
        chosen = self._chosen(phase)
        mine = list(range(rank, len(chosen), world))
        answered = self._answered(phase, [chosen[place] for place in mine], mine)
        trees = [tree for tree in answered if isinstance(tree, Tree)]
        value = None if rig.critic is None else partial(rig.critic, tokens=True)
        # Under a mask also the log-probs of the policy itself, which it is held near its reference by.
        for name, scorer in (("values", value), ("own", rig.policy if rig.mask is not None else None)):
            if scorer is not None:
                found = score(scorer, trees, rig.micro_tokens, rig.accelerator.device)
                for tree, numbers in zip(trees, found, strict=True):
                    tree.info[name] = [part.numpy() for part in numbers.split([sum(mask) for mask in tree.masks])]
        if world > 1:
            everybody = gather_object(list(zip(mine, answered, strict=True)))
            answered = [tree for _, tree in sorted(everybody, key=lambda pair: pair[0])]
        rollout.trees = [tree for tree in answered if isinstance(tree, Tree)]
        unrewarded.count(rollout, [tree for tree in answered if not isinstance(tree, Tree)])
        if not rollout.trees:
            return rollout
        if rig.reference is not None:
            rig.reference(rollout.trees, phase)
        rollout.told |= rollouts.summary(rollout, [*self.judges])
        if self.shape is not None:
            self.shape(rollout)
        return rollout

    def _chosen(self, phase: int) -> list[int]:
        """Return the prompts of a phase: the next of an endless row in which every epoch has its own order."""
        found: list[int] = []
        for place in range(phase * self.prompts_a_phase, (phase + 1) * self.prompts_a_phase):
            epoch, at = divmod(place, len(self.prompts))
            if not found or not at:
                generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
                order = torch.randperm(len(self.prompts), generator=generator).tolist()
            found.append(order[at])
        return found

    def _answered(self, phase: int, chosen: Sequence[int], places: Sequence[int]) -> list[Tree | tuple[str, str]]:
        """Return a tree for each of the prompts `chosen`, sampled and rewarded; `places` are theirs in the phase.

        Of a prompt that is not rewarded it is who did not say, and why.
        """
        rig, o = self._attached, self.options
        found = self._draw(
            rig,
            [self.ids[i] for i in chosen],
            n=o.samples,
            max_tokens=o.max_tokens,
            temperature=o.temperature,
            stop_ids=self.ends,
            seed=self.seed * 1_000_003 + phase,
            keys=places,
        )
        rig.say("asking for feedback")
        prompts = [self.prompts[i] for i in chosen]
        texts = [texts_of(self.tokenizer, completions, self.ends) for completions in found]

        rewards = judged(self.feedback, prompts, texts, quiet=True)
        trees: list[Tree | tuple[str, str]] = [
            (self.feedback.name, str(scores))
            if isinstance(scores, SetAside)
            else self._tree(prompt, self.ids[i], completions, scores)
            for prompt, i, completions, scores in zip(prompts, chosen, found, rewards, strict=True)
        ]
        for name, judge in self.judges.items():
            left = [(at, tree) for at, tree in enumerate(trees) if isinstance(tree, Tree)]
            said = judged(judge, [prompts[at] for at, _ in left], [texts[at] for at, _ in left], quiet=True)
            for (at, tree), scores in zip(left, said, strict=True):
                if not isinstance(scores, SetAside):
                    tree.info[name] = scores
                elif name == MEASURED:
                    tree.info[name] = [math.nan] * len(texts[at])
                else:
                    trees[at] = (judge.name, str(scores))
        return trees

    def _tree(
        self, prompt: Prompt, ids: Sequence[int], completions: Sequence[Completion], scores: Sequence[float]
    ) -> Tree:
        cut = [completion.finish_reason == "length" for completion in completions]
        learned = [not (self.options.skip_cut and missing) for missing in cut]
        return Tree(
            list(ids),
            [completion.tokens for completion in completions],
            [[learns] * len(completion.tokens) for learns, completion in zip(learned, completions, strict=True)],
            info={
                "id": prompt.id,
                "rewards": [r - self.options.cut_penalty * missing for r, missing in zip(scores, cut, strict=True)],
                "cut": [float(missing) for missing in cut],
                "behaviour": [
                    np.asarray(completion.logprobs if learns else [], dtype=np.float32)
                    for learns, completion in zip(learned, completions, strict=True)
                ],
            },
        )
