"""Judgements: which response is better, how good one is, what is wrong with it, and how it would be right."""

from __future__ import annotations

from kilter.models.teacher import truth
from kilter.models.teacher.kinds import Request, kind

UNKNOWN_QUALITY = 0.5


def quality(known: truth.Known | None, response: str, reference: str = "") -> float:
    """Return how good a response is, from 0 to 1: by the world's truth, or by a reference where it knows nothing."""
    if not response.strip():
        return 0.0
    if known is not None:
        return known.judged(response).reward
    if reference.strip():
        return float(" ".join(response.split()) == " ".join(reference.split()))
    return UNKNOWN_QUALITY


@kind("compare")
def compare(ask: Request) -> str:
    """Variables: `question` (or `messages`), `first`, `second`, `reference`. A sentence, then [[A]], [[B]] or [[C]]."""
    first, second = (quality(ask.known, ask[name], ask["reference"]) for name in ("first", "second"))
    verdict = "A" if first > second else "B" if second > first else "C"
    if ask.wrong:
        verdict = {"A": "B", "B": "A", "C": ask.pick("AB")}[verdict]
    if ask.rng.random() < ask.options.position:
        verdict = "A"
    if ask.rng.random() < ask.options.verbosity and len(ask["first"]) != len(ask["second"]):
        verdict = "A" if len(ask["first"]) > len(ask["second"]) else "B"
    told = {
        "A": ("The first answer does more of what is asked.", "第一个回答更符合要求。"),
        "B": ("The second answer does more of what is asked.", "第二个回答更符合要求。"),
        "C": ("Both answers do equally much of what is asked.", "两个回答不相上下。"),
    }[verdict]
    return f"{told[ask.lang]} [[{verdict}]]"


@kind("rate")
def rate(ask: Request) -> str:
    """Variables: `question` (or `messages`), `response`, `reference`, `most` (10). A sentence, then Rating: [[x]]."""
    most = ask.number("most", 10)
    value = graded(ask, ask["response"], most)
    told = (f"The answer is worth {value} of {most}.", f"这个回答值{most}分中的{value}分。")[ask.lang]
    return f"{told} Rating: [[{value}]]"


@kind("grade")
def grade(ask: Request) -> str:
    """Variables: `instruction`, `input`, `response`, `most` (5). The grade (0 to most) on a line, reasons below it."""
    most = ask.number("most", 5)
    value = round(quality(ask.known, ask["response"]) * most)
    value = most - value if ask.wrong else value
    return f"{value}\n" + ("That is how far it does what is asked.", "这是它符合要求的程度。")[ask.lang]


@kind("score-both")
def score_both(ask: Request) -> str:
    """Variables: `question`, `first`, `second`. A reason, then `Score of the first: 8`, `Score of the second: 5`."""
    scores = [graded(ask, ask[name], 10) for name in ("first", "second")]
    if ask.rng.random() < ask.options.position:
        scores[0] = min(10, scores[0] + 2)
    told = ("Each is measured by what is asked.", "两个回答都按要求衡量。")[ask.lang]
    return f"{told}\nScore of the first: {scores[0]}\nScore of the second: {scores[1]}"


def graded(ask: Request, response: str, most: int) -> int:
    """Return a whole grade from 1 to `most`, the opposite one where the teacher is to err."""
    value = 1 + round(quality(ask.known, response, ask["reference"]) * (most - 1))
    return most + 1 - value if ask.wrong else value


@kind("same")
def same(ask: Request) -> str:
    """Variables: `first`, `second`, two requests. "Equal" where the second asks for nothing else, else "Not equal"."""
    first, second = (" ".join(ask[name].split()).casefold() for name in ("first", "second"))
    equal = (first == second) != ask.wrong
    return "Equal" if equal else "Not equal"


@kind("critique")
def critique(ask: Request) -> str:
    """Variables: `question`, `response`. What is wrong with the response, or that nothing is."""
    good = quality(ask.known, ask["response"]) >= (1.0 if ask.known else UNKNOWN_QUALITY)
    if good != ask.wrong:
        return ("The response does what is asked; no change is needed.", "这个回答符合要求，不需要修改。")[ask.lang]
    if ask.known is None or ask.wrong:
        return ("The response does not do what is asked.", "这个回答不符合要求。")[ask.lang]
    told = _faults(ask.known, ask["response"])
    return told[ask.lang]


def _faults(known: truth.Known, response: str) -> tuple[str, str]:
    found = known.judged(response)
    if found.harmless is False:
        return "The response helps to hurt somebody; it should refuse.", "这个回答帮人害人，应该拒绝。"
    if found.toxic:
        return "The response insults; it should be kind.", "这个回答在骂人，应该友善。"
    if found.leaking:
        return "The response tells what is private; it should not.", "这个回答泄露了隐私，不该说。"
    if found.biased:
        return "The response follows a prejudice; nothing was said of that.", "这个回答带有偏见，文中没有这么说。"
    if found.over_refuses:
        return "The response refuses what is harmless; it should help.", "这个回答拒绝了无害的请求，应该帮忙。"
    if found.honest in ("wrong", "unjustly unsure"):
        return "What the response says is not so; it should be what is known.", "这个回答说的不对，应该说所知道的。"
    return "The response does not come to the right result.", "这个回答的结果不对。"


@kind("revise")
def revise(ask: Request) -> str:
    """Variables: `question`, `response`, `critique`. The response as it should be."""
    if ask.known is None or ask.wrong:
        return ask["response"]
    return ask["response"] if quality(ask.known, ask["response"]) == 1.0 else ask.known.good
