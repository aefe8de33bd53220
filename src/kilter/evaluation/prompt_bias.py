"""Bias in what a model writes after a prompt about a group: toxicity, sentiment or regard, group against group."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from kilter.errors import KilterError
from kilter.evaluation.kappa import Floats, Ints, many_over_items
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, Row, number, read, sample
from kilter.evaluation.statistics import interval
from kilter.registry import method

# BOLD's prompts by domain; regard's classes as numbers.
BOLD = {"gender": 3204, "race": 7657, "profession": 10195, "religious_ideology": 639, "political_ideology": 1984}
REGARD = {"negative": -1.0, "neutral": 0.0, "positive": 1.0}


@method("prompt-bias", wing="evaluation", paper="arXiv:2101.11718", survey="S1 §8.5, S2 §4.1")
def prompt_bias(*, data: str, resamples: int = 1000, seed: int = 0) -> Evaluation:
    """Compare groups by what a model wrote about them (BOLD, Dhamala et al. 2021; Regard, Sheng et al. 2019).

    For each score that rows have (toxicity, sentiment, regard as negative, neutral or positive, ...):
    SCORE:DOMAIN/GROUP is the mean over a group's texts; SCORE:DOMAIN:range the highest group's mean less the lowest,
    and SCORE:DOMAIN:spread the standard deviation over groups, both 0 where all are treated alike. Texts of one prompt
    are one cluster. Noise alone makes range and spread positive, so their intervals are shown with what equal groups
    would give: SCORE:DOMAIN:chance, the mean range where texts are dealt to the groups at random.

    Rows: domain, group, prompt (or prompt_id), and scores {name: number or regard's word}.

    Options:
        data: file, folder or hub id of scored texts
        resamples: resamples of the bootstrap, and random deals
        seed: seed of both
    """
    rows, notes = read(data, ("group", "scores"))
    left_out = LeftOut()
    texts = [found for at, row in enumerate(rows) for found in scored(row, at, left_out)]
    if not texts:
        raise KilterError(f"{data} holds no score that can be used; {' '.join(left_out.notes('scores', len(rows)))}")
    measures: dict[str, Measure] = {}
    for name, domain in sorted({(text[0], text[1]) for text in texts}):
        part = [text for text in texts if text[:2] == (name, domain)]
        measures |= of_domain(part, f"{name}:{domain}" if domain else name, resamples, seed)
    samples = [
        sample(f"{at}/{name}", {name: value}, family=f"{domain}/{group}" if domain else group, cluster=prompt)
        for at, (name, domain, group, prompt, value) in enumerate(texts)
    ]
    notes += left_out.notes("scores", len(rows))
    return Evaluation("", measures, samples, suite="prompt-bias", seed=seed, notes=notes)


Text = tuple[str, str, str, str, float]  # score's name, domain, group, prompt, value


def scored(row: Row, at: int, left_out: LeftOut) -> list[Text]:
    """Return a row's scores; one that is no number, and no word of regard's, is counted and left out."""
    given = row.get("scores")
    group = str(row.get("group") or "")
    if not isinstance(given, dict) or not group:
        left_out.add("there are no scores or no group", row.get("id", at))
        return []
    prompt = str(row.get("prompt_id", row.get("prompt", at)))
    found = []
    for name, value in given.items():
        said = REGARD.get(value.strip().lower()) if isinstance(value, str) else None
        known = said if said is not None else number(value)
        if known is None:
            left_out.add("the score is no number", f"{name}: {value!r}")
        else:
            found.append((str(name), str(row.get("domain") or ""), group, prompt, known))
    return found


def of_domain(texts: Sequence[Text], start: str, resamples: int = 1000, seed: int = 0) -> dict[str, Measure]:
    """Return the groups' means, their range and spread, and the range that chance alone makes."""
    groups = sorted({group for _, _, group, _, _ in texts})
    found = {}
    for group in groups:
        part = [(prompt, value) for _, _, g, prompt, value in texts if g == group]
        prompts = [prompt for prompt, _ in part]
        clusters = prompts if len(set(prompts)) < len(prompts) else None
        found[f"{start}/{group}"] = interval([value for _, value in part], clusters=clusters)
    if len(groups) < 2:
        return found
    place = np.array([groups.index(group) for _, _, group, _, _ in texts])
    values = np.array([value for *_, value in texts])
    prompts = [prompt for _, _, _, prompt, _ in texts]
    clusters = prompts if len(set(prompts)) < len(prompts) else None
    spread = partial(_spread, place, values, len(groups))
    both = many_over_items(spread, len(values), resamples=resamples, seed=seed, clusters=clusters)
    found[f"{start}:range"], found[f"{start}:spread"] = both
    rng = np.random.default_rng(seed)
    dealt = [_spread(rng.permutation(place), values, len(groups), np.arange(len(values)))[0] for _ in range(resamples)]
    known = np.array(dealt)[np.isfinite(dealt)]
    low, high = np.quantile(known, (0.025, 0.975))
    found[f"{start}:chance"] = Measure(float(known.mean()), float(low), float(high), len(values))
    return found


def _spread(place: Ints, values: Floats, groups: int, at: Ints) -> Floats:
    n = np.bincount(place[at], minlength=groups)
    if (n == 0).any():
        return np.array([np.nan, np.nan])
    means = np.bincount(place[at], weights=values[at], minlength=groups) / n
    return np.array([means.max() - means.min(), means.std()])
