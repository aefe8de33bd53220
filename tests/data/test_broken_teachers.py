"""What a teacher may do wrong, in one table over the methods that ask one: counted in the ledger, never half written.

Each method is called with records that the world's teacher can do, and with a teacher of which every reply is broken in
one way. What comes out of that must be nothing, or records that hold nothing of the broken reply.
"""

import asyncio

import pytest

from kilter.data.alpaca import alpaca
from kilter.data.attrprompt import attrprompt
from kilter.data.codealpaca import codealpaca
from kilter.data.community_seeds import community_seeds
from kilter.data.cot import cot
from kilter.data.dromedary import dromedary
from kilter.data.evol import evol
from kilter.data.expertprompting import expertprompting
from kilter.data.lamini import lamini
from kilter.data.lion import lion
from kilter.data.orca import orca
from kilter.data.oss_instruct import oss_instruct
from kilter.data.phi1 import phi1
from kilter.data.phoenix import phoenix
from kilter.data.self_instruct import self_instruct
from kilter.data.unnatural import unnatural
from kilter.data.wizardcoder import wizardcoder
from kilter.errors import KilterError
from kilter.models.each import pulled
from kilter.models.load import load
from kilter.models.protocol import Answer
from kilter.models.teacher import Teacher, programs
from kilter.prompts import overriding
from kilter.records import Demonstration, Message, Prompt
from kilter.store.rejects import Rejects
from kilter.world import World

MARK = "@@@@"  # stands in every broken reply that has room for it


class Broken(Teacher):
    """The world's teacher, of whose replies each is broken by `fault(messages, text, sampling)`."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    async def ask(self, messages, sampling):
        answers = await super().ask(messages, sampling)
        return [self.fault(messages, answer, sampling) for answer in answers]


def reply(text, finish="stop"):
    return Answer(text, max(1, len(text) // 4), None, finish, "broken")


FAULTS = {
    "empty": lambda messages, answer, sampling: reply("  \n"),
    "cut off": lambda messages, answer, sampling: reply(f"{MARK} and then it goes on to", "length"),
    "filtered": lambda messages, answer, sampling: reply(f"{MARK} that is", "filter"),
    "broken JSON": lambda messages, answer, sampling: reply('{"answer": "@@@@, "x": ['),
    "prompt repeated": lambda messages, answer, sampling: reply("\n\n".join(m.content for m in messages)),
    "ten megabytes": lambda messages, answer, sampling: reply(f"{MARK} " * 2_000_000),
}
TASKS = [d for d in World().demonstrations(80, seed=5, shares=World.shares(0.0)) if len(d.messages) == 2][:12]
ASKED = [Prompt(d.messages[:-1]) for d in TASKS]
CODE = [Prompt([Message("user", one.request)]) for one in list(programs.exercises().values())[::40]]
SEEDS = [
    Demonstration([Message("user", one.request), Message("assistant", one.code())])
    for one in list(programs.exercises().values())[::40]
]
METHODS = {
    "self-instruct": lambda model, folder: self_instruct(model, TASKS, n=5),
    "alpaca": lambda model, folder: alpaca(model, TASKS, n=5),
    "codealpaca": lambda model, folder: codealpaca(model, SEEDS, n=5),
    "unnatural": lambda model, folder: unnatural(model, TASKS, n=3),
    "lamini": lambda model, folder: lamini(model, ASKED, n=5),
    "phoenix": lambda model, folder: phoenix(model, ASKED, n=5, n_roles=4),
    "community-seeds": lambda model, folder: community_seeds(model, ASKED),
    "evol": lambda model, folder: evol(model, ASKED, rounds=1),
    "wizardcoder": lambda model, folder: wizardcoder(model, CODE, rounds=1),
    "oss-instruct": lambda model, folder: oss_instruct(model, code=str(folder)),
    "phi1": lambda model, folder: phi1(model, n=3),
    "cot": lambda model, folder: cot(model, TASKS),
    "orca": lambda model, folder: orca(model, ASKED),
    "dromedary": lambda model, folder: dromedary(model, ASKED),
    "expertprompting": lambda model, folder: expertprompting(model, ASKED),
    "lion": lambda model, folder: lion(model, ASKED, student="kilter/teacher?errors=1", n=4),
    "attrprompt": lambda model, folder: attrprompt(model, labels="positive,negative", n=4),
}
# Replies that are no JSON where none is asked for are answers like any other: the world is no judge of style.
PLAIN_TEXT = {"community-seeds", "orca", "expertprompting", "cot"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("code")
    (made / "one.py").write_text(programs.find("add_2(").code(), encoding="utf-8")
    return made


# Length is checked in one place, so that five methods show it.
LONG = ("self-instruct", "alpaca", "evol", "cot", "oss-instruct")
CASES = [(name, fault) for name in METHODS for fault in FAULTS if fault != "ten megabytes" or name in LONG]


@pytest.mark.parametrize(("name", "fault"), CASES)
def test_a_broken_teacher_is_counted_and_nothing_of_it_is_written(name, fault, folder):
    model = Broken(FAULTS[fault])
    refusal = "."
    with Rejects() as rejects:
        try:
            made = list(pulled(METHODS[name](model, folder)))
        except KilterError as refused:
            made, refusal = [], str(refused)
    assert refusal.endswith(".")
    if fault == "broken JSON" and name in PLAIN_TEXT:
        assert len(made) + rejects.total == len(ASKED)
        return
    assert made == []
    assert rejects.total > 0
    assert all(rejects.counts)


@pytest.mark.parametrize("name", ["community-seeds", "orca", "expertprompting", "cot"])
def test_an_answer_in_another_script_is_counted(name, folder):
    text = "Это предложение написано на совсем другом языке, чем вопрос."
    # Twenty letters decide; questions that are shorter (sums) have no script that an answer could miss.
    long = [p for p in ASKED if sum(c.isalpha() for c in p.messages[-1].content) >= 20]
    assert long
    calls = {
        "community-seeds": lambda m: community_seeds(m, long), "orca": lambda m: orca(m, long),
        "expertprompting": lambda m: expertprompting(m, long), "cot": lambda m: cot(m, long),
    }  # fmt: skip
    with Rejects() as rejects:
        made = list(pulled(calls[name](Broken(lambda m, a, s: reply(text)))))
    assert made == []
    assert rejects.counts == {"wrong language": len(long)}


@pytest.mark.parametrize("name", ["cot", "evol", "orca", "self-instruct"])
def test_records_that_ask_nothing_are_counted(name, folder):
    empty = Demonstration([Message("user", "  "), Message("assistant", "x")])
    calls = {
        "cot": lambda m: cot(m, [empty, *TASKS]),
        "evol": lambda m: evol(m, [Prompt([Message("user", " ")]), *ASKED], rounds=1),
        "orca": lambda m: orca(m, [Prompt([Message("user", " ")]), *ASKED]),
        "self-instruct": lambda m: self_instruct(m, [empty, *TASKS], n=5),
    }
    with Rejects() as rejects:
        made = list(pulled(calls[name](load("kilter/teacher"))))
    assert made
    assert rejects.counts["no prompt"] == 1


@pytest.mark.parametrize("name", ["cot", "evol", "expertprompting", "dromedary", "lion", "self-instruct"])
def test_what_was_said_before_is_not_lost_without_a_word(name, folder):
    turns = [
        Message("user", "I left my lamp at the mill."),
        Message("assistant", "Noted."),
        Message("user", "Where is it?"),
    ]
    calls = {
        "cot": lambda m: cot(m, [Prompt(turns), *TASKS]),
        "evol": lambda m: evol(m, [Prompt(turns), *ASKED], rounds=1),
        "expertprompting": lambda m: expertprompting(m, [Prompt(turns), *ASKED]),
        "dromedary": lambda m: dromedary(m, [Prompt(turns), *ASKED], shortest=1),
        "lion": lambda m: lion(m, [Prompt(turns), *ASKED], student="kilter/teacher?errors=1", n=0),
        "self-instruct": lambda m: self_instruct(m, [Demonstration([*turns, Message("assistant", "x")]), *TASKS], n=2),
    }
    with Rejects() as rejects:
        assert list(pulled(calls[name](load("kilter/teacher"))))
    assert rejects.counts["several turns"] == 1


def test_a_prompt_with_an_unknown_variable_is_refused_before_anything_is_asked(tmp_path):
    (tmp_path / "answer.jinja").write_text("{{ instrucshun }}", encoding="utf-8")
    teacher = Teacher()
    with overriding(tmp_path), Rejects(), pytest.raises(KilterError, match="reads 'instrucshun'"):
        list(pulled(expertprompting(teacher, ASKED, generic=True)))
    assert teacher.usage.requests == 0


def test_a_user_s_own_wording_changes_what_is_asked_and_not_the_teacher(tmp_path):
    (tmp_path / "answer.jinja").write_text("Bitte: {{ instruction }}", encoding="utf-8")
    plain = asyncio.run(_all(ASKED))
    with overriding(tmp_path):
        other = asyncio.run(_all(ASKED))
    assert [r.messages for r in plain] == [r.messages for r in other]
    assert plain[0].origin.prompt != other[0].origin.prompt


async def _all(records):
    return await expertprompting(load("kilter/teacher"), records, generic=True)
