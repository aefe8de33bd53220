"""Runs in the sandbox: compares a candidate with the reference, input by input. The standard library only."""

import copy
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any


class BaseFailed(Exception):
    """An input of HumanEval itself came out wrong."""


class PlusFailed(Exception):
    """All of HumanEval's inputs came out right, and an added one wrong."""


class Slow(BaseException):
    """A call took longer than it may; no `except Exception` of a candidate catches it."""


def referee(text: str) -> None:
    """Raise BaseFailed or PlusFailed where the candidate differs from the reference, RuntimeError where that fails."""
    told = json.loads(text)
    names: dict[str, dict[str, Any]] = {"reference": {}, "candidate": {}}
    try:
        exec(compile(told["reference"], "reference.py", "exec"), names["reference"])
    except BaseException as error:
        raise RuntimeError(f"the reference does not run: {error!r}") from None
    wanted = {
        kind: list(expected(names["reference"][told["entry"]], told["inputs"][kind])) for kind in ("base", "plus")
    }
    if not wanted["base"] and not wanted["plus"]:
        raise RuntimeError("the reference accepts none of the inputs")
    try:
        exec(compile(told["candidate"], "candidate.py", "exec"), names["candidate"])
        call = names["candidate"][told["entry"]]
    except BaseException as error:
        raise BaseFailed(f"the candidate does not run: {error!r}") from None
    for kind, failure in (("base", BaseFailed), ("plus", PlusFailed)):
        for arguments, right, seconds in wanted[kind]:
            try:
                found = timed(call, copy.deepcopy(arguments), max(told["least"], told["factor"] * seconds))
            except BaseException as error:
                raise failure(f"{arguments!r:.100}: {error!r:.100}") from None
            if not same(found, right, told["atol"]):
                raise failure(f"{arguments!r:.100}: {found!r:.100}, not {right!r:.100}")


def expected(reference: Callable[..., Any], inputs: list[Any]) -> Iterator[tuple[Any, Any, float]]:
    """Yield (arguments, output, seconds) of the inputs that keep the contract, which raises AssertionError."""
    for arguments in inputs:
        began = time.monotonic()
        try:
            yield arguments, reference(*copy.deepcopy(arguments)), time.monotonic() - began
        except AssertionError:
            continue
        except BaseException as error:
            raise RuntimeError(f"the reference fails on {arguments!r:.100}: {error!r:.100}") from None


def timed(call: Callable[..., Any], arguments: list[Any], seconds: float) -> Any:
    """Return call(*arguments); raise Slow after so many seconds of this process' own time."""

    def late(*_: object) -> None:
        raise Slow(f"slower than {seconds:.2f} s")

    signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        return call(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def same(found: Any, right: Any, atol: float) -> bool:
    """Return whether two outputs are the same; fractions, also in lists, up to atol + 1e-7 times the right one."""
    if found == right:
        return True
    if isinstance(right, float) or (atol and isinstance(right, (int, float))):
        number = isinstance(found, (int, float)) and not isinstance(found, bool)
        near = number and abs(found - right) <= (atol or 1e-6) + 1e-7 * abs(right)
        return near or (number and math.isnan(right) and math.isnan(found))
    if isinstance(right, (list, tuple)) and isinstance(found, type(right)) and len(found) == len(right):
        return all(same(a, b, atol) for a, b in zip(found, right, strict=True))
    return False
