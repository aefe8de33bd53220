"""Length-controlled win rates: what a judge would say if the two responses were equally long.

For each model m and instruction x: logit P(m wins) = theta_m + phi_m tanh(dl / sd(dl)) + psi_m gamma_x, dl being the
length of the baseline's response less that of the model's, gamma_x how hard the instruction is to win on. The win rate
is then the mean over x of sigmoid(theta_m + psi_m gamma_x), the length term at 0 (Dubois et al. 2024).

AlpacaEval's own gammas and the rows that keep its phi from being gamed are not public data: here the gammas are found
from the models that were judged (ten at least), or left out, and phi is held by a ridge penalty instead of an L1 one.
On the sixteen models whose annotations are at hand that gives the published column to 1.4 points on the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kilter.errors import KilterError

Floats = NDArray[np.float64]
MODELS = 10  # fewer models than this do not tell how hard an instruction is
# Ridge penalties of theta, phi and psi, p / 2 * w^2 on the summed log-loss; without gammas phi has more to explain.
PENALTIES = np.array([1e-3, 1.0, 1e-2])
MINIMAL = np.array([1e-3, 10.0])
ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Fit:
    """The coefficients [models, 3] and the instructions' gammas [instructions], which are 0 where there are none."""

    weights: Floats
    gamma: Floats
    lengths: Floats
    known: NDArray[np.bool_]

    def win_rates(self, at: NDArray[np.int64] | None = None) -> Floats:
        """Return the length-controlled win rate of each model, over the instructions `at` that it was judged on."""
        place = np.arange(len(self.gamma)) if at is None else at
        even = sigmoid(self.weights[:, [0]] + self.weights[:, [2]] * self.gamma[place])
        there = self.known[:, place]
        return np.asarray((even * there).sum(1) / there.sum(1), dtype=np.float64)


def fit(preferences: Floats, lead: Floats, gamma: Floats | None = None, difficulty: bool = True) -> Fit:
    """Fit `preferences` [models, instructions], shares of the win that go to the model, nan where it was not judged.

    `lead` [models, instructions] is the baseline's length less the model's. The gammas are those given, or found where
    `difficulty` is wanted and there are `MODELS` models, or else left out. Raises KilterError where a model's lengths
    never differ from the baseline's, or it was judged on nothing.
    """
    known = np.isfinite(preferences) & np.isfinite(lead)
    if not known.any(1).all():
        raise KilterError("A model has no judgement with both lengths, so its length cannot be controlled for.")
    t = lengths_of(lead, known)
    p = np.where(known, preferences, 0.5)
    if gamma is None and (len(p) < MODELS or not difficulty):
        gamma = np.zeros(p.shape[1])
        weights = np.array([[*logistic(_columns(t[m, known[m]]), p[m, known[m]], MINIMAL), 0.0] for m in range(len(p))])
        return Fit(weights, gamma, t, known)
    given = gamma is not None
    gamma = np.zeros(p.shape[1]) if gamma is None else gamma
    weights = np.zeros((len(p), 3))
    for turn in range(ROUNDS):
        for m, there in enumerate(known):
            begin = turn == 0 and not given
            columns = _columns(t[m, there]) if begin else _columns(t[m, there], gamma[there])
            found = logistic(columns, p[m, there], PENALTIES[: columns.shape[1]])
            weights[m] = [*found, 1.0] if begin else found
        if given:
            break
        gamma = difficulties(p, t, known, weights, gamma)
    return Fit(weights, gamma, t, known)


def lengths_of(lead: Floats, known: NDArray[np.bool_]) -> Floats:
    """Return tanh(dl / sd(dl)) of each model, 0 where it was not judged."""
    spread = np.array([np.std(row[there]) for row, there in zip(lead, known, strict=True)])
    if (spread == 0).any():
        raise KilterError(
            "A model's responses all differ by the same length from the baseline's; nothing to control for."
        )
    return np.where(known, np.tanh(np.where(known, lead, 0.0) / spread[:, None]), 0.0)


def difficulties(p: Floats, t: Floats, known: NDArray[np.bool_], weights: Floats, start: Floats) -> Floats:
    """Return each instruction's gamma given the models' coefficients, standard normal before it is seen; scaled so."""
    fixed, slope = weights[:, [0]] + weights[:, [1]] * t, weights[:, [2]]
    gamma = start.copy()
    for _ in range(20):
        q = sigmoid(fixed + slope * gamma)
        gradient = (known * (p - q) * slope).sum(0) - gamma
        step = gradient / ((known * q * (1 - q) * slope**2).sum(0) + 1)
        gamma += step
        if np.abs(step).max() < 1e-9:
            break
    return np.asarray((gamma - gamma.mean()) / max(gamma.std(), 1e-12))


def logistic(columns: Floats, y: Floats, penalty: Floats) -> Floats:
    """Return the coefficients of a logistic regression on soft labels `y` in 0..1, with ridge penalties."""
    weights = np.zeros(columns.shape[1])
    for _ in range(100):
        q = sigmoid(columns @ weights)
        gradient = columns.T @ (y - q) - penalty * weights
        curve = columns.T @ (columns * (q * (1 - q))[:, None]) + np.diag(penalty)
        step = np.linalg.solve(curve, gradient)
        weights += step * min(1.0, 4.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    return weights


def sigmoid(z: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(z / 2)), dtype=np.float64)


def _columns(*columns: Floats) -> Floats:
    return np.stack([np.ones(len(columns[0])), *columns], axis=1)
