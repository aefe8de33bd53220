"""Tests on real public data and models, which lie beside the project and are no part of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data and models: `../shared` beside the repository, or what KILTER_SHARED names."""
    folder = Path(os.environ.get("KILTER_SHARED", Path(__file__).parents[2].parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"the real data is not there ({folder}/data); set KILTER_SHARED to the folder that holds it")
    return folder
