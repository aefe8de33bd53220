"""Making a file of records by a data method: streamed, resumable, with what it cost and what it left out.

The answers of models are journalled beside the file before they are used. A killed run that is given again asks nothing
twice but what was under way, and ends with the same file.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kilter import formats, registry
from kilter.data.card import Card
from kilter.errors import KilterError, SetAside
from kilter.files import sweep
from kilter.models.desk import Desk, Rehearsal
from kilter.models.each import pulled
from kilter.models.protocol import Model
from kilter.notes import tell
from kilter.prompts import Prompts, overriding
from kilter.recipe.calling import Call, call
from kilter.store.rejects import Rejects


@dataclass(frozen=True)
class Made:
    """What was made: records in and out, items set aside by rule, lines unread, what it cost, what there is to say."""

    out: Path
    records: int
    read: int
    aside: dict[str, int]
    unread: int
    account: dict[str, float]
    lost: list[str]
    notes: list[str] = field(default_factory=list)


def make_file(
    method: registry.Method,
    options: dict[str, Any],
    *,
    out: Path,
    rejects: Path,
    desk: Desk,
    model: str | Path | Model | None = None,
    records: Any = None,
    prompts: str | Path | None = None,
) -> Made:
    """Write what `method` makes to `out`, as it comes; the file is there, whole, when all of it has come.

    What was left out goes to the file `rejects`. Models are asked over `desk`, with the user's prompts of the folder
    `prompts` in the place of the method's. `<out>.card.md` says by what the records were made and what they hold.
    Raises KilterError where nothing was made.
    """
    check_prompts(method, prompts)
    sweep(out)
    try:
        with desk, Rejects(rejects) as kept, overriding(prompts):
            begun = call(method, options, model=model, records=records, rejects=kept)
            card = Card(method, begun.options, records=_name(records), model=_name(model))
            lost = formats.write(card.watch(_some(begun, kept)), out)
    except KeyboardInterrupt:
        if desk.journal is not None:
            tell([f"What was answered is kept in {desk.path}; the same command goes on from there."])
        raise
    notes = [*begun.notes(), *kept.sentences()]
    if out.is_file():  # beside a pipe or a device there is no place for a card
        card.save(out, read=begun.read, aside=kept.counts, unread=kept.unread, account=desk.account())
    return Made(out, card.count, begun.read, dict(kept.counts), kept.unread, desk.account(), lost, notes)


def _name(given: Any) -> str | None:
    """Return a model or a file by the name that it was given, None where it was given as it is."""
    return str(given) if isinstance(given, str | Path) else None


def rehearse(
    method: registry.Method,
    options: dict[str, Any],
    *,
    desk: Desk,
    model: str | Path | Model | None = None,
    records: Any = None,
    prompts: str | Path | None = None,
) -> list[Rehearsal]:
    """Return what `method` would ask first, model by model; nothing is asked and nothing written. `desk` is dry."""
    check_prompts(method, prompts)
    with desk, Rejects() as kept, overriding(prompts):
        begun = call(method, options, model=model, records=records, rejects=kept)
        try:
            for _ in pulled(begun.made()):
                pass
        except SetAside:  # of a method that takes all or nothing
            pass
    return desk.rehearsed()


def check_prompts(method: registry.Method, folder: str | Path | None) -> None:
    """Raise KilterError where prompts are to be overridden and the method has none, which would change nothing."""
    if folder is not None and not prompts_of(method).names():
        raise KilterError(f"Method '{method.id}' has no prompts to override; leave --prompts out.")


def prompts_of(method: registry.Method) -> Prompts:
    """Return the prompts beside the method's module."""
    return Prompts(inspect.getsourcefile(method.function) or "")


def _some(begun: Call, kept: Rejects) -> Iterator[Any]:
    """Yield the records that the method makes; raise KilterError where there are none."""
    made: Iterable[Any] = pulled(begun.made())
    none = True
    for record in made:
        none = False
        yield record
    if none:
        why = kept.sentences()
        raise KilterError(
            f"Method '{begun.method.id}' made no records at all; "
            + (f"look at what was left out: {why[0]}" if why else "look at its options and at what it read.")
        )
