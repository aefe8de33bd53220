"""Kilter's side, as its users run it: `kilter.train` on records, and the engine's sampler."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import kilter
from bench.engine.clock import Turns
from kilter.engine import reference
from kilter.engine.batch import Tree
from kilter.engine.sampler import sample as sample_sequences
from kilter.engine.template import trees
from kilter.models.load import load_weights
from kilter.records import Demonstration, Group, Message, Prompt, Record

Job = dict[str, Any]


def dpo(job: Job, turns: Turns) -> None:
    """Train by DPO for ever; a turn is an epoch."""
    score_all = reference.score_all

    def timed(*args: Any, **kwargs: Any) -> Any:
        since = time.perf_counter()
        found = score_all(*args, **kwargs)
        turns.tell(reference_seconds=time.perf_counter() - since)
        return found

    reference.score_all = timed
    _train("dpo", job, turns, _groups(job))


def reward(job: Job, turns: Turns) -> None:
    """Train a reward model on pairs for ever; a turn is an epoch."""
    _train("reward", job, turns, _groups(job))


def sft(job: Job, turns: Turns) -> None:
    """Fine-tune on prompts with a completion for ever; a turn is an epoch."""
    _train("sft", job, turns, demonstrations(_rows(job)))


def grpo(job: Job, turns: Turns) -> None:
    """Sample groups, reward them and learn from them for ever; a turn is an epoch."""
    prompts = [Prompt([Message("user", row["prompt"])]) for row in _rows(job)]
    _clock(job, turns, len(prompts))
    with tempfile.TemporaryDirectory() as out:
        kilter.train(
            "grpo", model=job["model"], data=prompts, out=out, samples=job["samples"], max_tokens=job["new_tokens"],
            feedback=f"contains:{job['wanted']}", beta=0.0, average="token", **_options(job),
        )  # fmt: skip


def ranking(job: Job, turns: Turns) -> None:
    """Learn from whole rankings by RRHF, for ever; a turn is an epoch."""
    _train("rrhf", job, turns, _groups(job))


def sample(job: Job, turns: Turns) -> None:
    """Sample from every prompt; a turn is all of them."""
    kind = torch.bfloat16 if job["precision"] == "bf16" else torch.float32
    model = load_weights(job["model"], kind)[0].to(job["device"])
    rows = _rows(job)

    def once() -> None:
        sample_sequences(
            model, [row["ids"] for row in rows], n=job["samples"], max_tokens=[row["limit"] for row in rows]
        )

    turns.of_calls(once)


def _options(job: Job) -> dict[str, Any]:
    return {
        "steps": 10**7, "batch_size": job["batch"], "learning_rate": 1e-5, "schedule": "constant", "warmup": 0.0,
        "checkpoint_every": 0, "max_length": job["max_length"], **job["setting"],
    }  # fmt: skip


def _train(method: str, job: Job, turns: Turns, records: list[Record], **options: Any) -> None:
    tokenizer = load_weights(job["model"], torch.float32)[1]
    _begin(job, turns, [t for t in trees(tokenizer, records, max_length=job["max_length"]) if t is not None])
    with tempfile.TemporaryDirectory() as out:
        kilter.train(method, model=job["model"], data=records, out=out, **_options(job), **options)


def _begin(job: Job, turns: Turns, made: list[Tree]) -> None:
    """Say what is learned from, counted as the other side lays it out, and set the clock."""
    rows = [[*tree.prompt, *response] for tree in made for response in tree.responses]
    turns.tell(tokens=sum(map(len, rows)), sum=sum(map(sum, rows)))
    _clock(job, turns, len(made))


def _clock(job: Job, turns: Turns, count: int) -> None:
    steps = -(-count // job["batch"])
    turns.tell(steps=steps)
    turns.of_steps(steps, job["warm"])


def demonstrations(rows: list[dict[str, Any]]) -> list[Record]:
    """Rows of a prompt with its completion, as what `sft` learns from."""
    return [Demonstration([Message("user", row["prompt"]), Message("assistant", row["responses"][0])]) for row in rows]


def _groups(job: Job) -> list[Record]:
    """Groups of ranked responses, the first the best."""
    return [
        Group([Message("user", row["prompt"])], row["responses"], ranking=list(range(len(row["responses"]))))
        for row in _rows(job)
    ]


def _rows(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(job["data"]).read_text(encoding="utf-8").splitlines()]
