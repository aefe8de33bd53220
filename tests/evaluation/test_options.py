"""Options that several suites share: a suite has the fields of a dataclass, in its place, and is given the whole."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
from pydantic import Field

from kilter.errors import KilterError
from kilter.evaluation.options import spread
from kilter.registry import Count, Method


@dataclass(frozen=True, kw_only=True)
class Draws:
    judge: Annotated[str, Field(description="who judges")]
    n: Annotated[Count | None, Field(description="how many")] = None
    seed: Annotated[int, Field(description="seed of the draws")] = 0


@dataclass(frozen=True, kw_only=True)
class Source:
    chat: Annotated[bool, Field(description="ask as in a chat")] = False


@spread(n=7)
def suite(model: str, *, data: str = "d", draws: Draws, seed: int = 3, source: Source) -> tuple[object, ...]:
    """Measure.

    What it is.

    Options:
        data: the file
        n: how many tasks,
            the first ones
        seed: seed of all
    """
    return model, data, draws, seed, source


ROW = Method("suite", "evaluation", suite, None, None, ())


def test_the_fields_are_options_in_their_place_and_the_suite_is_given_the_whole():
    # What has no default comes first.
    assert list(ROW.options) == ["judge", "data", "n", "seed", "chat"]
    assert [option.default for option in ROW.options.values()] == [inspect.Parameter.empty, "d", 7, 3, False]
    assert ROW.options["judge"].help == "who judges"
    assert ROW.options["n"].help == "how many tasks, the first ones"  # the suite's own word counts
    assert ROW.options["seed"].help == "seed of all"
    assert ROW.documentation.startswith("Measure.\n\nWhat it is.\n\nOptions:\n    data: the file\n    judge: who")
    assert ROW.inputs == ("model",)
    assert suite("m", judge="j") == ("m", "d", Draws(judge="j", n=7, seed=3), 3, Source())  # both have the seed
    told = suite("m", judge="j", seed=5, chat=True, data="e", n=1)
    assert told == ("m", "e", Draws(judge="j", n=1, seed=5), 5, Source(chat=True))
    with pytest.raises(TypeError, match="unexpected keyword argument 'nn'"):
        suite("m", judge="j", nn=1)
    assert ROW.check({"judge": "j", "n": "2"})["n"] == 2
    with pytest.raises(KilterError, match="greater than or equal to 1"):
        ROW.check({"judge": "j", "n": 0})


def test_what_is_needed_may_be_given_a_default_and_what_is_not_known_may_not():
    @spread(judge=None)
    def free(*, draws: Draws) -> Draws:
        """Measure."""
        return draws

    assert free().judge is None
    assert Method("free", "evaluation", free, None, None, ()).check({})["judge"] is None
    with pytest.raises(KilterError, match="needs the option judge"):
        suite("m")
    with pytest.raises(KilterError, match=r"no shared option 'jugde'.*'judge'"):

        @spread(jugde=None)
        def wrong(*, draws: Draws) -> Draws:
            return draws
