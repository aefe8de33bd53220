"""An adapter on disk: peft's two files, which any program that uses peft reads, and a note of the base it was made for.

The note is in the metadata of the safetensors: a hash of the base's weights, by which another base of the same shapes
is told, the name that the base was called by, and where it stood as seen from the adapter, for folders that move.
"""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kilter.engine import adapters, four_bits
from kilter.engine.designed import Designed
from kilter.errors import KilterError, first_line

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
# What stands as the kind in the configuration of a design, which peft does not read, and the version of its form.
DESIGN, VERSION = "KILTER_DESIGN", 1


def is_adapted(model: Any) -> bool:
    """Whether `model` is a transformers model with an adapter: PEFT's wrapping of one, or one with a design."""
    return isinstance(model, Designed) or (hasattr(model, "peft_config") and hasattr(model, "get_base_model"))


def save(model: Any, folder: Path, out: Path) -> None:
    """Write the adapter of `model` into `folder`, which will be `out`."""
    if isinstance(model, Designed):
        base, weights = model.base.name_or_path or None, model.weights()
    else:
        from peft import get_peft_model_state_dict

        with adapters.quiet():
            weights = get_peft_model_state_dict(model, save_embedding_layers=False)
        config = copy.copy(model.active_peft_config)
        config.inference_mode = True
        base = config.base_model_name_or_path
    name = getattr(model, "known_as", None)
    note = {"format": "pt", "base": getattr(model, "base_digest", None)}
    if base and Path(base).is_dir():
        note |= {"near": os.path.relpath(base, out), "known_as": None if Path(name or base).exists() else name}
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in weights.items()},
        folder / WEIGHTS,
        metadata={key: str(value) for key, value in note.items() if value},
    )
    if not isinstance(model, Designed):
        config.save_pretrained(folder)
        return
    told = {
        "peft_type": DESIGN,
        "version": VERSION,
        "task_type": adapters.task_of(model),
        "base_model_name_or_path": base,
        "design": model.design,
        "sizes": model.sizes,
    }
    (folder / CONFIG).write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def note(folder: Path) -> dict[str, str]:
    """Return what was noted of the base when the adapter in `folder` was saved; nothing for another program's."""
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        return dict(file.metadata() or {})


def put_on(model: Any, folder: Path, name: str, *, train: str = "none") -> Any:
    """Return `model`, the base, with the adapter of `folder`: to be trained on as the kind `train`, or as it is.

    As it is, it is merged into weights of fp32, which is faster and exact but for rounding, unless it is of virtual
    tokens. Raises KilterError for an adapter of another base, naming it `name`.
    """
    digest, base = adapters.digest_of(model), model.name_or_path
    expected = note(folder).get("base")
    if expected and expected != digest:
        raise KilterError(
            f"'{name}' is an adapter for another base than what is now in {base}, whose weights differ; "
            "put that one back, or train the adapter anew."
        )
    if train == "qlora":
        rank = int(os.environ.get("LOCAL_RANK", 0))
        device = torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")
        four_bits.quantise(model, device=device, compute=torch.float32)
    try:
        with adapters.quiet():
            found = _opened(model, folder, trained=train != "none").eval()
    except (ValueError, TypeError, RuntimeError, KeyError, OSError) as error:
        raise KilterError(
            f"'{name}' does not fit its base {base} ({first_line(error)}); name the model that it was trained on as "
            f"base_model_name_or_path in its {CONFIG}."
        ) from error
    kind = adapters.kind_of(found)
    if train == "none" and model.dtype == torch.float32 and hasattr(found, "merge_and_unload"):
        plain = adapters.merged(found).requires_grad_(True)
        plain.merged_from, plain.merged_kind = name, kind or "its own kind"
        return plain
    found.base_digest = digest
    if not isinstance(found, Designed):
        found.known_as = getattr(model, "known_as", None)
    return found


def _opened(model: Any, folder: Path, *, trained: bool) -> Any:
    """Return peft's model of the base and the adapter's weights; raises ValueError where some are missing."""
    told = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if told.get("peft_type") == DESIGN:
        if told["version"] != VERSION:
            raise ValueError(f"its form is version {told['version']}, and this program reads version {VERSION}")
        return Designed(model, told["design"], told["sizes"], learns=trained, weights=load_file(folder / WEIGHTS))
    from peft import PeftConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    config = PeftConfig.from_pretrained(str(folder))
    weights = load_file(folder / WEIGHTS)
    if config.task_type != (task := adapters.task_of(model)) and task == "SEQ_CLS":
        # A reward model may be made of a language model with its adapter: the head is the base's then.
        weights["base_model.model.score.weight"] = model.score.weight.detach().clone()
    config.task_type, config.base_model_name_or_path = task, model.name_or_path or None
    config.inference_mode = not trained
    if trained and config.peft_type == "PREFIX_TUNING":
        # A prefix is saved as the keys and values that its network made, and goes on learning as those.
        config.prefix_projection = False
    found: Any = get_peft_model(model, config)
    set_peft_model_state_dict(found, weights)
    has = get_peft_model_state_dict(found, save_embedding_layers=False)
    if missing := sorted(has.keys() - weights.keys()):
        raise ValueError(f"it lacks the weights {missing[0]}")
    return found
