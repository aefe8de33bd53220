"""A model that answers by a function of what it is asked: for checks that need its answers to be known exactly."""

from kilter.models.each import pulled
from kilter.models.protocol import Answer
from kilter.records import Demonstration, Message, Prompt
from kilter.store.rejects import Rejects


class Scripted:
    """`reply(messages, sampling)` returns a text, or an Answer. `asked` holds what was asked, in order."""

    def __init__(self, reply, name="scripted"):
        self.reply, self.name, self.asked = reply, name, []

    async def ask(self, messages, sampling):
        self.asked.append(messages)
        found = self.reply(messages, sampling)
        many = found if isinstance(found, list) else [found] * sampling.n
        return [
            one if isinstance(one, Answer) else Answer(one, len(one.split()), None, "stop", self.name) for one in many
        ]

    async def score(self, messages, response):
        raise AssertionError("nothing is scored here")


def by_kind(**replies):
    """A model with one function (of the variables and the sampling) a kind of request; "" is for plain turns."""

    def reply(messages, sampling):
        kind = getattr(messages, "kind", "").replace("-", "_") or "plain"
        return replies[kind](messages.variables if kind != "plain" else messages, sampling)

    return Scripted(reply)


def prompt(text, **meta):
    return Prompt([Message("user", text)], meta=meta)


def shown(text, answer, **meta):
    return Demonstration([Message("user", text), Message("assistant", answer)], meta=meta)


def made(call):
    """What a method makes, and what it left out by rule; `call` is its result, or calls it."""
    with Rejects() as rejects:
        return list(pulled(call() if callable(call) else call)), dict(rejects.counts)
