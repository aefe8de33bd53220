"""Conditional behaviour cloning: imitate good and bad sources alike, each under its own name; ask for the good one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from kilter.engine.batch import Groups, Tree
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.errors import KilterError
from kilter.records import Group, Message, Record
from kilter.registry import Amount, method
from kilter.training.labels import labelled, labels_of, signed
from kilter.training.objective import learns_from

# Put before a chat template it names the condition in every turn of the user, for whoever uses the template.
TEMPLATE = (
    "{%- set conditioned = namespace(messages=[]) -%}{%- for message in messages -%}"
    "{%- if message['role'] == 'user' and message['content'] is string -%}"
    "{%- set conditioned.messages = conditioned.messages + "
    "[{'role': 'user', 'content': CONDITION + message['content']}] -%}"
    "{%- else -%}{%- set conditioned.messages = conditioned.messages + [message] -%}{%- endif -%}"
    "{%- endfor -%}{%- set messages = conditioned.messages -%}"
)


def conditioned(
    records: Sequence[Record], *, expert: str = "GPT4", other: str = "GPT3"
) -> tuple[list[Record], list[str]]:
    """Return every labelled response as a group of its own, its source named in the turns of the user."""
    if expert == other:
        raise KilterError(f"The conditions expert and other are both '{expert}'; give them different names.")
    found, notes = labelled(records)
    made: list[Record] = []
    for record in found:
        if isinstance(record, Group):
            for k, good in enumerate(record.labels or ()):
                prompt = [_named(message, expert if good else other) for message in record.prompt]
                made.append(
                    replace(
                        record,
                        prompt=prompt,
                        responses=[record.responses[k]],
                        labels=[good],
                        scores=None,
                        ranking=None,
                        critiques=None,
                        id="",
                    )
                )
    return made, notes


def keeping(trees: list[Tree], tokenizer: Any, *, expert: str = "GPT4", other: str = "GPT3") -> list[Tree]:
    """Have the chat template that is saved with the model name the expert, now that the trees are made."""
    front = TEMPLATE.replace("CONDITION", json.dumps(f"{expert}: ", ensure_ascii=False))
    tokenizer.chat_template = front + tokenizer.get_chat_template()
    return trees


def _named(message: Message, condition: str) -> Message:
    return replace(message, content=f"{condition}: {message.content}") if message.role == "user" else message


@method("conditional-bc", wing="training", paper="arXiv:2309.11235", survey="S2 §3.2.1", aliases=("c-rlft",))
@learns_from("scores", becomes="labels", records=conditioned, trees=keeping)
def conditional_bc(policy: LogProbs, group: Groups, *, other_weight: Amount = 0.1) -> Loss:
    """Conditional behaviour cloning, OpenChat's C-RLFT (Wang et al. 2023).

    L = - w_c sum_t log pi(y_t | x, c, y_<t), the mean over the step's tokens. c is the source of a response, an expert
    or another one, and is named before every turn of the user ("GPT4: ..."). w_c = exp(r_c / beta) with a reward of
    the source as a whole: 1 for the expert and `other_weight` for the other. The optimum for each source by itself
    does not depend on w_c; what the two share is drawn to the expert. other_weight=1 is plain conditional behaviour
    cloning, other_weight=0 filtered behaviour cloning.

    A label true says that a response is the expert's; of pairs, scores and rankings the best response of a prompt
    counts as the expert's and the worst as the other's. The chat template that is saved with the model names the expert
    itself, so that whoever uses the model asks for the expert without knowing of it.

    policy: log-probs of R responses; group.labels [R]: 1 for the expert's, 0 for the other's. The result is per
    response [R], weighted by its number of tokens.

    Options:
        other_weight: weight of the other source's responses, the expert's being 1
        expert: name of the expert, put before the turns of the user
        other: name of the other source
    """
    good = labels_of(group, "conditional-bc").bool()
    loss = -torch.where(good, 1.0, other_weight) * policy.sum()
    return Loss(loss, policy.lengths, {"signed_log_prob": signed(policy.mean(), good)})
