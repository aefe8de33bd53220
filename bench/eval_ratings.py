"""How long Bradley-Terry ratings of a million battles take, with 100 bootstrap resamples; and whether they are right.

    python bench/eval_ratings.py [--battles 1000000] [--models 100] [--bootstraps 100] [--out ratings.json]

The battles are drawn from known strengths, written to a file as votes are, and rated through the same function as
`kilter eval bradley-terry`. Printed are the seconds of reading and of rating, the peak memory, how far the ratings are
from the truth, and how many of the 95 % intervals hold it. `bradley_terry` is the row of `make bench-eval`.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from kilter.evaluation import battles as fights
from kilter.evaluation import bradley_terry as ratings


def made(battles: int, models: int, seed: int, path: Path) -> np.ndarray:
    """Write battles among models of known strength to `path`, a fifth of them ties; return the strengths [models]."""
    rng = np.random.default_rng(seed)
    strength = rng.normal(0, 1, models)
    strength -= strength.mean()
    a = rng.integers(models, size=battles)
    b = (a + rng.integers(1, models, size=battles)) % models
    # A tie is half a win each: with p(1 - p) / ... of the mass moved to ties evenly, the expected share stays p.
    p = 1 / (1 + np.exp(strength[b] - strength[a]))
    tie = np.minimum(0.4 * np.minimum(p, 1 - p), 0.2)
    draw = rng.random(battles)
    verdict = np.where(draw < p - tie / 2, "model_a", np.where(draw < p + tie / 2, "tie", "model_b"))
    names = [f"model-{k:03d}" for k in range(models)]
    with path.open("w", encoding="utf-8") as file:
        for x, y, winner in zip(a.tolist(), b.tolist(), verdict.tolist(), strict=True):
            file.write(f'{{"model_a": "{names[x]}", "model_b": "{names[y]}", "winner": "{winner}"}}\n')
    return strength


def bradley_terry(battles: int = 1_000_000, models: int = 100, bootstraps: int = 100, seed: int = 0) -> dict[str, Any]:
    """Return the row: seconds (all, reading, rating), peak memory, error against the truth, coverage."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "battles.jsonl"
        truth = made(battles, models, seed, path)
        start = time.perf_counter()
        found = ratings.bradley_terry(data=str(path), bootstraps=bootstraps, seed=seed)
        whole = time.perf_counter() - start
        read = fights.read(path)
        start = time.perf_counter()
        cells = ratings.gather(read)
        ratings.resampled(cells, ratings.fit(cells), times=bootstraps, seed=seed)
        rating = time.perf_counter() - start
    points = 1000 + 400 / np.log(10) * truth
    measures = [found.measures[f"model-{k:03d}"] for k in range(models)]
    inside = [m.low <= x <= m.high for m, x in zip(measures, points, strict=True)]
    return {
        "name": f"Bradley-Terry, {battles:,} battles, {models} models, {bootstraps} bootstraps",
        "seconds": whole,
        "seconds_reading": whole - rating,
        "seconds_rating": rating,
        "target_seconds": 20.0,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "largest_error_points": float(max(abs(m.value - x) for m, x in zip(measures, points, strict=True))),
        "coverage": float(np.mean(inside)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time Bradley-Terry ratings of many battles.")
    parser.add_argument("--battles", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--bootstraps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the row as JSON here")
    given = parser.parse_args()
    row = bradley_terry(given.battles, given.models, given.bootstraps, given.seed)
    print(f"{row['name']}: {row['seconds']:.1f} s (target {row['target_seconds']:.0f} s)")
    print(f"  reading {row['seconds_reading']:.1f} s, rating {row['seconds_rating']:.1f} s")
    print(f"  peak memory {row['peak_bytes'] / 2**20:,.0f} MiB")
    print(
        f"  largest error {row['largest_error_points']:.1f} points; {row['coverage']:.0%} of intervals hold the truth"
    )
    if given.out:
        given.out.write_text(json.dumps(row, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
