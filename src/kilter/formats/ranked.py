"""Several responses to one prompt with what people or models said of them: UltraFeedback and published comparisons."""

from __future__ import annotations

import itertools
from typing import Any

from kilter.formats.cells import cell, flag, is_number, noun, objects, text
from kilter.formats.kinds import lose_signals
from kilter.formats.shape import Losses, Row, Shape, Unreadable, Want
from kilter.records import Group, Message, Record


def _read_ultrafeedback(row: Row, want: Want | None) -> list[Record]:
    """Each completion's score is its fine-grained one, else the overall one, else the mean of its aspects' ratings."""
    completions = objects(row, "completions")
    prompt = [Message("user", text(row, "instruction"))]
    scores = [_score(c) for c in completions]
    known = [s for s in scores if s is not None]
    if known and len(known) < len(scores):
        raise Unreadable("some completions have a score and some have none")
    critiques = [text(c, "critique", "") for c in completions]
    rests = [{k: v for k, v in c.items() if k not in _spoken(c)} for c in completions]
    return [
        Group(
            prompt,
            [text(c, "response") for c in completions],
            known or None,
            critiques=critiques if any("critique" in c for c in completions) else None,
            meta={"completions": rests} if any(rests) else {},
        )
    ]


def _spoken(completion: Row) -> tuple[str, ...]:
    scored_otherwise = is_number(completion.get("fine-grained_score"))
    return ("response", "critique") if scored_otherwise else ("response", "critique", "overall_score")


def _score(completion: Row) -> float | None:
    for name in ("fine-grained_score", "overall_score", "score"):
        if is_number(completion.get(name)):
            return float(completion[name])
    aspects = completion.get("annotations")
    ratings = [a.get("Rating") for a in aspects.values() if isinstance(a, dict)] if isinstance(aspects, dict) else []
    values = [float(r) for r in ratings if isinstance(r, int | float | str) and str(r).replace(".", "", 1).isdigit()]
    return sum(values) / len(values) if values else None


def _write_ultrafeedback(group: Group, losses: Losses) -> list[Row]:
    if [m.role for m in group.prompt] != ["user"]:
        losses.add(group, "the prompt is not one question, which ultrafeedback needs; left out")
        return []
    lose_signals(group, "ultrafeedback", losses, ("scores", "critiques"))
    rests = group.meta.get("completions") or [{}] * len(group.responses)
    completions: list[Row] = []
    for k, response in enumerate(group.responses):
        completion: Row = {**rests[k], "response": response}
        if group.critiques is not None:
            completion["critique"] = group.critiques[k]
        if group.scores is not None and _score(rests[k]) != group.scores[k]:
            completion["overall_score"] = group.scores[k]
            completion.pop("fine-grained_score", None)
        completions.append(completion)
    return [{"instruction": group.prompt[0].content, "completions": completions}]


def _read_webgpt_comparison(row: Row, want: Want | None) -> list[Record]:
    question: Any = cell(row, "question")
    asked = text(question, "full_text") if isinstance(question, dict) else text(row, "question")
    scores = [cell(row, "score_0"), cell(row, "score_1")]
    if not all(is_number(s) for s in scores):
        raise Unreadable("columns 'score_0' and 'score_1' must be numbers")
    return [Group([Message("user", asked)], [text(row, "answer_0"), text(row, "answer_1")], scores)]


def _read_orca(row: Row, want: Want | None) -> list[Record]:
    system = [Message("system", row["system"])] if text(row, "system", "") else []
    prompt = [*system, Message("user", text(row, "question"))]
    return [Group(prompt, [text(row, "chosen"), text(row, "rejected")], ranking=[0, 1])]


def _read_shp(row: Row, want: Want | None) -> list[Record]:
    """Stanford Human Preferences: `labels` is 1 where A is the better one."""
    first = flag(cell(row, "labels"), "labels")
    responses = [text(row, "human_ref_A"), text(row, "human_ref_B")]
    return [Group([Message("user", text(row, "history"))], responses, ranking=[0, 1] if first else [1, 0])]


def _read_safe_rlhf(row: Row, want: Want | None) -> list[Record]:
    """PKU-SafeRLHF: the ranking is that of helpfulness; the safer one and the safety labels are kept in meta."""
    better = cell(row, "better_response_id")
    if better not in (0, 1):
        raise Unreadable(f"column 'better_response_id' is {better!r} and 0 or 1 is due")
    responses = [text(row, "response_0"), text(row, "response_1")]
    return [Group([Message("user", text(row, "prompt"))], responses, ranking=[0, 1] if better == 0 else [1, 0])]


_PREDICTIONS = tuple(f"prediction {k}" for k in (1, 2, 3, 4))


def _read_fine_grained(row: Row, want: Want | None) -> list[Record]:
    """QA-Feedback (Wu et al. 2023, arXiv:2306.01693): six comparisons of four; scores are wins + ties / 2."""
    verdicts = cell(row, "preference")
    if not isinstance(verdicts, list) or len(verdicts) != 6 or any(v not in (0, 1, 2) for v in verdicts):
        raise Unreadable("column 'preference' must be six verdicts 0, 1 or 2")
    scores = [0.0] * 4
    for (i, j), verdict in zip(itertools.combinations(range(4), 2), verdicts, strict=True):
        scores[i] += (0.5, 1.0, 0.0)[verdict]
        scores[j] += (0.5, 0.0, 1.0)[verdict]
    prompt = "\n\n".join([text(row, "question"), *_passages(row)])
    meta = {"extra": {"preference": verdicts}}  # the scores cannot tell a circle of preferences from a tie
    return [Group([Message("user", prompt)], [text(row, name) for name in _PREDICTIONS], scores, meta=meta)]


def _passages(row: Row) -> list[str]:
    """Return the texts that the predictions were made from: each a title and its sentences."""
    passages = row.get("passages") or []
    if not all(isinstance(p, list) and all(isinstance(s, str) for s in p) for p in passages):
        raise Unreadable(f"column 'passages' is {noun(row.get('passages'))} of another kind than lists of sentences")
    return [" ".join(passage[1:]).strip() for passage in passages]


SHAPES = (
    Shape(
        "ultrafeedback",
        "instruction and completions, each with response, score, critique",
        ("instruction", "completions"),
        (Group,),
        _read_ultrafeedback,
        _write_ultrafeedback,
    ),
    Shape(
        "webgpt-comparisons",
        "question, answer_0, answer_1, score_0, score_1",
        ("question", "answer_0", "answer_1", "score_0", "score_1"),
        (Group,),
        _read_webgpt_comparison,
    ),
    Shape(
        "orca-pairs",
        "system, question, chosen, rejected",
        ("question", "chosen", "rejected"),
        (Group,),
        _read_orca,
        knows=("system",),
    ),
    Shape(
        "shp",
        "Stanford Human Preferences: history, human_ref_A, human_ref_B, labels",
        ("history", "human_ref_A", "human_ref_B", "labels"),
        (Group,),
        _read_shp,
    ),
    Shape(
        "pku-saferlhf",
        "prompt, response_0, response_1, better_response_id",
        ("prompt", "response_0", "response_1", "better_response_id"),
        (Group,),
        _read_safe_rlhf,
    ),
    Shape(
        "qa-feedback",
        "question, passages, four predictions and their six comparisons (fine-grained RLHF)",
        ("question", "preference", *_PREDICTIONS),
        (Group,),
        _read_fine_grained,
        knows=("passages",),
    ),
)
