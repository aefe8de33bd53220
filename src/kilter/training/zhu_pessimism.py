"""Pessimistic reward learning: a linear reward from comparisons, and how little they say of the seldom compared."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import logsigmoid

from kilter.engine.batch import Tree, collate, fill
from kilter.engine.loop import TrainResult
from kilter.engine.template import Dropped
from kilter.engine.values import Valuer
from kilter.engine.virtual import room
from kilter.errors import KilterError
from kilter.files import replacing
from kilter.models.load import load_value_model
from kilter.models.rewarder import DOUBT
from kilter.records import Group
from kilter.registry import Count, method
from kilter.training.course import Task, takes_its_course
from kilter.training.judged import judged_trees

Likelihood = Literal["listwise", "pairs"]
Positive = Annotated[float, Field(gt=0)]


def listwise(rewards: Tensor, order: Tensor) -> Tensor:
    """Return the negative log-likelihood of a ranking: rewards [K], order [K], higher for better."""
    ranked = torch.argsort(order, descending=True, stable=True)
    r, o = rewards[ranked], order[ranked]
    tail = torch.logcumsumexp(r.flip(0), 0).flip(0)
    # Of equals none was chosen before the other: each is chosen from among all of them and the rest.
    first = (o[None] == o[:, None]).to(torch.int8).argmax(1)
    return (tail[first] - r).sum()


def pairwise(rewards: Tensor, order: Tensor) -> Tensor:
    """Return the negative log-likelihood of all pairs as if each had been judged by itself, summed."""
    lead = rewards[:, None] - rewards
    return -logsigmoid(lead[order[:, None] > order]).sum()


Comparisons = tuple[Tensor, Tensor]


def together(features: Sequence[Tensor], orders: Sequence[Tensor]) -> Comparisons:
    """Return all comparisons as one: features [G, K, d] and orders [G, K], NaN behind those of fewer responses."""
    most = max(map(len, features))
    x = torch.stack([torch.nn.functional.pad(each, (0, 0, 0, most - len(each))) for each in features])
    o = torch.stack([torch.nn.functional.pad(each.to(x), (0, most - len(each)), value=torch.nan) for each in orders])
    return x, o


def negative_log_likelihood(theta: Tensor, comparisons: Comparisons, likelihood: Likelihood) -> Tensor:
    """Return the mean over comparisons of `listwise` or `pairwise`, at theta [d]."""
    features, order = comparisons
    there = ~order.isnan()
    rewards = features @ theta
    if likelihood == "pairs":
        lead = rewards[:, :, None] - rewards[:, None]
        return -logsigmoid(lead[order[:, :, None] > order[:, None]]).sum() / len(rewards)
    # Each is chosen from among itself, its equals and all that are worse.
    rest = (order[:, None] <= order[:, :, None]) | torch.eye(order.shape[1], dtype=torch.bool)
    tail = rewards[:, None].expand_as(rest).masked_fill(~rest, -torch.inf).logsumexp(2)
    return torch.where(there, tail - rewards, 0.0).sum() / len(rewards)


def maximum_likelihood(
    features: Sequence[Tensor], orders: Sequence[Tensor], *, likelihood: Likelihood = "listwise", bound: float = 1.0
) -> Tensor:
    """Return the theta [d] of norm at most `bound` that makes the comparisons likeliest."""

    comparisons = together(features, orders)

    def fit(ridge: float, start: Tensor) -> Tensor:
        theta = start.clone().requires_grad_()
        optimizer = torch.optim.LBFGS([theta], max_iter=100, tolerance_grad=1e-8, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = negative_log_likelihood(theta, comparisons, likelihood) + ridge / 2 * theta @ theta
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        return theta.detach()

    # The bound is met by the ridge that belongs to it; the norm falls as the ridge rises.
    found = fit(1e-9, torch.zeros_like(features[0][0]))
    if found.norm() > bound:
        low, high = -9.0, 3.0
        while high - low > 1e-2:
            middle = (low + high) / 2
            found = fit(10**middle, found)
            low, high = (middle, high) if found.norm() > bound else (low, middle)
    return found * min(1.0, bound / max(float(found.norm()), 1e-30))


def covariance(features: Sequence[Tensor]) -> Tensor:
    """Return Sigma [d, d]: the mean over comparisons of that over their pairs of (phi_j - phi_k)(phi_j - phi_k)^T."""
    total = torch.zeros(features[0].shape[1], features[0].shape[1], dtype=features[0].dtype)
    for x in features:
        # The sum over all pairs of K rows is K times their scatter about their mean.
        centred = x - x.mean(0)
        total += centred.T @ centred * len(x) * 2 / (len(x) * (len(x) - 1))
    return total / len(features)


def width(
    *,
    dimensions: int,
    comparisons: int,
    bound: float = 1.0,
    largest: float = 1.0,
    delta: float = 0.05,
    ridge: float = 1e-3,
    constant: float = 1.0,
) -> float:
    """Return f = C sqrt((d + log 1/delta) / (gamma^2 n) + lambda B^2), gamma = 1 / (2 + e^-LB + e^LB) (Lemma 3.1)."""
    gamma = 1 / (2 + math.exp(-largest * bound) + math.exp(largest * bound))
    spread = (dimensions + math.log(1 / delta)) / (gamma**2 * comparisons)
    return constant * math.sqrt(spread + ridge * bound**2)


def inverse_root(sigma: Tensor, ridge: float) -> Tensor:
    """Return (Sigma + lambda I)^(-1/2) [d, d]."""
    values, vectors = torch.linalg.eigh(sigma)
    return vectors @ torch.diag((values.clamp(min=0) + ridge).rsqrt()) @ vectors.T


def pessimistic(features: Tensor, theta: Tensor, root: Tensor, reference: Tensor, f: float) -> Tensor:
    """Return [N]: (phi - v) . theta - f |(Sigma + lambda I)^(-1/2) (phi - v)| for features [N, d] (Algorithm 1).

    It is the least reward over all parameters within f of theta; features of a policy are its expected ones.
    """
    away = features - reference
    return away @ theta - f * (away @ root).norm(dim=1)


@method("zhu-pessimism", wing="training", paper="arXiv:2301.11270", survey="S1 §4.3.1", aliases=("pessimistic-mle",))
@takes_its_course("pairs", trains="judge")
def zhu_pessimism(
    task: Task,
    *,
    likelihood: Likelihood = "listwise",
    bound: Positive = 1.0,
    ridge: Positive = 1e-3,
    confidence_width: Annotated[float, Field(ge=0)] | None = None,
    constant: Positive = 1.0,
    delta: Annotated[float, Field(gt=0, lt=1)] = 0.05,
    max_length: Count = 1024,
    micro_tokens: Count = 4096,
) -> TrainResult:
    """Pessimistic maximum likelihood from comparisons (Zhu, Jiao and Jordan 2023, Algorithm 1).

    The reward is linear, r(x, y) = theta . phi(x, y): phi is the model's last hidden state at the end of the response,
    which stands still, divided by its largest norm L in the data. theta is the maximum-likelihood estimate with
    |theta| <= B, of whole rankings (listwise, Plackett-Luce) or of all pairs as if judged apart (pairs, InstructGPT's);
    for two responses they are the same. The comparisons leave theta in doubt by
    |theta' - theta|_(Sigma + lambda I) <= f, Sigma the mean of (phi_j - phi_k)(phi_j - phi_k)^T over the pairs, and

        f = C sqrt((d + log 1/delta) / (gamma^2 n) + lambda B^2),  gamma = 1 / (2 + e^-B + e^B).

    The reward of a response is the least within that doubt, (phi - v) . theta - f |(Sigma + lambda I)^-1/2 (phi - v)|,
    v being the mean of phi over the data: what was seldom compared is not believed to be good, where a policy that goes
    after theta alone may stay wrong however many comparisons there are. `out` becomes a reward model whose head is
    theta; what is in doubt stands beside it (doubt.safetensors), and `kilter score`, feedback and evaluations take it
    off. transformers' own classes load theta alone. The paper's bound is over policies, E[phi]; taken response by
    response it is never less pessimistic.

    Options:
        likelihood: of whole rankings, or of all their pairs
        bound: B, the largest norm of theta, where features have norm 1 at most
        ridge: lambda, what is added to Sigma
        confidence_width: f itself; none works it out
        constant: C
        delta: chance that the reward lies outside what is doubted
        max_length: most tokens of a prompt with its response
        micro_tokens: most tokens computed at once
    """
    if (kept := task.admit()) is not None:
        return kept
    started = time.perf_counter()
    model, tokenizer = load_value_model(task.model, torch.float32)
    groups = [record for record in task.records if isinstance(record, Group)]
    dropped = Dropped()
    places = min(max_length, room(model))
    made = judged_trees(tokenizer, groups, "pairs", max_length=places, dropped=dropped)
    trees = [tree for tree in made if tree is not None and tree.info.get("pairs")]
    if not trees:
        raise KilterError(f"Nothing is left to compare: {dropped}; give other data, or raise max_length.")
    if left := len(groups) - len(trees):
        task.notes.append(f"{left} of {len(groups)} records give nothing to compare and are left out.")
    task.say(task.notes)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)  # type: ignore[arg-type]
    features = states(Valuer(model), trees, micro_tokens, device)
    scale = max(float(x.norm(dim=1).max()) for x in features)
    if not 0 < scale < math.inf:
        raise KilterError(f"The hidden states of '{task.model}' have a norm of {scale}; take another model.")
    features = [x / scale for x in features]
    orders = [torch.tensor(tree.info["order"], dtype=torch.float64) for tree in trees]
    theta = maximum_likelihood(features, orders, likelihood=likelihood, bound=bound)
    reference = torch.cat(features).mean(0)
    told = {"dimensions": len(theta), "comparisons": len(trees), "bound": bound, "delta": delta, "ridge": ridge}
    f = confidence_width if confidence_width is not None else width(**told, constant=constant)  # type: ignore[arg-type]
    root = inverse_root(covariance(features), ridge) * f
    head: Any = model.score
    with torch.no_grad():
        head.weight.copy_(theta[None].to(head.weight) / scale)
    doubt = {"root": root / scale, "reference": reference * scale, "level": theta @ reference}
    with replacing(task.out / DOUBT) as temporary:
        save_file({name: x.float().contiguous() for name, x in doubt.items()}, temporary)
    scores = [x @ theta for x in features]
    right = [accuracy(r, o) for r, o in zip(scores, orders, strict=True)]
    loss = float(negative_log_likelihood(theta, together(features, orders), likelihood))
    doubts = torch.cat([((x - reference) @ root).norm(dim=1) for x in features])
    line = {"step": 1, "loss": loss, "accuracy": sum(right) / len(right), "norm": float(theta.norm()), "width": f}
    line |= {"mean_doubt": float(doubts.mean()), "most_doubt": float(doubts.max())}
    tokens = sum(len(tree) for tree in trees)
    return task.finish(model.cpu(), tokenizer, losses=[loss], tokens=tokens, started=started, lines=[line])


@torch.no_grad()
def states(valuer: Valuer, trees: Sequence[Tree], micro_tokens: int, device: torch.device) -> list[Tensor]:
    """Return the hidden states [K, H] at the ends of each tree's responses, in double precision."""
    found: list[Tensor] = [torch.empty(0)] * len(trees)
    for hand in fill([len(tree) for tree in trees], micro_tokens):
        rows = valuer.states(collate([trees[i] for i in hand]).to(device)).double().cpu()
        for i, part in zip(hand, rows.split([len(trees[i].responses) for i in hand]), strict=True):
            found[i] = part
    return found


def accuracy(rewards: Tensor, order: Tensor) -> float:
    """Return the share of a comparison's unequal pairs that `rewards` [K] order as `order` [K]; ties count half."""
    lead = (rewards[:, None] - rewards)[order[:, None] > order]
    return float(((lead > 0).double() + 0.5 * (lead == 0).double()).mean())
