"""SelFee: learn to answer, to give feedback on the answer, and to revise it until no revision is needed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.errors import KilterError
from kilter.models.each import Each, answered, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt, Record
from kilter.registry import Amount, Count, Whole, method
from kilter.training.objective import learns_from
from kilter.training.sft import sft

PAPER = "github.com/kaistAI/SelFee"
PROMPTS = Prompts(__file__)
NEEDED, NEEDLESS = "Revision is needed", "Revision is not needed"
_ENOUGH = re.compile(
    r"revision is (?:not needed|not necessary|unnecessary)|no (?:revision|change) is needed|"
    "no need for (?:a )?revision|不需要修改|无需修改",
    re.IGNORECASE,
)

Step = tuple[str, str]  # what was answered, and the feedback on it; the last one's may be empty


def is_enough(feedback: str) -> bool:
    """Whether feedback says that no revision is needed."""
    return _ENOUGH.search(feedback) is not None


def written(prompt: Sequence[Message], steps: Sequence[Step]) -> list[Message]:
    """Return a chain as a conversation: answer, feedback that was asked for, revision that was asked for, ..."""
    messages = list(prompt)
    for place, (output, feedback) in enumerate(steps):
        messages += [*(PROMPTS("revision") if place else ()), Message("assistant", output)]
        if feedback:
            messages += [*PROMPTS("feedback"), Message("assistant", feedback)]
    return messages


def parsed(messages: Sequence[Message], start: int) -> list[Step] | None:
    """Return the chain that begins with message number `start`, None where what follows is none."""
    asked = {kind: PROMPTS(kind)[0].content for kind in ("feedback", "revision")}
    turns = list(messages[start:])
    if len(turns) % 2 == 0 or any(turn.role != ("assistant", "user")[i % 2] for i, turn in enumerate(turns)):
        return None
    if any(turn.content != asked[("feedback", "revision")[i % 2]] for i, turn in enumerate(turns[1::2])):
        return None
    said = [turn.content for turn in turns[::2]]
    return [(said[i], said[i + 1] if i + 1 < len(said) else "") for i in range(0, len(said), 2)]


def chains(records: list[Record], *, longest: Whole = 0) -> tuple[list[Record], list[str]]:
    """Return the conversation of every record that holds outputs with feedback."""
    made: list[Record] = []
    whole = [record for record in records if isinstance(record, Demonstration)]
    for record in whole:
        steps = steps_of(record.meta)
        if steps is None:
            continue
        steps = steps[: longest + 1] if longest else steps
        prompt = record.messages[: max(i for i, m in enumerate(record.messages) if m.role == "assistant")]
        made.append(Demonstration(written(prompt, steps), id=record.id, origin=record.origin, meta=record.meta))
    if not made:
        raise KilterError(
            "No record holds outputs with feedback on them; make some with `kilter data selfee --records RECORDS`."
        )
    left = len(whole) - len(made)
    return made, [f"{left} of {len(whole)} records left out: no outputs with feedback in meta."] if left else []


def steps_of(meta: dict[str, Any]) -> list[Step] | None:
    """Return the chain that a record's meta holds under "outputs", None where it holds none."""
    outputs = meta.get("outputs") or (meta.get("extra") or {}).get("outputs")
    if not isinstance(outputs, list) or not outputs:
        return None
    steps = [(str(one.get("output") or ""), str(one.get("feedback") or "")) for one in outputs if isinstance(one, dict)]
    whole = len(steps) == len(outputs) and all(output.strip() for output, _ in steps)
    # Only the last output may be without feedback: there the chain was cut off.
    return steps if whole and all(feedback for _, feedback in steps[:-1]) else None


@method("selfee", wing="training", paper=PAPER, survey="S1 §4.2, S2 §2.3")
@learns_from(
    "demonstrations", records=chains, learning_rate=2e-5, epochs=3, batch_size=128, max_length=2048, warmup=0.03
)
def selfee(policy: LogProbs, group: Groups) -> Loss:
    """SelFee: iterative self-revision in one model (Ye et al. 2023).

    A record of `kilter data selfee` holds outputs y_0, y_1 ... and the feedback f_0, f_1 ... on each, the last of which
    says that no revision is needed. They become one conversation x, y_0, f_0, y_1, f_1 ..., between which the user asks
    for feedback and for a revision in words that are always the same, and

    L = - sum_t m_t log pi(token_t | all before) / sum_t m_t, where m_t is 1 on every y and f (with the token that ends
    the turn) and 0 on what the user says.

    SelFee writes the chain into one long turn of the assistant; turns of their own are the same tokens under a chat
    template, and any model or server can be asked for the next link. `kilter data selfee-answers` answers so, until the
    model finds that no revision is needed, or by a number of revisions that is enforced.

    policy: log-probs of R chains. The result is per chain [R], weighted by its number of scored tokens.

    Options:
        longest: most revisions of a chain that are learned; 0 takes all
    """
    return sft(policy, group)


@method("selfee-answers", wing="data", paper=PAPER, survey="S1 §4.2, S2 §2.3")
def revised(
    model: Model,
    records: Iterable[Prompt],
    *,
    revisions: int = -1,
    most: Count = 5,
    max_tokens: Count = 512,
    feedback_tokens: Count = 128,
    temperature: Amount = 0.0,
    seed: int = 0,
) -> Each[Demonstration]:
    """Answer, and revise the answer by the model's own feedback (Ye et al. 2023).

    The model (train one with `kilter train selfee`) answers, gives feedback, and revises, until its feedback says that
    no revision is needed or after `most` revisions. With `revisions` it is exactly so many: feedback that finds none
    needed is changed to say that one is, before the revision is asked for. The answer is the last revision; meta holds
    all outputs with their feedback.

    Options:
        revisions: how many revisions are enforced; -1 leaves it to the model
        most: most revisions where it is left to the model
        max_tokens: longest answer
        feedback_tokens: longest feedback
        temperature: of sampling; 0 takes the likeliest token
        seed: seed of the samples
    """
    if revisions < -1:
        raise KilterError(f"revisions is {revisions}; give a number of revisions, or -1 to leave it to the model.")

    async def one(prompt: Prompt) -> Demonstration:
        async def say(messages: Sequence[Message], tokens: int, *, cut: bool) -> str:
            found = await answered(model, messages, Sampling(tokens, temperature, seed=seed), cut=cut)
            return found.text.strip()

        steps: list[Step] = [(await say(prompt.messages, max_tokens, cut=True), "")]
        last = most if revisions < 0 else revisions
        while len(steps) <= last:
            output = steps[-1][0]
            feedback = await say([*written(prompt.messages, steps), *PROMPTS("feedback")], feedback_tokens, cut=True)
            if revisions < 0 and is_enough(feedback):
                steps[-1] = (output, feedback)
                break
            steps[-1] = (output, _ENOUGH.sub(NEEDED, feedback))
            asked = [*written(prompt.messages, steps), *PROMPTS("revision")]
            steps.append((await say(asked, max_tokens, cut=True), ""))
        outputs = [{"output": output, "feedback": feedback} for output, feedback in steps]
        origin = Origin("selfee-answers", PAPER, model.name, (prompt.id,), seed, PROMPTS.version("feedback"))
        meta = {**prompt.meta, "outputs": outputs, "iteration": len(steps) - 1}
        return Demonstration([*prompt.messages, Message("assistant", steps[-1][0])], origin=origin, meta=meta)

    return each(records, one, label="answers and revisions")
