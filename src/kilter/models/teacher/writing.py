"""New tasks: like those shown, with inputs, evolved, in other words."""

from __future__ import annotations

import functools
import re
import string
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from kilter.models.teacher import programs, truth
from kilter.models.teacher.kinds import Request, kind
from kilter.world import FAMILIES, World, lexicon, tasks
from kilter.world.items import Draw

_WORLD = World()
# Families of one turn, by the templates whose last slot is the input: (templates, slot).
_WITH_INPUT = {
    "sums": tasks.SUMS, "letters": tasks.LETTERS, "sorting": tasks.SORTS, "sentiment": tasks.SENTIMENTS,
    "reverse": tasks.REWRITES["reverse"], "twice": tasks.REWRITES["twice"], "tools": tasks.TOOLS,
}  # fmt: skip
_FAMILY = {"reverse": "rewriting", "twice": "rewriting"}
SINGLE = ("facts", "sums", "letters", "sorting", "sentiment", "extraction", "rewriting", "tools")
LEAD_SHARE = 0.3  # of new tasks: those that say what to do and have their input apart


@dataclass(frozen=True, slots=True)
class Lead:
    """An instruction without its input: "Sort from small to large"."""

    text: str
    what: str  # a key of _WITH_INPUT, or of tasks.EXTRACTIONS
    language: str


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it is written down: its input is "" where the instruction says all."""

    instruction: str
    input: str
    output: str


@functools.cache
def leads() -> dict[str, Lead]:
    """Return every lead by its normalised text."""
    found = {}
    for l, language in enumerate(lexicon.LANGUAGES):
        for what, templates in _WITH_INPUT.items():
            for template in (*templates[l][0],):
                pieces = list(string.Formatter().parse(template))
                after = "".join(literal for literal, *_ in pieces[1:])
                text = pieces[0][0].strip(" :：")
                if pieces[0][1] is not None and not after.strip(" .。？?") and len(text) > (8 if l == 0 else 2):
                    found[_normal(text)] = Lead(text, what, language)
        for what, questions in tasks.EXTRACTIONS.items():
            for question in questions[l][0]:
                if "{" not in question:
                    found[_normal(question)] = Lead(question, what, language)
    return found


def lead_in(text: str) -> Lead | None:
    """Return the lead that an instruction is."""
    return leads().get(_normal(text))


def _normal(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .。:：?？!！")


def like(ask: Request, examples: Sequence[str], count: int, topics: Sequence[str] = ()) -> list[Task]:
    """Return `count` tasks like `examples`: of their families and languages mostly, none of them among them.

    Topics decide for families of their own; examples that are nothing of the world's leave the choice to the teacher.
    """
    known = [found for found in map(truth.known, examples) if found]
    of_topics = [SINGLE[zlib.crc32(topic.encode()) % len(SINGLE)] for topic in topics]
    families = of_topics or [found.family for found in known if found.family in FAMILIES and found.family != "dialogue"]
    languages = [truth.language(one) for one in examples] or list(lexicon.LANGUAGES)
    shown = {_normal(one) for one in examples}
    made: list[Task] = []
    for _ in range(50 * count):
        if len(made) == count:
            break
        language = ask.pick(languages)
        if ask.rng.random() < LEAD_SHARE:
            lead = ask.pick([one for one in leads().values() if one.language == language])
            given, output = filled(ask, lead)
            task = Task(lead.text, given, output)
        else:
            family = ask.pick(families) if families and ask.rng.random() < 0.8 else ask.pick(SINGLE)
            text = drawn(ask, family, language)
            found = truth.known(text)
            if found is None:
                continue
            task = Task(text, "", found.bad if ask.wrong else found.good)
        if _normal(task.instruction) not in shown:
            shown.add(_normal(task.instruction))
            made.append(task)
    return made


def drawn(ask: Request, family: str, language: str) -> str:
    """Return a prompt of one turn that the world makes for training."""
    while True:
        item = FAMILIES[family](Draw(_WORLD.entities, ask.rng, language, "train"))
        if len(item.messages) == 1:
            return item.messages[0].content


def filled(ask: Request, lead: Lead) -> tuple[str, str]:
    """Return an input for a lead, and the right output (a wrong one where the teacher is to err)."""
    for _ in range(1000):
        if lead.what in tasks.EXTRACTIONS:
            text = drawn(ask, "extraction", lead.language)
            given = re.split(r"(?<=[.。])", text)[0].strip()
        else:
            text = drawn(ask, _FAMILY.get(lead.what, lead.what), lead.language)
            slots = truth.slots(text, _WITH_INPUT[lead.what])
            if not slots:
                continue
            given = next(iter(slots.values()))
        found = truth.known(f"{lead.text}\n{given}")
        if found is not None:
            return given, found.bad if ask.wrong else found.good
    raise RuntimeError(f"no input fits '{lead.text}'")  # test_teacher.py fills every lead


@kind("instructions")
def instructions(ask: Request) -> str:
    """Variables: `examples`, `count` (8), `start` (1), `topics`. New instructions, numbered, one a line."""
    start = ask.number("start", 1)
    made = like(ask, ask.list("examples"), ask.number("count", 8), ask.list("topics"))
    return "\n".join(f"{start + k}. {task.instruction}" for k, task in enumerate(made))


@kind("classify-task")
def classify_task(ask: Request) -> str:
    """Variables: `instruction`. "Yes" where the task has a few possible answers, known beforehand, else "No"."""
    lead = lead_in(ask["instruction"])
    family = lead.what if lead else ask.known.family if ask.known else ""
    return "Yes" if (family == "sentiment") != ask.wrong else "No"


@kind("instances-input-first")
def instances_input_first(ask: Request) -> str:
    """Variables: `instruction`, `count` (2). `Input: ...` and `Output: ...`, or the output alone where none is due."""
    lead = lead_in(ask["instruction"])
    if lead is None:
        known = ask.known
        if known is not None:
            return f"Output: {known.bad if ask.wrong else known.good}"
        return f"Output: {programs.solution(ask['instruction'], wrong=ask.wrong) or ''}".rstrip()
    made = [filled(ask, lead) for _ in range(ask.number("count", 2))]
    return "\n\n".join(
        f"Example {k}\nInput: {given}\nOutput: {output}" for k, (given, output) in enumerate(made, start=1)
    )


@kind("instances-output-first")
def instances_output_first(ask: Request) -> str:
    """Variables: `instruction`. `Class label: ...` and `Input: ...` for each label; no input where none is due."""
    lead = lead_in(ask["instruction"])
    if lead is None or lead.what != "sentiment":
        known = ask.known
        return f"Class label: {known.bad if ask.wrong else known.good}" if known else ""
    made: dict[str, str] = {}
    while len(made) < 2:
        given, output = filled(ask, lead)
        made.setdefault(output, given)
    return "\n\n".join(f"Class label: {label}\nInput: {made[label]}" for label in sorted(made))


@kind("tasks")
def whole_tasks(ask: Request) -> str:
    """Variables: `examples`, `count` (20), `start` (4). `###`, `N. Instruction:`, `N. Input:`, `N. Output:` each."""
    start = ask.number("start", 4)
    made = like(ask, ask.list("examples"), ask.number("count", 20))
    return "\n".join(
        f"###\n{k}. Instruction: {one.instruction}\n{k}. Input:\n{one.input or '<noinput>'}\n{k}. Output:\n{one.output}"
        for k, one in enumerate(made, start=start)
    )


@kind("structured")
def structured(ask: Request) -> str:
    """Variables: `examples` (texts). One more: lines `Instruction:`, `Input:` and `Constraints:`."""
    language = (
        ask.pick(lexicon.LANGUAGES) if not ask.list("examples") else truth.language(ask.pick(ask.list("examples")))
    )
    lead = ask.pick([one for one in leads().values() if one.language == language])
    given, _ = filled(ask, lead)
    constraint = ask.pick([one[lexicon.LANGUAGES.index(language)].strip() for one in truth.ADDITIONS[:3]])
    return f"Instruction: {lead.text}\nInput: {given}\nConstraints: {'None.' if ask.rng.random() < 0.5 else constraint}"


@kind("paraphrase")
def paraphrase(ask: Request) -> str:
    """Variables: `instruction`, `slot`. The same request in other words; with the slot where its input belongs."""
    text = ask["instruction"]
    if ask["slot"]:
        others = [one.text for one in leads().values() if lead_in(text) and one.what == lead_in(text).what]  # type: ignore[union-attr]
        same = [one for one in others if truth.language(one) == ask.language] or [text]
        return f"{ask.pick(same)}{':：'[ask.lang]} {ask['slot']}"
    lead = lead_in(text)
    if lead is not None:
        others = [one.text for one in leads().values() if (one.what, one.language) == (lead.what, lead.language)]
        return str(ask.pick([one for one in others if one != lead.text] or [lead.text]))
    others = [other for other in truth.reworded(text) if other != text]
    if others:
        return str(ask.pick(others))
    before, after = ask.pick(truth.LEAD_INS)[ask.lang], text
    return before + after


@kind("evolve")
def evolve(ask: Request) -> str:
    """Variables: `instruction`, `operation`: constraint, deepen, concretise, reasoning, complicate or breadth.

    The harder request; where the teacher is to err, one that repeats what it was told to write.
    """
    text = ask["instruction"].strip()
    if ask.wrong:
        return ("Rewritten prompt: ", "改写后的题目：")[ask.lang] + text
    if ask["operation"] == "breadth":
        family = ask.known.family if ask.known and ask.known.family != "dialogue" else ask.pick(SINGLE)
        return drawn(ask, family, ask.language)
    if ask["operation"] in ("deepen", "complicate"):
        longer = _longer(ask, text)
        if longer != text:
            return longer
    first = {"constraint": 0, "deepen": 4, "concretise": 6, "reasoning": 7, "complicate": 3}.get(ask["operation"], 0)
    for k in range(len(truth.ADDITIONS)):
        addition = truth.ADDITIONS[(first + k) % len(truth.ADDITIONS)][ask.lang]
        if addition.strip() not in text:
            return text + addition
    return text


def _longer(ask: Request, text: str) -> str:
    """Return a sum with one more term, or a row of numbers with one more; else the text as it is."""
    known = ask.known
    if known is not None and known.family == "sums":
        last = list(re.finditer(r"\d+", text))[-1]
        return f"{text[: last.end()]} + {ask.rng.randint(1, 20)}{text[last.end() :]}"
    if known is not None and known.family == "sorting":
        last = list(re.finditer(r"\d+", text))[-1]
        return f"{text[: last.end()]}, {ask.rng.randint(10, 99)}{text[last.end() :]}"
    return text


@kind("similar")
def similar(ask: Request) -> str:
    """Variables: `instruction`, `rare` (yes or no). Another request: of the same task, or of one that is rarer."""
    family = ask.known.family if ask.known and ask.known.family != "dialogue" else ask.pick(SINGLE)
    if ask.variables.get("rare"):
        family = ask.pick([one for one in SINGLE if one != family])
    return drawn(ask, family, ask.language)
