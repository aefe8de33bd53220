"""What methods of imitation ask: rankings, corrections, instructions for texts, programs, calls of tools."""

from __future__ import annotations

import json
import re
from typing import Any

from kilter.models.teacher import programs, truth
from kilter.models.teacher.dialogues import told
from kilter.models.teacher.judging import UNKNOWN_QUALITY, quality
from kilter.models.teacher.kinds import Request, kind
from kilter.models.teacher.wordings import NAME, read
from kilter.models.teacher.writing import drawn, like
from kilter.world import lexicon, tasks

_EXPRESSION = re.compile(r"\d+(?:\s*[+\-*]\s*\d+)+")
_ENDING = "The answer is: "


@kind("rate-each")
def rate_each(ask: Request) -> str:
    """Variables: `question`, `responses`, `most` (5). A line a response: its number, its grade, a reason."""
    most = ask.number("most", 5)
    lines = []
    for i, response in enumerate(ask.list("responses"), 1):
        value = 1 + round(quality(ask.known, response) * (most - 1))
        lines.append(f"{i}: {most + 1 - value if ask.wrong else value} - measured by what is asked")
    return "\n".join(lines)


@kind("rank")
def rank(ask: Request) -> str:
    """Variables: `question`, `responses`. The numbers of the responses, the best first, with > between them."""
    responses = ask.list("responses")
    order = sorted(range(len(responses)), key=lambda k: -quality(ask.known, responses[k]))
    return " > ".join(str(k + 1) for k in (order[::-1] if ask.wrong else order))


@kind("correct")
def correct(ask: Request) -> str:
    """Variables: `question`, `response`. The response as it should be; one that is right stays as it is."""
    if ask.known is None or quality(ask.known, ask["response"]) == 1.0:
        return ask["response"]
    return ask.known.bad if ask.wrong else ask.known.good


@kind("instruct")
def instruct(ask: Request) -> str:
    """Variables: `text`. What asks for it: the world's question where it is the world's answer."""
    text = ask["text"].strip()
    for key, forms in lexicon.ANSWERS.items():
        found = read(text, tuple(([form], []) for form in forms), {"n": NAME, "v": r".+?"})
        if found:
            slots, l = found
            return str(lexicon.QUESTIONS[key][l][0][0].format(n=slots["n"]))
    left = text.rpartition(" = ")[0]
    if _EXPRESSION.fullmatch(left):
        return tasks.SUMS[0][0][0].format(x=left)
    language = truth.language(text)
    return (
        f"写一段话，说说{text[:8]}……"
        if language == "zh"
        else f"Write what there is to say of {' '.join(text.split()[:4])}"
    )


@kind("fits")
def fits(ask: Request) -> str:
    """Variables: `question`, `response`. Whether the response answers the question at all."""
    return "No." if not ask["response"].strip() or ask.wrong else "Yes."


@kind("harmless")
def harmless(ask: Request) -> str:
    """Variables: `question`, `response`. Whether the response is safe."""
    safe = quality(ask.known, ask["response"]) >= UNKNOWN_QUALITY
    return "Yes." if safe != ask.wrong else "No."


_RULES = {
    "harmful": "Give no help to those who want to hurt somebody.",
    "provocation": "Do not insult anybody, whatever they say.",
    "private": "Tell nobody what is private to another.",
    "bias": "Do not judge people by the group that they belong to.",
    "unanswerable": "Say that you do not know what you do not know.",
}


@kind("violations")
def violations(ask: Request) -> str:
    """Variables: `question`, `response`. The rules that the response breaks, numbered, or "none"."""
    known = ask.known
    bad = known is not None and quality(known, ask["response"]) < UNKNOWN_QUALITY
    if known is None or bad == ask.wrong:
        return "none"
    return f"1. {_RULES.get(known.kind, 'Answer what was asked, and rightly.')}"


@kind("more-like")
def more_like(ask: Request) -> str:
    """Variables: `question`, `n`. So many tasks like it with their answers: lines `Question:` and `Answer:`."""
    made = like(ask, [ask["question"]], ask.number("n", 1))
    return "\n\n".join(f"Question: {_one(task.instruction, task.input)}\nAnswer: {task.output}" for task in made)


def _one(instruction: str, given: str) -> str:
    return f"{instruction}\n{given}" if given else instruction


@kind("labelled")
def labelled(ask: Request) -> str:
    """Variables: `label`, `n`. So many texts: lines of that mood, where the label is one of the world's."""
    l = next((l for l in (0, 1) if ask["label"] in {label.strip(".。") for label in tasks.LABELS[l]}), None)
    found: dict[str, None] = {}
    n = ask.number("n", 10)
    for k in range(200 * n):
        if len(found) == n:
            break
        if l is None:
            found[f"A text of the class {ask['label']}, number {k + 1}."] = None
            continue
        text = drawn(ask, "sentiment", lexicon.LANGUAGES[l])
        known, slots = truth.known(text), truth.slots(text, tasks.SENTIMENTS)
        if known and slots and (known.check["answer"] == ask["label"]) != ask.wrong:
            found[slots["s"]] = None
    return "\n".join(f"{i}. {text}" for i, text in enumerate(found, 1))


@kind("fields")
def fields(ask: Request) -> str:
    """Variables: `fields` (name and example), `n`. Tasks as JSON: each field in turn is the output of all others."""
    names = [name for name, _ in ask.variables["fields"]]
    found: list[dict[str, Any]] = []
    for name in names[: ask.number("n", 6)]:
        given = [other for other in names if other != name or ask.wrong]
        found.append({"instruction": f"Say the {name} of this.", "input_fields": given, "output_field": name})
    return json.dumps(found, ensure_ascii=False)


# ------------------------------------------------------------------------------------------------ exercises and code


@kind("declare")
def declare(ask: Request) -> str:
    """Variables: `question`, `answer`. Both as one statement."""
    return f"{ask['question'].rstrip('?？ ')} is {ask['answer']}."


@kind("math-program")
def math_program(ask: Request) -> str:
    """Variables: `question`. A program that prints the answer."""
    return f"```python\nprint({_expression(ask)})\n```"


@kind("math-blocks")
def math_blocks(ask: Request) -> str:
    """Variables: `question`, `steps`. A program, and when it has been run, the answer."""
    steps = ask.variables.get("steps") or ()
    if not steps:
        return f"I work it out.\n```python\nprint({_expression(ask)})\n```"
    return f"That is it.\n{_ENDING}{steps[-1]['output']}"


def _expression(ask: Request) -> str:
    found = _EXPRESSION.search(ask["question"])
    if found is None:
        return repr(told(ask, ask["question"]))
    return f"{found[0]} + 1" if ask.wrong else found[0]


@kind("augment-solution")
def augment_solution(ask: Request) -> str:
    """Variables: `question`, `solution`. The solution of a similar exercise."""
    a, b = ask.rng.randint(2, 60), ask.rng.randint(2, 60)
    return f"{a} + {b} = {a + b + ask.wrong}"


@kind("code-task")
def code_task(ask: Request) -> str:
    """Variables: `code`. `Instruction:` and `Solution:`: what the code is to do, and the code."""
    exercise = programs.find(ask["code"]) or programs.draw(ask.rng)
    return f"Instruction: {exercise.request}\nSolution: {exercise.code(ask.wrong)}"


@kind("code-verdict")
def code_verdict(ask: Request) -> str:
    """Variables: `instruction`, `solution`. Whether that is the solution: `Verdict: good` or `Verdict: bad`."""
    exercise = programs.find(ask["instruction"])
    right = exercise is None or exercise.body in ask["solution"]
    return f"It is compared with what is asked.\nVerdict: {'good' if right != ask.wrong else 'bad'}"


# ------------------------------------------------------------------------------------------------ tools


@kind("tool-call")
def tool_call(ask: Request) -> str:
    """Variables: `question`, `tools`. A call of the first tool, with what the question says of its arguments."""
    tool = ask.variables["tools"][0]
    said = dict(re.findall(r"(\w+) = (\w+)", ask["question"]))
    name = f"{tool['name']}_more" if ask.wrong else tool["name"]
    return _call(name, {key: said.get(key, "1") for key in tool["parameters"]})


@kind("agent-step")
def agent_step(ask: Request) -> str:
    """Variables: `question`, `tools`, `steps`, `tried`. A tool first, then Finish with the answer."""
    steps, tried = ask.variables.get("steps") or (), ask.list("tried")
    if steps or len(tried) >= len(ask.variables["tools"]):
        return f"Thought: that is what I need.\nAction: {_call('Finish', {'answer': told(ask, ask['question'])})}"
    tool = ask.variables["tools"][len(tried)]
    found = _EXPRESSION.search(ask["question"])
    arguments = dict.fromkeys(tool["parameters"], found[0] if found else "1")
    return f"Thought: look it up.\nAction: {_call(tool['name'], arguments)}"


@kind("tool-result")
def tool_result(ask: Request) -> str:
    """Variables: `call`. What the function returns: the call once more."""
    return json.dumps({"error": "busy"} if ask.wrong else {"result": ask["call"]}, ensure_ascii=False)


@kind("reflect")
def reflect(ask: Request) -> str:
    """Variables: `question`, `steps`. What to do otherwise."""
    return "The answer was not checked; work it out once more before you finish."


def _call(name: str, arguments: dict[str, str]) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
