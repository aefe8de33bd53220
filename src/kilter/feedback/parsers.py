"""What a judge said, as a value: one parser a format, each with a version, so that stored text can be read again.

A text in which no verdict is found gives none. It is no tie, no zero and no pass; how the benchmark's own script takes
it is kept beside (`official`), for numbers that have to be those published. Where a judge states several verdicts the
last one counts, so that a verdict quoted from the answers does not decide; version 1 is then the official reading.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kilter.errors import KilterError, nearest
from kilter.feedback.numbers import number


@dataclass(frozen=True, slots=True)
class Parser:
    """`read` returns the value of a text, None where it has none. `official(text)` is then the benchmark's own value.

    Kinds: share (1 the first wins, 0 the second, 1/2 a tie), score (a number), scores (a list), label, table, truth.
    """

    name: str
    version: int
    kind: str
    about: str
    read: Callable[[str], Any]
    official: Callable[[str], Any] = lambda text: None

    @property
    def full_name(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Parsed:
    """A value, or a failure (`ok` false, value None) that is counted as one; and the parser that read it."""

    value: Any
    ok: bool
    parser: str


def parse(name: str, text: object, *, official: bool = False) -> Parsed:
    """Read `text` by the parser called `name` (its newest version) or `name@version`.

    With `official` a failure has the value that the benchmark's own script gives it; `ok` stays false.
    """
    parser = find(name)
    said = text if isinstance(text, str) else ""
    value = parser.read(said)
    if value is not None:
        return Parsed(value, True, parser.full_name)
    return Parsed(parser.official(said) if official else None, False, parser.full_name)


def find(name: str) -> Parser:
    """Return a parser; raise KilterError that offers the nearest."""
    plain, _, version = name.partition("@")
    versions = {parser.version: parser for parser in PARSERS if parser.name == plain}
    if not versions:
        raise KilterError(f"Unknown parser '{plain}'.{nearest(plain, names()) or ' Known are: ' + ', '.join(names())}.")
    if not version:
        return versions[max(versions)]
    if not version.isdigit() or int(version) not in versions:
        known = ", ".join(str(v) for v in sorted(versions))
        raise KilterError(f"The parser '{plain}' has no version '{version}', only {known}.")
    return versions[int(version)]


def names() -> list[str]:
    return list(dict.fromkeys(parser.name for parser in PARSERS))


# ------------------------------------------------------------------------------------------------ reading one format


def _two_numbers(text: str) -> list[float] | None:
    """The first line is two scores: `9 8.5` or `9, 8.5`."""
    found = [number(word) for word in text.strip().split("\n")[0].replace(",", " ").split()]
    return [float(n) for n in found if n is not None] if len(found) == 2 and None not in found else None


def _two_scores(text: str) -> list[float] | None:
    """The first line, else the last lines `Assistant 1: 9` and `Assistant 2: 8`, else the last pair (9, 8)."""
    first = _two_numbers(text)
    if first is not None:
        return first
    one, two = (re.findall(rf"^Assistant {k}: (\d+(?:\.\d+)?)(?:\s*$|\s+\()", text, re.MULTILINE) for k in (1, 2))
    if one and two:
        return [float(one[-1]), float(two[-1])]
    pairs = re.findall(r"\((\d+(?:\.\d+)?), ?(\d+(?:\.\d+)?)\)", text)
    tuples = re.search(r"\b(tuple|scores)\b", text)
    return [float(x) for x in pairs[-1]] if pairs and tuples else None


def _both_scores(text: str) -> list[float] | None:
    """The last `... first: x` and `... second: y`, else two numbers on the first line; 0 to 10."""
    one, two = (
        re.findall(rf"\b{which}\b[^:\n]*:\s*(\d+(?:\.\d+)?)", text, re.IGNORECASE) for which in ("first", "second")
    )
    found = [float(one[-1]), float(two[-1])] if one and two else _two_numbers(text)
    return found if found and all(0 <= score <= 10 for score in found) else None


def _level(text: str) -> float | None:
    """The last [[A]] to [[D]], or a letter alone, as 4 to 1."""
    found = re.findall(r"\[\[([ABCD])\]\]", text) or re.findall(r"^\s*([ABCD])[.:]?\s*$", text)
    return float(4 - "ABCD".index(found[-1])) if found else None


def _refusal(text: str) -> str | None:
    """Each [[1]] to [[3]] is the same, or a number begins the text: complies, refuses, partly."""
    found = {*(re.findall(r"\[\[\s*([123])\s*\]\]", text) or re.findall(r"^\s*([123])\b", text))}
    return {"1": "complies", "2": "refuses", "3": "partly"}[found.pop()] if len(found) == 1 else None


def _last_line_class(text: str) -> float | None:
    """The last line is 1, 2 or 3."""
    return {"1": 1.0, "2": 0.0, "3": 0.5}.get(text.strip().split("\n")[-1].strip().rstrip("."))


def _brackets(text: str) -> float | None:
    found = re.findall(r"\[\[([ABC])\]\]", text)
    return {"A": 1.0, "B": 0.0, "C": 0.5}[found[-1]] if found else None


def _brackets_in_order(text: str) -> float | None:
    """FastChat: whether [[A]] occurs, else [[B]], else [[C]]."""
    return next((share for letter, share in (("A", 1.0), ("B", 0.0), ("C", 0.5)) if f"[[{letter}]]" in text), None)


def _rating(text: str) -> float | None:
    found = re.findall(r"\[\[(\d+\.?\d*)\]\]", text) or re.findall(r"\[(\d+\.?\d*)\]", text)
    return float(found[-1]) if found and 1 <= float(found[-1]) <= 10 else None


def _first_rating(text: str) -> float | None:
    """FastChat: the first [[x]], else the first [x], of whatever size."""
    found = re.search(r"\[\[(\d+\.?\d*)\]\]", text) or re.search(r"\[(\d+\.?\d*)\]", text)
    return float(found.group(1)) if found else None


def _arena_hard(text: str) -> str | None:
    """A>>B, A>B, A=B, B>A or B>>A; two verdicts that differ are none."""
    found = set(re.findall(r"\[\[([AB<>=]+)\]\]", text))
    known = found & {"A>>B", "A>B", "A=B", "B=A", "B>A", "B>>A", "A<B", "A<<B", "B<A", "B<<A"}
    return known.pop() if len(found) == 1 and known else None


def _first_line_verdict(text: str) -> float | None:
    """PandaLM: the first line is 1, 2 or Tie."""
    return {"1": 1.0, "2": 0.0, "tie": 0.5}.get(text.strip().split("\n")[0].strip().lower())


def _result(pattern: str, text: str) -> str | None:
    """What follows the last [RESULT]."""
    found = re.findall(rf"\[RESULT\]\s*\(?({pattern})\b", text)
    return found[-1] if found else None


def _prometheus_score(text: str) -> float | None:
    found = _result("[1-5]", text)
    return float(found) if found else None


def _prometheus_pair(text: str) -> float | None:
    found = _result("[AB]", text)
    return {"A": 1.0, "B": 0.0}[found] if found else None


def _final_decision(text: str) -> float | None:
    """Auto-J: what follows the last "final decision is"."""
    _, found, rest = text.rpartition("final decision is ")
    said = rest.strip().lower()
    words = (("response 1", 1.0), ("response 2", 0.0), ("tie", 0.5))
    return next((share for word, share in words if said.startswith(word)), None) if found else None


def _auto_j_score(text: str) -> float | None:
    found = re.findall(r"Rating: \[\[(\d+\.?\d*)\]\]", text)
    return float(found[-1]) if found and 1 <= float(found[-1]) <= 10 else None


def _which(first: str, second: str) -> Callable[[str], float | None]:
    """LLMBar and AlpacaFarm: the first output's pattern is looked for, then the second's."""

    def found(text: str) -> float | None:
        said = text.strip()
        return 1.0 if re.search(first, said) else 0.0 if re.search(second, said) else None

    return found


def _ranking(text: str) -> float | None:
    """AlpacaEval: a list of {model, rank}; the first side is the model that is named first by name."""
    start, end = text.find("["), text.rfind("]")
    value = _literal(text[start : end + 1]) if 0 <= start < end else None
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(entry, dict) for entry in value):
        return None
    ranks = {str(entry.get("model")): number(entry.get("rank")) for entry in value}
    if len(ranks) != 2 or None in ranks.values():
        return None
    first, second = (ranks[name] for name in sorted(ranks))
    return 0.5 if first == second else 1.0 if (first or 0) < (second or 0) else 0.0


def _leading_number(text: str) -> float | None:
    """G-Eval: a number at the start, after at most a space."""
    found = re.match(r" ?(\d+(?:\.\d+)?)", text)
    return float(found.group(1)) if found else None


def _percent(text: str) -> float | None:
    """Explicit score: the first number, held between 0 and 100."""
    found = re.search(r"(?<![\w.])-?\d+(?:\.\d+)?", text)
    return min(100.0, max(0.0, float(found.group()))) if found else None


def _belle(text: str) -> float | None:
    """BELLE: the number after the last marker of a score, held between 0 and 1; else a number alone."""
    found = re.findall(
        r"(?:得分|分数|打分|评分|score)\s*(?:是|为|is)?\s*[:：]?\s*(-?\d+(?:\.\d+)?)", text, re.IGNORECASE
    )
    alone = re.fullmatch(r"\s*(-?\d+(?:\.\d+)?)\s*分?\s*", text)
    value = found[-1] if found else alone.group(1) if alone else None
    return min(1.0, max(0.0, float(value))) if value is not None else None


def _flask(text: str) -> dict[str, float] | None:
    """FLASK: the last {...}, a skill and its score 1 to 5 each; a skill that is not applicable is left out."""
    pieces = re.findall(r"\{[^{}]*\}", text)
    value = _literal(pieces[-1]) if pieces else None
    if not isinstance(value, dict):
        return None
    scores = {str(skill): found for skill, given in value.items() if (found := number(given)) is not None}
    return scores if scores and all(1 <= score <= 5 for score in scores.values()) else None


def _scores_table(text: str) -> dict[str, float] | None:
    """The last {...} of names and numbers, all of which are numbers."""
    pieces = re.findall(r"\{[^{}]*\}", text)
    value = _literal(pieces[-1]) if pieces else None
    if not isinstance(value, dict) or not value:
        return None
    scores = {str(name): number(given) for name, given in value.items()}
    return None if None in scores.values() else {name: score for name, score in scores.items() if score is not None}


def _alignbench_script(text: str) -> dict[str, float] | None:
    """AlignBench: the pairs 'name': digits of the last {...} of one line, else the first '综合得分': x of the text."""
    table = re.search(r"\{(.*?)\}(?=[^{]*\Z)", text)
    found = {name: float(x) for name, x in re.findall(r"'(.*?)': (\d+)", table.group(1))} if table else {}
    whole = re.search(r"'综合得分': (\d+(?:\.\d{1,2})?)", text)
    if "综合得分" not in found and whole:
        found["综合得分"] = float(whole.group(1))
    return found if "综合得分" in found else None


def _alignbench(text: str) -> dict[str, float] | None:
    """AlignBench: the last {...} that grades the whole, else the last 综合得分: x; grades are from 1 to 10."""
    plain = text.translate(str.maketrans("“”‘’：，｛｝", "\"\"'':,{}"))
    for piece in reversed(re.findall(r"\{[^{}]*\}", plain)):
        value = _literal(piece)
        told = value if isinstance(value, dict) else {}
        grades = {str(name).strip(): number(x) for name, x in told.items()}
        if "综合得分" in grades:
            break
    else:
        # No range, such as 7-8.
        lone = re.findall(r"综合得分[\"'*]*\s*(?:是|为|:)\s*\**(\d++(?:\.\d++)?+)(?!\s*[-~–到至])", plain)
        grades = {"综合得分": number(lone[-1])} if lone else {}
    kept = {name: grade for name, grade in grades.items() if grade is not None and 1 <= grade <= 10}
    return kept if "综合得分" in kept else None


def _truth(text: str) -> bool | None:
    """FActScore: whichever of "true" and "false" is said last."""
    said = text.lower()
    if "true" not in said and "false" not in said:
        return None
    return said.rfind("true") > said.rfind("false")


def _supported_unless_negated(text: str) -> bool:
    """FActScore where neither word is said: supported, unless a word of doubt is."""
    words = re.sub(r"[^\w\s]", "", text.lower()).split()
    return not {"not", "cannot", "unknown", "information"} & set(words)


def _yes_no(text: str) -> bool | None:
    found = re.search(r"\b(yes|no)\b", text, re.IGNORECASE) or re.match(r"\s*(是|否)", text)
    return found.group(1).lower() in ("yes", "是") if found else None


def _likert(text: str) -> float | None:
    """One number 1 to 5 that stands by itself; several different ones are none."""
    found = set(re.findall(r"(?<![\d.])([1-5])(?![\d.]*\d)(?!\s*(?:-|to|/)\s*\d)", text))
    return float(found.pop()) if len(found) == 1 else None


def _safety(text: str) -> bool | None:
    """Whether a reply was judged safe; "unsafe" and its Chinese hold the word for "safe"."""
    said = text.lower()
    if re.search(r"\bunsafe\b|\bnot safe\b|不安全", said):
        return False
    return True if re.search(r"\bsafe\b|安全", said) else None


def _label_share(text: str) -> float | None:
    """The first side's share under the probabilities of A, B and C (a tie): P(A) + P(C) / 2."""
    told = _probabilities(text)
    return None if told is None or not {"A", "B"} <= set(told) else told["A"] + told.get("C", 0.0) / 2


def _label_mean(text: str) -> float | None:
    """The mean of numbers under their probabilities."""
    told = _probabilities(text)
    weights = {number(label): p for label, p in (told or {}).items()}
    if not weights or None in weights:
        return None
    return sum((label or 0.0) * p for label, p in weights.items())


def _probabilities(text: str) -> dict[str, float] | None:
    """A table of labels and probabilities that add up to 1."""
    value = _literal(text)
    if not isinstance(value, dict):
        return None
    told = {str(label): number(p) for label, p in value.items()}
    known = {label: p for label, p in told.items() if p is not None and 0 <= p <= 1}
    return known if known and len(known) == len(told) and abs(sum(known.values()) - 1) < 1e-3 else None


def _literal(text: str) -> Any:
    """A value written as JSON or as Python does."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            return None


_A, _B = r"(?:^|\n) ?Output \(a\)", r"(?:^|\n) ?Output \(b\)"
PARSERS: tuple[Parser, ...] = (
    Parser("vicuna-scores", 1, "scores", "two scores on the first line", _two_numbers, lambda text: [-1.0, -1.0]),
    Parser(
        "vicuna-scores",
        2,
        "scores",
        "the same, else Assistant 1: x and Assistant 2: y, else (x, y)",
        _two_scores,
        lambda text: [-1.0, -1.0],
    ),
    Parser("three-class", 1, "share", "1, 2 or 3 on the last line", _last_line_class, lambda text: -1.0),
    Parser("mtbench-pair", 1, "share", "[[A]], else [[B]], else [[C]]", _brackets_in_order),
    Parser("mtbench-pair", 2, "share", "the last of [[A]], [[B]] and [[C]]", _brackets),
    Parser("mtbench-score", 1, "score", "the first [[x]], else the first [x]", _first_rating, lambda text: -1.0),
    Parser("mtbench-score", 2, "score", "the last [[x]], else the last [x], 1 to 10", _rating, lambda text: -1.0),
    Parser("arena-hard", 1, "label", "[[A>>B]] to [[B>>A]], all the same", _arena_hard),
    Parser("pandalm", 1, "share", "1, 2 or Tie on the first line", _first_line_verdict, lambda text: 0.5),
    Parser("prometheus-score", 1, "score", "[RESULT] 1 to 5", _prometheus_score),
    Parser("prometheus-pair", 1, "share", "[RESULT] A or B", _prometheus_pair),
    Parser("auto-j-pair", 1, "share", "final decision is Response 1, Response 2 or tie", _final_decision),
    Parser("auto-j-score", 1, "score", "Rating: [[x]]", _auto_j_score),
    Parser("output-ab", 1, "share", "a line that begins with Output (a) or Output (b)", _which(_A, _B)),
    Parser(
        "output-ab-better",
        1,
        "share",
        "Output (a) is better, Output (b) is better",
        _which(r"Output \(a\) is better.", r"Output \(b\) is better."),
    ),
    Parser("ranking", 1, "share", "a list of {model, rank}", _ranking, lambda text: 0.5),
    Parser("geval", 1, "score", "a number at the start", _leading_number, lambda text: 0.0),
    Parser("explicit", 1, "score", "the first number, 0 to 100", _percent),
    Parser("belle", 1, "score", "a score 0 to 1 after its marker", _belle),
    Parser("flask", 1, "table", "the last {skill: 1 to 5}", _flask),
    Parser(
        "alignbench",
        1,
        "table",
        "the last {'dimension': digits} on a line, else '综合得分': x",
        _alignbench_script,
        lambda text: {"综合得分": -1.0},
    ),
    Parser("alignbench", 2, "table", "the last {dimension: 1 to 10, 综合得分: 1 to 10}, else 综合得分: x", _alignbench),
    Parser("factscore", 1, "truth", "true or false, the later one", _truth, _supported_unless_negated),
    Parser("yes-no", 1, "truth", "the first yes or no", _yes_no),
    Parser("likert", 1, "score", "one number 1 to 5", _likert),
    Parser("scores-table", 1, "table", "the last {name: number}", _scores_table),
    Parser("both-scores", 1, "scores", "first: x and second: y, else x y on the first line, 0 to 10", _both_scores),
    Parser("level", 1, "score", "the last [[A]] to [[D]], as 4 to 1", _level),
    Parser("label-share", 1, "share", "probabilities of A, B and C as JSON", _label_share),
    Parser("label-mean", 1, "score", "probabilities of numbers as JSON", _label_mean),
    Parser("refusal", 1, "label", "[[1]] complies, [[2]] refuses, [[3]] partly, or the number alone", _refusal),
    Parser("safety", 1, "truth", "safe or unsafe", _safety),
)
