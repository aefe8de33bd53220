"""Answers with feedback on them and revisions, until nothing more is to be revised."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kilter.data.drafts import sound
from kilter.data.replies import answer_of
from kilter.data.sieve import said
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin
from kilter.registry import Amount, Count, Whole, method

PROMPTS = Prompts(__file__)
PAPER = "github.com/kaistAI/SelFee"
ENOUGH = ("revision is not needed", "revision is not necessary", "no revision is needed", "no need for revision")
_ENOUGH = re.compile("|".join(ENOUGH), re.IGNORECASE)
NEEDED = "Revision is needed."


@method("selfee", wing="data", paper=PAPER, survey="S1 §4.2, S2 §2.3")
def selfee(
    model: Model,
    records: Iterable[Demonstration],
    *,
    iterations: Count = 5,
    forced: Whole = 0,
    critique_words: Count = 100,
    revision_words: Count = 500,
    critique_tokens: Count = 128,
    revision_tokens: Count = 512,
    temperature: Amount = 1.0,
    seed: int = 0,
) -> Each[Demonstration]:
    """Revise the answers of demonstrations by the model's own feedback, over and over (Ye et al. 2023).

    Feedback on the answer (what is good, what is missing, a score of 10, whether to revise it), then the answer once
    more, revised by the feedback; until the feedback holds one of four phrases that no revision is needed, or after
    `iterations` revisions. `forced` revisions take place in any case: a verdict that none is needed is replaced by one
    that it is, as SelFee does at inference. Feedback may be cut off at its length; a revision may not.

    The record's answer becomes the last revision. meta: input, iteration (how many revisions), outputs [{output,
    feedback}] of which there is one more than revisions, and iteration_truncated, whether it ended without a verdict
    that none is needed. The training method `selfee` learns the whole chain from that.

    Options:
        iterations: most revisions
        forced: fewest revisions, whatever the feedback says
        critique_words: most words of feedback that are asked for
        revision_words: most words of a revision that are asked for
        critique_tokens: longest feedback
        revision_tokens: longest revision
        temperature: sampling temperature
        seed: seed of feedback and revisions
    """

    async def one(record: Demonstration) -> Demonstration:
        output = answer_of(record.messages)
        question = said(record, "prompt")
        writer = model.name
        outputs: list[dict[str, str]] = []
        while True:
            about = {"question": question, "response": output}
            asked = PROMPTS("critique", words=critique_words, **about)
            reply = await sound(model, asked, Sampling(critique_tokens, temperature, seed=seed), cut=True)
            feedback, writer = reply.text.strip(), reply.model or writer
            enough = needless(feedback)
            if enough and len(outputs) < forced:
                feedback, enough = _ENOUGH.sub(NEEDED.rstrip("."), feedback), False
            outputs.append({"output": output, "feedback": feedback})
            if enough or len(outputs) > max(iterations, forced):
                break
            asked = PROMPTS("revise", critique=feedback, words=revision_words, **about)
            output = (
                await sound(model, asked, Sampling(revision_tokens, temperature, seed=seed), of=question)
            ).text.strip()
        meta = {**record.meta, "iteration": len(outputs) - 1, "outputs": outputs, "iteration_truncated": not enough}
        origin = Origin("selfee", PAPER, writer, (record.id,), seed, asked.version)
        return Demonstration([*record.messages[:-1], Message("assistant", output)], origin=origin, meta=meta)

    return each(records, one, label=f"feedback and revisions · {model.name}")


def needless(feedback: str) -> bool:
    """Whether feedback says that no revision is needed."""
    return _ENOUGH.search(feedback) is not None
