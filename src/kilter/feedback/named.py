"""Feedback by its name, as the command line and recipes give it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kilter.errors import KilterError, nearest
from kilter.feedback.judge import Judge, JudgeFeedback
from kilter.feedback.mixture import Mixture
from kilter.feedback.protocol import Feedback
from kilter.feedback.reward_model import RewardModel
from kilter.feedback.rule_model import PREFIX, rule_model
from kilter.feedback.rules import RULES, Rule
from kilter.feedback.truth import WorldTruth
from kilter.models.load import SERVER, VLLM, checkpoint, is_reward_model, load
from kilter.models.protocol import Model

JUDGE = "judge:"
KNOWN = f"feedback may be 'world', a reward model, judge:MODEL, rules:MODEL@FILE, or a rule ({', '.join(RULES)})"


def named(name: str | Mapping[str, float]) -> Feedback:
    """Return the feedback called `name`: `world`, a rule (`contains:blue`), a reward model, `judge:MODEL`, or
    `rules:MODEL@FILE`, a rule model and the rules in words.

    A mapping from names to weights is their mixture. Raises KilterError for one that there is not.
    """
    if isinstance(name, Mapping):
        if not name:
            raise KilterError("The feedback is an empty mixture; name at least one source and its weight.")
        return Mixture([(named(part), float(weight)) for part, weight in name.items()])
    if name.startswith(JUDGE):
        return JudgeFeedback(Judge(_judge(name)))
    if name.startswith(PREFIX):
        return rule_model(name)
    return _plain(name) or RewardModel(name)


def is_own(name: str) -> bool:
    """Whether `name` is feedback by itself, whatever else may be called so."""
    return name == "world" or name.startswith((JUDGE, PREFIX)) or name.partition(":")[0] in RULES


def admit(name: str | Mapping[str, float]) -> None:
    """Raise KilterError where there is no feedback called `name`, without loading a model for it."""
    if isinstance(name, Mapping):
        for part in name:
            admit(part)
    elif name.startswith(JUDGE):
        _admit_judge(name.removeprefix(JUDGE))
    elif name.startswith(PREFIX):
        rule_model(name)
    elif _plain(name) is None and not is_reward_model(_folder(name)):
        raise KilterError(f"'{name}' is a language model, and a reward model is due as feedback; {KNOWN}.")


def _judge(name: str) -> Model:
    model = load(name.removeprefix(JUDGE))
    if not hasattr(model, "ask"):
        raise KilterError(f"'{model.name}' is a reward model, which says nothing in words; name it without '{JUDGE}'.")
    return model


def _admit_judge(model: str) -> None:
    if not model:
        raise KilterError(f"'{JUDGE}' names no model; write {JUDGE}MODEL, such as {JUDGE}kilter/teacher.")
    if not model.startswith((*SERVER, "kilter/")) and is_reward_model(_folder(model.removeprefix(VLLM))):
        raise KilterError(f"'{model}' is a reward model, which says nothing in words; name it without '{JUDGE}'.")


def _plain(name: str) -> Feedback | None:
    """Return the feedback that is no model; None where the name can only be a model's, and there is one."""
    if name == "world":
        return WorldTruth()
    if name.partition(":")[0] in RULES:
        return Rule(name)
    if name.startswith(SERVER):
        raise KilterError(f"'{name}' is a server, which gives no rewards; name a reward model's folder or hub id.")
    _folder(name)
    return None


def _folder(name: str) -> Path:
    try:
        return checkpoint(name)
    except KilterError as error:
        hint = nearest(name, ["world", *RULES])
        raise KilterError(f"The feedback '{name}' is no model ({str(error).rstrip('.')}); {KNOWN}.{hint}") from None
