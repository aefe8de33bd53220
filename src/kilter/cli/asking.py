"""The flags of verbs that ask models: what may be spent, whose prompts, what would be asked; and what it came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilter.cli import flags

if TYPE_CHECKING:
    from kilter.models.budget import Price
    from kilter.models.desk import Desk, Rehearsal

_COST = [
    flags.fixed(
        "budget",
        str | None,
        "Stop before more than this is spent: 2M tokens, or with --price an amount such as 3.50.",
        default=None,
        metavar="AMOUNT",
    ),
    flags.fixed(
        "price",
        str | None,
        "What a million tokens cost, read and written, such as 0.15,0.60.",
        default=None,
        metavar="IN,OUT",
    ),
]
_MAKING = [
    flags.fixed(
        "prompts",
        str | None,
        "A folder of *.jinja files that take the place of the method's prompts of the same name.",
        default=None,
        metavar="DIR",
    ),
    flags.fixed(
        "dry_run", bool, "Show the first prompts and an estimate; ask nothing.", default=False, flag="--dry-run"
    ),
]


def parameters(method: Any, verb: str) -> list[Any]:
    """Return the flags of `verb` for a method that asks a model, but for those that the method itself has."""
    if "model" not in method.inputs:
        return []
    found = [*_COST, *_MAKING] if verb == "data" else _COST
    return [parameter for parameter in found if parameter.name not in method.options]


def journal_beside(out: str | Path) -> Path:
    """Return where the answers that went into `out` are kept: `<out>.journal`."""
    out = Path(out)
    return out.with_name(f"{out.name}.journal")


def desk(given: Mapping[str, Any], out: Path, *, local: bool) -> Desk:
    """Return the desk that the flags ask for, its journal beside `out`."""
    from kilter.models.budget import parse_budget, parse_price
    from kilter.models.desk import Desk

    price = parse_price(given.get("price"))
    budget = parse_budget(given.get("budget"), price)
    dry = bool(given.get("dry_run"))
    return Desk(None if dry else journal_beside(out), local=local, budget=budget, price=price, dry=dry)


def rehearsed(models: Sequence[Rehearsal], price: Price | None) -> dict[str, Any]:
    """Return what a dry run found, as JSON values: the first questions, and an estimate of the first of each item."""
    read, written = sum(m.prompt_tokens for m in models), sum(m.completion_tokens for m in models)
    shown = [
        {
            "model": model.name,
            "messages": [message.to_json() for message in messages],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "n": sampling.n,
        }
        for model in models
        for messages, sampling in model.shown
    ]
    found: dict[str, Any] = {
        "requests": sum(m.requests for m in models),
        "prompt_tokens": read,
        "completion_tokens_at_most": written,
    }
    if price is not None:
        found["cost_at_most"] = (read * price.prompt + written * price.completion) / 1e6
    return {"shown": shown, **found}


def show(found: Mapping[str, Any]) -> None:
    """Print what a dry run found."""
    for number, asked in enumerate(found["shown"], 1):
        manner = f"{asked['n']} answer{'s' if asked['n'] > 1 else ''} of at most {asked['max_tokens']} tokens"
        print(f"--- {number}. to {asked['model']}: {manner}, temperature {asked['temperature']:g}")
        for message in asked["messages"]:
            print(f"[{message['role']}]\n{message['content']}")
    cost = f", at most {found['cost_at_most']:,.4f}" if "cost_at_most" in found else ""
    print(
        f"--- {found['requests']:,} first questions: about {found['prompt_tokens']:,} tokens to read, at most "
        f"{found['completion_tokens_at_most']:,} to write{cost}. What is asked after the first answers is not counted."
    )
