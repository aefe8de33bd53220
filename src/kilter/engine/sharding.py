"""A model shared out among the processes of a run: of every weight, its gradient and its moments each has a part.

That is fully sharded data parallelism (Zhao et al. 2023, arXiv:2304.11277; ZeRO-3 of Rajbhandari et al. 2020,
arXiv:1910.02054), as torch's `fully_shard` does it: a layer's weights are gathered while it computes, and of their
gradients every process gets the sum of its own part. Where the processes would not go through the model equally often
(while they sample) the weights are gathered whole for that time.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from kilter.engine import memory
from kilter.engine.layers import layers_of
from kilter.engine.loss import compares
from kilter.engine.scorer import Scorer
from kilter.engine.trunk import Trunk, below
from kilter.errors import KilterError

if TYPE_CHECKING:
    # They know the optimizer, and that knows what is shared out.
    from kilter.engine.feed import Feed
    from kilter.engine.loss import Objective
    from kilter.engine.options import LoopOptions


def check(options: LoopOptions, feed: Feed, objective: Objective) -> None:
    """Raise KilterError for what does not go together with weights that are shared out."""
    if feed.sampling and feed.sampling.mask_top_p:
        raise KilterError("A masking policy is not shared out; set mask_top_p to none, or shard to false.")
    if feed.fixed is None and not feed.sampling and compares(objective):
        raise KilterError("A reference of data that is made step by step is not shared out; set shard to false.")
    if options.adapter in ("adalora", "qlora"):
        raise KilterError(f"An adapter of the kind {options.adapter} is not shared out; set shard to false, or lora.")
    if options.compile == "on":
        raise KilterError("Layers whose weights come and go are not compiled; set compile to auto, or shard to false.")


def twin(model: Any) -> Any:
    """Return a copy of a model's modules over the very same tensors."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())})


def share_out(module: nn.Module, given: nn.Module) -> None:
    """Share out `module`, what a step runs; `given` has the same tensors (see `twin`) and is left without them."""
    kind = next(module.parameters()).device.type
    mesh = init_device_mesh(kind, (distributed.get_world_size(),))
    trunks = [part for part in module.modules() if isinstance(part, Trunk)]
    forest = trunks[0]._forest()
    for trunk in trunks:
        for layer in layers_of(below(trunk.model)) or ():
            fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)
    if isinstance(module, Scorer):
        register_fsdp_forward_method(module, "heads")
    for part in parts(module):
        part.set_force_sum_reduction_for_comms(True)  # gloo knows no mean
    for parameter in given.parameters():
        parameter.data = parameter.new_empty(0)
    # The first part to run is taken for the root of all; that should not be a layer, when the sampler comes first.
    with torch.no_grad():
        module(forest)
    settle(module)
    if kind == "cpu":
        memory.give_back_freed()


def settle(module: nn.Module) -> None:
    """Let go of what a pass without a way back gathered last: what is learned next would not reach it."""
    for part in parts(module):
        part.reshard()


def parts(module: nn.Module) -> list[Any]:
    """Return the modules that gather their weights by themselves; none where `module` was not shared out."""
    return [part for part in module.modules() if isinstance(part, FSDPModule)]


@contextmanager
def whole(module: nn.Module) -> Iterator[None]:
    """Within this every process has all weights of `module`, and may run it as often as it likes, without gradients.

    Processes enter it together. Where `module` was not shared out it changes nothing.
    """
    own = parts(module)
    for part in own:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        settle(module)
        for part in own:
            part.set_reshard_after_forward(part is not module, recurse=False)


def gathered(tensors: Mapping[str, Tensor], *, keep: bool = True) -> dict[str, Tensor]:
    """Return tensors whole, those that were shared out on the CPU; nothing in a process that does not `keep` them.

    Processes call it together where anything was shared out.
    """
    found = {}
    for name, tensor in tensors.items():
        value = tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor
        if keep:
            found[name] = value
    return found


def part_of(value: Tensor, like: Tensor) -> Tensor:
    """Return of a whole tensor the part that this process has of `like`: all of it where that is whole itself."""
    if not isinstance(like, DTensor):
        return value.to(like.device)
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def give_back(shared: nn.Module, given: nn.Module) -> None:
    """Put the weights of `shared` whole, on the CPU, into the model that was given; processes call it together."""
    places = dict(given.named_parameters())
    given.to("cpu")
    for name, value in gathered({name: p.detach() for name, p in shared.named_parameters()}).items():
        places[name].data = value


def total_norm(tensors: list[Tensor]) -> Tensor:
    """Return the norm of all tensors as one, over all processes' parts where they are shared out."""
    norm = nn.utils.get_total_norm([own(tensor) for tensor in tensors])
    if not any(isinstance(tensor, DTensor) for tensor in tensors):
        return norm
    squares = norm.square()
    distributed.all_reduce(squares)
    return squares.sqrt()


def own(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
