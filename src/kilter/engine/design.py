"""Designs of parameter-efficient tuning (Chen et al. 2023, arXiv:2301.01821): which layers get which few weights.

A design is written GROUPING:ALLOCATION:STRATEGIES, for example spindle:uniform:A+L,A+P,A+P+B,P+B+L, which is what the
paper found for T5.

    grouping      how many of the layers each group has, in the order of the forward pass: increasing, uniform,
                  decreasing, spindle (few at both ends), bottleneck (many at both ends), or the numbers: 2-4-4-2
    allocation    how many parameters each layer has: increasing, uniform, decreasing, or a weight for each: 3-1-2-2
    strategies    for each group, of A (adapter), P (prefix), B (BitFit), L (LoRA); - for a group that is not tuned

Sizes (ranks, widths, lengths of prefixes) follow from a budget of parameters: `fit`. What the strategies are in a model
is said in designed.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from kilter.errors import KilterError, nearest

STRATEGIES = "APBL"
GROUPINGS = ("increasing", "uniform", "decreasing", "spindle", "bottleneck")
ALLOCATIONS = ("increasing", "uniform", "decreasing")
FOUND = "spindle:uniform:A+L,A+P,A+P+B,P+B+L"
BUDGET = 0.005
# What a budget may be missed by, as a share of it; in small models the nearest sizes may be further off.
MISS = 0.01

# For each layer, by the key of the part: its size.
Sizes = list[dict[str, int]]
Ideal = list[dict[str, float]]


@dataclass(frozen=True)
class Design:
    """Which strategies each group of layers has, how layers are grouped, and how parameters are dealt out to them."""

    grouping: str
    allocation: str
    groups: tuple[frozenset[str], ...]

    @classmethod
    def read(cls, text: str) -> Design:
        """Return the design that `text` says; raise KilterError where it says none."""
        parts = [part.strip() for part in text.split(":")]
        if len(parts) == 2:
            parts.insert(1, "uniform")
        if len(parts) != 3:
            raise KilterError(f"'{text}' is no design; write grouping:allocation:strategies, such as {FOUND}.")
        grouping, allocation, said = parts
        for name, known in ((grouping, GROUPINGS), (allocation, ALLOCATIONS)):
            if name not in known and not re.fullmatch(r"[1-9]\d*(-[1-9]\d*)*", name):
                raise KilterError(
                    f"'{name}' in the design '{text}' is neither numbers with dashes between nor one of "
                    f"{', '.join(known)}.{nearest(name, known)}"
                )
        groups = tuple(frozenset() if each.strip() == "-" else _strategies(each, text) for each in said.split(","))
        if not any(groups):
            raise KilterError(f"The design '{text}' tunes no group; give at least one of them a strategy.")
        if grouping not in GROUPINGS and grouping.count("-") + 1 != len(groups):
            raise KilterError(
                f"The design '{text}' has {grouping.count('-') + 1} groups of layers and strategies for {len(groups)}."
            )
        return cls(grouping, allocation, groups)

    def __str__(self) -> str:
        said = ["+".join(s for s in STRATEGIES if s in group) or "-" for group in self.groups]
        return f"{self.grouping}:{self.allocation}:{','.join(said)}"

    def sizes(self, layers: int) -> list[int]:
        """Return how many of so many layers each group has; raise KilterError where they are too few or too many."""
        if self.grouping in GROUPINGS:
            return grouped(self.grouping, layers, len(self.groups))
        sizes = [int(number) for number in self.grouping.split("-")]
        if sum(sizes) != layers:
            raise KilterError(f"The groups {self.grouping} are of {sum(sizes)} layers, and the model has {layers}.")
        return sizes

    def of_layers(self, layers: int) -> list[frozenset[str]]:
        """Return the strategies of each of so many layers."""
        sizes = zip(self.sizes(layers), self.groups, strict=True)
        return [group for size, group in sizes for _ in range(size)]

    def weights(self, layers: int) -> list[float]:
        """Return what share of the parameters each layer is to have, before they are normed; 0 where none is tuned."""
        if self.allocation in ALLOCATIONS:
            rising = {"increasing": 1, "uniform": 0, "decreasing": -1}[self.allocation]
            given = [1.0 if not rising else float(i + 1 if rising > 0 else layers - i) for i in range(layers)]
        else:
            given = [float(number) for number in self.allocation.split("-")]
            if len(given) != layers:
                raise KilterError(f"The design '{self}' weighs {len(given)} layers, and the model has {layers}.")
        return [weight if own else 0.0 for weight, own in zip(given, self.of_layers(layers), strict=True)]


def _strategies(said: str, text: str) -> frozenset[str]:
    letters = [letter.strip().upper() for letter in said.split("+")]
    if wrong := [letter for letter in letters if len(letter) != 1 or letter not in STRATEGIES]:
        raise KilterError(
            f"'{wrong[0]}' in the design '{text}' is no strategy; "
            "write A (adapter), P (prefix), B (BitFit), L (LoRA) with + between, or - for none."
        )
    return frozenset(letters)


def grouped(pattern: str, layers: int, groups: int) -> list[int]:
    """Return how many layers each group has by one of GROUPINGS; each has at least one, together all.

    Increasing and decreasing: in proportion to 1, 2, 3 ...; where the layers are too few for that, neighbours may be
    equal. Spindle: N_1 = N_G, and twice as many in each inner group; bottleneck the other way round. What cannot
    be dealt out so goes to the inner groups of a spindle, the ends of a bottleneck, the later one first.

    Raises KilterError for fewer layers than groups.
    """
    if layers < groups:
        raise KilterError(f"The model has {layers} layers, too few for {groups} groups; give fewer groups.")
    if pattern == "decreasing":
        return grouped("increasing", layers, groups)[::-1]
    if pattern == "uniform" or (groups < 3 and pattern in ("spindle", "bottleneck")):
        return [(i + 1) * layers // groups - i * layers // groups for i in range(groups)]
    if pattern == "spindle":
        end = max(1, layers // (2 * (groups - 1)))
        return [end, *grouped("uniform", layers - 2 * end, groups - 2), end]
    if pattern == "bottleneck":
        inner = max(1, layers // (groups + 2))
        ends = layers - inner * (groups - 2)
        return [ends // 2, *[inner] * (groups - 2), ends - ends // 2]
    ideal = [2 * layers * (i + 1) / (groups * (groups + 1)) for i in range(groups)]
    sizes = [max(1, int(each)) for each in ideal]
    while sum(sizes) != layers:
        up = sum(sizes) < layers
        order = sorted(range(groups), key=lambda i: (ideal[i] - sizes[i], i), reverse=up)
        sizes[next(i for i in order if up or sizes[i] > 1)] += 1 if up else -1
    return sorted(sizes)


@dataclass(frozen=True)
class Part:
    """Something that a layer may be given, of `fixed` + `unit` * size parameters; without a unit its size is 1."""

    strategy: str
    module: str
    fixed: int
    unit: int

    @cached_property
    def key(self) -> str:
        """What it is called in Sizes."""
        return f"{self.strategy}:{self.module}"

    @property
    def least(self) -> int:
        return self.fixed + self.unit


def count(sizes: Sizes, layers: Sequence[Sequence[Part]]) -> int:
    """Return how many parameters a design of these sizes has."""
    found = 0
    for own, parts in zip(sizes, layers, strict=True):
        found += sum(part.fixed + part.unit * own[part.key] for part in parts if part.key in own)
    return found


def fit(design: Design, layers: Sequence[Sequence[Part]], budget: int) -> Sizes:
    """Return sizes by which `design` has about `budget` parameters; `layers` hold the parts that each may be given.

    A layer's share follows the allocation; within it the strategies that have a size share what BitFit leaves. Sizes
    are rounded so that all together come nearest to the budget. A layer whose least sizes are more than its share has
    those, and so has one with BitFit alone: the others share the rest.

    Raises KilterError where the least sizes are more than the budget.
    """
    strategies = design.of_layers(len(layers))
    chosen = [[part for part in layer if part.strategy in own] for layer, own in zip(layers, strategies, strict=True)]
    for own, parts in zip(strategies, chosen, strict=True):
        if lacking := own - {part.strategy for part in parts}:
            raise KilterError(f"A layer has no place for {sorted(lacking)[0]} of the design '{design}'; leave it out.")
    shares = _shares(design, chosen, budget)
    ideal = [_ideal(parts, share) for parts, share in zip(chosen, shares, strict=True)]
    sizes = [{part.key: max(1, int(own[part.key])) for part in parts} for own, parts in zip(ideal, chosen, strict=True)]
    places = [(i, part) for i, parts in enumerate(chosen) for part in parts if part.unit]
    for i, share in enumerate(shares):
        here = [(i, part) for number, part in places if number == i]
        _approach(share - count([sizes[i]], [layers[i]]), here, sizes, ideal)
    gap = _approach(budget - count(sizes, layers), places, sizes, ideal)
    if -gap > tolerance(chosen, budget):
        raise KilterError(
            f"The design '{design}' has at least {budget - gap:,.0f} parameters in this model, and its budget is "
            f"{budget:,}; raise design_budget, or give fewer strategies."
        )
    return sizes


def _approach(gap: float, places: Sequence[tuple[int, Part]], sizes: Sequence[dict[str, int]], ideal: Ideal) -> float:
    """Take steps of sizes at these places, the most due first, for as long as they close the gap; return what is left.

    `gap` are the parameters that are still to be given, below 0 those that are too many.
    """
    while True:
        step = 1 if gap > 0 else -1
        nearer = [(i, part) for i, part in places if abs(gap - step * part.unit) < abs(gap)]
        better = [(i, part) for i, part in nearer if step > 0 or sizes[i][part.key] > 1]
        if not better:
            return gap
        i, part = max(better, key=lambda at: step * (ideal[at[0]][at[1].key] - sizes[at[0]][at[1].key]))
        sizes[i][part.key] += step
        gap -= step * part.unit


def fits(design: Design, layers: Sequence[Sequence[Part]], budget: int) -> bool:
    """Whether there are sizes by which `design` has the budget's number of parameters, as nearly as sizes allow."""
    try:
        found = fit(design, layers, budget)
    except KilterError:
        return False
    chosen = [[part for part in parts if part.key in own] for own, parts in zip(found, layers, strict=True)]
    return abs(count(found, layers) - budget) <= tolerance(chosen, budget)


def tolerance(chosen: Sequence[Sequence[Part]], budget: int) -> float:
    """Return what a budget may be missed by: MISS of it, or half of the largest step that sizes can take."""
    return max(MISS * budget, max((part.unit for parts in chosen for part in parts), default=0) / 2)


def _shares(design: Design, chosen: Sequence[Sequence[Part]], budget: int) -> list[float]:
    """Return the parameters that each layer is to have."""
    weights = design.weights(len(chosen))
    least = [float(sum(part.least for part in parts)) for parts in chosen]
    shares, open_, left = list(least), {i for i, weight in enumerate(weights) if weight}, float(budget)
    while open_:
        total = sum(weights[i] for i in open_)
        tight = {i for i in open_ if left * weights[i] / total <= least[i] or not any(part.unit for part in chosen[i])}
        if not tight:
            for i in open_:
                shares[i] = left * weights[i] / total
            break
        left -= sum(least[i] for i in tight)
        open_ -= tight
    return shares


def _ideal(parts: Sequence[Part], share: float) -> dict[str, float]:
    """Return the size of each part as a number that is not yet whole."""
    sized = {part.strategy for part in parts if part.unit}
    left = share - sum(part.fixed for part in parts if not part.unit)
    found: dict[str, float] = {}
    for part in parts:
        alike = [other for other in parts if other.strategy == part.strategy]
        room = left / max(1, len(sized)) - sum(other.fixed for other in alike)
        found[part.key] = max(1.0, room / sum(other.unit for other in alike)) if part.unit else 1.0
    return found
