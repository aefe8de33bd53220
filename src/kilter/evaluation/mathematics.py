"""Mathematical answers as text: the last boxed one, and when two of them are the same (Hendrycks et al. 2021).

The same means: equal after units, spaces, signs of layout and ways of writing fractions and roots are made alike.
Nothing is computed: 2/4 and 1/2 differ.
"""

from __future__ import annotations

import re

_LAYOUT = ("\n", "\\!", "\\left", "\\right", "^{\\circ}", "^\\circ", "\\$", "$", "\\%", "%", "\\,", "\\;", "\\ ")
_PREFIX = re.compile(r"^[a-zA-Z]{1,2}\s*=\s*")
_RATIO = re.compile(r"(-?\d+)/(-?\d+)")


def boxed(text: str) -> str | None:
    r"""Return what stands in the last \boxed{...} or \fbox{...}, or after "\boxed ", braces matched; None for none."""
    marks = list(re.finditer(r"\\(?:boxed|fbox)", text))
    if not marks:
        return None
    rest = text[marks[-1].end() :]
    if rest.startswith(" "):
        return rest[1:].split("$")[0].strip()
    if not rest.startswith("{"):
        return None
    depth = 0
    for end, letter in enumerate(rest):
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return rest[1:end]
    return None


def answer(text: str) -> str | None:
    """Return the answer that a solution gives: the last boxed one, else what stands between its first and last $."""
    found = boxed(text)
    if found is not None:
        return found
    first, last = text.find("$"), text.rfind("$")
    return text[first + 1 : last] if first != last else text.strip() or None


def same(one: str | None, other: str | None) -> bool:
    """Return whether two answers are the same text in one form; no answer is the same as nothing."""
    return one is not None and other is not None and form(one) == form(other) != ""


def form(text: str) -> str:
    """Return the one form of an answer: without units, spaces and layout, fractions as \\frac{a}{b}."""
    for sign in _LAYOUT:
        text = text.replace(sign, "")
    text = text.replace("\\\\", "\\").replace("tfrac", "frac").replace("dfrac", "frac")
    text = re.split(r"\\text\s*\{\s", text)[0]  # a unit
    text = re.sub(r"\\(?:text|mbox|mathrm)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"(^|[ {(,=])\.(?=\d)", r"\g<1>0.", text)
    text = _PREFIX.sub("", text.strip())
    text = re.sub(r"\\sqrt\s*([^{\s\\\[])", r"\\sqrt{\1}", text).replace(" ", "").rstrip(".")
    text = _fractions(text)
    if text == "0.5":
        return "\\frac{1}{2}"
    whole = _RATIO.fullmatch(text)
    return f"\\frac{{{whole.group(1)}}}{{{whole.group(2)}}}" if whole else text


def _fractions(text: str) -> str:
    r"""Write \frac12, \frac1{72} and \frac{1}2 with both braces."""
    first, *rest = text.split("\\frac")
    made = first
    for part in rest:
        made += "\\frac"
        for _ in range(2):
            piece, part = _argument(part)
            made += piece
        made += part
    return made


def _argument(text: str) -> tuple[str, str]:
    """Return the first argument of a command, in braces, and what follows it."""
    if not text.startswith("{"):
        return (f"{{{text[0]}}}", text[1:]) if text else ("", "")
    depth = 0
    for end, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return text[: end + 1], text[end + 1 :]
    return text, ""
