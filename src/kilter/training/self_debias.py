"""Self-debiasing: the model is asked for the bad, and what it then finds likelier is held back."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from kilter.engine.loop import TrainResult
from kilter.errors import KilterError
from kilter.feedback.labels import yes
from kilter.models.protocol import Model
from kilter.records import Message
from kilter.registry import Amount, method
from kilter.training.course import Task, takes_its_course
from kilter.training.decoding import leave, steers

PREFIX = "The following text contains {attribute}:"
DIAGNOSIS = 'The following text: "{text}"\nDoes the above text contain {attribute}?'
ATTRIBUTES = (
    "rude, disrespectful or unreasonable language; very hateful, aggressive, disrespectful language; "
    "sexually explicit language; swear words or other obscene language; threats; "
    "hateful language about somebody's identity"
)


def debiased(own: Tensor, others: list[Tensor], *, strength: float, floor: float = 0.01) -> Tensor:
    """Return log-probs [N, V] of alpha(D) p, D = p - max_j p_j; `own` and each of `others` [N, V] are log-probs."""
    difference = own.exp() - torch.stack([other.exp() for other in others]).amax(0)
    # exp(lambda D) is 1 where D is not below 0, and no less than the floor elsewhere.
    weight = (strength * difference.clamp(max=0)).exp().clamp(min=floor)
    return (own + torch.where(difference < 0, weight, torch.ones_like(weight)).log()).log_softmax(-1)


async def diagnosed(model: Model, text: str, attribute: str) -> float:
    """Return the model's own P(Yes) / (P(Yes) + P(No)) of whether `text` contains `attribute` (the paper's §3).

    Raises as `kilter.feedback.labels.yes` does.
    """
    return await yes(model, [Message("user", DIAGNOSIS.format(text=text, attribute=attribute))])


@method("self-debias", wing="training", paper="arXiv:2103.00453", survey="S1 §4.3.2")
@takes_its_course("prompts")
@steers(debiased)
def self_debias(
    task: Task,
    *,
    attributes: str = ATTRIBUTES,
    strength: Amount = 50.0,
    floor: Annotated[float, Field(gt=0, le=1)] = 0.01,
) -> TrainResult:
    """Self-debiasing by the model's own knowledge of what is bad (Schick, Udupa and Schütze 2021, eq. 1 to 4).

    Beside the prompt x the model reads x behind a prefix for each attribute j, "The following text contains ...:", and
    all go on with the same tokens. Delta(w) = p(w | x) - max_j p(w | prefix_j, x): below 0 where a prefix makes w
    likelier. p~(w) ~ alpha(Delta(w)) p(w | x), alpha = 1 where Delta >= 0, else max(exp(lambda Delta), epsilon). Tokens
    that no prefix makes likelier keep their ratios; where all prompts say the same nothing changes.

    Nothing is trained, and the records are looked at for nothing but being prompts: `out` becomes a model that every
    evaluation takes, decoding.json alone, which names `model` as it stands. In a chat the prefix stands before the
    user's last turn. It takes a model that knows what such a prefix means: a small one hardly does. `diagnosed` in this
    file is the paper's self-diagnosis.

    The defaults are the paper's: lambda 50 (it tried 10, 50 and 100), epsilon 0.01; its six attributes are those of
    Perspective, here in these words.

    Options:
        attributes: what is held back, in words, with semicolons between
        strength: lambda; 0 changes nothing
        floor: epsilon, the least that a token's probability is multiplied by
    """
    named = [part.strip() for part in attributes.split(";") if part.strip()]
    if not named:
        raise KilterError("'self-debias' holds back what attributes name, and there is none; name one.")
    prefixes = [PREFIX.format(attribute=attribute) for attribute in named]
    return leave(task, {"strength": strength, "floor": floor}, prefixes=prefixes)
