"""Rows from the Hugging Face hub, and from data sets that `datasets` has saved to a folder.

A name is `org/name`, `org/name#config`, `org/name:split` or `org/name#config:split`; without a split, `train` is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kilter import hub
from kilter.errors import KilterError, first_line, nearest
from kilter.formats.cells import pruned
from kilter.formats.shape import Row

_ID = re.compile(r"(?P<id>[\w-][\w.-]*/[\w.-]+)(#(?P<config>[\w.-]+))?(:(?P<split>[\w.\[\]%:+-]+))?")
_FILE = re.compile(r"\.(jsonl?|ndjson|parquet|csv|tsv|txt|gz|zip|ya?ml)\b", re.IGNORECASE)
_SECONDS = 10.0


def looks_like_id(name: str) -> bool:
    """Whether a name that is no existing path can be a hub id: `org/name`, without a data file's suffix."""
    return bool(_ID.fullmatch(name)) and not _FILE.search(name) and not Path(name).parent.exists()


def rows(name: str) -> Iterator[Row]:
    """Yield the rows of a hub data set; KilterError at once where it is unknown, closed or out of reach."""
    match = _ID.fullmatch(name)
    assert match is not None
    identity, config, split = match["id"], match["config"], match["split"]
    _reach(identity)
    import datasets

    try:
        loaded = datasets.load_dataset(identity, config, split=split)
    except Exception as error:  # `datasets` raises whatever the builder, pyarrow or the network raised
        if hub.forbidden() and isinstance(error, ConnectionError):
            raise KilterError(
                f"There is no file called {identity}, nor has that data set been downloaded; check the path, or unset "
                "HF_HUB_OFFLINE to download it."
            ) from error
        raise KilterError(f"The hub's data set {identity} could not be loaded: {_sentence(error)}") from error
    yield from _rows(loaded, name)


def saved_rows(folder: Path, split: str = "") -> Iterator[Row]:
    """Yield the rows of a folder written by `Dataset.save_to_disk`."""
    import datasets

    try:
        loaded: Any = datasets.load_from_disk(str(folder))
    except Exception as error:
        raise KilterError(f"The data set saved in {folder} could not be loaded: {_sentence(error)}") from error
    if split and isinstance(loaded, dict):
        if split not in loaded:
            raise KilterError(f"{folder} has no split '{split}'; it has {', '.join(loaded)}.{nearest(split, loaded)}")
        loaded = loaded[split]
    yield from _rows(loaded, str(folder))


def _rows(loaded: Any, name: str) -> Iterator[Row]:
    if isinstance(loaded, dict):
        split = "train" if "train" in loaded else next(iter(loaded), None)
        if split is None:
            raise KilterError(f"{name} holds no data.")
        loaded = loaded[split]
    for row in loaded:
        yield pruned(row)


def _reach(identity: str) -> None:
    """Ask the hub whether there is such a data set: `datasets` itself tries for half a minute before it gives up."""
    if hub.forbidden():
        return
    import huggingface_hub
    from huggingface_hub import errors

    try:
        huggingface_hub.HfApi().dataset_info(identity, timeout=_SECONDS)
    except errors.GatedRepoError as error:
        raise KilterError(
            f"The hub's data set {identity} asks for its terms to be accepted; accept them on its page and log in "
            "with `hf auth login`."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise KilterError(
            f"There is neither a file nor a hub data set called {identity}; check the name, or log in with "
            "`hf auth login` if it is private."
        ) from error
    except Exception as error:  # no name resolution, no route, a proxy's refusal: the types change with the client
        raise KilterError(
            f"There is no file called {identity} and the Hugging Face hub cannot be reached; check the path or the "
            "network, or set HF_HUB_OFFLINE=1 if the data set was downloaded before."
        ) from error


def _sentence(error: Exception) -> str:
    return first_line(error) + "; check its page for the names of its configurations and splits."
