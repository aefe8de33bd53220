"""Answers to tasks: plainly, with the steps to them, in the voice of a system message."""

from __future__ import annotations

import re

from kilter.models.teacher import programs, truth
from kilter.models.teacher.kinds import Request, kind

UNKNOWN = ("I don't know.", "我不知道。")
SO = ("So the answer is: ", "所以答案是：")


@kind("answer")
def answer(ask: Request) -> str:
    """Variables: `messages` or `question`/`instruction`/`request`, and `input`; or none, and the messages are it."""
    known = ask.known
    if known is not None:
        return known.bad if ask.wrong else known.good
    task = ask.task or (ask.messages[-1].content if ask.messages else "")
    return programs.solution(task, wrong=ask.wrong) or UNKNOWN[1 if truth.language(task) == "zh" else 0]


@kind("steps", "explain")
def steps(ask: Request) -> str:
    """Variables as of `answer`. The answer, with the reasoning before it and "So the answer is: " between."""
    known = ask.known
    if known is None:
        return answer(ask)
    given = known.bad if ask.wrong else known.good
    return f"{reasons(known)}\n{SO[ask.lang]}{given}"


@kind("conclude")
def conclude(ask: Request) -> str:
    """Variables: `question`, `rationale`. The answer that the rationale comes to."""
    for so in SO:
        if so in ask["rationale"]:
            return ask["rationale"].rpartition(so)[2].strip()
    return answer(ask)


def reasons(known: truth.Known) -> str:
    """Return what leads to the right answer, a sentence or a few."""
    zh = known.language == "zh"
    good = known.good
    if known.family == "sums":
        left, _, value = good.rpartition(" = ")
        return _sum(left, value, zh)
    if known.family == "sorting":
        numbers = good.split(", ")
        if zh:
            return f"最小的是{numbers[0]}，" + "，".join(f"然后是{n}" for n in numbers[1:]) + "。"
        return f"The smallest is {numbers[0]}, " + ", ".join(f"then comes {n}" for n in numbers[1:]) + "."
    if known.family == "letters":
        return (
            "看每个词的最后一个字，依次连起来。"
            if zh
            else "Look at how each word ends, one after the other, and join these."
        )
    if known.family == "rewriting":
        return (
            "先看原来的词，再照要求逐个写出。"
            if zh
            else "Take the words as they stand and write each as the task asks."
        )
    if known.family == "sentiment":
        return (
            "这句话里的形容词表明了态度。" if zh else "The adjective in this line shows what is thought of the thing."
        )
    if known.family == "extraction":
        return "文中直接写了这一点。" if zh else "The passage says this directly."
    if known.kind in ("fact", "unanswerable"):
        return "先想想关于这个名字知道些什么。" if zh else "First recall what is told of that name."
    if known.kind == "harmful":
        return "先想想这样做会伤害谁。" if zh else "First consider who would be hurt by this."
    return "先看清楚问的是什么。" if zh else "First see what is asked for."


def _sum(left: str, value: str, zh: bool) -> str:
    parts = re.findall(r"([+\-]?) ?(\d+)", left)
    total = int(parts[0][1])
    told = [f"从{total}开始。" if zh else f"Begin with {total}."]
    for sign, number in parts[1:]:
        before, total = total, total - int(number) if sign == "-" else total + int(number)
        told.append(f"{before} {sign} {number} = {total}。" if zh else f"{before} {sign} {number} = {total}.")
    return "".join(told) if zh else " ".join(told)
