"""Examples for a model that edits the answers of others: question and answer in, corrected answer out."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Literal

from kilter.data.drafts import sound
from kilter.data.replies import answer_of
from kilter.data.sieve import said
from kilter.errors import KilterError, SetAside
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Group, Message, Origin
from kilter.registry import Count, Share, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2402.02416"


@method("aligner", wing="data", paper=PAPER, survey="S3 §imitation")
def aligner(
    records: Iterable[Demonstration | Group],
    model: Model | None = None,
    *,
    step: Literal["residual", "warm-up", "correct"] = "residual",
    identity: Share = 0.0,
    max_tokens: Count = 1024,
    seed: int = 0,
) -> Each[Demonstration]:
    """Data of a corrector that learns the residual between answers and better ones (Ji et al. 2024, Aligner).

    The corrector learns mu(y_c | y_o, x): x the question, y_o an answer, y_c the corrected one, by

        L = -E log mu(y_c | y_o, x),      after a warm-up on the identity,      L = -E log mu(y_o | y_o, x).

    warm-up     Q-A-A: every answer becomes itself
    residual    Q-A-C: of a group the best answer is the correction of one of the others, drawn; the answer of a
                demonstration is corrected by the model. The share `identity` stays Q-A-A, so that a good answer is
                still returned as it is
    correct     the model, an aligner that was so trained or any other, edits the answers of demonstrations. One that
                was trained on identities alone returns them

    Train on what comes back with `kilter train sft`; then `kilter data aligner --step correct --model THAT`.

    Options:
        step: warm-up, residual, or correct
        identity: share of the residual's records whose answer stays as it is
        max_tokens: longest correction
        seed: seed of draws and corrections
    """
    sampling = Sampling(max_tokens=max_tokens, seed=seed)

    async def one(record: Demonstration | Group) -> Demonstration:
        draw = random.Random(f"aligner {seed} {record.id}")
        same = step == "warm-up" or (step == "residual" and draw.random() < identity)
        question = said(record, "prompt")
        if not question.strip():
            raise SetAside("It asks nothing; give it a user's turn.", "no prompt")
        if isinstance(record, Group) and step == "correct":
            raise SetAside("It is a group; give demonstrations, whose answers are to be edited.", "no answer")
        before, after = _drawn(record, draw) if isinstance(record, Group) else (answer_of(record.messages), "")
        asked = PROMPTS("correct", question=question, response=before)
        writer = None
        if same:
            after = before
        elif not after:
            if model is None:
                raise KilterError("Answers of demonstrations are corrected by a model; give one, or ranked groups.")
            reply = await sound(model, asked, sampling, of=question)
            after, writer = reply.text.strip(), reply.model or model.name
        origin = Origin("aligner", PAPER, writer, (record.id,), seed, asked.version)
        if step == "correct":
            meta = {**record.meta, "before": before}
            turns = [*record.messages[:-1], Message("assistant", after)] if isinstance(record, Demonstration) else []
            return Demonstration(turns, origin=origin, meta=meta)
        meta = {"step": "warm-up" if same else "residual", "changed": before != after}
        return Demonstration([*asked, Message("assistant", after)], origin=origin, meta=meta)

    return each(records, one, label=f"corrections · {model.name}" if model is not None else "corrections")


def _drawn(group: Group, draw: random.Random) -> tuple[str, str]:
    """Return one of the worse answers and the best one; raise SetAside where none is worse."""
    order = group.order() or []
    worse = [k for k, value in enumerate(order) if value < max(order)]
    if not worse:
        raise SetAside(
            "None of its answers is better than another, so that there is nothing to learn.", "no preference"
        )
    return group.responses[draw.choice(worse)], group.responses[order.index(max(order))]
