"""What the machine can do at most, and where the time of one of Kilter's steps goes.

`python -m bench.engine.limits SHAPE DEVICE [DATA]` prints it as JSON: the fastest matrix products and copies that were
seen, and the time of every kind of operation in a step of dpo_long, of dpo_short, and where there is a folder of real
data of sft_alpaca, and in the samples of sample_ragged, by torch's profiler.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

import kilter.engine
from bench.engine import work
from bench.engine.ours import demonstrations
from bench.engine.rows import ALPACA, ragged
from bench.engine.work import SHAPES
from kilter.engine.batch import Tree, collate
from kilter.engine.compiled import compile_layers
from kilter.engine.optim import adamw, scale_and_clip
from kilter.engine.sampler import sample
from kilter.engine.scorer import Scorer
from kilter.engine.template import trees as trees_of
from kilter.training.dpo import dpo
from kilter.training.sft import sft

ROWS, RESPONSE = 8, 64
STEPS, PACK = 24, 1024
PROMPTS = {"dpo_long": 192, "dpo_short": 32}
KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::linear", "mkldnn"),
    "choice of tokens": ("aten::cumsum", "aten::sort", "aten::searchsorted", "aten::argmax"),
    "attention": ("aten::bmm", "aten::baddbmm", "aten::_softmax", "WrittenOut", "flash", "efficient", "varlen"),
    "head's softmax": ("aten::_log_softmax", "aten::exp", "_Head"),
    "gathers and copies": ("index", "gather", "scatter", "aten::cat", "aten::copy_", "aten::_to_copy", "aten::clone"),
    "optimizer": ("_fused_adamw", "_foreach", "linalg_vector_norm"),
    "element by element": ("aten::mul", "aten::add", "aten::silu", "aten::pow", "aten::neg", "aten::div", "aten::sum",
                           "aten::mean", "aten::rsqrt", "aten::sub", "aten::fill_", "cpp_fused", "triton", "Compiled"),
}  # fmt: skip


def products(device: str, kind: torch.dtype) -> float:
    """Operations a second of the fastest of some matrix products, counted as 2 m n k."""
    sizes = [(2560, 384, 1024), (2048, 2048, 2048), (4096, 1024, 4096)]
    if device == "cuda":
        sizes = [(8192, 8192, 8192)]
    best = 0.0
    for m, k, n in sizes:
        a, b = torch.randn(m, k, device=device).to(kind), torch.randn(n, k, device=device).to(kind)
        best = max(best, 2 * m * n * k / least(lambda a=a, b=b: a @ b.T, device))  # type: ignore[misc]
    return best


def copies(device: str) -> float:
    """Bytes a second, read and written together, of a copy that no cache holds."""
    a = torch.randn(2**26 if device == "cpu" else 2**29, device=device)
    b = torch.empty_like(a)
    return 2 * a.numel() * a.element_size() / least(lambda: b.copy_(a), device)


def least(call: Callable[[], Any], device: str, times: int = 12) -> float:
    """Seconds of the fastest of some calls."""
    found = []
    for _ in range(times):
        since = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - since)
    return min(found[2:])


def needed(shape: str, tokens: float, scored: float, attended: float) -> dict[str, float]:
    """Operations that a step of forward and backward cannot do without: 6 a weight and token, as usually counted.

    `tokens` go through the layers, `scored` of them through the head, `attended` pairs of query and key are looked at.
    """
    size = SHAPES[shape]
    hidden, layers = size["hidden_size"], size["num_hidden_layers"]
    return {
        "layers": 6 * weights(shape) * tokens,
        "head": 6 * size["vocab_size"] * hidden * scored,
        "attention": 12 * hidden * layers * attended,
    }


def weights(shape: str) -> float:
    """Weights of all layers' matrices."""
    size = SHAPES[shape]
    hidden, inner = size["hidden_size"], size["intermediate_size"]
    shared = size["num_key_value_heads"] / size["num_attention_heads"]
    return size["num_hidden_layers"] * (hidden * hidden * (2 + 2 * shared) + 3 * hidden * inner)


@dataclass(frozen=True, slots=True)
class Work:
    """Steps to profile: their micro-batches, the objective, and what TRL's best setting makes of the same texts.

    `packed` is the length of the rows that TRL packs texts into, None where a text is a row; with `reference` the
    objective is given log-probs of a reference policy too.
    """

    batches: list[list[Tree]]
    loss: Callable[..., Any]
    reference: bool
    packed: int | None = None


def pairs(prompt: int, vocabulary: int) -> Work:
    """Preference pairs of one length, as in dpo_long and dpo_short."""
    draw = random.Random(0)

    def some(count: int) -> list[int]:
        return [draw.randrange(2, vocabulary) for _ in range(count)]

    masks = [[True] * RESPONSE] * 2
    info = {"pairs": [(0, 1)]}
    trees = [Tree(some(prompt), [some(RESPONSE), some(RESPONSE)], masks, info=info) for _ in range(ROWS)]
    return Work([trees], dpo, reference=True)


def instructions(file: Path, vocabulary: int) -> Work:
    """Real instructions of their own lengths, as in sft_alpaca."""
    tokenizer, rows = work.alpaca(file, ROWS * STEPS, vocabulary)
    made = [tree for tree in trees_of(tokenizer, demonstrations(rows), max_length=PACK) if tree is not None]
    return Work([made[i : i + ROWS] for i in range(0, len(made), ROWS)], sft, reference=False, packed=PACK)


def profiled(shape: str, device: str, job: Work, most: int = 4) -> dict[str, Any]:
    """Seconds of a step, on average over the batches, of its parts by kind of operation, and what it cannot do without.

    At most so many batches are profiled.
    """
    model = made(shape, device)
    scorer = Scorer(model, bf16=True)
    compiled = compile_layers(scorer)  # as a run as long as this one would
    optimizer = adamw(model, learning_rate=1e-5, weight_decay=0.0, betas=(0.9, 0.95), epsilon=1e-8)
    parameters = list(model.parameters())

    def step(trees: list[Tree]) -> None:
        batch = collate(trees).to(torch.device(device))
        policy = scorer(batch)
        given = (policy.with_tokens(policy.tokens.detach()),) if job.reference else ()
        job.loss(policy, *given, batch.groups).per_example.sum().backward()
        scale_and_clip(parameters, torch.tensor(1 / ROWS, device=device), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def epoch() -> None:
        for trees in job.batches:
            step(trees)

    @torch.no_grad()
    def reference() -> None:
        for trees in job.batches:
            scorer(collate(trees).to(torch.device(device)))

    count = len(job.batches)
    seconds = least(epoch, device, 12 if count == 1 else 5) / count
    passed = least(reference, device, 8) / count if job.reference else 0.0
    some = job.batches[:most] if count > 1 else job.batches * most

    def all_of_them() -> None:
        for trees in some:
            step(trees)

    ours, theirs = operations(shape, job)
    return {
        "rows": ROWS,
        "tokens": sum(len(tree) for trees in job.batches for tree in trees) / count,
        "seconds": seconds,
        "reference_seconds": passed,
        "shares": shares(all_of_them, device),
        "compiled": compiled,
        "operations": ours,
        "their_operations": theirs,
        "parameters": sum(p.numel() for p in parameters),
    }


def sampled(shape: str, device: str) -> dict[str, Any]:
    """Seconds of the samples of sample_ragged, of their parts by kind of operation, and what they cannot do without.

    TRL's side is `generate`: prompts padded to the longest, all rows kept until the longest has ended.
    """
    size = SHAPES[shape]
    model = made(shape, device).eval()
    prompts, limits = ragged(size["vocab_size"])

    def once() -> None:
        sample(model, prompts, max_tokens=limits)

    lengths = [len(prompt) for prompt in prompts]
    head, rows = size["vocab_size"] * size["hidden_size"], len(prompts)
    kept = size["num_hidden_layers"] * size["hidden_size"] * size["num_key_value_heads"] / size["num_attention_heads"]
    seen = sum(sum(range(length, length + limit)) for length, limit in zip(lengths, limits, strict=True))
    grown = rows * (max(lengths) + max(limits))
    return {
        "tokens": sum(limits),
        "seconds": least(once, device, 6),
        "shares": shares(once, device),
        "prompts": 2 * weights(shape) * sum(lengths),
        "steps": 2 * (weights(shape) + head) * sum(limits),
        "cache": 2 * 4 * kept * seen,
        "their_operations": 2 * weights(shape) * grown + 2 * head * rows * max(limits),
    }


def made(shape: str, device: str) -> Any:
    """A Llama of the given shape with random weights in fp32."""
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[shape], tie_word_embeddings=True, max_position_embeddings=1024)
    return LlamaForCausalLM(config).to(device)


def shares(call: Callable[[], Any], device: str) -> dict[str, float]:
    """Of the time of a call, what each kind of operation takes, by torch's profiler; the largest first."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with profile(activities=activities) as found:
        call()
    parts: dict[str, float] = defaultdict(float)
    for event in found.key_averages():
        parts[kind_of(event.key)] += event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
    total = sum(parts.values())
    return {name: spent / total for name, spent in sorted(parts.items(), key=lambda x: -x[1])}


def operations(shape: str, job: Work) -> tuple[dict[str, float], float]:
    """Return what a step cannot do without, on average over the batches, and the operations of TRL's in all.

    There the prompt stands before each of its responses, every position has logits, and looks at all of its row.
    """
    tokens, scored, attended, both, all_pairs = 0, 0, 0.0, 0, 0.0
    for tree in (tree for trees in job.batches for tree in trees):
        prompt, lengths = len(tree.prompt), [len(response) for response in tree.responses]
        tokens += len(tree)
        scored += sum(sum(mask) for mask in tree.masks)
        attended += prompt**2 / 2 + sum(prompt * length + length**2 / 2 for length in lengths)
        both += sum(prompt + length for length in lengths)
        all_pairs += sum((prompt + length) * (job.packed or prompt + length) for length in lengths)
    count = len(job.batches)
    ours = needed(shape, tokens / count, scored / count, attended / count)
    return ours, sum(needed(shape, both / count, both / count, all_pairs / count).values())


def kind_of(name: str) -> str:
    """Return the kind of an operation by its name in the profile."""
    return next((kind for kind, marks in KINDS.items() if any(mark in name for mark in marks)), "all else")


def main() -> None:
    """Print the machine's ceilings and the profile."""
    shape, device, *data = sys.argv[1:]
    vocabulary = SHAPES[shape]["vocab_size"]
    jobs = {row: pairs(prompt, vocabulary) for row, prompt in PROMPTS.items()}
    if data and (file := Path(data[0]) / ALPACA).is_file():
        jobs["sft_alpaca"] = instructions(file, vocabulary)
    assert kilter.engine  # imported first: it settles the allocator before the first tensor
    told = {
        "bf16": products(device, torch.bfloat16),
        "fp32": products(device, torch.float32),
        "bytes": copies(device),
        "profiles": {row: profiled(shape, device, job) for row, job in jobs.items()},
        "sampling": sampled(shape, device),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
