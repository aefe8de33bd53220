"""From what a model said to numbers: filters, exact match, and the choices that it finds likeliest."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kilter.errors import KilterError, nearest
from kilter.evaluation import matching, mathematics
from kilter.evaluation.likelihood import best
from kilter.evaluation.tasks.form import Filters, Metric, Row, Task
from kilter.evaluation.truthfulqa import mc1, mc2

INVALID = "[invalid]"
Outcomes = dict[str, float]


def regex(text: str, *, regex_pattern: str, group_select: int = 0, fallback: str = INVALID) -> str:
    """The `group_select`-th match, of groups the first that is not empty; `fallback` where there is none."""
    found = re.findall(regex_pattern, text)
    if not found or not -len(found) <= group_select < len(found):
        return fallback
    match = found[group_select]
    if isinstance(match, tuple):
        match = next((group for group in match if group), fallback)
    return str(match).strip()


FILTERS: dict[str, Callable[..., str]] = {
    "regex": regex,
    "take_first": lambda text: text,
    "remove_whitespace": lambda text: text.strip(),
    "lowercase": lambda text: text.lower(),
    "uppercase": lambda text: text.upper(),
    "map": lambda text, *, mapping_dict, default_value=INVALID: str(mapping_dict.get(text, default_value)),
}


def filtered(text: str, filters: Filters) -> str:
    """Return `text` after the filters of one view of it."""
    for step in filters.filter:
        options = dict(step)
        name = options.pop("function", "")
        if name not in FILTERS:
            raise KilterError(
                f"Unknown filter '{name}'.{nearest(str(name), FILTERS) or ' Known: ' + ', '.join(FILTERS)}"
            )
        try:
            text = FILTERS[name](text, **options)
        except TypeError as error:
            raise KilterError(f"The filter '{name}' does not take its options: {error}.") from None
    return text


def exact_match(answer: str, gold: str, metric: Metric) -> float:
    """Return 1 where the two are the same text, after the metric's expressions were taken out of both, else 0."""
    one, other = answer, gold
    for pattern in metric.regexes_to_ignore:
        one, other = re.sub(pattern, "", one), re.sub(pattern, "", other)
    if metric.ignore_case:
        one, other = one.lower(), other.lower()
    for ignored, letters in (
        (metric.ignore_punctuation, string.punctuation),
        (metric.ignore_numbers, string.digits),
    ):
        if ignored:
            one, other = (text.translate(str.maketrans("", "", letters)) for text in (one, other))
    return float(one == other)


def of_choices(task: Task, choices: Sequence[str], logprobs: Sequence[float], gold: Sequence[int]) -> Outcomes:
    """Return acc, acc_norm and acc_bytes, as far as the task has them: whether the likeliest choice is right.

    Of them acc takes the summed log-prob, acc_norm that by character and acc_bytes that by byte. The first of several
    equally likely choices counts.
    """
    values = {
        "acc": list(logprobs),
        "acc_norm": [value / max(1, len(text)) for value, text in zip(logprobs, choices, strict=True)],
        "acc_bytes": [value / max(1, len(text.encode())) for value, text in zip(logprobs, choices, strict=True)],
    }
    wanted = [metric.metric for metric in task.metric_list if metric.metric in values] or ["acc"]
    return {name: float(best(values[name]) in gold) for name in wanted}


def of_truths(task: Task, choices: Sequence[str], logprobs: Sequence[float], gold: Sequence[int]) -> Outcomes:
    """Return TruthfulQA's mc2, the share of probability on true answers, or mc1 as acc."""
    labels = [at in gold for at in range(len(choices))]
    return {"acc": mc2(logprobs, labels) if task.task.endswith("mc2") else mc1(logprobs, labels)}


def of_text(task: Task, text: str, gold: Sequence[str], row: Mapping[str, Any]) -> Outcomes:
    """Return exact_match of what was written: of each view where the task has several, the first without a name."""
    if task.process_results:
        return READINGS[task.process_results](text, gold, row)
    metric = next((each for each in task.metric_list if each.metric == "exact_match"), Metric(metric="exact_match"))
    views = task.filter_list or [Filters(name="none", filter=[])]
    found = {}
    for at, view in enumerate(views):
        answer = filtered(text, view)
        right = max(exact_match(answer, each, metric) for each in gold)
        found["exact_match" if at == 0 else f"exact_match_{view.name.replace('-', '_')}"] = right
    return found


def _equivalent(text: str, gold: Sequence[str], row: Row) -> Outcomes:
    answer = mathematics.answer(text)
    return {"exact_match": float(any(mathematics.same(answer, mathematics.boxed(each) or each) for each in gold))}


def _letters(text: str, gold: Sequence[str], row: Row) -> Outcomes:
    """AGIEval's several right answers: the set of letters has to be the very same."""
    return {"acc": float(letters(text) == letters("".join(gold)) != set())}


def letters(text: str) -> set[str]:
    """Return the capital letters A to F that stand alone or with one another, such as AC or (A)(C)."""
    found = re.search(r"(?<![A-Za-z])[A-F](?:[\s,，、()（）]*[A-F])*(?![A-Za-z])", text)
    return set(re.findall("[A-F]", found.group())) if found else set()


def _yes_or_no(text: str, gold: Sequence[str], row: Row) -> Outcomes:
    found = re.search(r"\b(yes|no)\b", text.lower())
    return {"exact_match": float(found is not None and found.group(1) == gold[0].strip().lower())}


def _chosen(text: str, gold: Sequence[str], row: Row) -> Outcomes:
    """A letter in generated text; without one the item is wrong in acc and not in acc_valid."""
    found = matching.letter(text, "ABCDEFGHIJ")
    right = float(found is not None and found == gold[0])
    return {"acc": right} | ({"acc_valid": right} if found is not None else {})


READINGS: dict[str, Callable[[str, Sequence[str], Any], Outcomes]] = {
    "mathematics": _equivalent,
    "letters": _letters,
    "yes-or-no": _yes_or_no,
    "letter": _chosen,
}
CHOICES: dict[str | None, Callable[[Task, Sequence[str], Sequence[float], Sequence[int]], Outcomes]] = {
    None: of_choices,
    "truthfulqa": of_truths,
}
