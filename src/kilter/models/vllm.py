"""`vllm:NAME`: a checkpoint on this machine, asked by vLLM in this process in the place of our sampler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from kilter.engine.batch import Tree
from kilter.engine.vllm_sampler import Vllm
from kilter.engine.weigher import Weigher
from kilter.models.load import VLLM
from kilter.models.local import Local

MEMORY = 0.8  # share of the device's memory; nothing else is computed there


class ByVllm(Local):
    """A model on this machine that vLLM runs; what it is asked at the same time goes to vLLM together.

    Its answers are drawn by vLLM's own noise, and so are others than those of the same model without `vllm:`.
    """

    def __init__(self, name: str, *, dtype: torch.dtype | None = None) -> None:
        """Raises KilterError where the weights cannot be had, and where vLLM is not installed or does not run them."""
        self.under = name.removeprefix(VLLM)
        gpu = torch.cuda.is_available()
        super().__init__(self.under, dtype=dtype or (torch.bfloat16 if gpu else torch.float32), device="cpu")
        self.name = name
        half = self.dtype == torch.bfloat16
        self._engine = Vllm(self.model, self.tokenizer, bf16=half, memory=MEMORY if gpu else MEMORY / 2)
        self.model = torch.nn.Module()  # vLLM has the weights now

    def folder_names(self) -> list[str]:
        """Return the names of the checkpoints whose files the identity is made of."""
        return [self.under]

    async def identity(self) -> str:
        """Return a text that is another for other weights, and than the same weights' without vLLM."""
        return f"{VLLM} {await super().identity()}"

    def _stopper(self, stop: Sequence[str]) -> Any:
        return stop  # vLLM looks for them itself

    def _sample(self, prompts: Sequence[Sequence[int]], asks: Any, **how: Any) -> None:
        del how["batch_size"], how["progress"]
        self._engine.sample(prompts, **how | {"stop": how["stop"] or ()})

    def _weigher(self) -> Weigher:
        return self._engine  # type: ignore[return-value]  # of which `weigh` alone is asked

    def _score_batch(self, batch: Sequence[tuple[Tree, Any]]) -> None:
        trees = [tree for tree, _ in batch]
        read = iter(self._engine.read([[*tree.prompt, *response] for tree in trees for response in tree.responses]))
        for tree, scores in batch:
            self.usage.prompt_tokens += len(tree)
            for score, response, mask in zip(scores, tree.responses, tree.masks, strict=True):
                own = next(read)[-len(response) :]
                score.settle([logprob for (logprob, _), scored in zip(own, mask, strict=True) if scored])
