"""Bradley and Terry's model of paired comparisons, fitted by Newton's method to counts.

The likelihood needs only how often each outcome of each pair occurred, so that a million battles among a hundred models
are some thousand cells, and a bootstrap resample is one multinomial draw over them.

logit P(i beats j) = beta_i - beta_j + gamma . z, with z what is said of the two responses beside their worth. A tie is
half a win of each (`half`), is left out (`drop`), or has a probability of its own (`davidson`, Davidson 1970):
P(i wins) : P(tie) : P(j wins) = e^(d/2) : e^eta : e^(-d/2), d = beta_i - beta_j.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from kilter.errors import KilterError, nearest
from kilter.evaluation import battles as fights
from kilter.evaluation.battles import Battles, Floats, Ints
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.style import FEATURES
from kilter.registry import method

Ties = Literal["half", "davidson", "drop"]
Style = Literal["none", "length", "all"]
STYLES: dict[str, tuple[str, ...]] = {"none": (), "length": ("length",), "all": FEATURES}
LOG10 = math.log(10)
BEYOND = 1e9  # stands for an infinite rating while quantiles are taken


@dataclass(frozen=True, slots=True)
class Cells:
    """M distinct battles: model `i` [M] against `j` [M], `y` [M] the share of i, fought `count` [M] times; z [M, F]."""

    i: Ints
    j: Ints
    y: Floats
    count: Floats
    z: Floats
    n: int

    def again(self, count: Floats) -> Cells:
        """Return the same cells fought another number of times."""
        return Cells(self.i, self.j, self.y, count, self.z, self.n)


@method("bradley-terry", wing="evaluation", paper="arXiv:2403.04132", survey="S2 §4.2", aliases=("bt",))
def bradley_terry(
    *,
    data: str,
    ties: Ties = "half",
    style: Style = "none",
    interval: Literal["bootstrap", "sandwich"] = "bootstrap",
    bootstraps: int = 100,
    penalty: float = 0.0,
    scale: float = 400.0,
    initial: float = 1000.0,
    anchor: str | None = None,
    seed: int = 0,
) -> Evaluation:
    """Rate models by the battles among them (Bradley and Terry 1952; Chiang et al. 2024).

    rating_i = initial + scale / ln 10 * beta_i, the betas maximising the likelihood, with mean 0 (or 0 for `anchor`): a
    lead of `scale` points is ten wins to one loss. The result does not depend on the order of the battles or of the
    sides. With `style` the ratings are those of answers of equal style, and the measures `style:NAME` are the odds that
    one standard deviation of the feature, (a - b) / (a + b + 1), is worth, as a log to base 10.

    A model that won or lost all its battles, or that no chain of wins and losses joins to the others, has no finite
    rating: it is left out and noted, unless `penalty` > 0. An end of an interval is infinite where more than 2.5 % of
    the resamples leave the model without one.

    The interval is the percentile interval of `bootstraps` resamples of the battles, or the sandwich H^-1 G H^-1.
    Rows: model_a, model_b, winner (model_a, model_b, tie ...); for `style` also conv_metadata as Chatbot Arena
    publishes it, or response_a and response_b.

    Options:
        data: file, folder or hub id of battles
        ties: a tie is half a win each, has a probability of its own, or is dropped
        style: what is controlled for, nothing, the length, or length, headings, lists and bold print
        interval: how the intervals are made
        bootstraps: resamples of the bootstrap
        penalty: L2 penalty p / 2 * |r|^2 in units of ln 10, that of Chatbot Arena's style control is 0.5
        scale: points that stand for odds of ten to one
        initial: mean rating, or that of the anchor
        anchor: a model whose rating is held at `initial`
        seed: seed of the resamples
    """
    wanted = STYLES[style]
    battles = fights.read(data, style=wanted)
    if anchor is not None and anchor not in battles.models:
        raise KilterError(f"The anchor '{anchor}' fights no battle in {data}.{nearest(anchor, battles.models)}")
    cells = gather(battles, ties)
    place = battles.models.index(anchor) if anchor is not None else None
    theta = fit(cells, penalty=penalty, ties=ties)
    if interval == "bootstrap":
        drawn = resampled(cells, theta, penalty=penalty, ties=ties, times=bootstraps, seed=seed)
        low, high = percentiles(anchored(drawn, cells.n, place))
    else:
        error = sandwich(cells, theta, penalty=penalty, ties=ties, anchor=place)
        reach = float(stats.norm.ppf(0.975)) * error
        low, high = anchored(theta, cells.n, place) - reach, anchored(theta, cells.n, place) + reach
    value = anchored(theta, cells.n, place)
    fought = np.bincount(cells.i, cells.count, cells.n) + np.bincount(cells.j, cells.count, cells.n)
    rows = np.stack([value, low, high], axis=1)
    rated = [_measure(initial + scale / LOG10 * rows[k], fought[k]) for k in range(cells.n)]
    order = sorted(range(cells.n), key=lambda k: -rated[k].value)
    measures = {battles.models[k]: rated[k] for k in order if math.isfinite(rated[k].value)}
    total = float(cells.count.sum())
    for f, name in enumerate(wanted, cells.n):
        measures[f"style:{name}"] = _measure(rows[f] / LOG10, total)
    if ties == "davidson":
        measures["tie"] = _measure(rows[-1], total)
    notes = [*battles.notes, *unrated([battles.models[k] for k in range(cells.n) if not math.isfinite(rated[k].value)])]
    return Evaluation("", measures, suite="bradley-terry", seed=seed, notes=notes)


def _measure(row: Floats, n: float) -> Measure:
    return Measure(float(row[0]), float(row[1]), float(row[2]), round(n))


def gather(battles: Battles, ties: Ties = "half") -> Cells:
    """Return the battles as cells; with covariates, which differ from battle to battle, each is a cell of its own."""
    if ties == "davidson" and not np.isin(battles.outcome, (0.0, 0.5, 1.0)).all():
        raise KilterError("Davidson's ties need verdicts that are a win, a tie or a loss; use --ties half.")
    if battles.style is None:
        i, j, y, count = battles.cells()
        cells = Cells(i, j, y, count, np.zeros((len(y), 0)), len(battles.models))
    else:
        z = battles.style - battles.style.mean(0)
        spread = z.std(0)
        if not (spread > 0).all():
            flat = battles.names[int(np.argmin(spread))]
            raise KilterError(f"The feature '{flat}' is the same in all battles and cannot be controlled for; drop it.")
        ones = np.ones(len(battles))
        cells = Cells(battles.a, battles.b, battles.outcome, ones, z / spread, len(battles.models))
    if ties != "drop":
        return cells
    kept = cells.y != 0.5
    if not kept.any():
        raise KilterError("Every battle is a tie and ties are dropped; use --ties half.")
    return Cells(cells.i[kept], cells.j[kept], cells.y[kept], cells.count[kept], cells.z[kept], cells.n)


def fit(cells: Cells, *, penalty: float = 0.0, ties: Ties = "half", start: Floats | None = None) -> Floats:
    """Return the maximum of the likelihood: n betas with mean 0, F gammas, and eta for Davidson's ties.

    A model without a finite beta has inf (only wins against the rest), -inf, or nan (never met the rest).
    """
    extra = cells.z.shape[1] + (ties == "davidson")
    if penalty > 0:
        return _newton(cells, np.arange(cells.n), extra, penalty, ties, start)
    reach = standing(cells)
    core = np.flatnonzero(reach == 0)
    if len(core) == cells.n:
        return _newton(cells, core, extra, 0.0, ties, start)
    place = np.full(cells.n, -1)
    place[core] = np.arange(len(core))
    inside = (place[cells.i] >= 0) & (place[cells.j] >= 0) & (cells.count > 0)
    i, j = place[cells.i[inside]], place[cells.j[inside]]
    part = Cells(i, j, cells.y[inside], cells.count[inside], cells.z[inside], len(core))
    begun = None if start is None else np.concatenate([start[core], start[cells.n :]])
    found = _newton(part, np.arange(len(core)), extra, 0.0, ties, begun)
    theta = np.concatenate([reach, found[len(core) :]])
    theta[core] = found[: len(core)]
    if start is not None and np.isfinite(start[core]).all():
        # A resample that lost a model is measured from the same zero as the others.
        theta[core] += start[core].mean()
    return theta


def standing(cells: Cells) -> Floats:
    """Return 0 for each model of the largest group with finite ratings; inf above it, -inf below it, nan apart.

    Ratings are finite within a group whose members are all joined by chains of wins in both directions (Ford 1957).
    """
    some = cells.count > 0
    i, j, y = cells.i[some], cells.j[some], cells.y[some]
    won, lost = y > 0, y < 1
    tail, head = np.concatenate([i[won], j[lost]]), np.concatenate([j[won], i[lost]])
    beats = csr_array((np.ones(len(tail)), (tail, head)), shape=(cells.n, cells.n))
    _, label = connected_components(beats, connection="strong")
    fought = np.bincount(i, cells.count[some], cells.n) + np.bincount(j, cells.count[some], cells.n)
    core = label == np.argmax(np.bincount(label, fought))
    below, above = _reached(beats, core), _reached(beats.T.tocsr(), core)
    return np.select([core, above & ~below, below & ~above], [0.0, np.inf, -np.inf], np.nan)


def _reached(graph: csr_array, start: NDArray[np.bool_]) -> NDArray[np.bool_]:
    seen = start
    while True:
        more = seen | (graph.T @ seen.astype(float) > 0)
        if (more == seen).all():
            return seen
        seen = more


def _newton(
    cells: Cells, models: Ints, extra: int, penalty: float, ties: Ties, start: Floats | None, tolerance: float = 1e-10
) -> Floats:
    """Newton's method, with steps halved until the likelihood rises; it converges in some six of them."""
    theta = np.zeros(len(models) + extra)
    if start is not None and np.isfinite(start).all() and len(start) == len(theta):
        theta = start - np.concatenate([np.full(len(models), start[: len(models)].mean()), np.zeros(extra)])
    value = likelihood(cells, theta, penalty, ties)
    for _ in range(200):
        gradient, hessian = _derivatives(cells, theta, penalty, ties)
        hessian[: cells.n, : cells.n] += 1.0 / cells.n  # the sum of the betas is free; this holds it at 0
        gradient[: cells.n] -= theta[: cells.n].mean()
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while (raised := likelihood(cells, theta + size * step, penalty, ties)) < value - 1e-12 * abs(value):
            size /= 2
            if size < 1e-10:
                return theta
        theta, value = theta + size * step, raised
        if float(np.abs(step).max()) < tolerance:
            return theta
    raise KilterError("The ratings do not converge: the style features all but tell who wins; give --penalty 0.5.")


def likelihood(cells: Cells, theta: Floats, penalty: float = 0.0, ties: Ties = "half") -> float:
    """Return the log-likelihood (nats) less the penalty."""
    u, t, d, eta = _statistics(cells, theta, ties)
    if ties == "davidson":
        each = u * d + t * eta - np.logaddexp(np.logaddexp(d / 2, -d / 2), eta)
    else:
        each = u * d - np.logaddexp(d / 2, -d / 2)
    return float(cells.count @ each) - penalty / 2 * float(theta @ theta) / LOG10**2


def _statistics(cells: Cells, theta: Floats, ties: Ties) -> tuple[Floats, Floats, Floats, float]:
    """Return the sufficient statistics u (wins less losses, halved) and t (ties), the lead d [M] and eta."""
    features = cells.z.shape[1]
    lead = theta[cells.i] - theta[cells.j] + cells.z @ theta[cells.n : cells.n + features]
    eta = float(theta[-1]) if ties == "davidson" else 0.0
    return cells.y - 0.5, (cells.y == 0.5).astype(np.float64), lead, eta


def _moments(d: Floats, eta: float, ties: Ties) -> tuple[Floats, Floats, Floats]:
    """Return E[u], Var[u] and P(tie) at the lead d."""
    if ties != "davidson":
        p = 0.5 * (1 + np.tanh(d / 2))
        return p - 0.5, p * (1 - p), np.zeros_like(d)
    whole = np.logaddexp(np.logaddexp(d / 2, -d / 2), eta)
    win, loss, tie = np.exp(d / 2 - whole), np.exp(-d / 2 - whole), np.exp(eta - whole)
    mean = (win - loss) / 2
    return mean, (win + loss) / 4 - mean**2, tie


def _derivatives(cells: Cells, theta: Floats, penalty: float, ties: Ties) -> tuple[Floats, Floats]:
    """Return the gradient and minus the Hessian of the penalised log-likelihood."""
    n, features = cells.n, cells.z.shape[1]
    u, t, d, eta = _statistics(cells, theta, ties)
    mean, variance, tie = _moments(d, eta, ties)
    residual, weight = cells.count * (u - mean), cells.count * variance
    hessian = np.zeros((len(theta), len(theta)))
    gradient = np.zeros(len(theta))
    gradient[:n] = _signed(cells, residual)
    joint = np.bincount(cells.i * n + cells.j, weight, n * n).reshape(n, n)
    joint = joint + joint.T
    hessian[:n, :n] = np.diag(joint.sum(1)) - joint
    if features:
        end = n + features
        gradient[n:end] = residual @ cells.z
        cross = np.stack([_signed(cells, weight * cells.z[:, f]) for f in range(features)], axis=1)
        hessian[:n, n:end], hessian[n:end, :n] = cross, cross.T
        hessian[n:end, n:end] = cells.z.T @ (weight[:, None] * cells.z)
    if ties == "davidson":
        gradient[-1] = cells.count @ (t - tie)
        hessian[-1, -1] = cells.count @ (tie * (1 - tie))
        shared = -cells.count * mean * tie  # Cov(u, t)
        hessian[:n, -1] = hessian[-1, :n] = _signed(cells, shared)
        hessian[n : n + features, -1] = hessian[-1, n : n + features] = shared @ cells.z
    ridge = penalty / LOG10**2
    return gradient - ridge * theta, hessian + ridge * np.eye(len(theta))


def _signed(cells: Cells, values: Floats) -> Floats:
    """Sum `values` over each model's battles, those on the second side negative."""
    return np.asarray(np.bincount(cells.i, values, cells.n) - np.bincount(cells.j, values, cells.n))


def resampled(
    cells: Cells, theta: Floats, *, penalty: float = 0.0, ties: Ties = "half", times: int = 100, seed: int = 0
) -> Floats:
    """Return the estimates [times, n + ...] of that many multinomial resamples of the battles."""
    rng = np.random.default_rng(seed)
    total = int(cells.count.sum())
    share = cells.count / cells.count.sum()
    drawn = []
    for _ in range(times):
        again = cells.again(rng.multinomial(total, share).astype(np.float64))
        drawn.append(fit(again, penalty=penalty, ties=ties, start=theta))
    return np.asarray(drawn)


def anchored(theta: Floats, n: int, anchor: int | None) -> Floats:
    """Return the estimates ([..., n + extra]) with the anchor's beta moved to 0."""
    if anchor is None:
        return theta
    moved = theta.copy()
    moved[..., :n] = theta[..., :n] - theta[..., anchor : anchor + 1]
    return moved


def percentiles(drawn: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return the ends of the percentile interval of each column; what has no value in a resample may be anything."""
    low = np.quantile(np.nan_to_num(drawn, nan=-BEYOND, posinf=BEYOND, neginf=-BEYOND), (1 - level) / 2, axis=0)
    high = np.quantile(np.nan_to_num(drawn, nan=BEYOND, posinf=BEYOND, neginf=-BEYOND), (1 + level) / 2, axis=0)
    far = BEYOND / 1e6
    ends = [np.where(x > far, np.inf, np.where(x < -far, -np.inf, x)) for x in (low, high)]
    return ends[0], ends[1]


def sandwich(
    cells: Cells, theta: Floats, *, penalty: float = 0.0, ties: Ties = "half", anchor: int | None = None
) -> Floats:
    """Return the standard errors [n + ...] by H^-1 G H^-1, G the sum of the squared scores of single battles.

    It holds where the model does not: where the verdicts of a pair follow no Bradley-Terry probabilities. Models
    without a finite rating have nan.
    """
    free = np.isfinite(theta[: cells.n])
    rated = np.concatenate([free, np.ones(len(theta) - cells.n, dtype=bool)])
    inside = free[cells.i] & free[cells.j]
    kept = Cells(cells.i[inside], cells.j[inside], cells.y[inside], cells.count[inside], cells.z[inside], cells.n)
    safe = np.where(rated, theta, 0.0)
    u, t, d, eta = _statistics(kept, safe, ties)
    mean, _, tie = _moments(d, eta, ties)
    score = np.zeros((len(d), len(theta)))
    rows = np.arange(len(d))
    score[rows, kept.i] = u - mean
    score[rows, kept.j] = mean - u
    features = cells.z.shape[1]
    score[:, cells.n : cells.n + features] = (u - mean)[:, None] * kept.z
    if ties == "davidson":
        score[:, -1] = t - tie
    meat = score.T @ (kept.count[:, None] * score)
    _, hessian = _derivatives(kept, safe, penalty, ties)
    bread = np.linalg.pinv(hessian[np.ix_(rated, rated)], hermitian=True)
    variance = bread @ meat[np.ix_(rated, rated)] @ bread
    contrast = np.eye(int(rated.sum()))
    if anchor is not None:
        contrast[: int(free.sum()), int(free[:anchor].sum())] -= 1.0
    error = np.full(len(theta), np.nan)
    error[rated] = np.sqrt(np.einsum("ij,jk,ik->i", contrast, variance, contrast).clip(min=0))
    return error


def unrated(models: list[str]) -> list[str]:
    """Return the sentence on models that no finite rating fits, if there are any."""
    if not models:
        return []
    told = ", ".join(models[:5]) + (" ..." if len(models) > 5 else "")
    return [
        f"{len(models)} models have no finite rating and are left out ({told}): they won or lost everything, "
        "or never met the others; --penalty 0.5 rates them."
    ]
