"""What draws a policy's samples: the engine's sampler, or vLLM in this process, which is pushed the weights before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

from kilter.engine.feed import Rig
from kilter.engine.plain import obstacle
from kilter.engine.sampler import Completion, sample
from kilter.engine.vllm_sampler import Vllm
from kilter.errors import KilterError

ROWS = 256  # sequences that the engine's sampler grows at a time
Sampler = Literal["engine", "vllm"]


class Drawer:
    """Draws from the policy as it is by then; vLLM is started at the first call, and ended by `release`."""

    def __init__(self, sampler: Sampler, tokenizer: Any, memory: float) -> None:
        """`memory` is vLLM's share of the device's."""
        self.sampler, self.tokenizer, self.memory = sampler, tokenizer, memory
        self._vllm: Vllm | None = None

    def attach(self, rig: Rig) -> None:
        """Look at what the loop lends; raise KilterError for vLLM in one of several processes, or under a mask."""
        if self.sampler == "engine":
            # Found out once, and not in the reduced precision that the samples are drawn in.
            obstacle(rig.policy.model)
        elif rig.mask is not None:
            raise KilterError("vLLM draws under no mask; set mask_top_p to none, or take sampler=engine.")
        elif rig.accelerator.num_processes > 1:
            raise KilterError("sampler=vllm works in one process only; leave it out here, or run without torchrun.")

    def __call__(self, rig: Rig, prompts: Sequence[Sequence[int]], *, n: int, **how: Any) -> list[list[Completion]]:
        """Return `n` completions of each prompt; `how` are what both samplers take."""
        total = len(prompts) * n
        if self.sampler == "vllm":
            rig.say(f"vLLM samples {total}")
            policy = rig.policy
            if self._vllm is None:
                self._vllm = Vllm(policy.model, self.tokenizer, bf16=policy.bf16, memory=self.memory)
            else:
                self._vllm.push(policy.model)
            return self._vllm.sample(prompts, n=n, **how)

        def progress(finished: int, sampled: int) -> None:
            rig.say(f"sampling {finished}/{total}")

        with torch.autocast(rig.accelerator.device.type, torch.bfloat16, enabled=rig.policy.bf16):
            if rig.mask is not None:
                rig.say(f"sampling {total}")
                return rig.mask.sample(prompts, n=n, batch_size=ROWS, **how)
            return sample(rig.policy.model, prompts, n=n, batch_size=ROWS, progress=progress, **how)

    def release(self) -> None:
        """End vLLM, where it was started."""
        if self._vllm is not None:
            self._vllm.close()
            self._vllm = None
