"""What training leaves on disk: an ordinary Hugging Face checkpoint, and until then a state to continue from.

Both appear whole or not at all: they are written beside their place and moved there. Tensors are safetensors, the rest
is JSON; nothing is pickled. A state is named by its step, so that the one before is there until the next one is.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.utils import logging

from kilter.engine import adapter_files, sharding
from kilter.errors import KilterError
from kilter.files import explaining, need_space

STATES = "state-"
BESIDE = "beside.safetensors"
# Without these no library takes a folder for a checkpoint; they are written last.
CONFIGS = ("config.json", adapter_files.CONFIG)
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a failure to write below `folder`, in safetensors' words too, into a KilterError that says what to do."""
    with explaining(folder, "write a checkpoint to"):
        try:
            yield
        except SafetensorError as error:
            raise KilterError(
                f"Cannot write a checkpoint to {folder}: {error}; free some space, then run the same command again."
            ) from error


def save_state(
    out: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    facts: dict[str, Any],
    beside: dict[str, Tensor] | None = None,
    *,
    writes: bool = True,
) -> None:
    """Keep the weights, the optimizer's moments and `facts` (JSON) as of `step` finished steps; drop older states.

    Of a model with an adapter these are the adapter's. `beside` holds what else the next steps depend on. Where weights
    are shared out all processes call this, and one of them `writes`: a state is whole, whatever goes on from it.
    """
    name = f"{STATES}{step:09d}"
    temporary = out / f".{name}"
    weights = sharding.gathered(trained(model), keep=writes)
    moments = sharding.gathered(_moments(optimizer), keep=writes)
    if not writes:
        return
    kept = (*weights.values(), *moments.values(), *(beside or {}).values())
    need_space(out, sum(x.nbytes for x in kept), "A state to continue from")
    with writing(out), _fresh(temporary):
        save_file({key: value.contiguous() for key, value in weights.items()}, temporary / "model.safetensors")
        save_file(moments, temporary / "optimizer.safetensors")
        if beside:
            save_file(beside, temporary / BESIDE)
        (temporary / "facts.json").write_text(json.dumps(facts | {"step": step}, ensure_ascii=False), encoding="utf-8")
        for file in temporary.iterdir():
            _flush(file)
        shutil.rmtree(out / name, ignore_errors=True)
        os.replace(temporary, out / name)
    drop_states(out, keep=name)


def find_state(out: Path) -> Path | None:
    """Return the folder of the newest state below `out`, or None."""
    found = sorted(path for path in out.glob(f"{STATES}*") if (path / "facts.json").is_file())
    return found[-1] if found else None


def read_facts(state: Path) -> dict[str, Any]:
    """Return the facts that a state was kept with, and its "step"."""
    facts: dict[str, Any] = json.loads((state / "facts.json").read_text(encoding="utf-8"))
    return facts


def load_state(state: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Put a state's weights into `model` and its moments into `optimizer`, and return what was kept beside them.

    Raises KilterError if they do not fit.
    """
    try:
        weights = load_file(state / "model.safetensors")
        moments = load_file(state / "optimizer.safetensors")
        beside = load_file(state / BESIDE) if (state / BESIDE).is_file() else {}
    except (OSError, SafetensorError) as error:
        raise KilterError(f"The state in {state} cannot be read ({error}); delete it and start again.") from error
    own = trained(model)
    if weights.keys() != own.keys():
        raise KilterError(f"The state in {state} is of another model; choose another folder, or delete this one.")
    with torch.no_grad():
        for key, value in weights.items():
            own[key].copy_(sharding.part_of(value, own[key]))
    for index, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        kept = {name: moments[f"{index}.{name}"] for name in MOMENTS if f"{index}.{name}" in moments}
        if kept:
            optimizer.state[parameter] = {
                name: sharding.part_of(value, parameter.detach()) if value.ndim else value.to(parameter.device)
                for name, value in kept.items()
            }
    return beside


def drop_states(out: Path, keep: str | None = None) -> None:
    """Delete every state below `out` but the one named `keep`, and what a killed run left half written."""
    for path in [*out.glob(f"{STATES}*"), *out.glob(f".{STATES}*")]:
        if path.name != keep:
            shutil.rmtree(path, ignore_errors=True)


def trained(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that training changes, by name; a tied weight once."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def save_model(model: Any, tokenizer: Any | None, out: Path) -> None:
    """Write `model` into `out` as a Hugging Face checkpoint, with its tokenizer and chat template.

    Of a model with an adapter that is the adapter alone, as peft writes it. config.json (adapter_config.json) comes
    last, so that a folder that has one is whole.
    """
    temporary = out / ".model"
    adapted = adapter_files.is_adapted(model)
    saved = trained(model).values() if adapted else model.parameters()
    need_space(out, sum(p.nbytes for p in saved), "The trained model")
    with writing(out), _fresh(temporary):
        if adapted:
            adapter_files.save(model, temporary, out)
        else:
            with _no_bars():
                model.save_pretrained(temporary)
        if tokenizer is not None:
            tokenizer.save_pretrained(temporary)
        files = sorted(temporary.iterdir(), key=lambda path: path.name in CONFIGS)
        for file in files:
            _flush(file)
        for name in (*CONFIGS, adapter_files.WEIGHTS):
            (out / name).unlink(missing_ok=True)
        for file in files:
            os.replace(file, out / file.name)


@contextmanager
def _fresh(folder: Path) -> Iterator[None]:
    """Give an empty folder and leave nothing of it behind: half a checkpoint would fill what a full disk has left."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep transformers from drawing a bar of its own below ours."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return {
        f"{index}.{key}": value.detach().contiguous()
        for index, p in enumerate(parameters)
        for key, value in optimizer.state.get(p, {}).items()
        if isinstance(value, Tensor)
    }


def _flush(file: Path) -> None:
    """Have the file on the disk before its name says that it is there."""
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
