"""The loop: one for all methods. Trees in, an objective over their log-probs, AdamW, a checkpoint out.

A step's loss is sum(per_example) / sum(weight) over the whole step: gradients of the sums are gathered over
micro-batches and processes and divided once, so nothing depends on how a step is cut. Everything that varies with time
(order of the data, learning rate, random numbers) is a function of the seed and the step, so that a run continued from
a state takes the same steps to the last bit. Processes come from `accelerate`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kilter.engine import adapters, bounds, checkpoint, finished, held_out, sharding
from kilter.engine.actor_critic import ActorCritic, policy_of, together, trained_by
from kilter.engine.adalora import ranks_of
from kilter.engine.asks import Asks, asked_by
from kilter.engine.batch import Ragged
from kilter.engine.compiled import compile_layers, worthwhile
from kilter.engine.feed import ROLLOUTS, Feed, Rig, Sampling, Source
from kilter.engine.held_out import HeldOut
from kilter.engine.interrupt import Wish, held_back, in_company
from kilter.engine.learner import Learner
from kilter.engine.loss import Objective, compares
from kilter.engine.masking import Mask
from kilter.engine.meter import Log, Meter, peak_memory
from kilter.engine.optim import adamw, rate, scale_and_clip
from kilter.engine.options import LoopOptions, bf16_for, mark_of, options_told, settings_of
from kilter.engine.processes import accelerator
from kilter.engine.reference import FILE as REFERENCE
from kilter.engine.reference import FOLDER as REFERENCES
from kilter.engine.reference import ByContent, Reference, heads_of, recall, standing
from kilter.engine.residual import drop_residuals
from kilter.engine.thrift import thrifty
from kilter.engine.vocabulary import Heads
from kilter.errors import KilterError
from kilter.files import make_folder, write_json
from kilter.store import fingerprint

METRICS = "metrics.jsonl"
CRITIC = "critic"


@dataclass(slots=True)
class TrainResult:
    """A finished run: the loss of every step (nats, as the objective weighs), tokens computed, seconds, peak bytes.

    Steps with nothing to learn from were skipped and have no loss. `notes` are sentences on what was left out or cut;
    `kept` where the run was finished before and nothing was trained. Where trees were held out, `eval_losses` are the
    losses on them by step, and `kept_step` is the step whose model was left.
    """

    out: Path
    metrics: Path
    steps: int
    losses: list[float]
    tokens: int
    seconds: float
    peak_memory: int
    notes: list[str] = field(default_factory=list)
    kept: bool = False
    eval_losses: list[tuple[int, float]] = field(default_factory=list)
    kept_step: int | None = None

    def __post_init__(self) -> None:
        """JSON, which a finished run is read back from, has no tuples."""
        self.eval_losses = [(step, loss) for step, loss in self.eval_losses]


def train(
    model: Any,
    trees: Source,
    objective: Objective,
    options: LoopOptions,
    out: str | Path,
    *,
    reference: Any | None = None,
    tokenizer: Any | None = None,
    critic: Any | None = None,
    critic_share: float = 1.0,
    entropy: bool = False,
    notes: Sequence[str] = (),
    prepared: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> TrainResult:
    """Train `model` (a transformers causal LM or reward model in fp32, changed in place); leave a checkpoint in `out`.

    `trees` is a sequence of trees, of which every epoch takes all in a new order, `batch_size` a step; or a function
    from the step's number to the trees of that step (then `options.steps` is due), such as a source that samples them
    from the policy as it is by then. `objective(policy, group)` or `objective(policy, reference, group)` gets LogProbs
    and Groups and returns a Loss; the reference policy is the model as it is at the start, or the model given as
    `reference`. A `critic` (a value model) learns along, at `critic_share` of the learning rate: the policy's LogProbs
    then have its values, and it is left in `out`/critic. `entropy` asks for the entropy of each position too.

    `out` gets metrics.jsonl, and states to continue from while the run goes: the same call continues there; where the
    run is finished it returns what that found, and leaves `model` as it is. `tokenizer` is saved along, `notes` on the
    data are kept with the result, and the options by which the data were `prepared` among the others. `overwrite`
    trains over whatever is there. With `options.shard` and several processes `model` is without weights until the run
    has ended well.

    Raises KilterError for no trees, a loss that is not finite or past its bound (bounds.py), a disk that is full, a
    folder that holds another run, and where another process of the run has gone.
    """
    held_out.check(options)
    out, feed = make_folder(out), Feed.of(trees, **_of(options))
    digest = feed.digest() + (fingerprint(dict(prepared)) if prepared else "")
    mark = mark_of([model, reference, critic], digest, objective, options, critic_share)
    settings = settings_of(objective, options) | (feed.sampling.settings() if feed.sampling else {})
    settings |= prepared or {}
    if (told := finished.admit(out, mark, settings, overwrite=overwrite)) is not None:
        _tidy(out)
        known = {name: told[name] for name in TrainResult.__dataclass_fields__ if name in told}
        return TrainResult(**known | {"out": out, "metrics": out / METRICS, "kept": True})
    with torch.random.fork_rng():
        loop = _Loop(model, feed, objective, options, out, reference, mark, critic, critic_share, entropy)
        try:
            with in_company() if loop.accelerator.num_processes > 1 else nullcontext():
                return loop.run(tokenizer, notes, {"mark": mark, "options": settings})
        finally:
            loop.release()


class _Loop:
    """One run: what it holds between steps."""

    def __init__(
        self,
        model: Any,
        feed: Feed,
        objective: Objective,
        options: LoopOptions,
        out: Path,
        reference: Any | None,
        mark: str,
        critic: Any | None,
        critic_share: float,
        entropy: bool,
    ) -> None:
        self.accelerator = accelerator()
        self.device = self.accelerator.device
        self.shared = options.shard and self.accelerator.num_processes > 1
        if self.shared:
            sharding.check(options, feed, objective)
        bf16 = bf16_for(model, options.precision, self.device)
        adapt = partial(adapters.attach, options=options, steps=feed.total, device=self.device, bf16=bf16)
        model, critic = adapt(model), None if critic is None else adapt(critic)
        if options.residual_dropout:
            if feed.sampling:
                # What is learned from has to be the distribution that was sampled from.
                raise KilterError("A policy that samples what it learns from drops nothing; set residual_dropout to 0.")
            drop_residuals(model, options.residual_dropout)
        self.model, self.feed, self.objective, self.options, self.out = model, feed, objective, options, out
        self.mark, self.critic = mark, critic
        self.log: Log | None = None
        self.mask: Mask | None = None
        for each in (model, critic):
            if each is not None:
                each.to(self.device)
        self.given = trained_by(model, critic)
        if self.shared:
            model, critic = sharding.twin(model), None if critic is None else sharding.twin(critic)
        self.scorer = together(model, critic, bf16=bf16)
        self.whole = trained_by(model, critic)
        self.ranks = ranks_of(model, critic)
        asks = asked_by(objective)
        known, against = self._references(asks, reference)
        if options.gradient_checkpointing:
            self.scorer.checkpoint_activations()
        gains = options.compile == "auto" and not self.shared and worthwhile(model, feed, self.device)
        if options.compile == "on" or gains:
            compile_layers(self.scorer)
        if self.shared:
            sharding.share_out(self.scorer, self.given)
        self.optimizer = adamw(
            model,
            critic=critic,
            critic_share=critic_share,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            betas=(options.beta1, options.beta2),
            epsilon=options.epsilon,
        )
        self.held = HeldOut(feed, options, out, self.accelerator)
        self.done, self.losses, self.tokens, self.before = self._continue()
        self.started = time.perf_counter()
        self.parameters = [p for p in self.scorer.parameters() if p.requires_grad]
        self.skipped = 0  # steps since the last line that had nothing to learn from
        self.meter = Meter(partial(self.accelerator.reduce, reduction="sum"), self.device)
        self.learner = Learner(
            self.scorer if self.shared else self.accelerator.prepare(self.scorer),
            objective,
            asks,
            feed,
            self.accelerator,
            self.meter,
            options.micro_tokens,
            entropy=entropy,
            reference=known,
            against=against,
            mask=self.mask,
        )

    @property
    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.started

    def release(self) -> None:
        self.scorer.release()
        if self.feed.sampling:
            self.feed.sampling.release()

    def _references(self, asks: Asks, model: Any | None) -> tuple[Reference | None, Callable[[Ragged], Heads] | None]:
        """Return what the objective is given of the reference policy: its log-probs, and its whole distributions.

        A source that samples takes care of the former by itself. The reference is `model`, or the policy as it is now.
        """
        policy, feed, budget = self.scorer, self.feed, self.options.micro_tokens
        if asks.rivals or asks.divergence:
            policy_of(policy).need_layout()
        against = heads_of(policy_of(policy), model, self.device) if asks.divergence else None
        if feed.sampling:
            self._attach(feed.sampling, model)
            return None, against
        if not compares(self.objective):
            return None, against
        fixed = feed.fixed
        # What a survey looks at stands behind the trees that are learned from.
        asked = fixed and [*fixed, *(tree.info["aside"] for tree in fixed if "aside" in tree.info)]
        return recall(policy_of(policy), asked, model, budget, self.out, self.mark, self.accelerator), against

    def _attach(self, source: Sampling, reference: Any | None) -> None:
        """Lend a source that samples what it samples with."""
        policy, scored, budget = policy_of(self.scorer), None, self.options.micro_tokens
        # What is learned from has to be the distribution that was sampled from: an adapter's dropout would blur it.
        policy.temperature, policy.drops = source.temperature, False
        if source.wants_reference:
            held = standing(policy, reference, self.device)
            scored = ByContent(held, budget, self.out, self.mark, self.accelerator)
        critic = self.scorer.critic if isinstance(self.scorer, ActorCritic) else None
        self.mask = Mask(policy, source.mask_top_p) if source.mask_top_p else None
        whole = partial(sharding.whole, self.scorer)
        source.attach(
            Rig(policy, critic, scored, self.accelerator, budget, self.out, self.mark, self._say, self.mask, whole)
        )

    def _say(self, words: str) -> None:
        if self.log is not None:
            self.log.say(words)

    def run(self, tokenizer: Any | None, notes: Sequence[str], facts: dict[str, Any]) -> TrainResult:
        """Take the steps that are left and write what the run leaves; `facts` go into training.json as well."""
        main, total, options = self.accelerator.is_main_process, self.feed.total, self.options
        metrics, every = self.out / METRICS, options.checkpoint_every
        # Of several processes each would have to stop at the same step: there Ctrl-C interrupts at once.
        several = self.accelerator.num_processes > 1
        hold = nullcontext(Wish()) if several else held_back()
        thrift = nullcontext() if several else thrifty(self.model)
        with Log(metrics, total, self.done, quiet=not main) as log, hold as wish, thrift:
            self.log = log
            if not self.done and self._measure():
                log.write({"step": 0, **self.held.told(0)}, 0.0)
            while self.done < total and not self.held.spent:
                self._step(self.done)
                self.done += 1
                log.advance()
                measured = self._measure()
                last = self.done == total or self.held.spent
                keep = every and not last and (wish.stop or self.done % every == 0)
                if keep or last or measured or self.done % options.log_every == 0:
                    self._log(log, tokenizer)
                if keep and (main or self.shared):
                    so_far = {"mark": self.mark, "losses": self.losses, "tokens": self.tokens, "seconds": self.seconds}
                    so_far["held_out"] = self.held.history
                    beside = self.ranks.memory() | (self.mask.memory() if self.mask else {})
                    checkpoint.save_state(self.out, self.done, self.whole, self.optimizer, so_far, beside, writes=main)
                if wish.stop and not last:
                    raise KeyboardInterrupt
        memory = peak_memory(self.device)
        said = self.feed.sampling.notes() if self.feed.sampling else []
        if not self.losses:
            raise KilterError(f"No step was taken: {' '.join(said)}")
        if (then := self.held.settle(self.whole)) is not None:
            self.ranks.recall(then)
        said = [*notes, *said, *self.held.notes()]
        result = TrainResult(self.out, metrics, self.done, self.losses, self.tokens, self.seconds, memory, said)
        result.eval_losses, result.kept_step = self.held.history, self.held.kept
        self.release()
        if self.shared:
            sharding.give_back(self.whole, self.given)
        if main:
            told = {key: value for key, value in asdict(result).items() if key not in ("out", "metrics", "kept")}
            # Before the model, whose config.json, written last, says that all is there.
            write_json(self.out / finished.FILE, told | facts)
            if self.critic is not None:
                checkpoint.save_model(adapters.trained(self.critic, options), tokenizer, self.out / CRITIC)
            checkpoint.save_model(adapters.trained(self.model, options), tokenizer, self.out)
            _tidy(self.out)
        self.accelerator.wait_for_everyone()
        return result

    def _step(self, step: int) -> None:
        """Take optimizer step number `step`."""
        options, world = self.options, self.accelerator.num_processes
        torch.manual_seed((options.seed * 1_000_003 + step) * 1009 + self.accelerator.process_index)
        numbers, trees = self.feed(step)
        if not trees:
            self.skipped += 1
            return
        sums = self.learner.learn(step, numbers, trees)
        # Data-parallel gradients are means over the processes of gradients of sums.
        scale = world / torch.where(sums[1] > 0, sums[1], 1.0)
        self.ranks.spread(scale)
        norm = scale_and_clip(self.parameters, scale, options.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(step) * group["share"]
        self.optimizer.step()
        self.ranks.allocate(step + 1)
        self.optimizer.zero_grad(set_to_none=True)
        self.tokens += sum(map(len, trees))
        self.meter.step(sums[0], sums[1], norm)

    def _measure(self) -> bool:
        return self.held.measure(self.done, self.learner, self.whole, self.ranks.memory)

    def _rate(self, step: int) -> float:
        o = self.options
        share = rate(step, self.feed.total, warmup=o.warmup, schedule=o.schedule, floor=o.min_lr_ratio)
        return o.learning_rate * share

    def _stopped(self, why: str, tokenizer: Any | None) -> KilterError:
        """Keep what was good, and return the error to raise."""
        models = {"": self.model} | ({} if self.critic is None else {CRITIC: self.critic})
        main = self.accelerator.is_main_process
        if self.shared:
            sharding.give_back(self.whole, self.given)
        return bounds.stop(why, self.out, self.given, self.optimizer, models, tokenizer, self.options, writes=main)

    def _log(self, log: Log, tokenizer: Any | None) -> None:
        """Bring the numbers over, stop where they are past their bounds, and write a line."""
        losses, norms, means = self.meter.read()
        first = self.done - len(losses) - self.skipped
        told = options_told(self.objective)[1]
        if losses and (
            why := bounds.trouble(first, losses, norms, means, (self.losses or losses)[0], self.options, told)
        ):
            raise self._stopped(why, tokenizer)
        self.losses += losses
        each = self.feed.steps_an_epoch
        line = {
            "step": self.done,
            "epoch": round(self.done / each, 4) if each else 0,
            **({"loss": sum(losses) / len(losses)} if losses else {}),
            "lr": self._rate(self.done - 1),
            **({"grad_norm": sum(norms) / len(norms)} if norms else {}),
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
            **({"skipped": self.skipped} if self.skipped else {}),
        }
        self.skipped = 0
        told = self.feed.sampling.told() if self.feed.sampling else self.held.told(self.done)
        log.write(line | means | told, self.tokens / max(self.seconds, 1e-9))

    def _continue(self) -> tuple[int, list[float], int, float]:
        """Load the newest state, if there is one, and return finished steps, their losses, tokens and seconds."""
        state = checkpoint.find_state(self.out)
        facts = {} if state is None else checkpoint.read_facts(state)
        self.held.recall(facts.get("held_out", []))
        if state is None:
            return 0, [], 0, 0.0
        beside = checkpoint.load_state(state, self.whole, self.optimizer)
        self.ranks.recall(beside)
        if self.mask:
            self.mask.recall(beside)
        return facts["step"], facts["losses"], facts["tokens"], facts["seconds"]


def _of(options: LoopOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("batch_size", "epochs", "steps", "seed", "eval_share")}


def _tidy(out: Path) -> None:
    """Remove what only an unfinished run needs."""
    checkpoint.drop_states(out)
    held_out.drop(out)
    (out / REFERENCE).unlink(missing_ok=True)
    for name in (REFERENCES, ROLLOUTS, bounds.GOOD):
        shutil.rmtree(out / name, ignore_errors=True)
