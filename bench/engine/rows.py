"""The rows of the table: what is done, what is aimed at, which settings TRL may choose from."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from bench.engine import work
from kilter.allocator import SYSTEM

Setting = dict[str, Any]
ALPACA = "instructions/alpaca_52k.jsonl"
EPOCHS = 3  # what a pass of the reference over the data is shared by: the number of epochs that TRL trains by default


@dataclass(frozen=True, slots=True)
class Prepared:
    """Both sides' jobs, and how many units a turn has."""

    ours: dict[str, Any]
    theirs: dict[str, Any]
    units: float


@dataclass(frozen=True, slots=True)
class Row:
    """A row: `prepare(shape, folder, share)` makes its data, `share` of the usual amount (a quick run takes less).

    `default` is TRL's setting as its user gets it, `start` where the search for its best one begins, `changes` what it
    tries one after the other, on `tried_on` of the row's data. Targets are ratios to the default and to the best.
    """

    name: str
    kind: str
    what: str
    unit: str
    target: float | None
    target_best: float | None
    prepare: Callable[[str, Path, float], Prepared]
    start: Setting = field(default_factory=dict)
    changes: tuple[Setting, ...] = ()
    default: Setting = field(default_factory=dict)
    tried_on: float = 1.0


class Absent(Exception):
    """The data of a row is not there."""


def job(kind: str, folder: Path, rows: list[dict[str, Any]], name: str, **facts: Any) -> dict[str, Any]:
    """Write rows beside the model and return the job on them."""
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    shared = {"kind": kind, "model": str(folder), "data": str(file), "max_length": 1024, "warm": 3, "setting": {}}
    return shared | facts


def made_pairs(prompt: int, response: int, steps: int, kind: str, shape: str, folder: Path, share: float) -> Prepared:
    """Pairs of random words, 8 a step."""
    vocabulary = words(folder, shape)
    count = 8 * max(2, round(steps * share))
    made = job(kind, folder, work.pairs(count, prompt, response, vocabulary), f"{kind}-{prompt}", batch=8)
    return Prepared(made, made, count)


def hh_pairs(data: Path, shape: str, folder: Path, share: float) -> Prepared:
    """Real pairs, 8 a step, with their own lengths up to 512 tokens."""
    count = 8 * max(3, round(10 * share))
    tokenizer, rows = work.hh(data, count, 512, work.SHAPES[shape]["vocab_size"])
    tokenizer.save_pretrained(folder)
    made = job("dpo", folder, rows, "hh", batch=8, max_length=512, warm=max(3, count // 8))
    return Prepared(made, made, len(rows))


def alpaca_rows(data: Path, shape: str, folder: Path, share: float) -> Prepared:
    """Real instructions, 8 a step, with their own lengths; the unit is a token."""
    tokenizer, rows = work.alpaca(data, max(24, round(2000 * share)), work.SHAPES[shape]["vocab_size"])
    tokenizer.save_pretrained(folder)
    made = job("sft", folder, rows, "alpaca", batch=8)
    return Prepared(made, made, work.tokens(tokenizer, rows))


def groups(prompt: int, shape: str, folder: Path, share: float) -> Prepared:
    """8 prompts a step, 8 samples of 64 tokens each."""
    vocabulary = words(folder, shape)
    rows = work.pairs(8 * max(1, round(2 * share)), prompt, 2, vocabulary, responses=0)
    made = job("grpo", folder, rows, f"grpo-{prompt}", batch=8, samples=8, new_tokens=64, wanted="w77")
    return Prepared(made, made, 8 * len(rows))


def sampled_groups(shape: str, folder: Path, share: float) -> Prepared:
    """8 prompts of 192 tokens, 8 samples of 64 tokens each."""
    return sampled(folder, "group", ids(words(folder, shape), [192] * 8), [64] * 8, samples=8)


def sampled_ragged(shape: str, folder: Path, share: float) -> Prepared:
    """64 prompts of 32 to 192 tokens, one sample of 4 to 128 tokens each; the unit is a token."""
    return sampled(folder, "ragged", *ragged(words(folder, shape), max(16, round(64 * share))), samples=1)


def ragged(vocabulary: int, count: int = 64) -> tuple[list[list[int]], list[int]]:
    """Prompts of 32 to 192 random tokens, and how many tokens are sampled behind each, 4 to 128."""
    draw = random.Random(1)
    prompts = ids(vocabulary, [draw.randint(32, 192) for _ in range(count)])
    return prompts, [draw.randint(4, 128) for _ in range(count)]


def sampled(folder: Path, name: str, prompts: list[list[int]], limits: list[int], samples: int) -> Prepared:
    """Sampling jobs; the unit is a completion where all are of one length, else a token."""
    rows = [{"ids": prompt, "limit": limit} for prompt, limit in zip(prompts, limits, strict=True)]
    made = job("sample", folder, rows, name, samples=samples, precision="fp32")
    return Prepared(made, made, samples * (len(limits) if len(set(limits)) == 1 else sum(limits)))


def ranked(shape: str, folder: Path, share: float) -> Prepared:
    """2 prompts of 192 with 8 ranked responses of 64 a step, against the 8 pairs that they come to; the unit is a
    token of a response."""
    vocabulary = words(folder, shape)
    count = 2 * max(2, round(6 * share))
    rows = work.pairs(count, 192, 64, vocabulary, responses=8)
    halves = [
        {"prompt": r["prompt"], "responses": r["responses"][k : k + 2]} for r in rows for k in range(0, 8, 2)
    ]  # fmt: skip
    ours = job("ranking", folder, rows, "ranked", batch=2)
    theirs = job("dpo", folder, halves, "ranked-pairs", batch=8)
    return Prepared(ours, theirs, count * 8 * 64)


def words(folder: Path, shape: str) -> int:
    """Put the tokenizer of random words beside the model; return its size."""
    vocabulary = min(work.LEARNED, work.SHAPES[shape]["vocab_size"])
    tokenizer: PreTrainedTokenizerFast = work.word_tokenizer(vocabulary)
    tokenizer.save_pretrained(folder)
    return vocabulary


def ids(size: int, lengths: list[int]) -> list[list[int]]:
    """Random token ids below `size`, of the given lengths."""
    draw = random.Random(0)
    return [[draw.randrange(2, size) for _ in range(length)] for length in lengths]


KEPT = {"allocator": True, "checkpointing": False}
PLAIN = {"allocator": SYSTEM}  # the C library's malloc with its thresholds raised, where `True` is a better malloc
EAGER, COMPILED = {"attention": "eager"}, {"compiled": True}
DPO = {"start": KEPT | {"precomputed": True}, "changes": (EAGER, {"batch": 4}, {"batch": 2}, COMPILED)}
GRPO = {"start": KEPT, "default": {"batch": 8}, "changes": (EAGER, {"batch": 16}, {"batch": 8}, COMPILED)}


def table(data: Path | None) -> list[Row]:
    """Return the rows; those that need real data read it below `data`."""

    def real(prepare: Callable[..., Prepared], file: str) -> Callable[[str, Path, float], Prepared]:
        def checked(shape: str, folder: Path, share: float) -> Prepared:
            if data is None or not (data / file).is_file():
                where = "no folder was given (--data or KILTER_SHARED)" if data is None else f"{data} has no {file}"
                raise Absent(where)
            return prepare(data / file, shape, folder, share)

        return checked

    return [
        Row("dpo_long", "dpo", "DPO, 8 pairs a step, 192 + 64 + 64 tokens", "pairs/s", 4.0, 2.0,
            partial(made_pairs, 192, 64, 6, "dpo"), **DPO),
        Row("dpo_short", "dpo", "DPO, 8 pairs a step, 32 + 64 + 64 tokens", "pairs/s", 2.5, 1.6,
            partial(made_pairs, 32, 64, 10, "dpo"), **DPO),
        Row("dpo_hh", "dpo", "DPO, HH helpful pairs of their own lengths, cut at 512", "pairs/s", 4.0, 2.2,
            real(hh_pairs, "preferences/hh_helpful_train.jsonl"), start=DPO["start"],
            changes=({"grouped": True}, *DPO["changes"]), tried_on=0.4),
        Row("sft_alpaca", "sft", "SFT, 2,000 Alpaca rows of their own lengths", "tokens/s", 2.2, 1.3,
            real(alpaca_rows, ALPACA), start=KEPT,
            changes=({"packed": True, "batch": 1}, {"grouped": True}, EAGER, COMPILED), tried_on=0.2),
        Row("reward_long", "reward", "reward model, 8 pairs a step, 192 + 64 + 64 tokens", "pairs/s", 2.0, 1.6,
            partial(made_pairs, 192, 64, 6, "reward"), start=KEPT, changes=DPO["changes"]),
        Row("grpo_long", "grpo", "GRPO, 8 prompts of 192 x 8 samples of 64 tokens", "completions/s", 3.0, 2.0,
            partial(groups, 192), **GRPO),
        Row("grpo_short", "grpo", "GRPO, 8 prompts of 32 x 8 samples of 64 tokens", "completions/s", 2.0, 1.6,
            partial(groups, 32), **GRPO),
        Row("sample_group", "sample", "8 prompts of 192 x 8 samples of 64 tokens, fp32", "completions/s", 2.0, 2.0,
            sampled_groups, start={"allocator": True}, changes=(EAGER, {"batch": 32})),
        Row("sample_ragged", "sample", "64 prompts, outputs of 4 to 128 tokens, fp32", "tokens/s", 2.5, 2.5,
            sampled_ragged, start={"allocator": True}, changes=(EAGER, {"batch": 32}, {"batch": 16})),
        Row("ranking_k8", "ranking", "RRHF, 8 responses of 64 to a prompt of 192; TRL: DPO on the same 4 pairs",
            "response tokens/s", 4.0, None, ranked, **DPO),
    ]  # fmt: skip
