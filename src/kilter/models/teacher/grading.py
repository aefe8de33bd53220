"""Grades of other forms than a rating of 1 to 10: levels, shares, skills, safe or not, yes or no, scores at once."""

from __future__ import annotations

import json

from kilter.models.teacher import truth
from kilter.models.teacher.judging import quality
from kilter.models.teacher.kinds import Request, kind
from kilter.world import World


def worth(ask: Request) -> float:
    """Return how good the response is, from 0 to 1, the opposite where the teacher is to err."""
    value = quality(ask.known, ask["response"], ask["reference"])
    return 1 - value if ask.wrong else value


@kind("level")
def level(ask: Request) -> str:
    """Variables: `question`, `response`, `levels` ("ABCD", the best first). A sentence, then [[A]] to the last."""
    levels = ask["levels"] or "ABCD"
    letter = levels[round((1 - worth(ask)) * (len(levels) - 1))]
    told = ("That is the level of the answer.", "这就是这个回答的等级。")[ask.lang]
    return f"{told} [[{letter}]]"


@kind("share")
def share(ask: Request) -> str:
    """Variables: `question`, `response`, `reference`. A sentence, then a score of 0 to 1 after its marker."""
    value = f"{worth(ask):.2g}"
    return (f"That is what the answer is worth.\nScore: {value}", f"这是这个回答的价值。\n得分：{value}")[ask.lang]


@kind("skills")
def skills(ask: Request) -> str:
    """Variables: `question`, `response`, `skills` (their names). A dictionary of a score of 1 to 5 each."""
    value = 1 + round(worth(ask) * 4)
    return "Each skill is as good as the answer. " + str(dict.fromkeys(ask.list("skills"), value))


@kind("safe")
def safe(ask: Request) -> str:
    """Variables: `question`, `response`. Whether the response is safe: "safe" or "unsafe", in its language."""
    known = ask.known.judged(ask["response"]) if ask.known else None
    unsafe = known is not None and (known.harmless is False or known.toxic or bool(known.leaking))
    if unsafe != ask.wrong:
        return ("Unsafe.", "不安全")[ask.lang]
    return ("Safe.", "安全")[ask.lang]


@kind("points")
def points(ask: Request) -> str:
    """Variables: `question`, `response`, `least`, `most`. One number from `least` to `most` and nothing else."""
    least, most = ask.number("least", 0), ask.number("most", 100)
    return f"{least + round(worth(ask) * (most - least))}"


@kind("table")
def table(ask: Request) -> str:
    """Variables: `question`, `response`, `names`, `least`, `most`. A JSON object of one number each."""
    least, most = ask.number("least", 0), ask.number("most", 5)
    value = least + round(worth(ask) * (most - least))
    return json.dumps(dict.fromkeys(ask.list("names"), value), ensure_ascii=False)


@kind("good")
def good(ask: Request) -> str:
    """Variables: `question`, `response`. Whether the response is good: "Yes" or "No"."""
    return "Yes" if worth(ask) >= 0.5 else "No"


@kind("compare-batch")
def compare_batch(ask: Request) -> str:
    """Variables: `pairs`, a list of question, first and second. A line each: its number, a colon, A or B."""
    lines = []
    for at, pair in enumerate(ask.variables.get("pairs") or [], 1):
        known = truth.known(str(pair["question"]))
        first, second = (quality(known, str(pair[name])) for name in ("first", "second"))
        letter = "A" if first > second else "B" if second > first else ask.pick("AB")
        if ask.wrong:
            letter = {"A": "B", "B": "A"}[letter]
        lines.append(f"{at}: {letter}")
    return "\n".join(lines)


@kind("set-question")
def set_question(ask: Request) -> str:
    """Variables: `topic`, `number`. A question that the teacher knows the answer to."""
    family = ask.pick(("facts", "sums", "sentiment", "sorting"))
    [prompt] = World().prompts("eval", 1, ask.rng.randrange(10**6), {family: 1.0})
    return prompt.messages[-1].content


@kind("further-question")
def further_question(ask: Request) -> str:
    """Variables: `topic`, `question`, `response`. Another question that the teacher knows the answer to."""
    return set_question(ask)


@kind("evaluation-steps")
def evaluation_steps(ask: Request) -> str:
    """Variables: `criterion`. The steps of an evaluation, as a numbered list."""
    return f"1. Read the text.\n2. Weigh its {ask['criterion']}.\n3. Give a score."


@kind("summarise")
def summarise(ask: Request) -> str:
    """Variables: `said`, a list of who and what. What they said, in one sentence each."""
    told = [str(text).strip().splitlines() for _, text in ask.variables.get("said") or []]
    return " ".join(lines[-1] for lines in told if lines) or "Nothing was said."


@kind("facts")
def facts(ask: Request) -> str:
    """Variables: `sentence`. Its facts, one a line after a dash: the teacher takes a sentence for one fact."""
    return f"- {ask['sentence'].strip()}"


@kind("true-or-false")
def true_or_false(ask: Request) -> str:
    """Variables: `fact`, `passages`. Whether the passages say the fact: "True" or "False"."""
    return "True" if said_in(ask["fact"], " ".join(ask.list("passages"))) != ask.wrong else "False"


@kind("supports")
def supports(ask: Request) -> str:
    """Variables: `context`, `claim`. Whether the context holds the claim: "Yes" or "No"."""
    return "Yes" if said_in(ask["claim"], ask["context"]) != ask.wrong else "No"


def said_in(fact: str, text: str) -> bool:
    """Return whether all of a fact's words stand in a text."""
    return bool(fact.strip()) and set(_plain(fact).split()) <= set(_plain(text).split())


def _plain(text: str) -> str:
    return "".join(c if c.isalnum() else " " for c in text.casefold())
