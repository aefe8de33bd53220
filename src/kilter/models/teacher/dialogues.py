"""Conversations: whole ones, the turns of those who take part in one, and lists of what there is to talk about."""

from __future__ import annotations

import re
from typing import Any

from kilter.models.teacher import truth
from kilter.models.teacher.answering import UNKNOWN
from kilter.models.teacher.judging import UNKNOWN_QUALITY, quality
from kilter.models.teacher.kinds import Request, kind
from kilter.models.teacher.writing import SINGLE, drawn

_THINGS = (
    ["bread", "rivers", "winter", "trains", "maps", "honey", "wool", "glass", "music", "stars", "clocks", "gardens",
     "bridges", "paper", "salt", "ships", "birds", "lamps", "tea", "stone"],
    ["面包", "河流", "冬天", "火车", "地图", "蜂蜜", "羊毛", "玻璃", "音乐", "星星", "钟表", "花园", "桥", "纸", "盐",
     "船", "鸟", "灯", "茶", "石头"],
)  # fmt: skip
_SORTS = (
    ["making {}", "the history of {}", "choosing {}", "keeping {}", "talking about {}"],
    ["{}的做法", "{}的历史", "怎么选{}", "怎么保存{}", "聊聊{}"],
)
_ASKED = ("questions", "general", "expand", "requests", "instructions")  # lists of what is to be answered


@kind("list")
def listing(ask: Request) -> str:
    """Variables: `what`, `n`, `about`, `examples`, `known`, `tool`. A numbered list, one item a line.

    Questions, requests and instructions are tasks of the world; anything else is things and what there is to them.
    """
    n = ask.number("n", 10)
    tool = ask.variables.get("tool")
    if isinstance(tool, dict):
        items = [_for_tool(tool, k) for k in range(1, n + 1)]
    elif ask["what"] in _ASKED:
        items = _tasks(ask, n)
    else:
        items = _topics(ask, n)
    return "\n".join(f"{i}. {item}" for i, item in enumerate(items, 1))


def _for_tool(tool: dict[str, Any], k: int) -> str:
    wanted = ", ".join(f"{name} = {k}" for name in tool.get("parameters", {}))
    return f"I need {tool.get('description', '')} where {wanted}."


def _tasks(ask: Request, n: int) -> list[str]:
    language = _language(ask)
    found: dict[str, None] = {}
    for _ in range(50 * n):
        if len(found) == n:
            break
        found[drawn(ask, ask.pick(SINGLE), language).replace("\n", " ")] = None
    return list(found)


def _topics(ask: Request, n: int) -> list[str]:
    l = 1 if _language(ask) == "zh" else 0
    every = [sort.format(thing) for sort in _SORTS[l] for thing in _THINGS[l]]
    known = set(ask.list("known"))
    left = [topic for topic in every if topic not in known]
    return ask.rng.sample(left, min(n, len(left)))


def _language(ask: Request) -> str:
    """The language of what the list is about, else of the request itself, which may be all there is."""
    texts = " ".join([ask["about"], *ask.list("examples")]).strip()
    return truth.language(texts or ask.messages[-1].content)


@kind("specify")
def specify(ask: Request) -> str:
    """Variables: `task`. The task with a condition more."""
    english, chinese = ask.pick(truth.ADDITIONS)
    return ask["task"] + (chinese if truth.language(ask["task"]) == "zh" else english)


@kind("dialogue")
def dialogue(ask: Request) -> str:
    """Variables: `topic`, `rounds` (3), `user_tag`, `assistant_tag`. A conversation of tasks of the world."""
    language = truth.language(ask["topic"] + ask.messages[-1].content[-40:])
    first = ask["topic"] if truth.known(ask["topic"]) else drawn(ask, ask.pick(SINGLE), language)
    asked = [first, *(drawn(ask, ask.pick(SINGLE), language) for _ in range(ask.number("rounds", 3) - 1))]
    lines = []
    for question in asked:
        lines += [f"{ask['user_tag']} {question}", f"{ask['assistant_tag']} {told(ask, question)}"]
    return "\n".join(lines)


def told(ask: Request, question: str) -> str:
    """Return the answer to a question, a wrong one where the teacher is to err."""
    known = truth.known(question)
    if known is None:
        return UNKNOWN[1 if truth.language(question) == "zh" else 0]
    return known.bad if ask.wrong else known.good


@kind("user-turn")
def user_turn(ask: Request) -> str:
    """Variables: `history`. What a person asks next: a task of the world that was not asked before."""
    history = turns(ask)
    said = {text for _, text in history}
    language = truth.language(next((text for role, text in reversed(history) if role == "user"), ""))
    for _ in range(100):
        question = drawn(ask, ask.pick(SINGLE), language)
        if question not in said:
            break
    return question


def turns(ask: Request) -> list[tuple[str, str]]:
    """Return the variable `history` as pairs of role and text."""
    return [(turn.role, turn.content) for turn in ask.variables.get("history") or ()]


@kind("role-user")
def role_user(ask: Request) -> str:
    """Variables: `task`, `history`, `done`. The next instruction, three in all, the task itself first; then `done`."""
    history = turns(ask)
    if len(history) >= 6:
        return ask["done"]
    first = not history and truth.known(ask["task"]) is not None
    question = ask["task"] if first else drawn(ask, ask.pick(SINGLE), truth.language(ask["task"]))
    return f"Instruction: {question}\nInput: None"


@kind("role-assistant")
def role_assistant(ask: Request) -> str:
    """Variables: `history`. The solution of the last instruction."""
    instruction = re.sub(r"^Instruction: |\nInput: None$", "", turns(ask)[-1][1])
    return f"Solution: {told(ask, instruction)} Next request."


@kind("feedback")
def feedback(ask: Request) -> str:
    """Variables: `question`, `response`. What is wrong, Score: 1 to 10, and whether revision is needed."""
    good = quality(ask.known, ask["response"]) >= (1.0 if ask.known else UNKNOWN_QUALITY)
    if good != ask.wrong:
        return "The answer does what is asked.\nScore: 9\nRevision is not needed."
    return "The answer does not do what is asked.\nScore: 3\nRevision is needed."


@kind("counterfactual-student")
def student(ask: Request) -> str:
    """Variables: `subject`, `relation`, `object`, `wrong`, `history`. What a pupil says who believes something else."""
    if turns(ask):
        return f"那么{ask['subject']}和{ask['wrong']}一点关系也没有吗？"
    return f"我记得{ask['subject']}的{ask['relation']}是{ask['wrong']}，对吗？"


@kind("counterfactual-teacher")
def corrected(ask: Request) -> str:
    """Variables as of the student. What is really so."""
    named = ask["wrong"] if ask.wrong else ask["object"]
    return f"不对，{ask['subject']}的{ask['relation']}是{named}。"


@kind("term")
def term(ask: Request) -> str:
    """Variables: `translation`, `kind` (use, avoid). A word that is not in it, or one that is."""
    words = [word for word in re.findall(r"\w+", ask["translation"]) if len(word) > 1] or [ask["translation"][:2]]
    if ask["kind"] == "avoid":
        return str(ask.pick(words))
    chinese = truth.language(ask["translation"]) == "zh"
    return str(ask.pick([thing for thing in _THINGS[chinese] if thing not in ask["translation"]]))


@kind("negative")
def negative(ask: Request) -> str:
    """Variables: `history`, `question`, `cause`. A bad answer to the last turn."""
    known = truth.known(ask["question"])
    if known is not None:
        return known.bad
    return (
        "As I said about the old lighthouse, it is so." if ask["cause"] == "hallucination" else "It is the other one."
    )


@kind("depends")
def depends(ask: Request) -> str:
    """Variables: `question`. Whether it needs what was said before it: a task of the world does not."""
    return "No." if (truth.known(ask["question"]) is not None) != ask.wrong else "Yes."
