"""Texts that a judge rates: responses that the records hold, or a model's answers; and whether people agree.

Where a record's responses have people's scores, the judge's are correlated with them, record by record: Spearman's rho
and Kendall's tau among the responses to one prompt, averaged over the prompts (G-Eval's summary level). A prompt whose
responses all have the same score, or from whom all have the same, says nothing and is skipped.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from scipy import stats

from kilter.errors import KilterError, SetAside
from kilter.evaluation import probes
from kilter.evaluation.judging import Way, evaluated
from kilter.evaluation.probes import Rate
from kilter.evaluation.questions import REFERENCES, language_of
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import Row
from kilter.evaluation.scoring import scored
from kilter.evaluation.statistics import interval
from kilter.feedback.judge import Case, case_of
from kilter.models.each import each
from kilter.models.protocol import Model
from kilter.records import Demonstration, Group, Message, Prompt

Records = Sequence[Prompt | Demonstration | Group]


@dataclass(frozen=True, slots=True)
class Text:
    """A response to rate. `human` is what people gave it, `record` whose response it is."""

    id: str
    record: str
    messages: tuple[Message, ...]
    case: Case
    response: str | None
    human: float | None = None
    category: str = ""

    def sample(self, response: str) -> Row:
        """Return the beginning of what is kept of `response` to this."""
        return {
            "id": self.id,
            "prompt": [m.to_json() for m in self.messages],
            "response": response,
            "family": self.category,
            "language": language_of(response),
        }


def texts(records: Records, model: Model | None) -> list[Text]:
    """Return what is to be rated: with a model its answer to each prompt, else each response that a record holds.

    Raises KilterError where there is no response and no model to write one.
    """
    found: list[Text] = []
    for record in records:
        given: Sequence[str | None]
        scores: Sequence[float] | None = None
        if isinstance(record, Group):
            messages, given, scores = record.prompt, record.responses, record.order()
        elif isinstance(record, Demonstration) and record.messages[-1].role == "assistant":
            messages, given = record.messages[:-1], [record.messages[-1].content]
        else:
            messages, given = record.messages, []
        if not messages:
            continue
        if model is not None:
            given, scores = [None], None
        reference = str(next((record.meta[name] for name in REFERENCES if record.meta.get(name)), ""))
        category = str(record.meta.get("family") or record.meta.get("category") or "")
        case = case_of(messages, reference)
        for k, response in enumerate(given):
            name = record.id if len(given) == 1 else f"{record.id}/{k}"
            human = None if scores is None else float(scores[k])
            found.append(Text(name, record.id, tuple(messages), case, response, human, category))
    if not found:
        raise KilterError("The records hold no responses to rate; give some that do, or a model that answers them.")
    seen: Counter[str] = Counter()
    for at, text in enumerate(found):
        seen[text.id] += 1
        if seen[text.id] > 1:
            found[at] = replace(text, id=f"{text.id}#{seen[text.id]}")
    return found


async def rate_all(
    found: Sequence[Text],
    rate: Rate,
    way: Way,
    *,
    suite: str,
    model: Model | None,
    about: Row,
    notes: Sequence[str] = (),
) -> Evaluation:
    """Return the ratings of `found` by `rate` as an evaluation, `about` being what each sample holds beside."""
    if way.n is not None:
        found = found[: way.n]
    step = max(1, len(found) // way.probes) if way.probes else 0
    probed = {text.id for text in found[::step][: way.probes]} if step else set()

    async def one(text: Text) -> Row:
        response = text.response
        if response is None:
            assert model is not None
            [answer] = await model.ask(list(text.messages), way.sampling)
            if answer.finish_reason == "filter":
                raise SetAside("The server's filter kept a part of the answer back.", "filtered")
            response = answer.text
        plain = rate(text.case, response, "")
        if text.id in probed:
            told, more = await asyncio.gather(plain, probes.of_ratings(rate, text.case, response))
            told = [*told, *more]
        else:
            told = await plain
        sample: Row = text.sample(response) | {
            "scoring": "rated",
            "judgements": [judgement.to_json() for judgement in told],
            "cluster": text.record,
            **about,
        }
        if text.response is not None:
            sample["given"] = True
        if text.human is not None:
            sample["human"] = text.human
        return scored(sample)

    samples = await each(list(found), one, label=suite)
    name = model.name if model is not None else ""
    evaluation = evaluated(name, samples, suite=suite, seed=way.seed, notes=notes)
    said, more = correlated(evaluation.samples)
    evaluation.measures = said | evaluation.measures
    evaluation.notes += more
    return evaluation


def correlated(samples: Sequence[dict[str, Any]], name: str = "score") -> tuple[dict[str, Measure], list[str]]:
    """Return spearman and kendall with people's scores, averaged over records, and what was skipped."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for sample in samples:
        if "human" in sample and name in sample["outcomes"]:
            groups.setdefault(str(sample["cluster"]), []).append((sample["outcomes"][name], sample["human"]))
    if not groups:
        return {}, []
    told = [correlation(pairs) for pairs in groups.values()]
    known = [pair for pair in told if pair is not None]
    skipped = len(told) - len(known)
    notes = (
        [f"{skipped:,} of {len(told):,} records do not tell their responses apart and are skipped."] if skipped else []
    )
    if not known:
        return {}, notes
    return {"spearman": interval([rho for rho, _ in known]), "kendall": interval([tau for _, tau in known])}, notes


def correlation(pairs: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """Return Spearman's rho and Kendall's tau-b of pairs; None where one of the two sides does not vary."""
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    if len({*a}) < 2 or len({*b}) < 2:
        return None
    return float(stats.spearmanr(a, b).statistic), float(stats.kendalltau(a, b).statistic)
