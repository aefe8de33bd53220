"""A model by its name: `kilter/nano`, a folder, a hub id, or `http://host:port/v1#name`."""

from __future__ import annotations

import json
import os
import socket
from importlib import resources
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from kilter.engine.template import ensure_template
from kilter.errors import KilterError, nearest
from kilter.models.protocol import Model

BUNDLED = ("kilter/nano",)
EXPECTED = f"a bundled one ({', '.join(BUNDLED)}), a folder, a hub id, or http://host:port/v1#name"
WANTED = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
HUB_WAIT = 3.0  # seconds to find out whether there is a network at all; the hub's own client tries for minutes


def load(name: str) -> Model:
    """Return the model called `name`, ready to be asked.

    Raises KilterError where there is none, where a checkpoint is incomplete, or where the hub cannot be reached.
    """
    if name.startswith(("http://", "https://")):
        from kilter.models.server import Server

        return Server(name)
    from kilter.models.local import Local

    return Local(name)


def checkpoint(name: str) -> Path:
    """Return the folder of the weights called `name`, fetched from the hub where need be; raise KilterError."""
    if name in BUNDLED:
        with resources.as_file(resources.files("kilter") / "assets" / name.split("/")[1]) as folder:
            return _checked(folder, name)
    path = Path(name).expanduser()
    if path.exists():
        return _checked(path, name)
    if name.startswith(("kilter/", ".", "/", "~")) or name.count("/") != 1:
        raise KilterError(f"There is no model '{name}'; name {EXPECTED}.{nearest(name, BUNDLED)}")
    return _checked(_fetched(name), name)


def load_weights(name: str, dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the causal language model and the tokenizer called `name`, the tokenizer with a chat template.

    Only safetensors are read and no code of the repository is run. Raises KilterError as `checkpoint` does, and for
    an architecture that transformers does not know.
    """
    folder = checkpoint(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise KilterError(f"'{name}' cannot be loaded ({_sentence(error)}); check that folder.") from error
    ensure_template(tokenizer)
    return model, tokenizer


def _checked(folder: Path, name: str) -> Path:
    """Return `folder` if it holds a whole checkpoint."""
    if not folder.is_dir():
        raise KilterError(f"'{name}' is a file; name the folder of a Hugging Face checkpoint.")
    if not (folder / "config.json").is_file():
        raise KilterError(f"'{name}' has no config.json, so it is no Hugging Face checkpoint; name {EXPECTED}.")
    shards = _shards(folder, name)
    if not shards:
        raise KilterError(f"'{name}' has no weights in safetensors; save it with save_pretrained() first.")
    for shard in shards:
        try:
            with safe_open(shard, framework="pt"):
                pass
        except (OSError, SafetensorError):
            raise KilterError(
                f"'{name}' is half written: {shard.name} is missing or cut short; run what made it again, or delete it."
            ) from None
    return folder


def _shards(folder: Path, name: str) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    try:
        parts = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    except (ValueError, KeyError, AttributeError):
        raise KilterError(f"'{name}' is half written: {index.name} cannot be read; fetch or make it again.") from None
    return sorted({folder / part for part in parts})


def _fetched(name: str) -> Path:
    """Return the hub's checkpoint, from the cache where it is there."""
    try:
        return Path(snapshot_download(name, allow_patterns=WANTED, local_files_only=not _online()))
    except RepositoryNotFoundError:
        raise KilterError(f"There is no model '{name}' on the hub; name {EXPECTED}.{nearest(name, BUNDLED)}") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError):
        raise KilterError(
            f"'{name}' is no folder here, not in the cache, and the hub cannot be reached; "
            f"connect to the network or name {EXPECTED}.{nearest(name, BUNDLED)}"
        ) from None


def _online() -> bool:
    """Find out quickly whether the hub's host answers."""
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        return False
    host = os.environ.get("HF_ENDPOINT", "https://huggingface.co").split("//")[-1].split("/")[0]
    address, _, port = host.partition(":")
    try:
        socket.create_connection((address, int(port or 443)), timeout=HUB_WAIT).close()
    except OSError:
        # A proxy may carry what a direct connection cannot.
        return bool(os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"))
    return True


def _sentence(error: BaseException) -> str:
    """The first line of an exception's text: enough to know what happened."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:300]
