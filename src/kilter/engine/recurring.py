"""Sizes that come again: counts of tokens and lengths of runs, rounded up.

A CPU's kernel for a matrix product in bf16 is compiled for its shape, which takes as long as a product of some hundred
rows does. Of ragged batches hardly two have a shape in common, so that every step would pay for all of its products.
Rounded up, shapes recur, and the kernels that are kept (memory.py) serve: of seven rows of the league and their start
that took 7 % off the time, 17 % off `sft`'s and nothing off `rlhf-ppo`'s. In fp32, and on a GPU, nothing is rounded.
"""

from __future__ import annotations

import torch

from kilter.engine.precision import computed_in

# What the tokens of a row, and the queries and keys of an attention call, are rounded up to a multiple of.
ROW, RUN = 32, 16


def grain(of: int, device: torch.device, kind: torch.dtype) -> int:
    """Return `of` where products of tensors of `kind` are compiled for their shape there, else 1."""
    return of if compiles(device, computed_in(device, kind)) else 1


def compiles(device: torch.device, kind: torch.dtype) -> bool:
    """Whether products in the precision `kind` are compiled for their shape there."""
    return device.type == "cpu" and kind in (torch.bfloat16, torch.float16)


def lacking(count: int, size: int) -> int:
    """Return what `count` lacks to a multiple of `size`."""
    return -count % size
