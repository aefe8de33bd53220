"""Reward over-optimisation: what a policy really earns as it moves away, while the reward it learns from only rises."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from kilter.errors import KilterError
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, number, stream
from kilter.feedback.overoptimised import FEWEST, Law, at, fitted
from kilter.feedback.overoptimised import lost as lost_of
from kilter.registry import Count, method

METRICS, BEST_OF = "metrics.jsonl", "best_of.jsonl"


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
    `kilter train rlhf-ppo --feedback RM --gold world ...`; so does `kilter train best-of-n --gold ...`. The whole
    experiment of the paper, with a proxy that learns from the gold reward's comparisons, is `kilter train
    reward-overopt`.

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
    if len({round(row[0], 9) for row in known}) < FEWEST:
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
    found = fitted(d, gain, chosen)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        rows_at = rng.integers(len(d), size=len(d))
        drawn.append(fitted(d[rows_at], gain[rows_at], chosen))
    measures = {}
    for name, value in found.items():
        low, high = np.quantile([one[name] for one in drawn], (0.025, 0.975))
        measures[name] = Measure(value, float(min(low, value)), float(max(high, value)), len(d))
    third, lost = max(1, len(d) // 3), lost_of(gain)
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
    told_by_law = at(d, found["a"], found["b"], chosen)
    samples = [
        {"id": str(i), "d": float(x), "gold": float(y), "fitted": float(z)}
        for i, (x, y, z) in enumerate(zip(d, gain, told_by_law, strict=True))
    ]
    return Evaluation("", measures, samples, suite="reward-overopt", seed=seed, notes=notes)


def _numbers(row: dict[str, object]) -> tuple[float, float, float] | None:
    """Return distance, gold and learned reward of a line; None where one of the first two is missing."""
    kl, gold = (number(row.get(f"sampled_{name}", row.get(name))) for name in ("kl", "gold"))
    reward = number(row.get("sampled_reward", row.get("reward")))
    return None if kl is None or gold is None else (kl, gold, 0.0 if reward is None else reward)
