"""A judge trained on people's votes: a classifier of first, second and tie, held against votes it has not seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kilter import formats
from kilter.errors import KilterError
from kilter.evaluation.classification import scores
from kilter.evaluation.result import DIMENSIONS, Dimension, Evaluation
from kilter.evaluation.rows import Row
from kilter.evaluation.statistics import summarize
from kilter.feedback.judge import PROMPTS, Case, Judge, case_of
from kilter.models.each import each
from kilter.models.protocol import Model
from kilter.records import Demonstration, Group, Message, Origin
from kilter.registry import Count, method

CLASSES = ("first", "second", "tie")
LETTERS = {"first": "A", "second": "B", "tie": "C"}
DIMENSIONS.setdefault(
    "consistency", Dimension("consistency", "Consistency", "higher", "share", "Pairs judged the same in both orders.")
)


@dataclass(frozen=True, slots=True)
class Vote:
    """Two answers and which of them people prefer (first, second or tie)."""

    id: str
    case: Case
    first: str
    second: str
    winner: str


@method("vicunajudge", wing="evaluation", paper="arXiv:2306.05685", survey="S1 §8.4", aliases=("vicuna-judge",))
async def vicunajudge(
    records: list[Group],
    model: Model | None = None,
    *,
    demonstrations: str | None = None,
    n: Count | None = None,
    resamples: Count = 500,
    seed: int = 0,
) -> Evaluation:
    """Measure a judge that was trained as a three-way classifier of pairs (Zheng et al. 2023, fine-tuned Vicuna).

    The verdict is argmax over A, B and C (a tie) of the model's probabilities after the judge's prompt, no text being
    drawn; the model's choice is read in both orders. accuracy, macro_precision, macro_recall and macro_f1 and each
    class's own are those of the order as it stands, consistency is how often the other order gives the same verdict,
    balanced the accuracy of the mean of both. judge:position is the preference for what is shown first.

    Every two responses of a group whose scores, ranks or labels tell which people prefer are a vote. To train such a
    judge: `--demonstrations FILE` writes the votes as conversations, each in both orders, for `kilter train sft`.

    Options:
        demonstrations: write the votes here as demonstrations to train a judge on; without a model nothing else is done
        n: how many votes, the first
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    votes = votes_of(records)[:n]
    if not votes:
        raise KilterError("There are no votes: give groups of two responses and more with scores, ranks or labels.")
    notes = []
    if demonstrations is not None:
        made = as_demonstrations(votes)
        formats.write(made, Path(demonstrations))
        notes.append(f"{len(made):,} demonstrations of votes were written to {demonstrations}.")
    if model is None:
        if demonstrations is None:
            raise KilterError("Give the judge to be measured with --model, or --demonstrations FILE to train one.")
        samples = [_sample(vote, {"tie": float(vote.winner == "tie")}) for vote in votes]
        return Evaluation("", summarize(samples), samples, suite="vicunajudge", seed=seed, notes=notes)
    judge = Judge(model, by="logprobs")

    async def one(vote: Vote) -> Row:
        told = await judge.compare(vote.case, vote.first, vote.second)
        here, there = (spread(one.text, one.swapped) for one in told)
        said, other = best(here), best(there)
        mean = {name: (here[name] + there[name]) / 2 for name in CLASSES}
        outcomes = {
            "consistency": float(said == other),
            "balanced": float(best(mean) == vote.winner),
            "judge:position": here["first"] - here["second"] - (there["first"] - there["second"]),
        }
        outcomes["judge:position"] /= 2
        return _sample(vote, outcomes) | {"verdict": said, "judgements": [one.to_json() for one in told]}

    samples = await each(votes, one, label=f"vicunajudge · {model.name}")
    gold, said = [sample["expected"] for sample in samples], [sample["verdict"] for sample in samples]
    classes = [name for name in CLASSES if name in {*gold, *said}]
    measures = scores(gold, said, classes, resamples=resamples, seed=seed) | summarize(samples)
    return Evaluation(model.name, measures, samples, suite="vicunajudge", seed=seed, notes=notes)


def votes_of(records: Sequence[Group]) -> list[Vote]:
    """Return every two responses that people have an order of, a tie being one."""
    found = []
    for group in records:
        order = group.order()
        if order is None:
            continue
        for a in range(len(order)):
            for b in range(a + 1, len(order)):
                winner = "first" if order[a] > order[b] else "second" if order[b] > order[a] else "tie"
                case = case_of(group.prompt)
                found.append(Vote(f"{group.id}/{a}-{b}", case, group.responses[a], group.responses[b], winner))
    return found


def as_demonstrations(votes: Sequence[Vote]) -> list[Demonstration]:
    """Return votes as conversations in which the judge says the people's verdict, each in both orders."""
    turned = {"first": "second", "second": "first", "tie": "tie"}
    made = []
    for vote in votes:
        for a, b, winner in ((vote.first, vote.second, vote.winner), (vote.second, vote.first, turned[vote.winner])):
            asked = PROMPTS(
                "compare", question=vote.case.question, history=vote.case.history, reference="", criterion="",
                messages=[], reason=False, by="logprobs", shots=[], first=a, second=b, first_claim="", second_claim="",
            )  # fmt: skip
            origin = Origin("vicunajudge", "arXiv:2306.05685", parents=(vote.id,), prompt=asked.version)
            made.append(Demonstration([*asked, Message("assistant", LETTERS[winner])], origin=origin))
    return made


def spread(text: str, swapped: bool) -> dict[str, float]:
    """Return a stored judgement's probabilities by class, in the order as it stands."""
    told = json.loads(text)
    first, second = ("B", "A") if swapped else ("A", "B")
    return {"first": told[first], "second": told[second], "tie": told["C"]}


def best(table: dict[str, float]) -> str:
    """Return the class with the largest probability, the first of several."""
    return max(CLASSES, key=lambda name: table[name])


def _sample(vote: Vote, outcomes: dict[str, float]) -> Row:
    return {
        "id": vote.id,
        "prompt": [{"role": "user", "content": vote.case.question}],
        "response": vote.first,
        "baseline": [vote.second],
        "given": True,
        "family": "",
        "language": "",
        "cluster": vote.id.rpartition("/")[0],
        "expected": vote.winner,
        "outcomes": outcomes,
    }
