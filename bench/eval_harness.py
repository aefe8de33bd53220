"""Closed-set suites beside the harness' own Hugging Face backend: the same model, the same requests, in turns.

    python -m bench.eval_harness --data DIR [--rows truthfulqa,cmmlu,mmlu,gsm8k,memory,ratings] [--rounds 5] [--out F]

The harness gets the batch size at which it is fastest on a part of the requests. Each round lets both sides do all
requests once, in alternating order; a row has the median seconds of each and, last, how many times faster Kilter is.
The memory row has the peak above the loaded model, with a vocabulary of 150,000 words, each side in a fresh process,
and ours as a share of theirs. The row of ratings (eval_ratings.py) has the seconds of a million battles over 100 models
with 100 bootstrap resamples, and nobody beside it. The model is random: what it says does not matter to how long it
takes. Needs the package lm-eval (extra eval).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.engine.memory import forget_peak, resident
from bench.eval_ratings import bradley_terry
from kilter.evaluation.tasks.form import shipped
from kilter.evaluation.tasks.suite import Item, items_of
from kilter.models.local import Local
from kilter.models.protocol import Sampling

ROWS = {
    # suite: (task, shots, documents of each subject, how many times faster is wanted)
    "truthfulqa": ("truthfulqa-mc2", 0, 60, 3.0),
    "cmmlu": ("cmmlu", 5, 24, 3.0),
    "mmlu": ("mmlu", 0, 40, 1.5),
    "gsm8k": ("gsm8k", 4, 32, 1.5),
}
SIZES = (1, 4, 16, 64)
NEW_TOKENS = 64
MEMORY = 0.5  # of the harness' peak, at most
AT_ONCE = 8  # rows of the harness' batch where memory is measured
RATED_WITHIN = 20.0  # seconds


def made(folder: Path, texts: list[str], *, vocabulary: int, hidden: int = 256, layers: int = 6) -> Path:
    """Save a random model of `vocabulary` words, with a tokenizer learned from the texts that it will be asked."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=8000, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    core.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 32,
        "num_key_value_heads": hidden // 64,
        "max_position_embeddings": 4096,
    }
    Qwen2ForCausalLM(Qwen2Config(**shape, bos_token_id=0, eos_token_id=1)).save_pretrained(folder)
    return folder


def asked(row: str, data: str) -> tuple[list[Item], list[tuple[str, str]]]:
    """Return a row's items, and its requests by log-prob."""
    name, shots, documents, _ = ROWS[row]
    task = shipped(name)
    items, _ = items_of(task, data, shots=shots, n=documents)
    return items, [(item.context, task.target_delimiter + choice) for item in items for choice in item.choices]


def backend(model: Path, size: int) -> Any:
    """Return the harness' own model."""
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    return HFLM(pretrained=loaded, tokenizer=AutoTokenizer.from_pretrained(model), batch_size=size, device="cpu")


def theirs(side: Any, row: str, items: list[Item], pairs: list[tuple[str, str]], size: int) -> list[Any]:
    """Do the requests as the harness does; return log-probs, or texts."""
    from lm_eval.api.instance import Instance

    side.batch_size_per_gpu = size
    if row == "gsm8k":
        how = {"until": ["Question:"], "max_gen_toks": NEW_TOKENS, "do_sample": False}
        wanted = [Instance("generate_until", {}, (item.context, dict(how)), 0) for item in items]
        return list(side.generate_until(wanted, disable_tqdm=True))
    wanted = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    return [value for value, _ in side.loglikelihood(wanted, disable_tqdm=True)]


def ours(side: Local, row: str, items: list[Item], pairs: list[tuple[str, str]]) -> list[Any]:
    """Do the same requests on Kilter's engine."""

    async def written() -> list[str]:
        sampling = Sampling(max_tokens=NEW_TOKENS, stop=("Question:",))
        found = await asyncio.gather(*(side.complete(item.context, sampling) for item in items))
        return [answers[0].text for answers in found]

    if row == "gsm8k":
        return asyncio.run(written())
    return [weight.logprob for weight in asyncio.run(side.weigh(pairs))]  # type: ignore[union-attr]


def clocked(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that `work` takes and what it gives."""
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def measured(row: str, data: str, rounds: int) -> dict[str, Any]:
    """Return a row: seconds of both sides, the harness' batch size, how far results are apart, the ratio."""
    items, pairs = asked(row, data)
    with tempfile.TemporaryDirectory() as folder:
        texts = [item.context for item in items]
        model = made(Path(folder), texts, vocabulary=32_000)
        side, own = backend(model, 1), Local(str(model), dtype=torch.float32, device="cpu")
        part = max(1, len(items) // 4)
        some = [pair for pair in pairs if pair[0] in {item.context for item in items[:part]}]
        speeds = {size: clocked(lambda s=size: theirs(side, row, items[:part], some, s))[0] for size in SIZES}
        size = min(speeds, key=lambda each: speeds[each])
        seconds: dict[str, list[float]] = {"kilter": [], "lm-eval": []}
        found: dict[str, list[Any]] = {}
        works = {
            "kilter": lambda: ours(own, row, items, pairs),
            "lm-eval": lambda: theirs(side, row, items, pairs, size),
        }
        for turn in range(rounds):
            for name in list(works)[:: 1 if turn % 2 else -1]:
                spent, found[name] = clocked(works[name])
                seconds[name].append(spent)
    both = zip(found["kilter"], found["lm-eval"], strict=True)
    if row == "gsm8k":
        apart: float = sum(a != b for a, b in both)
    else:
        apart = max(abs(a - b) for a, b in both)
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "row": row,
        "requests": len(items) if row == "gsm8k" else len(pairs),
        "batch": size,
        "kilter": round(middle["kilter"], 3),
        "lm_eval": round(middle["lm-eval"], 3),
        "apart": apart,
        "wanted": ROWS[row][3],
        "ratio": round(middle["lm-eval"] / middle["kilter"], 2),
    }


def ratings(row: str, data: str, rounds: int) -> dict[str, Any]:
    """Return the row of ratings: its seconds, and as the ratio the share of what is wanted that they are."""
    seconds = round(bradley_terry()["seconds"], 2)
    told = {"row": row, "requests": 1_000_000, "batch": 0, "kilter": seconds, "lm_eval": 0}
    return told | {"wanted": RATED_WITHIN, "ratio": round(seconds / RATED_WITHIN, 2)}


def memory(row: str, data: str, rounds: int) -> dict[str, Any]:
    """Return the row of memory: peak bytes above the loaded model of each side, and ours as a share of theirs."""
    _, pairs = asked("mmlu", data)
    batch = AT_ONCE
    with tempfile.TemporaryDirectory() as folder:
        made(Path(folder), [pair[0] for pair in pairs], vocabulary=150_000, layers=2)
        peaks = {}
        for side in ("kilter", "lm-eval"):
            words = [sys.executable, "-m", "bench.eval_harness", "--data", data, "--peak", side, "--model", folder]
            done = subprocess.run([*words, "--batch", str(batch)], capture_output=True, text=True, check=True)
            peaks[side] = json.loads(done.stdout.splitlines()[-1])
    share = peaks["kilter"] / peaks["lm-eval"]
    told = {"row": row, "requests": len(pairs), "batch": batch, "kilter": peaks["kilter"]}
    return told | {"lm_eval": peaks["lm-eval"], "wanted": MEMORY, "ratio": round(share, 3)}


def peak(side: str, model: str, data: str, batch: int) -> int:
    """Return the peak of one side in this process, in bytes above what it held with the model loaded."""
    items, pairs = asked("mmlu", data)
    work: Callable[[], Any]
    if side == "kilter":
        own = Local(model, dtype=torch.float32, device="cpu")
        work = lambda: ours(own, "mmlu", items, pairs)  # noqa: E731
    else:
        other = backend(Path(model), batch)
        work = lambda: theirs(other, "mmlu", items, pairs, batch)  # noqa: E731
    before = resident("VmRSS")
    forget_peak()
    work()
    return resident("VmHWM") - before


ROW: dict[str, Callable[[str, str, int], dict[str, Any]]] = {"memory": memory, "ratings": ratings}


def main() -> None:
    """Measure the rows that are asked for and print them."""
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--data", required=True)
    told.add_argument("--rows", default="truthfulqa,cmmlu,mmlu,gsm8k,memory,ratings")
    told.add_argument("--rounds", type=int, default=5)
    told.add_argument("--out", type=Path)
    for hidden in ("--peak", "--model"):
        told.add_argument(hidden, help=argparse.SUPPRESS)
    told.add_argument("--batch", type=int, default=8, help=argparse.SUPPRESS)
    given = told.parse_args()
    if given.peak:
        print(peak(given.peak, given.model, given.data, given.batch))
        return
    rows = []
    print(f"{'row':<12}{'requests':>9}{'batch':>6}{'kilter':>14}{'lm-eval':>14}{'apart':>10}{'wanted':>8}{'ratio':>8}")
    for name in given.rows.split(","):
        row = ROW.get(name, measured)(name, given.data, given.rounds)
        rows.append(row)
        apart = f"{row['apart']:.1g}" if "apart" in row else ""
        print(
            f"{row['row']:<12}{row['requests']:>9,}{row['batch']:>6}{row['kilter']:>14,}{row['lm_eval']:>14,}"
            f"{apart:>10}{row['wanted']:>8}{row['ratio']:>8}",
            flush=True,
        )
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
