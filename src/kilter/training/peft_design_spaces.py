"""Searching for a design of parameter-efficient tuning: the spaces of designs are made smaller, choice by choice."""

from __future__ import annotations

import math
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Annotated, Any

import torch
from pydantic import Field

from kilter.engine import adapters, loop
from kilter.engine.bounds import Diverged
from kilter.engine.design import ALLOCATIONS, GROUPINGS, STRATEGIES, Design, count, fit, fits, grouped
from kilter.engine.loop import LoopOptions, TrainResult
from kilter.engine.options import bf16_for
from kilter.engine.processes import accelerator
from kilter.engine.reference import score
from kilter.engine.scorer import Scorer
from kilter.engine.virtual import room
from kilter.errors import KilterError
from kilter.files import write_json
from kilter.models.load import load_weights
from kilter.registry import Count, method
from kilter.store import Metrics, fingerprint, read_metrics
from kilter.training.course import Task, takes_its_course
from kilter.training.lora_tradeoff import split
from kilter.training.sft import sft

LEDGER, DESIGN = "ledger.jsonl", "design.json"
TUNED = "tuned"
# How often a design is drawn anew that has no sizes of about the budget.
DRAWS = 1000
Line = dict[str, Any]


@method("peft-design-spaces", wing="training", paper="arXiv:2301.01821", survey="S2 §3.3", aliases=("design-spaces",))
@takes_its_course(
    "demonstrations",
    trains="study",
    shared=(LoopOptions,),
    adapter="design",
    learning_rate=5e-5,
    epochs=10,
    batch_size=16,
    warmup=0.0,
    schedule="linear",
    min_lr_ratio=0.0,
    beta2=0.999,
)
def peft_design_spaces(
    task: Task,
    *,
    groups: Annotated[int, Field(ge=3)] = 4,
    samples: Count = 100,
    search_epochs: Annotated[float, Field(gt=0)] = 3,
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.05,
) -> TrainResult:
    """Parameter-efficient fine-tuning design spaces (Chen et al. 2023): look for a design, then train it.

    A design says which few weights each layer gets: how consecutive layers are grouped (N_i layers in group i), how
    parameters are dealt out to the layers (n_i), which groups are tuned at all, and by which of Adapter, Prefix, BitFit
    and LoRA each of them is. All designs have the same number of parameters, `design_budget` of the model's (0.5 %),
    within a hundredth where sizes are whole numbers. Beginning from all of them the space is refined greedily:

        1 grouping     increasing (N_i+1 > N_i), uniform, decreasing, spindle (N_1 < N_2 = N_3 > N_4), bottleneck
        2 allocation   increasing (n_i+1 >= n_i), uniform, decreasing
        3 tuned        every run of neighbouring groups
        4 group i      for the tuned groups in order: every set of strategies that is not empty

    The score of a choice is the mean over `samples` designs drawn at random from the space so far, with that choice
    made; the choice with the best mean is kept. What is not settled yet is drawn: for each layer a weight from 1 to 9
    that its parameters are in proportion to, each group tuned with probability a half (one at least), each strategy of
    a tuned group with probability a half (one at least). A design is scored by its loss on held-out demonstrations
    (less is better; in the paper it is the mean over GLUE) after `search_epochs` of `sft`. A design that was drawn
    before is not trained again; one whose training diverges counts for nothing, and how many did is told.

    out/ledger.jsonl has a line for every design that was trained, out/design.json the means of all choices and the
    design found, out/found the model trained with it in full, as out itself; a search that was stopped goes on, and one
    with more samples takes over what is in its ledger. The paper found spindle, uniform, all groups and for T5 A+L,
    A+P, A+P+B, P+B+L: `sft` with `adapter=design` trains that one without a search.

    The defaults are the paper's for the search (4 groups, 100 samples, 3 epochs: up to 7,800 trainings; a search in
    earnest on a larger model takes fewer samples) and its authors' example for the found design (a rate of 5e-5 that
    falls linearly, 10 epochs of batches of 16). Which weights the strategies are, engine/designed.py says.

    Raises KilterError, before training starts, for fewer layers than groups and a budget that no design fits.

    Options:
        groups: groups of layers
        samples: designs that a choice is judged by
        search_epochs: passes over the data that each of them is trained for
        held_out: share of the demonstrations that nothing learns from, by which designs are judged
    """
    if (kept := task.admit()) is not None:
        return kept
    started = time.perf_counter()
    _expect(task.given)
    learned, apart = split(task.records, held_out, task.given["seed"])
    trial = _Trial(task, learned, apart, search_epochs)
    most = samples * sum(
        len(choices) for _, choices in stages(Space(groups, tuned=frozenset(range(groups))), trial.layers)
    )
    task.notes.append(
        f"{len(learned)} demonstrations to learn from, {len(apart)} held out; up to {most:,} designs of about "
        f"{trial.budget:,} parameters will be trained."
    )
    task.say(task.notes)
    space, lines = Space(groups), []
    how = {"layers": trial.layers, "samples": samples, "seed": task.given["seed"]}
    for stage, choices in stages(space, trial.layers):
        line = refine(stage, choices, space, **how, suits=trial.suits, judge=trial)
        said = f"{stage}: {line['kept']}, of {', '.join(f'{c} {v:.4g}' for c, v in line['losses'].items())}."
        if without := [choice for choice in choices if choice not in line["losses"]]:
            said += f" Nothing fits the budget, or all diverged, for {', '.join(without)}."
        task.notes.append(said)
        task.say([said])
        lines.append(line)
        write_json(task.out / DESIGN, {"stages": lines})
    found = space.design()
    sizes = fit(found, trial.parts, trial.budget)
    told = {"design": str(found), "sizes": sizes, "parameters": count(sizes, trial.parts), "budget": trial.budget}

    done = task.part("sft", learned, task.out / "found", task.loop() | {"design": str(found)})
    weights, tokenizer = load_weights(str(done.out))
    told |= {"base_loss": trial.loss(load_weights(task.model)[0]), "loss": trial.loss(weights)}
    write_json(task.out / DESIGN, told | {"stages": lines})
    said = f"Found {found}: {told['loss']:.4g} nats a token on what was held out, "
    said += f"the model itself {told['base_loss']:.4g}."
    if trial.failed:
        said = f"{len(trial.failed)} designs diverged and count for nothing. {said}"
    task.notes.append(said)
    task.say([said])
    steps = [{"step": at + 1, **line} for at, line in enumerate(lines)]
    return task.finish(weights, tokenizer, losses=done.losses, tokens=done.tokens, started=started, lines=steps)


@dataclass
class Space:
    """What is settled of a design; None where it is drawn."""

    groups: int
    grouping: str | None = None
    allocation: str | None = None
    tuned: frozenset[int] | None = None
    strategies: dict[int, frozenset[str]] = field(default_factory=dict)

    def draw(self, layers: int, chance: random.Random) -> Design:
        """Return a design of this space for so many layers."""
        tuned = self.tuned
        while not tuned:
            tuned = frozenset(i for i in range(self.groups) if chance.random() < 0.5)
        own = [self.strategies.get(i) or _some(chance) if i in tuned else frozenset() for i in range(self.groups)]
        weights = "-".join(str(chance.randint(1, 9)) for _ in range(layers))
        return Design(self.grouping or chance.choice(GROUPINGS), self.allocation or weights, tuple(own))

    def with_choice(self, stage: str, choice: str) -> Space:
        """Return the space with a choice of `stages` made."""
        made = Space(self.groups, self.grouping, self.allocation, self.tuned, dict(self.strategies))
        if stage == TUNED:
            made.tuned = frozenset(int(number) - 1 for number in choice.split("+"))
        elif stage.startswith("group "):
            made.strategies[int(stage.split()[1]) - 1] = frozenset(choice.split("+"))
        else:
            setattr(made, stage, choice)
        return made

    def take(self, other: Space) -> None:
        """Become `other`."""
        self.grouping, self.allocation = other.grouping, other.allocation
        self.tuned, self.strategies = other.tuned, other.strategies

    def design(self) -> Design:
        """Return the only design of a space in which all is settled."""
        assert self.grouping is not None
        assert self.allocation is not None
        assert self.tuned is not None
        own = [self.strategies[i] if i in self.tuned else frozenset() for i in range(self.groups)]
        return Design(self.grouping, self.allocation, tuple(own))


def stages(space: Space, layers: int) -> Iterator[tuple[str, list[str]]]:
    """Yield the stages with their choices, each once what came before it is settled in `space`.

    Patterns that group so many layers alike are one choice.
    """
    alike = {tuple(grouped(name, layers, space.groups)): name for name in reversed(GROUPINGS)}
    yield "grouping", [name for name in GROUPINGS if name in alike.values()]
    yield "allocation", list(ALLOCATIONS)
    runs = [range(i, j) for length in range(1, space.groups + 1) for i, j in _spans(space.groups, length)]
    yield TUNED, ["+".join(str(i + 1) for i in run) for run in runs]
    sets = [each for size in range(1, len(STRATEGIES) + 1) for each in combinations(STRATEGIES, size)]
    for group in sorted(space.tuned or ()):
        yield f"group {group + 1}", ["+".join(each) for each in sets]


def _spans(groups: int, length: int) -> list[tuple[int, int]]:
    return [(i, i + length) for i in range(groups - length + 1)]


def _some(chance: random.Random) -> frozenset[str]:
    own: frozenset[str] = frozenset()
    while not own:
        own = frozenset(letter for letter in STRATEGIES if chance.random() < 0.5)
    return own


def best(losses: Mapping[str, Sequence[float]]) -> str:
    """Return the choice with the least mean loss, of equal ones the first."""
    return min(losses, key=lambda choice: sum(losses[choice]) / len(losses[choice]))


def refine(
    stage: str,
    choices: Sequence[str],
    space: Space,
    *,
    layers: int,
    samples: int,
    seed: int,
    suits: Callable[[Design], bool],
    judge: Callable[[Design, Mapping[str, Any]], float | None],
) -> Line:
    """Make the best of the choices in `space`; return what they came to.

    Designs that do not suit are drawn again. `judge` is given a design, and where in the search it stands; it says its
    loss, or None. Raises KilterError where no design has one.
    """
    losses: dict[str, list[float]] = {}
    for choice in choices:
        narrower = space.with_choice(stage, choice)
        for number in range(samples):
            chance = random.Random(f"{seed}/{stage}/{choice}/{number}")
            drawn = (narrower.draw(layers, chance) for _ in range(DRAWS))
            design = next((design for design in drawn if suits(design)), None)
            place = {"stage": stage, "choice": choice, "number": number}
            if design is not None and (loss := judge(design, place)) is not None:
                losses.setdefault(choice, []).append(loss)
    if not losses:
        raise KilterError(
            f"Of the stage '{stage}' no design could be trained: none fits the budget, or all diverged; set another "
            "design_budget, or a lower learning_rate."
        )
    kept = best(losses)
    space.take(space.with_choice(stage, kept))
    means = {choice: sum(own) / len(own) for choice, own in losses.items()}
    counts = {choice: len(own) for choice, own in losses.items()}
    return {"stage": stage, "kept": kept, "losses": means, "samples": counts}


class _Trial:
    """What a design is worth: trained briefly, and asked for what was held out. Every answer is kept in the ledger."""

    def __init__(self, task: Task, learned: Sequence[Any], apart: Sequence[Any], epochs: float) -> None:
        from kilter.training.run import make_trees

        self.task = task
        self.failed: set[str] = set()
        given = task.loop() | {"epochs": epochs, "steps": None, "checkpoint_every": 0, "design": None}
        self.share = given.pop("design_budget")
        self.settings = LoopOptions(**given)
        weights, tokenizer = load_weights(task.model)
        self.parts, self.budget = adapters.room_for(weights, LoopOptions(design_budget=self.share))
        self.layers = len(self.parts)
        length = min(room(weights), self.settings.max_length)
        self.trees, notes = make_trees(tokenizer, learned, "demonstrations", length, task.method)
        self.apart, _ = make_trees(tokenizer, apart, "demonstrations", length, task.method)
        task.notes.extend(notes)
        self._suits: dict[Design, bool] = {}
        self.main = accelerator()
        self.device = self.main.device
        scorer = Scorer(weights.to(self.device))  # type: ignore[arg-type]
        self.ragged = scorer.ragged
        scorer.release()
        if not self.ragged:
            self.parts = [[part for part in layer if part.strategy != "P"] for layer in self.parts]
            task.notes.append(f"{type(weights).__name__} is trained with padding, where no prefixes are tried.")
        decides = self.settings.model_dump(exclude={"log_every"}), self.budget, adapters.digest_of(weights)
        self.mark = fingerprint(*decides, [asdict(record) for record in [*learned, *apart]])
        self.ledger = Metrics(task.out / LEDGER)
        self.known = {line["design"]: line for line in read_metrics(self.ledger.path) if line.get("mark") == self.mark}

    def suits(self, design: Design) -> bool:
        """Whether the design has sizes of about the budget."""
        if design not in self._suits:
            self._suits[design] = fits(design, self.parts, self.budget)
        return self._suits[design]

    def __call__(self, design: Design, place: Mapping[str, Any]) -> float | None:
        """Return the loss of what was held out, in nats a token; None where the training diverged."""
        line = self.known.get(str(design))
        if line is None:
            line = self._train(design, place)
            self.known[str(design)] = line
            if self.main.is_main_process:
                self.ledger.append(line)
        if line["loss"] is None:
            self.failed.add(str(design))
        loss: float | None = line["loss"]
        return loss

    def _train(self, design: Design, place: Mapping[str, Any]) -> Line:
        started = time.perf_counter()
        weights, _ = load_weights(self.task.model)
        settings = self.settings.model_copy(update={"design": str(design), "design_budget": self.share})
        bf16 = bf16_for(weights, settings.precision, self.device)
        model = adapters.attach(weights, settings, steps=1, device=self.device, bf16=bf16)
        folder, why = self.task.out / "trial", ""
        try:
            settled = settings.model_copy(update={"design_budget": None})
            loop.train(model, self.trees, sft, settled, folder, overwrite=True)
        except Diverged as error:
            why = str(error)
        finally:
            if self.main.is_main_process:
                shutil.rmtree(folder, ignore_errors=True)
        loss = None if why else self.loss(model)
        if loss is not None and not math.isfinite(loss):
            loss, why = None, f"The loss of what was held out became {loss}."
        line = {**place, "design": str(design), "parameters": count(model.sizes, self.parts), "loss": loss}
        return line | ({"failed": why} if why else {}) | {"seconds": time.perf_counter() - started, "mark": self.mark}

    @torch.no_grad()
    def loss(self, model: Any) -> float:
        """Return the loss of `model` on what was held out, nats a token, all tokens together."""
        scorer = Scorer(model.to(self.device).eval(), ragged=self.ragged)
        told = torch.cat(score(scorer, self.apart, self.settings.micro_tokens, self.device))
        scorer.release()
        return -float(told.double().mean())


def _expect(given: Mapping[str, Any]) -> None:
    if given["adapter"] != "design":
        raise KilterError(f"adapter is {given['adapter']}, and what is looked for here is a design; leave it out.")
    if given["design"] is not None:
        raise KilterError("design is what is looked for here; leave it out, or train it with sft and adapter=design.")
    if given["merge"]:
        raise KilterError("merge has no place for bottlenecks and prefixes of a design; leave it out.")
