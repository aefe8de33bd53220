"""FLASK: twelve skills, three of them asked of each instruction, scored 1 to 5 by a rubric of their own."""

from __future__ import annotations

from collections.abc import Sequence

from kilter.errors import KilterError
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, Row, number, read, sample
from kilter.evaluation.statistics import interval
from kilter.evaluation.verdicts import parse
from kilter.registry import method

SKILLS: dict[str, tuple[str, ...]] = {
    "Logical Thinking": ("Logical Robustness", "Logical Correctness", "Logical Efficiency"),
    "Background Knowledge": ("Factuality", "Commonsense Understanding"),
    "Problem Handling": ("Comprehension", "Insightfulness", "Completeness", "Metacognition"),
    "User Alignment": ("Conciseness", "Readability", "Harmlessness"),
}
ALL = tuple(skill for skills in SKILLS.values() for skill in skills)
ABILITY = {skill: ability for ability, skills in SKILLS.items() for skill in skills}
Scored = tuple[Row, str, float]  # what is known of an instruction, a skill, its score


@method("flask", wing="evaluation", paper="arXiv:2307.10928", survey="S1 §8.4, S2 §4.2")
def flask(*, data: str, column: str = "review", questions: str | None = None) -> Evaluation:
    """Score stored FLASK judgements by skill, domain and difficulty (Ye et al. 2024).

    skill:NAME is the mean of a skill over the instructions that are annotated with it and have a score of 1 to 5, what
    is not applicable being left out; ability:NAME the mean of an ability's scores, domain:NAME and difficulty:NAME
    those of an instruction's domain and level, and score the mean of all. Scores of one instruction are one cluster. A
    judgement without a dictionary of scores is left out and counted.

    Rows: idx, and scores {skill: 1 to 5} or the judge's text; skill or metrics (the instruction's), domain,
    difficulty, in the same rows or in the file of the `questions`.

    Options:
        data: file, folder or hub id of judgements
        column: name of the column of the judge's texts
        questions: the benchmark's instructions, with their skills, domain and difficulty
    """
    rows, notes = read(data, ("idx",))
    about = {str(row["idx"]): row for row in (read(questions, ("idx",))[0] if questions else rows)}
    left_out = LeftOut()
    scored: list[Scored] = []
    for row in rows:
        known = about.get(str(row["idx"]), row)
        found = scores_of(row, column)
        if found is None:
            left_out.add("there is no score of a skill to be read", row["idx"])
            continue
        asked = {plain(skill) for skill in known.get("metrics") or known.get("skills") or known.get("skill") or []}
        for skill, value in found.items():
            if plain(skill) in NAMES and (not asked or plain(skill) in asked):
                scored.append((known, NAMES[plain(skill)], value))
    if not scored:
        raise KilterError(f"{data} holds no score of a skill; {' '.join(left_out.notes('judgements', len(rows)))}")
    measures = {"score": mean(scored)}
    names = [*(f"ability:{name}" for name in SKILLS), *(f"skill:{name}" for name in ALL)]
    parts: dict[str, list[Scored]] = {name: [] for name in names}
    levels: dict[str, list[Scored]] = {}
    for item in scored:
        row, skill, _ = item
        parts[f"ability:{ABILITY[skill]}"].append(item)
        parts[f"skill:{skill}"].append(item)
        for name, keys in (("domain", ("domain_labeled", "domain")), ("difficulty", ("difficulty",))):
            for level in next((there for key in keys if (there := texts(row.get(key)))), []):
                levels.setdefault(f"{name}:{level}", []).append(item)
    measures |= {name: mean(part) for name, part in [*parts.items(), *sorted(levels.items())] if part}
    samples = [
        sample(f"{row['idx']}/{skill}", {"score": value}, family=skill, cluster=str(row["idx"]))
        for row, skill, value in scored
    ]
    notes += left_out.notes("judgements", len(rows))
    return Evaluation("", measures, samples, suite="flask", notes=notes)


def scores_of(row: Row, column: str) -> dict[str, float] | None:
    """Return a row's scores by skill, stored or read from the judge's text; None where there are none."""
    given = row.get("scores", row.get("score"))
    if isinstance(given, dict):
        known = {
            str(skill): value for skill, x in given.items() if (value := number(x)) is not None and 1 <= value <= 5
        }
        return known or None
    found: dict[str, float] | None = parse("flask", row.get(column)).value
    return found


def mean(scored: Sequence[Scored]) -> Measure:
    """Return the mean score, the scores of one instruction being one cluster."""
    keys = [str(row["idx"]) for row, _, _ in scored]
    return interval([value for _, _, value in scored], clusters=keys if len(set(keys)) < len(keys) else None)


def plain(skill: object) -> str:
    """Return a skill's name without case, spaces and hyphens; "Commonsense" stands for its whole name."""
    text = str(skill).lower().replace(" ", "").replace("-", "").replace("_", "")
    return {"commonsense": "commonsenseunderstanding"}.get(text, text)


def texts(value: object) -> list[str]:
    """Return the texts of a cell that holds one or several."""
    return [str(x) for x in value] if isinstance(value, list) else [] if value in (None, "") else [str(value)]


NAMES = {plain(skill): skill for skill in ALL}
