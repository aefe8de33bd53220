"""TRL's trainers and transformers' `generate`, as their users run them; a setting names what is not the default.

Imports nothing of Kilter: its engine would set the allocator for TRL too.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    StoppingCriteria,
    StoppingCriteriaList,
    TrainerCallback,
)

from bench.engine.clock import Turns

Job = dict[str, Any]


def dpo(job: Job, turns: Turns) -> None:
    """Train by DPO for ever; a turn is an epoch."""
    from trl import DPOConfig, DPOTrainer

    class Timed(DPOTrainer):
        """Says how long the reference's pass over all pairs takes."""

        def _precompute_ref_logps(self, *args: Any, **kwargs: Any) -> Any:
            since = time.perf_counter()
            found = super()._precompute_ref_logps(*args, **kwargs)
            turns.tell(reference_seconds=time.perf_counter() - since)
            return found

    precompute = {"precompute_ref_log_probs": True} if job["setting"].get("precomputed") else {}
    _train(Timed, DPOConfig, job, turns, _preferences(job), max_length=job["max_length"], **precompute)


def reward(job: Job, turns: Turns) -> None:
    """Train a reward model on pairs for ever; a turn is an epoch."""
    from trl import RewardConfig, RewardTrainer

    _train(RewardTrainer, RewardConfig, job, turns, _preferences(job), max_length=job["max_length"])


def sft(job: Job, turns: Turns) -> None:
    """Fine-tune on prompts with a completion for ever; a turn is an epoch."""
    from trl import SFTConfig, SFTTrainer

    rows = [{"prompt": row["prompt"], "completion": row["responses"][0]} for row in _rows(job)]
    packed = {"packing": True} if job["setting"].get("packed") else {}
    _train(SFTTrainer, SFTConfig, job, turns, rows, max_length=job["max_length"], **packed)


def grpo(job: Job, turns: Turns) -> None:
    """Sample groups, reward them and learn from them for ever; a turn is an epoch."""
    from trl import GRPOConfig, GRPOTrainer

    def reward(completions: list[str], **_: Any) -> list[float]:
        return [float(job["wanted"] in completion) for completion in completions]

    _train(
        GRPOTrainer, GRPOConfig, job, turns, [{"prompt": row["prompt"]} for row in _rows(job)],
        given={"reward_funcs": reward}, samples=job["samples"],
        num_generations=job["samples"], max_completion_length=job["new_tokens"],
    )  # fmt: skip


def sample(job: Job, turns: Turns) -> None:
    """Sample from every prompt by `generate`; a turn is all of them."""
    kind = torch.bfloat16 if job["precision"] == "bf16" else torch.float32
    model = _model(job, kind)
    rows, longest = _rows(job), job["setting"].get("batch", 10**9)
    settings = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=0, eos_token_id=None, bos_token_id=None,
        num_return_sequences=job["samples"], max_new_tokens=max(row["limit"] for row in rows),
    )  # fmt: skip
    model.generation_config = settings
    prompts_a_batch = max(1, longest // job["samples"])

    def once() -> None:
        for start in range(0, len(rows), prompts_a_batch):
            part = rows[start : start + prompts_a_batch]
            width = max(len(row["ids"]) for row in part)
            # Decoders are padded to the left.
            ids = torch.tensor([[0] * (width - len(row["ids"])) + row["ids"] for row in part], device=model.device)
            limits = torch.tensor([row["limit"] for row in part], device=model.device)
            most = int(limits.max())
            model.generate(
                ids,
                attention_mask=(torch.arange(width) >= torch.tensor([[width - len(r["ids"])] for r in part]))
                .long()
                .to(model.device),
                generation_config=settings,
                max_new_tokens=most,
                stopping_criteria=StoppingCriteriaList(
                    [_Limits(limits.repeat_interleave(job["samples"]), width)] if int(limits.min()) < most else []
                ),
            )

    turns.of_calls(once)


class _Limits(StoppingCriteria):
    """Ends every row at a length of its own."""

    def __init__(self, limits: torch.Tensor, width: int) -> None:
        self.limits, self.width = limits, width

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:  # type: ignore[override]
        return input_ids.shape[1] - self.width >= self.limits


class _Begin(TrainerCallback):
    """Sets the clock once the trainer knows how many steps an epoch has."""

    def __init__(self, job: Job, turns: Turns) -> None:
        self.job, self.turns = job, turns

    def on_train_begin(self, args: Any, state: Any, control: Any, *, train_dataloader: Any, **rest: Any) -> None:
        steps = max(1, len(train_dataloader) // args.gradient_accumulation_steps)
        self.turns.tell(steps=steps)
        self.turns.of_steps(steps, self.job["warm"])


def _train(
    trainer: Any,
    config: Any,
    job: Job,
    turns: Turns,
    rows: list[dict[str, Any]],
    given: dict[str, Any] | None = None,
    samples: int = 1,
    **options: Any,
) -> None:
    """Run a trainer on `rows`. A step takes job["batch"] of them (with `samples` of each), in micro-batches as set."""
    setting = job["setting"]
    size = job["batch"] * samples
    # A packed row stands for several; otherwise a step sees as many as ours.
    micro = setting.get("batch", size)
    accumulation = 1 if setting.get("packed") else max(1, size // micro)
    switches: dict[str, Any] = {}
    if not setting.get("checkpointing", True):
        switches["gradient_checkpointing"] = False
    if setting.get("compiled"):
        switches["torch_compile"] = True
    if setting.get("grouped"):
        switches["train_sampling_strategy"] = "group_by_length"
        tokenizer = AutoTokenizer.from_pretrained(job["model"])
        for row in rows:
            row["length"] = max(len(tokenizer(text)["input_ids"]) for text in row.values())
    loading = {"attn_implementation": setting["attention"]} if "attention" in setting else {}
    with tempfile.TemporaryDirectory() as out:
        args = config(
            output_dir=out, max_steps=10**7, per_device_train_batch_size=micro,
            gradient_accumulation_steps=accumulation, learning_rate=1e-5, lr_scheduler_type="constant",
            weight_decay=0.0, adam_beta2=0.95, save_strategy="no", report_to=[], disable_tqdm=True,
            use_cpu=job["device"] == "cpu", model_init_kwargs=loading or None, **switches, **options,
        )  # fmt: skip
        runner = trainer(
            model=job["model"], args=args, train_dataset=Dataset.from_list(rows), callbacks=[_Begin(job, turns)],
            **(given or {}),
        )  # fmt: skip
        turns.tell(**_digest(runner.train_dataset))
        runner.train()


def _digest(data: Dataset) -> dict[str, Any]:
    """What tells whether both sides learn from the same tokens: the sum of all that is learned from, and how many."""
    if "chosen_ids" in data.column_names:
        parts = [*data["chosen_ids"], *data["rejected_ids"]]
        if "prompt_ids" not in data.column_names:
            return {"tokens": sum(map(len, parts)), "sum": sum(map(sum, parts))}
        prompts = [*data["prompt_ids"]] * 2
        return {"tokens": sum(map(len, parts + prompts)), "sum": sum(map(sum, parts + prompts))}
    if "input_ids" in data.column_names:
        return {"tokens": sum(map(len, data["input_ids"])), "sum": sum(map(sum, data["input_ids"]))}
    return {}


def _preferences(job: Job) -> list[dict[str, Any]]:
    return [{"prompt": r["prompt"], "chosen": r["responses"][0], "rejected": r["responses"][1]} for r in _rows(job)]


def _rows(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(job["data"]).read_text(encoding="utf-8").splitlines()]


def _model(job: Job, kind: torch.dtype) -> Any:
    loading = {"attn_implementation": job["setting"]["attention"]} if "attention" in job["setting"] else {}
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=kind, **loading)
    return model.to(job["device"]).eval()
