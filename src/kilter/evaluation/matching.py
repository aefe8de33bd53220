"""Exact match: an answer and the right one as the same text, after both were brought into one form.

Each way of doing so is named and has a version of its own; which one was used stands in the result. An answer in which
nothing was found is None, and None equals nothing: not a wrong reference, and not another None.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from kilter.errors import KilterError, nearest

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?|-?\$?\.\d+")
_GSM8K = re.compile(r"#### (\-?[0-9\.\,]+)")


def plain(text: str) -> str:
    """Strip, put into one case and one width (full-width letters and digits become ordinary ones), one space each."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def squad(text: str) -> str:
    """SQuAD's form: lower case, without punctuation and articles, one space each (Rajpurkar et al. 2016)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def first_word(text: str) -> str:
    """The first word, without punctuation, in lower case."""
    words = plain(text).translate(_PUNCTUATION).split()
    return words[0] if words else ""


def number_text(text: str) -> str | None:
    """The last number of a text, bare: "$1,234.50" is 1234.5; None where there is no number."""
    found = _NUMBER.findall(text)
    if not found:
        return None
    cleaned = found[-1].replace(",", "").replace("$", "")
    try:
        value = float(cleaned)
    except ValueError:
        return None
    whole, dot, part = cleaned.partition(".")
    part = part.rstrip("0")
    sign = "-" if value < 0 else ""
    return sign + (whole.lstrip("-").lstrip("0") or "0") + (f".{part}" if dot and part else "")


def gsm8k(text: str) -> str | None:
    """GSM8K's own: the number after the first `#### `, commas taken out; None where the mark is missing."""
    found = _GSM8K.search(text)
    return found.group(1).replace(",", "") if found else None


def solution(text: str) -> str | None:
    """The final answer of a worked solution, after the last `A: ` or `#### `, without commas, $ and full stop."""
    found = re.findall(r"^(?:A:|####) *(.*)$", text, re.MULTILINE)
    return found[-1].strip().replace(",", "").replace("$", "").rstrip(".") if found else None


def after_answer_is(text: str) -> str | None:
    """What a chain of thought says after "the answer is", without the final full stop (BIG-Bench Hard)."""
    _, found, rest = text.partition("the answer is ")
    return rest.split("\n")[0].strip().removesuffix(".") if found else None


def letter(text: str, letters: str = "ABCDE") -> str | None:
    """The letter of a choice: after "answer is", else in brackets, else alone at the start; None for none."""
    options = f"[{letters}]"
    patterns = (
        rf"(?:answer is|answer:|答案是|答案：|答案为|选)\s*[:：]?\s*\(?({options})\b",
        rf"[(（]({options})[)）]",
        rf"^\s*({options})\s*(?:[.,:;)、。：\n]|$)",  # "A man" is no answer
    )
    for pattern in patterns:
        found = re.findall(pattern, text, re.IGNORECASE if "answer" in pattern else 0)
        if found:
            return found[-1].upper() if "answer" in pattern else found[0]
    return None


NORMALISERS: dict[str, Callable[[str], str | None]] = {
    "exact": str.strip,
    "plain": plain,
    "squad": squad,
    "first-word": first_word,
    "number": number_text,
    "gsm8k": gsm8k,
    "solution": solution,
    "answer-is": after_answer_is,
    "letter": letter,
}


def normaliser(name: str) -> Callable[[str], str | None]:
    """Return a way of bringing texts into one form; raise KilterError that offers the nearest."""
    if name not in NORMALISERS:
        known = nearest(name, NORMALISERS) or f" Known are: {', '.join(NORMALISERS)}."
        raise KilterError(f"Unknown form '{name}'.{known}")
    return NORMALISERS[name]


def same(answer: str | None, references: Sequence[str], how: str = "plain") -> bool:
    """Return whether the answer is one of the references in the form `how`; nothing found is never the same."""
    form = normaliser(how)
    mine = form(answer) if answer is not None else None
    return mine is not None and mine != "" and any(form(right) == mine for right in references)


def token_f1(answer: str, references: Sequence[str]) -> float:
    """Return SQuAD's F1 of words, the best over the references."""
    return max((_f1(squad(answer).split(), squad(right).split()) for right in references), default=0.0)


def _f1(mine: list[str], right: list[str]) -> float:
    if not mine or not right:
        return float(mine == right)
    shared = (Counter(mine) & Counter(right)).total()
    return 2 * shared / (len(mine) + len(right))
