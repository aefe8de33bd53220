from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from made_runs import quickstart


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quickstart(tmp_path_factory.mktemp("quickstart"))


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes the folder of a small run with another seed."""
    return lambda seed=0, each=8: quickstart(tmp_path / f"seed-{seed}", seed, each)
