"""What the machine can do at most, and where the time of one of Kilter's steps goes.

`python -m bench.engine.limits SHAPE DEVICE` prints it as JSON: the fastest matrix products and copies that were
seen, and the time of every kind of operation in a step of dpo_long and of dpo_short by torch's profiler.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

import kilter.engine
from bench.engine.work import SHAPES
from kilter.engine.batch import Tree, collate
from kilter.engine.compiled import compile_layers
from kilter.engine.optim import adamw, scale_and_clip
from kilter.engine.scorer import Scorer
from kilter.training.dpo import dpo

PAIRS, RESPONSE = 8, 64
PROMPTS = {"dpo_long": 192, "dpo_short": 32}
KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::linear", "mkldnn"),
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


def needed(shape: str, tokens: int, scored: int, attended: int) -> dict[str, float]:
    """Operations that a step of forward and backward cannot do without: 6 a weight and token, as usually counted.

    `tokens` go through the layers, `scored` of them through the head, `attended` pairs of query and key are looked at.
    """
    size = SHAPES[shape]
    hidden, inner, layers = size["hidden_size"], size["intermediate_size"], size["num_hidden_layers"]
    shared = size["num_key_value_heads"] / size["num_attention_heads"]
    weights = layers * (hidden * hidden * (2 + 2 * shared) + 3 * hidden * inner)
    return {
        "layers": 6 * weights * tokens,
        "head": 6 * size["vocab_size"] * hidden * scored,
        "attention": 12 * hidden * layers * attended,
    }


def profiled(shape: str, device: str, prompt: int, response: int = RESPONSE, steps: int = 4) -> dict[str, Any]:
    """Seconds of one DPO step, of its parts by kind of operation, and what it cannot do without."""
    torch.manual_seed(0)
    draw = random.Random(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPES[shape], tie_word_embeddings=True, max_position_embeddings=1024))
    model.to(device)

    def some(count: int) -> list[int]:
        return [draw.randrange(2, SHAPES[shape]["vocab_size"]) for _ in range(count)]

    masks = [[True] * response] * 2
    trees = [
        Tree(some(prompt), [some(response), some(response)], masks, info={"pairs": [(0, 1)]}) for _ in range(PAIRS)
    ]  # fmt: skip
    scorer = Scorer(model, bf16=True)
    compiled = compile_layers(scorer)  # as a run as long as this one would
    optimizer = adamw(model, learning_rate=1e-5, weight_decay=0.0, betas=(0.9, 0.95), epsilon=1e-8)
    parameters = list(model.parameters())

    def forward() -> Any:
        return scorer(collate(trees).to(torch.device(device)))

    def step() -> None:
        policy = forward()
        groups = collate(trees).groups.to(torch.device(device)) if device != "cpu" else collate(trees).groups
        dpo(policy, policy.with_tokens(policy.tokens.detach()), groups).per_example.sum().backward()
        scale_and_clip(parameters, torch.tensor(1 / PAIRS, device=device), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def reference() -> None:
        with torch.no_grad():
            forward()

    for _ in range(3):
        step()
    seconds, reference_seconds = least(step, device, 10), least(reference, device, 6)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with profile(activities=activities) as found:
        for _ in range(steps):
            step()
    parts: dict[str, float] = defaultdict(float)
    for event in found.key_averages():
        spent = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
        parts[kind_of(event.key)] += spent / steps / 1e6
    tokens, scored = PAIRS * (prompt + 2 * response), PAIRS * 2 * response
    attended = PAIRS * (prompt**2 / 2 + 2 * (prompt * response + response**2 / 2))
    both = PAIRS * 2 * (prompt + response)  # the prompt stands before each of its responses
    total = sum(parts.values())
    return {
        "pairs": PAIRS,
        "seconds": seconds,
        "reference_seconds": reference_seconds,
        "shares": {name: spent / total for name, spent in sorted(parts.items(), key=lambda x: -x[1])},
        "compiled": compiled,
        "operations": needed(shape, tokens, scored, int(attended)),
        "their_operations": sum(needed(shape, both, both, PAIRS * (prompt + response) ** 2).values()),
        "parameters": sum(p.numel() for p in parameters),
    }


def kind_of(name: str) -> str:
    """Return the kind of an operation by its name in the profile."""
    return next((kind for kind, marks in KINDS.items() if any(mark in name for mark in marks)), "all else")


def main() -> None:
    """Print the machine's ceilings and the profile."""
    shape, device = sys.argv[1:]
    assert kilter.engine  # imported first: it settles the allocator before the first tensor
    told = {
        "bf16": products(device, torch.bfloat16),
        "fp32": products(device, torch.float32),
        "bytes": copies(device),
        "profiles": {row: profiled(shape, device, prompt) for row, prompt in PROMPTS.items()},
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
