"""Reward over-optimisation: what a policy really earns as it moves away, while the reward it learns from only rises."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from kilter.errors import KilterError
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, number, stream
from kilter.registry import Count, method

METRICS, BEST_OF = "metrics.jsonl", "best_of.jsonl"
Law = Literal["rl", "best-of-n"]


def curve(d: np.ndarray, law: Law) -> np.ndarray:
    """Return [N, 2]: what a and -b are multiplied with: d and d log d (rl), or d and d^2 (best of n)."""
    if law == "best-of-n":
        return np.stack((d, d * d), 1)
    return np.stack((d, d * np.log(np.maximum(d, 1e-12))), 1)


def fit(d: np.ndarray, gold: np.ndarray, law: Law) -> tuple[float, float]:
    """Return the a and b of d (a - b log d) or d (a - b d) that come nearest to `gold` [N] by least squares."""
    found, *_ = np.linalg.lstsq(curve(d, law), gold, rcond=None)
    return float(found[0]), float(-found[1])


def peak(a: float, b: float, law: Law) -> float:
    """Return the d at which the law is highest: a / 2b, or e^(a / b - 1); infinite where it only rises."""
    if b <= 0:
        return float("inf")
    exponent = a / b - 1
    return max(0.0, a / (2 * b)) if law == "best-of-n" else float(np.exp(min(exponent, 700.0)))


@method(
    "reward-overopt", wing="evaluation", paper="arXiv:2210.10760", survey="S1 §4.3.3", aliases=("overoptimisation",)
)
def reward_overopt(
    *, data: str, law: Literal["auto", "rl", "best-of-n"] = "auto", resamples: Count = 1000, seed: int = 0
) -> Evaluation:
    """Reward over-optimisation of a training run, by its laws (Gao, Schulman and Hilton 2022).

    While a policy is trained on a proxy reward its true (gold) reward rises and then falls. With d = sqrt(KL(pi ||
    pi_start)) the paper finds R_gold(d) - R_gold(0) = d (a - b log d) for reinforcement learning and d (a - b d) for
    the best of n, whose KL is log n - (n - 1) / n. The measures: a (what learning gains at first) and b (what it loses
    to the proxy's mistakes), the distance of the peak in sqrt(nats), peak_gold, the gain there, and lost, how far the
    last of the run lies below the best third of what was seen; intervals are those of 95 % of bootstrap resamples.
    proxy_gain is what the reward that was learned from rose by.

    A training run that samples writes all this down where it is told a `gold` feedback beside its own:
    `kilter train rlhf-ppo --feedback RM --gold world ...`; so does `kilter train best-of-n --gold ...`.

    Rows: sampled_kl (or kl), gold, and sampled_reward (or reward): metrics.jsonl or best_of.jsonl of a run's folder.

    Options:
        data: folder of a training run, or a file of rows
        law: rl, best-of-n, or by what the rows are (auto)
        resamples: bootstrap resamples of the intervals
        seed: seed of the resamples
    """
    path = Path(data)
    if path.is_dir():
        path = path / (BEST_OF if (path / BEST_OF).is_file() and law != "rl" else METRICS)
    left = LeftOut()
    rows = list(stream(path, left))
    told = [_numbers(row) for row in rows]
    known = [row for row in told if row is not None]
    if len({round(row[0], 9) for row in known}) < 4:
        raise KilterError(
            f"{path} has {len(known)} lines with a distance and a gold reward, at too few distances for a curve; "
            "train with the option gold, and log more often (log_every=1)."
        )
    if len(known) < len(rows):
        left.add("they have no distance or no gold reward")
        left.reasons["they have no distance or no gold reward"] = len(rows) - len(known)
    chosen: Law = ("best-of-n" if all("n" in row for row in rows) else "rl") if law == "auto" else law
    kl, gold, reward = (np.array(column) for column in zip(*known, strict=True))
    d = np.sqrt(np.maximum(kl, 0.0))
    start = int(d.argmin())
    gain = gold - gold[start]
    found = _measures(d, gain, chosen)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        rows_at = rng.integers(len(d), size=len(d))
        drawn.append(_measures(d[rows_at], gain[rows_at], chosen))
    measures = {}
    for name, value in found.items():
        low, high = np.quantile([one[name] for one in drawn], (0.025, 0.975))
        measures[name] = Measure(value, float(min(low, value)), float(max(high, value)), len(d))
    third = max(1, len(d) // 3)
    best = max(float(gain[at : at + third].mean()) for at in range(len(d) - third + 1))
    lost = best - float(gain[-third:].mean())
    rise = float(reward[-third:].mean() - reward[:third].mean())
    spread = float(gain[-third:].std(ddof=1) / np.sqrt(third)) if third > 1 else float("inf")
    measures["lost"] = Measure(lost, lost - 1.96 * spread, lost + 1.96 * spread, third)
    measures["proxy_gain"] = Measure(rise, rise, rise, len(d))
    notes = left.notes("lines", len(rows))
    if rise > 0 and lost > 2 * spread:
        notes.append(
            f"The reward rose by {rise:.3g} while the gold reward fell by {lost:.3g} from its best: the policy learned "
            "the proxy's mistakes."
        )
    samples = [
        {"id": str(i), "d": float(x), "gold": float(y), "fitted": float(curve(np.array([x]), chosen)[0] @ _ab(found))}
        for i, (x, y) in enumerate(zip(d, gain, strict=True))
    ]
    return Evaluation("", measures, samples, suite="reward-overopt", seed=seed, notes=notes)


def _ab(found: dict[str, float]) -> np.ndarray:
    return np.array([found["a"], -found["b"]])


def _measures(d: np.ndarray, gain: np.ndarray, law: Law) -> dict[str, float]:
    """Return a, b, where the curve is highest as far as was gone, and how high."""
    a, b = fit(d, gain, law)
    at = min(peak(a, b, law), float(d.max()))
    return {"a": a, "b": b, "peak": at, "peak_gold": float(curve(np.array([at]), law)[0] @ np.array([a, -b]))}


def _numbers(row: dict[str, object]) -> tuple[float, float, float] | None:
    """Return distance, gold and learned reward of a line; None where one of the first two is missing."""
    kl, gold = (number(row.get(f"sampled_{name}", row.get(name))) for name in ("kl", "gold"))
    reward = number(row.get("sampled_reward", row.get("reward")))
    return None if kl is None or gold is None else (kl, gold, 0.0 if reward is None else reward)
