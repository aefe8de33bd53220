"""How a model is asked by a task: as plain text, or through its chat template; many requests at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from kilter.engine.weigher import Weight
from kilter.errors import KilterError, SetAside
from kilter.evaluation.tasks.form import Generation
from kilter.models import plain
from kilter.models.drive import run
from kilter.models.protocol import Model, Sampling
from kilter.records import Message

AT_ONCE = 4096  # requests that are weighed together; what is done of a longer suite is kept after each
Tell = Callable[[int], None]


async def weigh(
    model: Model, pairs: Sequence[tuple[str, str]], *, chat: bool, tell: Tell = lambda done: None
) -> list[Weight | SetAside]:
    """Return how likely each continuation is after its context.

    With `chat` the context is what the user says and the continuation, without the space before it, the answer. Raises
    KilterError for a model that does not tell log-probs of given text.
    """
    asked: Any = getattr(model, "weigh", None)
    if chat or asked is None:
        return await _scored(model, pairs, chat, tell)
    found: list[Weight | SetAside] = []
    for start in range(0, len(pairs), AT_ONCE):
        found += await asked(pairs[start : start + AT_ONCE], progress=lambda done, before=start: tell(before + done))
    return found


async def _scored(model: Model, pairs: Sequence[tuple[str, str]], chat: bool, tell: Tell) -> list[Weight | SetAside]:
    if not chat:
        raise KilterError(
            f"'{model.name}' weighs no plain text; let it write the letter with --way generation, or try --chat."
        )
    done = 0

    async def one(pair: tuple[str, str]) -> Weight | SetAside:
        nonlocal done
        try:
            values = (await model.score([Message("user", pair[0])], pair[1].strip()))[:-1]
        except SetAside as why:
            return why
        done += 1
        tell(done)
        return Weight(math.fsum(values), False, len(values))

    return await run(pairs, one, quiet=True)


async def write(
    model: Model,
    contexts: Sequence[str],
    how: Generation,
    *,
    chat: bool,
    tell: Tell = lambda done: None,
    letters: bool = False,
    samples: int = 1,
    seed: int = 0,
) -> tuple[list[list[str] | None], list[str]]:
    """Return the `samples` texts that the model writes after each context, and what there is to say of it.

    None stands where the model refused. A model that cannot go on from plain text is asked by chat. `letters`: the
    letter of a choice is enough.
    """
    notes: list[str] = []
    asked: Any = getattr(model, "complete", None)
    if asked is None and not chat:
        notes.append(f"'{model.name}' goes on from no plain text; it was asked through its chat template.")
    talks = chat or asked is None
    sampling = Sampling(
        max_tokens=16 if letters else how.max_gen_toks,
        temperature=how.temperature if how.do_sample else 0.0,
        top_p=how.top_p,
        n=samples,
        seed=seed,
        stop=() if talks else tuple(stop for stop in (["\n\n"] if letters else how.until) if stop),
    )
    refused: list[str] = []
    done = 0

    async def one(context: str) -> list[str] | None:
        nonlocal done
        try:
            answers = await (model.ask([Message("user", context)], sampling) if talks else asked(context, sampling))
        except SetAside as why:
            refused.append(str(why))
            return None
        finally:
            done += 1
            tell(done)
        return [str(answer.text) for answer in answers]

    said = await run(contexts, one, quiet=True, concurrency=4096)
    if refused:
        if len(refused) == len(contexts):
            raise KilterError(refused[0])
        notes.append(f"{len(refused):,} of {len(contexts):,} items were refused, the first because: {refused[0]}")
    return said, notes


def lengths(model: Model) -> tuple[Callable[[str], int], int]:
    """Return what counts the tokens of a text, and how many the model takes; raise KilterError where it is silent."""
    own: Any = getattr(model, "model", model) if not hasattr(model, "tokenizer") else model
    if not hasattr(own, "tokenizer"):
        raise KilterError(f"'{model.name}' does not tell how long a text is; leave --fit as it is.")
    return lambda text: len(plain.ids(own.tokenizer, [text])[0]), int(own.positions)
