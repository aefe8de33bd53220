"""A run becomes one page: `report.html`, and the same as JSON and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def build(run_folder: Path) -> Path:
    """Write report.html, report.json and report.md into `run_folder` from what the run left there; return the page.

    A run that has not finished gives a page too, which says so. Raises KilterError where there is no run.
    """
    # Imported here: the recipe's schema reads only `report.settings`, and should not wait for scipy.
    from kilter.report.page import write_run

    return write_run(Path(run_folder))


def combine(run_folders: Sequence[Path], out: Path) -> Path:
    """Write the report of several runs of one recipe with different seeds into the folder `out`; return the page.

    Every number is the mean over the runs. Raises KilterError where the runs are not of one recipe or one seed repeats.
    """
    from kilter.report.page import write_seeds

    return write_seeds([Path(folder) for folder in run_folders], Path(out))
