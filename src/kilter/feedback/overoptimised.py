"""The laws of reward over-optimisation: what a policy really earns at a distance d = sqrt(KL(pi || pi_start)).

Gao, Schulman and Hilton (2022) find R_gold(d) - R_gold(0) = d (a - b log d) for reinforcement learning and d (a - b d)
for the best of n: a is what learning gains at first, b what it loses to the mistakes of the reward that it learns from.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Law = Literal["rl", "best-of-n"]
FEWEST = 4  # distances without which there is no curve


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


def at(d: np.ndarray, a: float, b: float, law: Law) -> np.ndarray:
    """Return [N]: the gain that the law has at `d`."""
    found: np.ndarray = curve(d, law) @ np.array([a, -b])
    return found


def fitted(d: np.ndarray, gain: np.ndarray, law: Law) -> dict[str, float]:
    """Return a, b, where the curve is highest as far as was gone, and how high."""
    a, b = fit(d, gain, law)
    highest = min(peak(a, b, law), float(d.max()))
    return {"a": a, "b": b, "peak": highest, "peak_gold": float(at(np.array([highest]), a, b, law)[0])}


def lost(gain: np.ndarray) -> float:
    """Return how far the last third of a run lies below the best third in a row of it; `gain` [N] in order."""
    third = max(1, len(gain) // 3)
    best = max(float(gain[start : start + third].mean()) for start in range(len(gain) - third + 1))
    return best - float(gain[-third:].mean())
