"""What a model that is only asked and a model whose likelihoods are known both rank alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from kilter.data.drafts import sound
from kilter.data.replies import model_of
from kilter.errors import KilterError, SetAside
from kilter.models.each import each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Group, Message, Origin
from kilter.registry import Count, Whole, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2310.16271"


@method("cyclealign", wing="data", paper=PAPER, survey="S3 §imitation")
async def cyclealign(
    model: Model,
    records: list[Group],
    *,
    student: str = "",
    examples: Whole = 2,
    batch: Count = 32,
    max_tokens: Count = 64,
    seed: int = 0,
) -> list[Group]:
    """Rankings that a black-box and a white-box model agree on (Hong et al. 2023, CycleAlign).

    The records hold several answers to each prompt. The model (the black box) ranks them in words, after `examples`
    demonstrations; the `student` (the white box) ranks them by their likelihood,

        s_k = 1 / |y_k| sum_t log pi(y_{k,t} | x, y_{k,<t}).

    Where both order alike is the pseudo label: the longest common subsequence of the two rankings, of at least two
    answers. It is a part of both. The demonstrations are dynamic: they are the latest agreements, so that the black box
    learns in context what is clear to both; they change after every `batch` records, in the order of the records. What
    comes back are groups of the agreed answers, best first, for a ranking loss with a supervised one (`rrhf`); train
    the student on them and go round again.

    meta: black_box and white_box, the two rankings, best first, as numbers of the record's answers; agreed, their part.

    Options:
        student: model whose likelihoods rank; without it the same model
        examples: demonstrations that the black box is given
        batch: records between two changes of the demonstrations
        max_tokens: longest reply of the black box
        seed: seed of its replies
    """
    white = model_of(student, model)
    shown: list[dict[str, Any]] = []
    found: list[Group] = []

    async def one(record: Group) -> Group:
        if len(record.responses) < 2:
            raise SetAside("It has fewer than two answers, so there is nothing to rank.", "one answer")
        question = "\n".join(m.content for m in record.prompt if m.role != "system")
        asked = PROMPTS(
            "rank", question=question, responses=record.responses, examples=shown[-examples:] if examples else []
        )
        reply = await sound(model, asked, Sampling(max_tokens=max_tokens, seed=seed))
        black = ranking(reply.text, len(record.responses))
        likely = await likelihoods(white, record.prompt, record.responses)
        order = sorted(range(len(likely)), key=lambda k: -likely[k])
        agreed = agreement(black, order)
        if len(agreed) < 2:
            raise SetAside("The two rankings agree on no pair of answers.", "no agreement")
        origin = Origin("cyclealign", PAPER, reply.model or model.name, (record.id,), seed, asked.version)
        return Group(
            list(record.prompt),
            [record.responses[k] for k in agreed],
            ranking=list(range(len(agreed))),
            origin=origin,
            meta={**record.meta, "black_box": black, "white_box": order, "agreed": agreed},
        )

    for start in range(0, len(records), batch):
        new = await each(records[start : start + batch], one, label=f"rankings · {model.name}")
        found += new
        shown += [_example(group) for group in new[-examples:]] if examples else []
    return found


def ranking(text: str, count: int) -> list[int]:
    """Return the answers (from 0) of a reply such as `2 > 1 > 3`; raise SetAside unless it names each once."""
    for line in [*text.strip().splitlines()[::-1], text]:
        found = [int(number) - 1 for number in re.findall(r"\d+", line)]
        if sorted(found) == list(range(count)):
            return found
    raise SetAside(f"The reply does not put all {count} answers in an order.", "no ranking")


def agreement(first: Sequence[int], second: Sequence[int]) -> list[int]:
    """Return the longest common subsequence of two rankings of the same things; of equals, the first by `first`."""
    place = {k: i for i, k in enumerate(second)}
    best: list[list[int]] = []
    for i, k in enumerate(first):
        before = [best[j] for j in range(i) if place[best[j][-1]] < place[k]]
        best.append([*max(before, key=len, default=[]), k])
    return max(best, key=len, default=[])


async def likelihoods(model: Model, prompt: Sequence[Message], responses: Sequence[str]) -> list[float]:
    """Return the mean log-prob of a token (nats) of each response; raise SetAside where one cannot be scored."""
    found = []
    for response in responses:
        try:
            scores = await model.score(prompt, response)
        except SetAside:
            raise
        except KilterError as error:
            raise SetAside(str(error), "not scored") from error
        if not scores:
            raise SetAside("An answer has no tokens that could be scored.", "not scored")
        found.append(sum(scores) / len(scores))
    return found


def _example(group: Group) -> dict[str, Any]:
    """Return an agreement as a demonstration; its answers are shown in an order that does not give it away."""
    shown = sorted(range(len(group.responses)), key=lambda k: group.responses[k])
    question = "\n".join(m.content for m in group.prompt if m.role != "system")
    order = " > ".join(str(shown.index(k) + 1) for k in range(len(shown)))
    return {"question": question, "responses": [group.responses[k] for k in shown], "ranking": order}
