"""Programming tasks that grow harder, until a model that learns from them stops gaining."""

from __future__ import annotations

from collections.abc import Sequence

from kilter.data.evol import Course
from kilter.errors import KilterError
from kilter.models.protocol import Model, Sampling
from kilter.notes import tell
from kilter.prompts import Prompts
from kilter.records import Demonstration, Prompt
from kilter.registry import Amount, Count, Whole, method

PAPER = "arXiv:2306.08568"
PROMPTS = Prompts(__file__)
OPERATIONS = ("constraint", "rarer-requirement", "reasoning-steps", "misdirection", "complexity")


@method("wizardcoder", wing="data", paper=PAPER, survey="S2 §2.2")
async def wizardcoder(
    model: Model,
    records: list[Prompt],
    *,
    rounds: Count = 3,
    dev: str = "",
    most_words: Whole = 0,
    temperature: Amount = 1.0,
    max_tokens: Count = 2048,
    seed: int = 0,
) -> list[Demonstration]:
    """Evolve programming tasks with one prompt and five operations, and answer them (Luo et al. 2023).

    A task gets, with equal chances: a constraint more; a common requirement replaced by a rarer one; more steps of
    reasoning; a piece of erroneous code to lead astray; higher demands on time or space. What fails is given up as in
    `evol`. The paper stops evolving when pass@1 on held-out tests drops: give the values that you measured after
    training on the rounds so far (0 rounds first) as `dev`, and the rounds up to the best one are kept. Take out what
    is in HumanEval with `decontaminate`. meta: operation, round, parent, language.

    Options:
        rounds: how often every task is evolved
        dev: pass@1 after 0, 1, 2 ... rounds, with commas; without it all rounds are kept
        most_words: words that an operation may add; 0 for any number
        temperature: of evolution and answers
        max_tokens: longest task and longest answer
        seed: seed of the draws and of the model's samples
    """
    curve = read_curve(dev)
    best = peak(curve) if curve else rounds
    if best < rounds:
        tell([f"pass@1 is best after {best} rounds ({curve[best]:g}), so {best} of {rounds} are made."])
    course = Course(PROMPTS, "wizardcoder", PAPER, OPERATIONS, most_words, Sampling(max_tokens, temperature), seed)
    made = await course.run(model, records, min(best, rounds))
    for record in made:
        record.meta["language"] = language(record.messages[-1].content)
    return made


def read_curve(text: str) -> list[float]:
    """Return the numbers of a list with commas; raise KilterError for what is no share."""
    try:
        found = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise KilterError(f"dev is '{text}'; give pass@1 after each round, such as 0.31,0.35,0.33.") from None
    if any(not 0 <= value <= 1 for value in found):
        raise KilterError(f"dev is '{text}', and pass@1 is from 0 to 1; give shares.")
    return found


def peak(curve: Sequence[float]) -> int:
    """Return after how many rounds to stop: before the first drop of the values after 0, 1, 2 ... rounds."""
    for k in range(1, len(curve)):
        if curve[k] < curve[k - 1]:
            return k - 1
    return len(curve) - 1


def language(answer: str) -> str:
    """Return the language that an answer's first fence of code names, "" where it names none."""
    _, fence, rest = answer.partition("```")
    return rest.partition("\n")[0].strip().lower() if fence else ""
