"""Stored judges' texts, read again by the parser of their format (feedback/parsers.py), without asking again."""

from __future__ import annotations

from collections import Counter

from kilter.evaluation.result import Evaluation
from kilter.evaluation.rows import need, number, read, sample
from kilter.evaluation.statistics import summarize
from kilter.feedback.parsers import PARSERS, Parsed, Parser, find, names, parse
from kilter.records import identify
from kilter.registry import method

__all__ = ["PARSERS", "Parsed", "Parser", "find", "names", "parse", "verdicts"]


@method("verdicts", wing="evaluation", paper="arXiv:2306.05685", survey="S1 §8.4")
def verdicts(*, data: str, parser: str, column: str = "text", official: bool = False) -> Evaluation:
    """Read stored judges' texts again, without asking again (formats of Zheng et al. 2023 and others).

    parsed is the share of texts in which a verdict was found. Of parsers that give a number, value is its mean; of a
    share, value is the share of wins of the first side. The samples hold each text, its verdict and the parser's
    version. Parsers: vicuna-scores, three-class, mtbench-pair, mtbench-score, arena-hard, pandalm, prometheus-score,
    prometheus-pair, auto-j-pair, auto-j-score, output-ab, output-ab-better, ranking, geval, explicit, belle, flask,
    alignbench, factscore, yes-no, likert, refusal, safety.

    Options:
        data: file, folder or hub id of judgements
        parser: the format that the texts have, newest version, or NAME@VERSION
        column: the texts' column
        official: count a failure as the benchmark's own script does
    """
    chosen = find(parser)
    rows, notes = read(data)
    need(rows, (column,), data)
    samples = []
    failures: Counter[str] = Counter()
    for at, row in enumerate(rows):
        said = parse(chosen.full_name, row.get(column), official=official)
        outcomes = {"parsed": float(said.ok)}
        value = number(float(said.value)) if isinstance(said.value, bool) else number(said.value)
        if value is not None:
            outcomes["value"] = value
        if not said.ok:
            failures[str(row.get(column))[:60]] += 1
        name = str(row.get("id", row.get("question_id", identify("judgement", at))))
        text = str(row.get(column) or "")
        samples.append(sample(f"{name}#{at}", outcomes, response=text, verdict=said.value, parser=said.parser))
    if failures:
        first = next(iter(failures))
        taken = "counted as the benchmark's own script does" if official else "left out of the value"
        notes.append(f"{failures.total():,} of {len(rows):,} texts hold no verdict and are {taken} (first: {first!r}).")
    return Evaluation("", summarize(samples), samples, suite=f"verdicts {chosen.full_name}", notes=notes)
