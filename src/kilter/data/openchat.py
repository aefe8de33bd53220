"""Demonstrations of mixed quality, each marked by the class of its source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kilter.data.sieve import leave_out
from kilter.errors import KilterError
from kilter.records import Demonstration, Message, Origin
from kilter.registry import Amount, method

PAPER = "arXiv:2309.11235"


@method("openchat", wing="data", paper=PAPER, survey="S2 §3.2.2, S3 §imitation", aliases=("c-rlft-data",))
def openchat(
    records: Iterable[Demonstration],
    *,
    source: str = "source",
    good: str = "gpt-4,gpt4",
    good_prefix: str = "GPT4 Correct",
    other_prefix: str = "GPT3 Correct",
    good_weight: Amount = 1.0,
    other_weight: Amount = 0.1,
    keep_unknown: bool = False,
) -> Iterator[Demonstration]:
    """Mark demonstrations by the class of their source, for conditioned fine-tuning (Wang et al. 2023, C-RLFT).

    A record whose source is one of `good` is of the expert class, any other of the sub-optimal one. Its conversation is
    conditioned on the class: each turn of the user begins with the class's prefix and "User: ". meta["condition"] keeps
    the prefix, meta["weight"] the reward of the class, 1 or 0.1: the weight of the record in

        L = -sum_i w_i log pi(y_i | x_i, c_i),

    the optimum of a reward that is constant within a class, with KL to the class-conditioned data. At inference the
    good prefix is put before every request. With both prefixes empty and both weights 1 the records stay what they
    were, and training on them is plain fine-tuning. The source is read from meta[`source`], else from who wrote the
    record (origin.model); a name counts where one of `good` is part of it. What tells no source is left out.

    Options:
        source: name in the records' meta of where they are from
        good: parts of the names of sources of the expert class, with commas
        good_prefix: condition of the expert class
        other_prefix: condition of the others
        good_weight: weight of the expert class
        other_weight: weight of the others
        keep_unknown: whether records that tell no source count as sub-optimal, rather than being left out
    """
    names = [name.strip().casefold() for name in good.split(",") if name.strip()]
    if not names:
        raise KilterError("No source is good; name one or more, such as good=gpt-4,human.")
    for record in records:
        told = record.meta.get(source) or record.meta.get("extra", {}).get(source)
        where = str(told or (record.origin.model if record.origin else None) or "")
        if not where and not keep_unknown:
            leave_out(record, "no source", f"Nothing says where it is from: it has no '{source}' and no model.")
            continue
        expert = any(name in where.casefold() for name in names)
        prefix, weight = (good_prefix, good_weight) if expert else (other_prefix, other_weight)
        yield Demonstration(
            [conditioned(message, prefix) for message in record.messages],
            record.id if not prefix else "",
            Origin("openchat", PAPER, record.origin.model if record.origin else None, (record.id,)),
            {**record.meta, "condition": prefix, "weight": weight, "expert": expert},
        )


def conditioned(message: Message, prefix: str) -> Message:
    """Return the turn under the condition `prefix`; only the user's turns bear it."""
    return Message("user", f"{prefix} User: {message.content}") if prefix and message.role == "user" else message
