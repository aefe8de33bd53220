"""The peak of a DPO step in a fresh process, above what the process held with the weights loaded.

`python -m bench.engine.memory SIDE JOB` prints it as JSON. The step is the second one, with the optimizer's state in
place.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from bench.engine.clock import Finished

STEPS = 2


def resident(name: str) -> int:
    """Bytes of this process by the kernel's count: `VmRSS` now, `VmHWM` at most since `forget_peak`."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"The kernel does not tell {name}.")


def forget_peak() -> None:
    """Begin the peak anew at what is held now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def main() -> None:
    """Take two steps and print the peak."""
    side, file = sys.argv[1:]
    job: dict[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))
    on_gpu = job["device"] == "cuda"
    taken = 0

    def after(*_: Any) -> None:
        nonlocal taken
        taken += 1
        if taken == STEPS:
            raise Finished

    register_optimizer_step_post_hook(after)
    train = {"ours": ours, "theirs": theirs}[side](job)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    else:
        forget_peak()
    before = torch.cuda.memory_allocated() if on_gpu else resident("VmRSS")
    try:
        train()
    except Finished:
        peak = torch.cuda.max_memory_allocated() if on_gpu else resident("VmHWM")
        print(json.dumps({"before": before, "peak": peak, "above": peak - before}))


def ours(job: dict[str, Any]) -> Any:
    """Return what trains, the weights being loaded."""
    from bench.engine.ours import _groups, _options
    from kilter.engine.loop import LoopOptions, train
    from kilter.engine.template import trees
    from kilter.models.load import load_weights
    from kilter.training.dpo import dpo

    weights, tokenizer = load_weights(job["model"], torch.float32)
    weights.to(job["device"])
    made = [tree for tree in trees(tokenizer, _groups(job)) if tree is not None]
    out = tempfile.mkdtemp()
    return lambda: train(weights, made, dpo, LoopOptions(**_options(job)), out, tokenizer=tokenizer)


def theirs(job: dict[str, Any]) -> Any:
    """Return what trains, the weights being loaded."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    from bench.engine.theirs import _preferences

    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).to(job["device"])
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    data = Dataset.from_list(_preferences(job))

    def run() -> None:
        args = DPOConfig(
            output_dir=tempfile.mkdtemp(), max_steps=10, per_device_train_batch_size=job["batch"], learning_rate=1e-5,
            save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=job["device"] == "cpu",
            max_length=job["max_length"],
        )  # fmt: skip
        DPOTrainer(model=model, args=args, train_dataset=data, processing_class=tokenizer).train()

    return run


if __name__ == "__main__":
    main()
