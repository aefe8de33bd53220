"""A model by its name: a bundled one, a folder, a hub id, `http://host:port/v1#name`, or several of them, mixed.

`vllm:` before the name of weights has vLLM run them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from kilter import hub
from kilter.engine import adapter_files
from kilter.engine.template import end_ids, ensure_template
from kilter.engine.turns import special_ids
from kilter.errors import KilterError, first_line, nearest
from kilter.models import desk
from kilter.models.mixed import Mixed, is_mixture, split
from kilter.models.protocol import Model
from kilter.models.teacher import NAME as TEACHER
from kilter.models.teacher import Teacher, is_teacher

BUNDLED = ("kilter/nano",)  # those with weights
OFFERED = (*BUNDLED, TEACHER)
EXPECTED = f"a bundled one ({', '.join(BUNDLED)}), a folder, a hub id, or http://host:port/v1#name"
WANTED = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
UNWANTED = ["original/*", "consolidated*", "onnx/*"]  # the same weights once more, for other software
SERVER = ("http://", "https://")
VLLM = "vllm:"
# What transformers and tokenizers raise of a checkpoint that is damaged, or of a kind they do not know.
UNLOADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError)
DECODING = "decoding.json"
CLASSIFIER = "ForSequenceClassification"


def load(name: str) -> Model:
    """Return the model called `name`: one to be asked, or of a reward model's checkpoint one that judges (Rewarder).

    Of `A*3,B` it is a mixture (Mixed). Within a run its answers are kept in the run's journal (models/desk.py).

    Raises KilterError where there is none, where a checkpoint is incomplete, or where the hub cannot be reached.
    """
    if is_mixture(name):
        return Mixed([(load(part), weight) for part, weight in split(name)])
    return desk.known(name) or desk.attended(_opened(name))


def _opened(name: str) -> Model:
    if name.startswith(SERVER):
        from kilter.models.server import Server

        return Server(name)
    if is_teacher(name):
        return Teacher(name)
    if name.startswith(VLLM):
        from kilter.models.vllm import ByVllm

        return ByVllm(name)
    if is_steered(name):
        from kilter.models.steered import Steered

        return Steered(name)
    if is_reward_model(checkpoint(name)):
        from kilter.models.rewarder import Rewarder

        return Rewarder(name)
    from kilter.models.local import Local

    return Local(name)


def admit(name: str) -> None:
    """Raise KilterError where no model called `name` can be asked; a server is not tried."""
    if is_teacher(name):
        Teacher(name)
    elif is_steered(name):
        from kilter.models.steered import read

        checkpoint(read(name)["model"])
    elif not name.startswith(SERVER):
        checkpoint(name.removeprefix(VLLM))


def is_steered(name: str) -> bool:
    """Whether `name` is a folder that says how to decode (steered.py), and holds no weights to be trained."""
    return (Path(name).expanduser() / DECODING).is_file()


def has_weights(name: str) -> bool:
    """Whether `name` names a model by its weights, rather than a server or the teacher."""
    return not name.startswith(SERVER) and not is_teacher(name)


def checkpoint(name: str) -> Path:
    """Return the folder of the weights called `name`, fetched from the hub where need be; raise KilterError."""
    if name in BUNDLED:
        with resources.as_file(resources.files("kilter") / "assets" / name.split("/")[1]) as folder:
            return _checked(folder, name)
    if name.startswith(SERVER):
        raise KilterError(f"'{name}' is a server, and weights are needed here; name a folder or a hub id.")
    if name.startswith(VLLM):
        raise KilterError(f"'{name}' is a model for answers, and weights are needed here; leave '{VLLM}' out.")
    if is_teacher(name):
        raise KilterError(f"'{name}' is a script, and weights are needed here; name {', '.join(BUNDLED)} or a folder.")
    if not name.strip():
        raise KilterError(f"The name of a model is empty; name {EXPECTED}.")
    path = Path(name).expanduser()
    if path.exists():
        return _checked(path, name)
    if name.startswith(("kilter/", ".", "/", "~")) or name.count("/") != 1:
        raise KilterError(f"There is no model '{name}'; name {EXPECTED}.{nearest(name, OFFERED)}")
    return _checked(_fetched(name), name)


def folders(name: str) -> list[Path]:
    """Return the folders that the weights called `name` are in: of an adapter its own and its base's."""
    folder = checkpoint(name)
    base = base_of(folder, name)
    return [folder, checkpoint(base)] if base else [folder]


def base_of(folder: Path, name: str) -> str | None:
    """Return the name of the model below the adapter in `folder`, None where it holds a whole model.

    It is read from adapter_config.json; a base that is not there any more is looked for where it stood as seen from the
    adapter, and by the name that it was called by. Raises KilterError where it is nowhere.
    """
    if not _is_adapter(folder):
        return None
    try:
        told = json.loads((folder / adapter_files.CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        raise KilterError(f"'{name}' is half written: its {adapter_files.CONFIG} cannot be read.") from None
    if not told:
        raise KilterError(
            f"'{name}' is an adapter without its model: its {adapter_files.CONFIG} names none; "
            "write which as base_model_name_or_path there."
        )
    note = adapter_files.note(folder)
    known = [str(told), str(folder / note["near"]) if "near" in note else ""]
    found = next((each for each in known if each and Path(each).is_dir()), str(told))
    if not Path(found).is_dir() and note.get("known_as") in BUNDLED:
        found = note["known_as"]
    stacked = KilterError(f"'{name}' is an adapter for '{told}', which is an adapter itself; merge that one first.")
    if Path(found).is_dir() and _is_adapter(Path(found)):
        raise stacked
    try:
        base = checkpoint(found)
    except KilterError as error:
        raise KilterError(
            f"'{name}' is an adapter for '{told}', which cannot be had ({str(error).rstrip('.')}); put it there, or "
            f"write where it is as base_model_name_or_path into the {adapter_files.CONFIG} of the adapter."
        ) from error
    if _is_adapter(base):
        raise stacked
    return found


def _is_adapter(folder: Path) -> bool:
    """Whether `folder` holds an adapter and no whole model."""
    return (folder / adapter_files.CONFIG).is_file() and not any(folder.glob("model*.safetensors"))


def is_reward_model(folder: Path) -> bool:
    """Whether the checkpoint in `folder` classifies sequences, which with one label is a reward model."""
    if _is_adapter(folder):
        config = json.loads((folder / adapter_files.CONFIG).read_text(encoding="utf-8"))
        return bool(config.get("task_type") == "SEQ_CLS")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # whoever loads it says what is wrong
    return any(str(name).endswith(CLASSIFIER) for name in config.get("architectures") or ())


def load_weights(
    name: str, dtype: torch.dtype = torch.float32, *, adapter: str = "none"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the causal language model and the tokenizer called `name`, the tokenizer with a chat template.

    An adapter comes with its base: merged into it in fp32, else as PEFT's model of both; where an `adapter` is going to
    be trained, as PEFT's model with that adapter to be continued. Only safetensors are read and no code of the
    repository is run. Raises KilterError as `checkpoint` does, for a reward model, and for an architecture that
    transformers does not know.
    """
    folder = checkpoint(name)
    if is_reward_model(folder):
        raise KilterError(f"'{name}' is a reward model, which writes no text; give a language model here.")
    model, tokenizer, missing = _loaded(AutoModelForCausalLM, folder, name, dtype)
    _complain(missing, name)
    return _adapted(model, folder, name, adapter), tokenizer


def load_value_model(
    name: str, dtype: torch.dtype = torch.float32, *, trained: bool = False, adapter: str = "none"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the reward model called `name`, a causal sequence classifier with one label, and its tokenizer.

    Of a language model's checkpoint one is made: the trunk's weights, a head of zeros (so that it begins by saying 0 of
    everything, and no seed matters), and a padding token that ends no response, where there is one. `trained` refuses
    that. Raises KilterError as `checkpoint` does, for a model of several labels, and for one that reads both ways.
    """
    folder = checkpoint(name)
    if trained and not is_reward_model(folder):
        raise KilterError(
            f"'{name}' is a language model, and a reward model is due here; make one of it with "
            f"`kilter train reward --model {name} --data F --out DIR`."
        )
    base = base_of(folder, name)
    ready = is_reward_model(checkpoint(base) if base else folder)
    model, tokenizer, missing = _loaded(
        AutoModelForSequenceClassification, folder, name, dtype, **({} if ready else {"num_labels": 1})
    )
    head: Any = getattr(model, "score", None)
    if not isinstance(head, torch.nn.Linear):
        kind = type(model).__name__
        raise KilterError(f"'{name}' is a {kind}, which is no causal reward model; choose one of a decoder.")
    if model.config.num_labels != 1:
        raise KilterError(
            f"'{name}' tells {model.config.num_labels} classes apart, and a reward model says one number; "
            "choose a checkpoint with num_labels 1."
        )
    if not ready:
        missing = [key for key in missing if not key.startswith("score.")]
        torch.nn.init.zeros_(head.weight)
        _pad(model, tokenizer)
    _complain(missing, name)
    return _adapted(model, folder, name, adapter), tokenizer


def _adapted(model: Any, folder: Path, name: str, adapter: str) -> Any:
    """Return `model` with the adapter in `folder`, where that is one, to be trained as the kind `adapter`."""
    return adapter_files.put_on(model, folder, name, train=adapter) if _is_adapter(folder) else model


def _loaded(
    auto: Any, folder: Path, name: str, dtype: torch.dtype, **settings: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, list[str]]:
    """Return the model as the class `auto` loads it, its tokenizer, and the weights that the checkpoint lacks.

    Of an adapter it is the base, with the tokenizer of the adapter where that has one.
    """
    base = base_of(folder, name)
    whole = checkpoint(base) if base else folder
    try:
        with _quietly():
            loaded: Any = auto.from_pretrained(
                whole, dtype=dtype, use_safetensors=True, output_loading_info=True, **settings
            )
    except UNLOADABLE as error:
        raise KilterError(f"'{name}' cannot be loaded ({first_line(error)}); check that folder.") from error
    # After the model, for a config.json that is damaged stops both.
    tokenizer = _tokenizer(folder if (folder / "tokenizer_config.json").is_file() else whole, name)
    model, found = loaded
    # What an adapter that is trained on it will name as its base: a hub id, or a folder wherever one stands.
    model.known_as = base or name
    on_disk = model.known_as in BUNDLED or Path(model.known_as).expanduser().exists()
    model.name_or_path = str(whole.resolve()) if on_disk else model.known_as
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise KilterError(
            f"The tokenizer of '{name}' has {len(tokenizer)} tokens, its model {rows}; put its own tokenizer there."
        )
    ensure_template(tokenizer)
    return model, tokenizer, sorted(found["missing_keys"])


def _complain(missing: list[str], name: str) -> None:
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise KilterError(f"'{name}' lacks the weights {missing[0]}{more}; fetch or make it again.")


def _pad(model: Any, tokenizer: Any) -> None:
    """Settle the padding token: transformers reads a score at the last token that is none.

    So it must end no response. Where every special token may (GPT-2 has one), the score is read before the end; we and
    transformers then agree on that too.
    """
    ends = end_ids(tokenizer)
    known = [tokenizer.pad_token_id, tokenizer.unk_token_id, *sorted(special_ids(tokenizer) - {tokenizer.bos_token_id})]
    choice = [token for token in [*known, tokenizer.bos_token_id] if token is not None and token not in ends]
    tokenizer.pad_token_id = choice[0] if choice else min(ends)
    model.config.get_text_config().pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id


def _tokenizer(folder: Path, name: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer in `folder`; raise KilterError where there is none, or none that can be read."""
    try:
        with _quietly():
            return AutoTokenizer.from_pretrained(folder)
    except UNLOADABLE as error:
        there = any(file for pattern in ("token*", "*vocab*", "*.model") for file in folder.glob(pattern))
        what = f"a tokenizer that cannot be read ({first_line(error)})" if there else "no tokenizer"
        raise KilterError(f"'{name}' has {what}; put the tokenizer's files of that very model there.") from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers from drawing its own bars and reports; what is wrong with a checkpoint, we say."""
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _checked(folder: Path, name: str) -> Path:
    """Return `folder` if it holds a whole checkpoint."""
    if not folder.is_dir():
        raise KilterError(f"'{name}' is a file; name the folder of a Hugging Face checkpoint.")
    if (folder / DECODING).is_file():
        raise KilterError(f"'{name}' is a way of decoding, and weights are needed here; name the model below it.")
    adapter = _is_adapter(folder)
    if not adapter and not (folder / "config.json").is_file():
        if (folder / "metrics.jsonl").is_file():
            raise KilterError(
                f"'{name}' is a training that is not finished; give the command that began it again, it goes on."
            )
        raise KilterError(f"'{name}' has no config.json, so it is no Hugging Face checkpoint; name {EXPECTED}.")
    shards = [folder / adapter_files.WEIGHTS] if adapter else _shards(folder, name)
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
    base_of(folder, name)
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
    online = hub.answers()
    try:
        with _quietly():
            found = snapshot_download(
                name,
                allow_patterns=WANTED,
                ignore_patterns=UNWANTED,
                local_files_only=not online,
                etag_timeout=hub.WAIT,
            )
        return Path(found)
    except GatedRepoError:
        raise KilterError(
            f"'{name}' is gated: accept its conditions at https://huggingface.co/{name}, then run `hf auth login`."
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise KilterError(f"There is no model '{name}' on the hub; name {EXPECTED}.{nearest(name, BUNDLED)}") from None
    except Exception as error:  # the hub's client lets through whatever the network does to it
        why = f"cannot be fetched from the hub ({first_line(error)})" if online else "the hub cannot be reached"
        raise KilterError(
            f"'{name}' is no folder here, not in the cache, and {why}; "
            f"connect to the network or name {EXPECTED}.{nearest(name, BUNDLED)}"
        ) from None
