"""`kilter doctor`: what this machine has, and what that allows."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from kilter import allocator, hub
from kilter.cli.verbs import emit, verb

GIB = 2**30
EXTRAS = {"bench": ["trl"], "docs": ["mkdocs", "mkdocstrings"], "dev": ["pytest", "ruff", "mypy"]}


def enter(app: typer.Typer) -> None:
    @verb(app, "doctor", panel="Catalogue and files", examples=["kilter doctor", "kilter doctor --json"])
    def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
        """Say what this machine has, and what that allows."""
        found = look()
        if as_json:
            emit(found)
            return
        for name, text in _lines(found):
            print(f"{name:<14}{text}")
        print()
        for sentence in found["allows"]:
            print(f"- {sentence}")


def look() -> dict[str, Any]:
    """Return what there is: versions, processor, memory, accelerators with their bf16, disk, cache, extras."""
    import torch

    from kilter.recipe.account import machine, versions

    cache = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    found: dict[str, Any] = {
        "versions": versions(),
        **machine(),
        "accelerator_memory_bytes": [
            torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count())
        ],
        "bf16": {
            "accelerator": torch.cuda.is_bf16_supported() if torch.cuda.is_available() else None,
            "processor": _processor_has_bf16(),
        },
        "allocator": allocator.in_use(os.environ),
        "disk_free_bytes": shutil.disk_usage(".").free,
        "cache": {"path": str(cache), "writable": _writable(cache)},
        "offline": hub.forbidden(),
        "extras": {name: all(map(_installed, modules)) for name, modules in EXTRAS.items()},
    }
    found["allows"] = allows(found)
    return found


def allows(found: dict[str, Any]) -> list[str]:
    """Return in sentences what can be done with what was found."""
    memory, said = found["memory_bytes"] or 0, []
    # Full training holds weights, gradients and two AdamW moments: 16 bytes a parameter in fp32, and activations.
    if memory >= 4 * GIB:
        minutes = "about 5 minutes" if found["cores"] >= 2 else "about 10 minutes"
        said.append(f"`kilter quickstart` runs here ({minutes}, under 4 GiB).")
    else:
        said.append("`kilter quickstart` needs 4 GiB of memory; there is less here.")
    room = sum(found["accelerator_memory_bytes"]) or memory
    where = "on the accelerator" if found["accelerator_memory_bytes"] else "on the processor"
    said.append(f"Training all weights {where}: models of up to about {_parameters(0.7 * room / 16)} parameters.")
    if not found["accelerators"]:
        said.append(
            "No accelerator was found: training runs on the processor, which suits models below 0.2 B parameters."
        )
        chosen = os.environ.get("KILTER_ALLOCATOR") == allocator.SYSTEM
        if found["allocator"] == allocator.SYSTEM and not chosen and sys.platform.startswith("linux"):
            said.append("jemalloc would make training here faster, in less memory: apt install libjemalloc2.")
    elif found["bf16"]["accelerator"] is False:
        said.append("The accelerator has no bf16: train with fp32.")
    if not found["cache"]["writable"]:
        said.append(
            f"The cache {found['cache']['path']} cannot be written: set HF_HOME to a folder that can, to use the hub."
        )
    if found["offline"]:
        said.append("HF_HUB_OFFLINE is set: models and data of the hub are used only as far as they are in the cache.")
    if found["disk_free_bytes"] < 2 * GIB:
        said.append("Less than 2 GiB of disk are free here: a run of larger models may fill it.")
    for name, there in found["extras"].items():
        if not there:
            said.append(f"The extra '{name}' is not installed: pip install 'kilter[{name}]'.")
    return said


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    v, bf16 = found["versions"], found["bf16"]
    gpus = [
        f"{name} ({size / GIB:.0f} GiB)"
        for name, size in zip(found["accelerators"], found["accelerator_memory_bytes"], strict=False)
    ]
    yes = {True: "yes", False: "no", None: "-"}
    return [
        ("kilter", v["kilter"]),
        ("python", f"{v['python']} ({platform.python_implementation()})"),
        ("torch", f"{v['torch']}, transformers {v['transformers']}"),
        ("system", found["system"]),
        ("processor", f"{found['processor']}, {found['cores']} core{'' if found['cores'] == 1 else 's'}"),
        ("memory", f"{(found['memory_bytes'] or 0) / GIB:.1f} GiB"),
        ("accelerator", ", ".join(gpus or found["accelerators"]) or "none"),
        ("bf16", f"processor: {yes[bf16['processor']]}, accelerator: {yes[bf16['accelerator']]}"),
        ("allocator", found["allocator"]),
        ("disk", f"{found['disk_free_bytes'] / GIB:.1f} GiB free here"),
        ("cache", f"{found['cache']['path']} ({'writable' if found['cache']['writable'] else 'not writable'})"),
        ("extras", ", ".join(f"{name}: {yes[there]}" for name, there in found["extras"].items())),
    ]


def _parameters(count: float) -> str:
    return f"{count / 1e9:.1f} B" if count >= 1e9 else f"{count / 1e6:.0f} M"


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _processor_has_bf16() -> bool | None:
    """Whether the processor multiplies bf16 itself; None where the system does not say."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return "avx512_bf16" in flags or "amx_bf16" in flags or " bf16 " in flags


def _writable(folder: Path) -> bool:
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            return True
    except OSError:
        return False
