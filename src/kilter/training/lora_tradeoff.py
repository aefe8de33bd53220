"""All weights or an adapter: what is lost on held-out data for what is saved, on little and on much data."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from safetensors import safe_open

from kilter import formats
from kilter.engine.adapter_files import WEIGHTS
from kilter.engine.adapters import AdapterOptions
from kilter.engine.loop import LoopOptions, TrainResult
from kilter.engine.reference import score
from kilter.engine.scorer import Scorer
from kilter.engine.virtual import room
from kilter.errors import KilterError, SetAside
from kilter.feedback.named import named
from kilter.feedback.numbers import check
from kilter.files import write_json
from kilter.formats.kinds import ask
from kilter.formats.shape import Losses
from kilter.models.load import load_weights
from kilter.records import Demonstration, Prompt, Record
from kilter.registry import Amount, Count, method
from kilter.training.course import Task, takes_its_course
from kilter.training.sampled import answers, judged
from kilter.training.unrewarded import rewarded

TABLE = "tradeoff.json"
BASE, FULL, ADAPTER = "base", "full", "adapter"
Positive = Annotated[float, Field(gt=0)]
Row = dict[str, Any]


@method("lora-tradeoff", wing="training", paper="arXiv:2304.08109", survey="S2 §3.3")
@takes_its_course(
    "demonstrations",
    trains="study",
    shared=(LoopOptions,),
    learning_rate=5e-6,
    epochs=3,
    batch_size=32,
    warmup=0.03,
    min_lr_ratio=0.0,
    adapter="lora",
    adapter_rank=8,
    adapter_alpha=16.0,
    adapter_dropout=0.05,
)
def lora_tradeoff(
    task: Task,
    *,
    few: Annotated[float, Field(gt=0, lt=1)] = 0.3,
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.05,
    adapter_learning_rate: Positive = 2e-4,
    adapter_epochs: Positive = 4,
    adapter_batch_size: Count = 128,
    adapter_warmup: Amount = 100,
    larger: str | None = None,
    further: str | None = None,
    feedback: dict[str, float] | str | None = None,
    max_tokens: Count = 64,
) -> TrainResult:
    """All weights or LoRA: a study of what is lost for what is saved (Sun et al. 2023).

    From the same model, on the same demonstrations, by the loss of `sft`: all weights on little data and on much
    (full-little, full-much), and an adapter on both (adapter-little, adapter-much). The little are the first of the
    much. Two more comparisons of the paper where they are asked for: an adapter on a `larger` model and little data
    (adapter-larger), against more data; and data of a domain (`further`) on full-much, learned with all weights or by
    an adapter (full-then-full, full-then-adapter), where the paper's gap closes: 0.710 against 0.648 from the
    pretrained model, 0.738 against 0.729 from the tuned one.

    out/tradeoff.json has a row for each model, with the base first: `loss`, nats a token on held-out demonstrations;
    `further_loss` on those of the domain; `reward`, the mean of its greedy answers to the held-out prompts, where a
    feedback is given; `trained` and `added` parameters, `bytes` of what is left, `seconds_an_epoch` and `tokens`. Below
    stands for each pair what the adapter lost (`loss`, `reward`, and `kept`, the share of the gain in loss over its
    start that it has too) and the shares that it needs of what all weights need (`trained`, `bytes`,
    `seconds_an_epoch`). The models lie beside the table, each in its folder, a run of its own that goes on where it was
    stopped; `out` itself becomes the one with the lowest loss.

    Each way is trained by its own settings, the authors': all weights with a rate of 5e-6 (the shared options), LoRA of
    rank 8 and alpha 16 on queries and values with 2e-4 and its own course; both rates fall along a cosine. `adapter`
    and its options take any other kind. `steps`, where given, are those of both. The recipe `lora-tradeoff` runs the
    same plan stage by stage in the world, for as long on both sides, and asks the world's truth.

    Options:
        few: share of the demonstrations that is little (the paper's 0.6 of 2 million)
        held_out: share of the demonstrations, and of the domain's, that nothing learns from
        adapter_learning_rate: highest rate of the adapter's runs
        adapter_epochs: passes of the adapter's runs over the data
        adapter_batch_size: demonstrations in a step of the adapter's runs
        adapter_warmup: steps of their warm-up; below 1, that share of all
        larger: another model, for an adapter on little data; none: no such run
        further: demonstrations of a domain to go on with, a file or folder; none: no such runs
        feedback: what rewards answers to held-out prompts: world, a reward model, judge:MODEL ...; none: no rewards
        max_tokens: longest of these answers, in tokens
    """
    if (kept := task.admit()) is not None:
        return kept
    started = time.perf_counter()
    _expect(task.given)
    given = task.loop()
    learned, apart = split(task.records, held_out, given["seed"])
    little = learned[: max(1, round(few * len(learned)))]
    domain, domain_apart = split(_read(further, task), held_out, given["seed"]) if further else ([], [])
    task.notes.append(f"{len(little)} and {len(learned)} demonstrations to learn from, {len(apart)} held out.")
    task.say(task.notes)
    adapter = {name: task.given[f"adapter_{name}"] for name in ("learning_rate", "epochs", "batch_size", "warmup")}
    whole = {name: field.default for name, field in AdapterOptions.model_fields.items()}
    settings = {FULL: given | whole, ADAPTER: given | adapter}

    plan = [("full-little", FULL, task.model, little), ("full-much", FULL, task.model, learned)]
    plan += [("adapter-little", ADAPTER, task.model, little), ("adapter-much", ADAPTER, task.model, learned)]
    if larger:
        plan.append(("adapter-larger", ADAPTER, larger, little))
    if domain:
        tuned = str(task.out / "full-much")
        plan += [("full-then-full", FULL, tuned, domain), ("full-then-adapter", ADAPTER, tuned, domain)]
    measure = _Measure(apart, domain_apart, given, feedback, max_tokens)
    rows: list[Row] = [{"run": BASE, "model": task.model, "way": BASE, "records": 0} | measure(task.model)]
    if larger:
        rows.append({"run": "base-larger", "model": larger, "way": BASE, "records": 0} | measure(larger))
    losses: list[float] = []
    tokens = 0
    for name, way, start, records in plan:
        done = task.part("sft", records, task.out / name, settings[way], model=start)
        row = {"run": name, "model": "full-much" if records is domain else start, "way": way, "records": len(records)}
        rows.append(row | _cost(done, way, settings[way], len(records)) | measure(str(done.out)))
        losses.append(done.losses[-1])
        tokens += done.tokens
        write_json(task.out / TABLE, {"runs": rows, "compared": compared(rows)})
    best = min((row for row in rows if row["way"] != BASE), key=lambda row: row["loss"])
    said = [*measure.notes, *(_sentence(line) for line in compared(rows))]
    task.notes.extend(said)
    task.say(said)
    weights, tokenizer = load_weights(str(task.out / best["run"]), torch.float32)
    lines = [{"step": at + 1} | row for at, row in enumerate(rows)]
    return task.finish(weights, tokenizer, losses=losses, tokens=tokens, started=started, lines=lines)


def split(records: Sequence[Record], share: float, seed: int) -> tuple[list[Record], list[Record]]:
    """Return what is learned from and what is held out, in an order of the seed; raise KilterError for too few."""
    if len(records) < 3:
        raise KilterError(f"{len(records)} demonstrations are too few to hold some out; give at least 3.")
    order = torch.randperm(len(records), generator=torch.Generator().manual_seed(seed)).tolist()
    apart = min(len(records) - 2, max(1, round(share * len(records))))
    return [records[i] for i in order[apart:]], [records[i] for i in order[:apart]]


def compared(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return what the adapter lost and saved for each pair of `rows` that learned the same from the same."""
    found = {row["run"]: row for row in rows}
    pairs = [("full-little", "adapter-little"), ("full-much", "adapter-much"), ("full-then-full", "full-then-adapter")]
    lines = []
    for full, adapter in pairs:
        if full not in found or adapter not in found:
            continue
        one, other = found[full], found[adapter]
        measured = "further_loss" if full == "full-then-full" else "loss"
        start = found["full-much" if full == "full-then-full" else BASE][measured]
        line = {"full": full, "adapter": adapter, "loss": other[measured] - one[measured]}
        # Where all weights gained nothing there is no share of it.
        line["kept"] = (start - other[measured]) / (start - one[measured]) if one[measured] < start else None
        if "reward" in one:
            line["reward"] = one["reward"] - other["reward"]
        costs = ("trained", "bytes", "seconds_an_epoch")
        lines.append(line | {"needs": {name: other[name] / one[name] for name in costs}})
    return lines


class _Measure:
    """What is asked of every model: the loss of what was held out, and the reward of its answers."""

    def __init__(
        self,
        apart: Sequence[Record],
        further: Sequence[Record],
        given: Mapping[str, Any],
        feedback: dict[str, float] | str | None,
        max_tokens: int,
    ) -> None:
        self.apart, self.further, self.given, self.max_tokens = apart, further, given, max_tokens
        self.feedback = None if feedback is None else named(feedback)
        self.notes: list[str] = []
        asked = [ask(record, Losses()) for record in apart if isinstance(record, Demonstration)]
        self.prompts: list[Prompt] = [prompt for prompt in asked if prompt is not None]
        if self.feedback is not None:
            check(self.feedback, self.prompts)

    @torch.no_grad()
    def __call__(self, model: str) -> Row:
        weights, tokenizer = load_weights(model, torch.float32)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        weights.to(device).eval()  # type: ignore[arg-type]
        row = {"loss": self._loss(weights, tokenizer, self.apart, device)}
        if self.further:
            row["further_loss"] = self._loss(weights, tokenizer, self.further, device)
        if self.feedback is not None:
            how = {"n": 1, "max_tokens": self.max_tokens, "temperature": 0.0, "seed": self.given["seed"]}
            found = judged(self.feedback, self.prompts, answers(weights, tokenizer, self.prompts, **how))
            self.notes += [f"{model}: {said}" for said in rewarded(found, self.feedback)[1]]
            rewards = [row for row in found if not isinstance(row, SetAside)]
            row["reward"] = sum(map(sum, rewards)) / len(rewards)
        return row

    def _loss(self, weights: Any, tokenizer: Any, records: Sequence[Record], device: torch.device) -> float:
        """Return nats a token of the assistant's turns, all tokens of all records together."""
        from kilter.training.run import make_trees

        length = min(room(weights), self.given["max_length"])
        trees, _ = make_trees(tokenizer, records, "demonstrations", length, "lora-tradeoff")
        told = torch.cat(score(Scorer(weights), trees, self.given["micro_tokens"], device))
        return -float(told.double().mean())


def _cost(done: TrainResult, way: str, settings: Mapping[str, Any], records: int) -> Row:
    """Return what a run needed: parameters, bytes on the disk, time."""
    file = done.out / WEIGHTS
    if way == ADAPTER:
        with safe_open(file, "pt") as kept:
            added = sum(kept.get_tensor(name).numel() for name in kept.keys())  # noqa: SIM118 - no mapping
        trained, size = added, file.stat().st_size
    else:
        weights, _ = load_weights(str(done.out), torch.float32)
        added, trained = 0, sum(p.numel() for p in weights.parameters())
        size = sum(part.stat().st_size for part in done.out.glob("model*.safetensors"))
    epochs = done.steps * settings["batch_size"] / records
    row = {"trained": trained, "added": added, "bytes": size, "epochs": epochs}
    return row | {"seconds_an_epoch": done.seconds / epochs, "tokens": done.tokens}


def _sentence(line: Mapping[str, Any]) -> str:
    kept = "" if line["kept"] is None else f" and keeps {line['kept']:.0%} of the gain"
    needs = line["needs"]
    return (
        f"{line['adapter']} loses {line['loss']:.3g} nats a token against {line['full']}{kept}, for "
        f"{needs['trained']:.2%} of the parameters and {needs['seconds_an_epoch']:.0%} of the time of an epoch."
    )


def _expect(given: Mapping[str, Any]) -> None:
    if given["adapter"] == "none":
        raise KilterError("adapter is none, and an adapter is what all weights are compared with; choose a kind.")
    if given["merge"]:
        raise KilterError("merge leaves no adapter whose size could be told; leave it out.")


def _read(further: str, task: Task) -> list[Record]:
    from kilter.training.run import read

    records, notes = read(further, "demonstrations", task.method, formats.rejects_beside(task.out))
    task.notes.extend(notes)
    return records
