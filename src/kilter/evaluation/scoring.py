"""From a judge's stored words to numbers: pure functions of a sample, so that any run can be scored again.

A judged sample holds `judgements` (feedback/judge.py) and `scoring`, the name of one of the functions here. An answer
of which nothing could be read has no score: it is counted in judge:parsed and is no tie, no zero and no pass.

Biases are gaps from -1 to 1, of which 0 is none. Of verdicts: how much oftener the judge prefers what was shown first
(judge:position), the padded answer (judge:verbosity), the one laid out as a list (judge:format), the one that it is
told is its own (judge:self), than the converse. Of ratings: the change of the rating over the width of the scale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kilter.errors import KilterError, nearest
from kilter.evaluation.result import DIMENSIONS, Dimension
from kilter.evaluation.rows import Row
from kilter.feedback.judge import HIGHEST, LOWEST, Judgement

Outcomes = dict[str, float]
BIASES = ("judge:position", "judge:verbosity", "judge:format", "judge:self")
TOLD = (*BIASES, "judge:conflict", "judge:longer", "judge:parsed")

for _dimension in (
    Dimension("score", "Judge's rating", "higher", "number", "The judge's mean rating of the answers."),
    Dimension("relative", "Relative score", "higher", "number", "Sum of the scores over that of the baseline's."),
    Dimension("baseline_score", "Baseline's rating", "zero", "number", "The judge's mean rating of the baseline."),
    Dimension("win_rate", "Win rate", "higher", "share", "Share of comparisons won, a tie counting one half."),
    Dimension("position", "Position bias", "zero", "gap", "Preference of the judge for what it is shown first."),
    Dimension("verbosity", "Verbosity bias", "zero", "gap", "Preference for the same answer said twice over."),
    Dimension("format", "Format bias", "zero", "gap", "Preference for the same answer laid out as a list."),
    Dimension("self", "Self-preference", "zero", "gap", "Preference for an answer it is told to have written."),
    Dimension("conflict", "Position conflict", "lower", "share", "Pairs judged otherwise in the other order."),
    Dimension("longer", "Longer answers preferred", "zero", "gap", "Wins of the longer answer less of the shorter."),
    Dimension("parsed", "Judgements read", "higher", "share", "The judge's texts in which a verdict was found."),
):
    DIMENSIONS.setdefault(_dimension.name, _dimension)


def rated(sample: Row) -> Outcomes:
    """Score a sample whose answers were rated: score, turn_1 ... where there are several, and the biases."""
    told = judgements(sample)
    turns = sorted({one.turn for one in told})
    means = {turn: mean(values(told, turn=turn)) for turn in turns}
    known = {turn: value for turn, value in means.items() if value is not None}
    found: Outcomes = {}
    if known:
        found["score"] = sum(known.values()) / len(known)
        sample.setdefault("weights", {})["score"] = float(len(known))
        if len(turns) > 1:
            found |= {f"turn_{turn}": value for turn, value in known.items()}
        found |= _by_category(sample, found["score"])
    low, high = sample.get("scale") or (LOWEST, HIGHEST)
    width = high - low
    for name in ("verbosity", "format"):
        changes = [
            (changed - before) / width
            for turn in turns
            if (changed := mean(values(told, name, turn))) is not None and (before := means[turn]) is not None
        ]
        found |= _entered(f"judge:{name}", changes)
    claimed = [
        (own - other) / width
        for turn in turns
        if (own := mean(values(told, "self own", turn))) is not None
        and (other := mean(values(told, "self other", turn))) is not None
    ]
    return found | _entered("judge:self", claimed) | _parsed(told)


def compared(sample: Row) -> Outcomes:
    """Score a sample whose answer was compared with another's: win_rate, turns, and the biases.

    `merge` of the sample says what becomes of two orders: a win only where both agree, else a tie; or the mean.
    """
    told = judgements(sample)
    merge = str(sample.get("merge", "agree"))
    turns = sorted({one.turn for one in told})
    shares = {turn: _won(told, merge, turn) for turn in turns}
    known = {turn: value for turn, value in shares.items() if value is not None}
    found: Outcomes = {}
    if known:
        found["win_rate"] = sum(known.values()) / len(known)
        sample.setdefault("weights", {})["win_rate"] = float(len(known))
        if len(turns) > 1:
            found |= {f"turn_{turn}": value for turn, value in known.items()}
        found |= _by_category(sample, found["win_rate"])
        found |= _longer(sample, known) | _both(sample, told)
    leans, conflicts = [], []
    for turn in turns:
        orders = by_order(told, "", turn)
        if len(orders) < 2:
            orders = by_order(told, "position", turn)
        if len(orders) == 2 and (pair := _shown_first(orders)) is not None:
            leans.append(sum(pair) - 1)
            conflicts.append(float(_said(pair[0]) != _said(1 - pair[1])))
    found |= _entered("judge:position", leans) | _entered("judge:conflict", conflicts)
    for name in ("verbosity", "format"):
        won = [value for turn in turns if (value := share(told, "mean", name, turn)) is not None]
        found |= _entered(f"judge:{name}", [2 * value - 1 for value in won])
    claimed = [
        own - other
        for turn in turns
        if (own := share(told, "mean", "self own", turn)) is not None
        and (other := share(told, "mean", "self other", turn)) is not None
    ]
    return found | _entered("judge:self", claimed) | _parsed(told)


def level(sample: Row) -> Outcomes:
    """Score a sample whose answer was put on a level from A (4) to D (1): score, and level:A to level:D as shares."""
    found = rated(sample)
    said = values(judgements(sample))
    if said:
        found |= {f"level:{letter}": said.count(4 - at) / len(said) for at, letter in enumerate("ABCD")}
    return found


def skills(sample: Row) -> Outcomes:
    """Score a sample by several skills: score, skill:NAME, and the mean of each of the sample's `groups` of skills."""
    found = rated(sample)
    tables = [one.value for one in judgements(sample) if one.ok and not one.probe and isinstance(one.value, dict)]
    wanted: dict[str, str] = {_name(skill): str(skill) for skill in sample.get("skills") or []}
    told: dict[str, list[float]] = {}
    for table in tables:
        for skill, value in table.items():
            if not wanted or _name(skill) in wanted:
                told.setdefault(wanted.get(_name(skill), str(skill)), []).append(float(value))
    means = {skill: sum(some) / len(some) for skill, some in told.items()}
    if means:
        found["score"] = sum(means.values()) / len(means)
    else:
        found.pop("score", None)
    found |= {f"skill:{skill}": value for skill, value in means.items()}
    for group, members in (sample.get("groups") or {}).items():
        found |= _entered(group, [means[skill] for skill in members if skill in means])
    return found


def _name(skill: object) -> str:
    return "".join(character for character in str(skill).lower() if character.isalnum())


SCORING: dict[str, Callable[[Row], Outcomes]] = {"rated": rated, "compared": compared, "level": level, "skills": skills}


def scored(sample: Row) -> Row:
    """Enter a judged sample's outcomes, whatever they were before. Raises KilterError for one of an unknown kind."""
    name = str(sample.get("scoring"))
    if name not in SCORING:
        raise KilterError(f"A sample is scored as '{name}', which is not known.{nearest(name, SCORING)}")
    sample.pop("weights", None)
    sample["outcomes"] = SCORING[name](sample)
    return sample


def nest(samples: Sequence[Row]) -> None:
    """Enter in scored samples the means of means that they say they are in: `levels`, from the widest to the narrowest.

    The parts of a mean count the same, those of the narrowest being the families. The outcome of each is the score (or
    win_rate) and its weight what the sample is of the mean.
    """
    known = [s for s in samples if s.get("levels") and {"score", "win_rate"} & set(s["outcomes"])]
    paths = [(*sample["levels"], sample["family"]) for sample in known]
    parts: dict[tuple[str, ...], set[str]] = {}
    for path in paths:
        for at in range(1, len(path)):
            parts.setdefault(path[:at], set()).add(path[at])
    counts = Counter(paths)
    for sample, path in zip(known, paths, strict=True):
        share = 1 / counts[path]
        for at in range(len(path) - 1, 0, -1):
            share /= len(parts[path[:at]])
            name = path[at - 1]
            sample["outcomes"][name] = sample["outcomes"].get("win_rate", sample["outcomes"].get("score"))
            sample.setdefault("weights", {})[name] = share


def judgements(sample: Row) -> list[Judgement]:
    """Return a sample's judgements; raise KilterError where one of them is none."""
    return [Judgement.from_json(row) for row in sample.get("judgements") or []]


def values(told: Iterable[Judgement], probe: str = "", turn: int = 1) -> list[float]:
    """Return the ratings that could be read."""
    return [plain(one.value) for one in told if one.ok and one.probe == probe and one.turn == turn]


def plain(value: Any) -> float:
    """Return a judgement's value as one number; of a table of scores their mean."""
    return sum(value.values()) / len(value) if isinstance(value, dict) else float(value)


def mean(numbers: Sequence[float]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None


def by_order(told: Iterable[Judgement], probe: str = "", turn: int = 1) -> dict[bool, float | None]:
    """Return the mean share of the first answer in each order that was asked, None where none of it could be read."""
    orders: dict[bool, list[float]] = {}
    for one in told:
        if one.probe == probe and one.turn == turn:
            some = orders.setdefault(one.swapped, [])
            if one.ok and one.share is not None:
                some.append(one.share)
    return {swapped: mean(some) for swapped, some in orders.items()}


def share(told: Iterable[Judgement], merge: str, probe: str = "", turn: int = 1) -> float | None:
    """Return the first answer's share of the win over the orders; None where an order could not be read.

    `agree`: a win where every order says so, a loss where every order says so, else a tie. `mean`: the mean share.
    """
    orders = list(by_order(told, probe, turn).values())
    known = [value for value in orders if value is not None]
    if not known or len(known) < len(orders):
        return None
    if merge == "mean" or len(known) == 1:
        return sum(known) / len(known)
    return _said(known[0]) if len({_said(value) for value in known}) == 1 else 0.5


def _won(told: Sequence[Judgement], merge: str, turn: int) -> float | None:
    """The first answer's share of a turn: of scores, who has the higher mean over orders and evidences."""
    won = share(told, merge, turn=turn)
    scores = [one.scores for one in told if one.ok and not one.probe and one.turn == turn]
    if won is None or not scores or None in scores:
        return won
    first, second = (sum(pair[k] for pair in scores if pair) / len(scores) for k in (0, 1))
    return _said(0.5 + (first - second) / 100)


def _both(sample: Row, told: Sequence[Judgement]) -> Outcomes:
    """The mean scores of both sides, and their ratio, which weighs by the baseline's score and so is one of sums."""
    pairs = [pair for one in told if one.ok and not one.probe and (pair := one.scores) is not None]
    if not pairs:
        return {}
    first, second = (sum(pair[k] for pair in pairs) / len(pairs) for k in (0, 1))
    found = {"score": first, "baseline_score": second}
    if second > 0:
        sample.setdefault("weights", {})["relative"] = second
        found["relative"] = first / second
    return found


def _said(value: float) -> float:
    """Who has the larger share: 1, 0, or one half."""
    rounded = round(value, 9)
    return 1.0 if rounded > 0.5 else 0.0 if rounded < 0.5 else 0.5


def _shown_first(orders: dict[bool, float | None]) -> tuple[float, float] | None:
    """What was shown first won so much of the two orders; None where one could not be read."""
    first, second = orders.get(False), orders.get(True)
    return None if first is None or second is None else (first, 1 - second)


def _longer(sample: Row, known: dict[int, float]) -> Outcomes:
    """1 where the longer answer won, -1 where the shorter did; nothing for ties and answers of one length."""
    mine, theirs = sample.get("responses") or [sample.get("response")], sample.get("baseline") or []
    leans = []
    for turn, won in known.items():
        if turn <= min(len(mine), len(theirs)) and won != 0.5:
            lead = len(str(mine[turn - 1])) - len(str(theirs[turn - 1]))
            if lead:
                leans.append(1.0 if (won > 0.5) == (lead > 0) else -1.0)
    return _entered("judge:longer", leans)


def _by_category(sample: Row, value: float) -> Outcomes:
    return {f"category:{sample['family']}": value} if sample.get("family") else {}


def _entered(name: str, numbers: Sequence[float]) -> Outcomes:
    return {name: sum(numbers) / len(numbers)} if numbers else {}


def _parsed(told: Sequence[Judgement]) -> Outcomes:
    return {"judge:parsed": sum(one.ok for one in told) / len(told)} if told else {}


def unread(samples: Iterable[dict[str, Any]]) -> list[str]:
    """Return sentences on judgements that could not be read and on answers that have no score for that."""
    told = [(sample, one) for sample in samples for one in judgements(sample)]
    bad = [one for _, one in told if not one.ok]
    if not bad:
        return []
    bare = {id(sample) for sample, one in told if not {"score", "win_rate"} & set(sample["outcomes"])}
    of = len({id(sample) for sample, _ in told})
    notes = [f"{len(bad):,} of {len(told):,} judgements hold no verdict (first: {bad[0].text[:60]!r})."]
    if bare:
        notes.append(f"{len(bare):,} of {of:,} answers have no verdict that can be read and are left out of the score.")
    return notes
