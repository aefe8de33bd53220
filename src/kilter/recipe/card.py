"""Pretraining with its evidence: make the base model, evaluate it, write the model card beside the weights."""

from __future__ import annotations

import inspect
import platform
from pathlib import Path
from typing import Any

import jinja2
import torch
import transformers

from kilter.engine.finished import retract
from kilter.engine.loop import TrainResult
from kilter.evaluation.result import Evaluation, dimension, ordered
from kilter.files import write_text
from kilter.models.load import load_weights
from kilter.recipe.api import evaluate
from kilter.training.pretrain import pretrain
from kilter.world import corpus

CARD = Path(__file__).parent / "card.md.j2"


def pretrain_with_card(out: Path, *, overwrite: bool = False, **options: Any) -> Path:
    """Run `pretrain`, evaluate what came out in the world, and write `out/README.md`; return its path.

    A model that is finished in `out` is pretrained over only with `overwrite`.
    """
    if overwrite:
        retract(out)
    defaults = {n: p.default for n, p in inspect.signature(pretrain).parameters.items() if p.kind is p.KEYWORD_ONLY}
    settings = defaults | options
    result = pretrain(out, **options)
    evaluation = evaluate("world", model=str(out))
    card = out / "README.md"
    write_text(card, _card(result, settings, evaluation, _parameters(out)))
    return card


def _card(result: TrainResult, settings: dict[str, Any], evaluation: Evaluation, parameters: int) -> str:
    last = result.losses[-50:]
    scores = [(dimension(name), evaluation.measures[name]) for name in ordered(evaluation.measures)]
    template = jinja2.Template(CARD.read_text(encoding="utf-8"), trim_blocks=True, lstrip_blocks=True)
    return template.render(
        result=result,
        settings=settings,
        scores=scores,
        parameters=parameters,
        loss=sum(last) / len(last),
        minutes=result.seconds / 60,
        corpus=corpus,
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    )


def _parameters(out: Path) -> int:
    model, _ = load_weights(str(out))
    return sum(p.numel() for p in model.parameters())
