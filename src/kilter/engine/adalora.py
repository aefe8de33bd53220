"""AdaLoRA's budget (Zhang et al. 2023, arXiv:2303.10512): which of an update's directions are worth their parameters.

An update is P diag(l) Q. Beside the loss, ||P^T P - I|| and ||Q Q^T - I|| keep directions apart (equation 4; here their
mean over the matrices, as in its authors' code). After a step peft's allocator smooths |w dL/dw| of every parameter
(equations 8 to 10), scores each direction by it, and sets the l of the lowest to zero until as many are left as the
budget of the step allows (equation 12: from 1.5 times the rank down to it, along a cubic).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# The allocator's memory, by the names that its tensors are kept under.
MEMORY = ("ipt", "exp_avg_ipt", "exp_avg_unc")


class Ranks:
    """The budgets of all models of a run whose adapter is AdaLoRA's; of none, nothing happens."""

    def __init__(self, models: list[Any]) -> None:
        self._budgets = [_Budget(model) for model in models]

    def spread(self, scale: Tensor) -> None:
        """Add the gradient of the orthogonality term to gradients that have yet to be multiplied by `scale`."""
        for budget in self._budgets:
            budget.spread(scale)

    def allocate(self, done: int) -> None:
        """Deal the ranks out anew after `done` steps; the step's gradients have to be there still."""
        for budget in self._budgets:
            budget.allocate(done)

    def memory(self) -> dict[str, Tensor]:
        """Return what the next steps depend on beside the weights, as tensors by name."""
        return {f"{i}|{name}": t for i, budget in enumerate(self._budgets) for name, t in budget.memory().items()}

    def recall(self, memory: dict[str, Tensor]) -> None:
        """Go on from what `memory` gave."""
        for i, budget in enumerate(self._budgets):
            mark = f"{i}|"
            budget.recall({name.removeprefix(mark): t for name, t in memory.items() if name.startswith(mark)})


class _Budget:
    """The budget of one model's adapter, over the steps of a run."""

    def __init__(self, model: Any) -> None:
        self._tuner = model.base_model
        name = self._tuner.trainable_adapter_name
        self._config = self._tuner.peft_config[name]
        self._vectors = [(n, p) for n, p in model.named_parameters() if f"lora_A.{name}" in n or f"lora_B.{name}" in n]

    def spread(self, scale: Tensor) -> None:
        total = torch.zeros((), device=scale.device)
        with torch.enable_grad():
            for name, p in self._vectors:
                rows = p if "lora_A" in name else p.T
                total = total + torch.linalg.matrix_norm(rows @ rows.T - torch.eye(len(rows), device=p.device))
            total = self._config.orth_reg_weight * total / len(self._vectors)
            slopes = torch.autograd.grad(total, [p for _, p in self._vectors])
        for (_, p), slope in zip(self._vectors, slopes, strict=True):
            p.grad = slope / scale if p.grad is None else p.grad.add_(slope / scale)

    def allocate(self, done: int) -> None:
        self._tuner.update_and_allocate(done)

    def memory(self) -> dict[str, Tensor]:
        allocator = self._tuner.rankallocator
        found = {f"{kind}|{n}": t.contiguous() for kind in MEMORY for n, t in getattr(allocator, kind).items()}
        pattern = self._config.rank_pattern or {}
        return found | {f"pattern|{n}": torch.tensor(kept) for n, kept in pattern.items()}

    def recall(self, memory: dict[str, Tensor]) -> None:
        allocator, pattern = self._tuner.rankallocator, {}
        device = self._vectors[0][1].device
        for key, tensor in memory.items():
            kind, name = key.split("|", 1)
            if kind == "pattern":
                pattern[name] = tensor.tolist()
            else:
                getattr(allocator, kind)[name] = tensor.to(device)
        self._config.rank_pattern = pattern or None


def ranks_of(*models: Any) -> Ranks:
    """Return the budgets of those models whose adapter is AdaLoRA's and is trained."""
    configs = [(model, getattr(model, "active_peft_config", None)) for model in models]
    return Ranks([m for m, config in configs if config and config.peft_type == "ADALORA" and not config.inference_mode])
