"""Answers with the reasoning that leads to them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from kilter.data.answers import due_of, equal
from kilter.data.drafts import alone, sound
from kilter.data.table import cell, rows
from kilter.errors import KilterError, SetAside
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, method

PAPER = "arXiv:2201.11903"
PROMPTS = Prompts(__file__)


@method("cot", wing="data", paper=PAPER, survey="S1 §4.2, S2 §2.2", aliases=("chain-of-thought",))
def cot(
    model: Model,
    records: Iterable[Prompt | Demonstration],
    *,
    way: Literal["zero-shot", "few-shot"] = "zero-shot",
    examples: str = "",
    wrong: bool = False,
    temperature: Amount = 0.0,
    max_tokens: Count = 512,
    seed: int = 0,
) -> Each[Demonstration]:
    """Let a model reason before it answers, and keep what comes to the right answer (Wei et al. 2022).

    zero-shot (Kojima et al. 2022): the model is told to think step by step; then it reads question and reasoning again
    and says the answer. few-shot: it reads `examples` with their reasoning first. The response is the reasoning and the
    answer. Where a record has an answer of its own (its last turn, or answer, solution ... in meta), the one found must
    be equal, as a number or word for word, or the record is left out; `wrong` keeps it, marked. meta: rationale,
    answer, correct (None where nothing tells).

    Options:
        way: zero-shot or few-shot
        examples: file of rows with question, rationale and answer, for few-shot
        wrong: whether wrong answers are kept, with meta correct false
        temperature: of the reasoning; the answer is greedy
        max_tokens: longest reasoning
        seed: seed of the model's samples
    """
    shown = _examples(examples) if way == "few-shot" else []

    async def one(record: Prompt | Demonstration) -> Demonstration:
        question = alone(record.messages)
        asked = PROMPTS("few_shot" if shown else "steps", question=question, examples=shown)
        reasoned = await sound(model, asked, Sampling(max_tokens, temperature, seed=seed), of=question)
        rationale = reasoned.text.strip()
        extract = PROMPTS("conclude", question=question, rationale=rationale)
        said = (await sound(model, extract, Sampling(128), of=question)).text.strip()
        due = due_of(record)
        correct = equal(due, said) if due else None
        if correct is False and not wrong:
            raise SetAside(f"The reasoning comes to {said[:40]!r}, and {due[:40]!r} is right.", "wrong answer")  # type: ignore[index]
        response = rationale if said in rationale else f"{rationale}\n{said}"
        turns = record.messages[:-1] if isinstance(record, Demonstration) else record.messages
        origin = Origin("cot", PAPER, reasoned.model, (record.id,), seed, asked.version)
        meta = {**record.meta, "rationale": rationale, "answer": said, "correct": correct}
        return Demonstration([*turns, Message("assistant", response)], origin=origin, meta=meta)

    return each(records, one, label=f"reasoning · {model.name}")


def _examples(path: str) -> list[dict[str, str]]:
    if not path:
        raise KilterError(
            "few-shot shows examples; name a file of them with examples=FILE (question, rationale, answer)."
        )
    found = [{name: cell(row, name) for name in ("question", "rationale", "answer")} for _, row in rows(path)]
    if not all(all(example.values()) for example in found):
        raise KilterError(
            f"An example in '{path}' lacks its question, rationale or answer; give each of them all three."
        )
    return found
