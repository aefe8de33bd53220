"""Imitation learning from language feedback: refine by feedback, choose the refinement that takes it up, imitate it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import Literal

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.errors import KilterError, SetAside
from kilter.feedback.labels import yes
from kilter.models.each import Each, answered, each
from kilter.models.load import load
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Group, Message, Origin, Prompt, Record
from kilter.registry import Amount, Count, method
from kilter.training.objective import learns_from
from kilter.training.sft import sft

PAPER = "arXiv:2303.16755"
PROMPTS = Prompts(__file__)
WORDINGS = 5


def chosen(
    records: list[Record], *, select: Literal["score", "longest", "random", "first"] = "score", seed: int = 0
) -> tuple[list[Record], list[str]]:
    """Return of every group the refinement that is imitated."""
    made: list[Record] = []
    for group in (record for record in records if isinstance(record, Group)):
        best = choose(group, select, seed)
        messages = [*group.prompt, Message("assistant", group.responses[best])]
        made.append(Demonstration(messages, origin=Origin("ilf", PAPER, parents=(group.id,), seed=seed)))
    return made, []


def choose(group: Group, select: str, seed: int) -> int:
    """Return the place of the refinement that `select` chooses; of equals the first."""
    if select == "random":
        return random.Random(f"ilf {seed} {group.id}").randrange(len(group.responses))
    if select == "first":
        return 0
    order = group.order() if select == "score" else [float(len(response)) for response in group.responses]
    if order is None:
        raise KilterError(f"Group {group.id} has no scores to choose by; score it, or choose otherwise with select.")
    return max(range(len(order)), key=lambda k: (order[k], -k))


@method("ilf", wing="training", paper=PAPER, survey="S1 §4.3.2, S2 §3.2.2")
@learns_from("scores", becomes="demonstrations", records=chosen)
def ilf(policy: LogProbs, group: Groups) -> Loss:
    """Imitation learning from language feedback (Scheurer et al. 2023, algorithm 1).

    For each x the policy drafts y_0, feedback f in words is given on it, and a model writes N refinements y_1 ~
    p(y | x, y_0, f). The one with the highest reward R(x, y_0, f, y_1) is imitated: L = - sum_t m_t log pi(y_t | x,
    y_<t) / sum_t m_t on it, x alone before it. R is the probability by which a model says Yes when asked whether the
    refinement takes the feedback up (InstructRM). That fits pi to p*(y|x), proportional to p(y|x) exp(R(x, y) / beta),
    by self-normalised importance sampling with refinements as the proposals; as beta goes to 0 their weights are 1 for
    the best and 0 for the others.

    Records are groups of refinements with R as scores, which `kilter data ilf` makes: drafts, feedback, refinements and
    R. Its output by the model that was trained is the next round.

    policy: log-probs of R responses. The result is per response [R], weighted by its number of scored tokens.

    Options:
        select: which refinement is imitated: that of the highest score, the longest, one by chance, or the first
    """
    return sft(policy, group)


@method("ilf", wing="data", paper=PAPER, survey="S1 §4.3.2, S2 §3.2.2")
def refinements(
    model: Model,
    records: Iterable[Prompt | Group],
    *,
    critic: str = "",
    refiner: str = "",
    judge: str = "",
    n: Count = 5,
    max_tokens: Count = 256,
    temperature: Amount = 1.0,
    seed: int = 0,
) -> Each[Group]:
    """Draft, have feedback given in words, refine by it n times, and score the refinements (Scheurer et al. 2023, §3).

    A record is a prompt, which the model answers, or a group whose first response is the draft and whose first
    critique, where it has any, is the feedback (a person's, for instance). The group that comes out holds the distinct
    refinements; a score is InstructRM's: the probability of Yes against No, the mean over five ways of asking whether
    the refinement takes the feedback up. meta keeps draft and feedback. One whose scores cannot be told by the judge,
    such as a server without log-probs, stops the run.

    Options:
        critic: the model that gives feedback where the record has none; without one, the model itself
        refiner: the model that refines; without one, the model itself
        judge: the model that says Yes or No; without one, the refiner
        n: refinements of each draft
        max_tokens: longest draft, feedback and refinement
        temperature: of drafts and refinements
        seed: seed of the samples
    """
    tells, refines = load(critic) if critic else model, load(refiner) if refiner else model
    judges = load(judge) if judge else refines

    async def one(record: Prompt | Group) -> Group:
        sampling = Sampling(max_tokens, temperature, seed=seed)
        if isinstance(record, Group):
            messages, draft = record.prompt, record.responses[0].strip()
        else:
            messages, draft = record.messages, ""
        draft = draft or (await answered(model, messages, sampling)).text.strip()
        about = {"question": messages[-1].content, "response": draft}
        told = record.critiques[0].strip() if isinstance(record, Group) and record.critiques else ""
        told = told or (await answered(tells, PROMPTS("feedback", **about), sampling, cut=True)).text.strip()
        about["critique"] = told
        asked = PROMPTS("refine", **about)
        answers = await refines.ask(asked, Sampling(max_tokens, temperature, n=n, seed=seed))
        texts = list(dict.fromkeys(answer.text.strip() for answer in answers if answer.text.strip()))
        if not texts:
            raise SetAside("Every refinement is empty; ask another refiner.", "empty")
        # Of one there is nothing to choose: then no judge is asked.
        scores = [await instruct_rm(judges, about, text) for text in texts] if len(texts) > 1 else None
        origin = Origin("ilf", PAPER, answers[0].model, (record.id,), seed, asked.version)
        meta = {**record.meta, "draft": draft, "feedback": told}
        ranking = [0] if scores is None else None
        return Group(list(messages), texts, scores=scores, ranking=ranking, origin=origin, meta=meta)

    return each(records, one, label="refinements")


async def instruct_rm(judge: Model, about: dict[str, str], refinement: str) -> float:
    """Return the mean over the wordings of P(Yes) / (P(Yes) + P(No)) that a refinement takes the feedback up."""
    asked = [PROMPTS("better", **about, refinement=refinement, wording=i) for i in range(WORDINGS)]
    return sum(await asyncio.gather(*(yes(judge, one) for one in asked))) / WORDINGS
