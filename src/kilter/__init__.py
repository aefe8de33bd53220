"""Kilter takes a language model and a recipe, and gives back a measurably better aligned model, with the evidence.

    kilter.methods()                                    the catalogue
    kilter.load("kilter/nano")                          a model: bundled, folder, hub id, or server
    kilter.sample(model, prompts, n=1)                  responses
    kilter.score(model, prompts, responses)             log-probs of their tokens
    kilter.reward(model, prompts, responses)            what a reward model says of them
    kilter.read("preferences.jsonl")                    records of a file in any known shape
    kilter.train("dpo", model=m, data=d, out=o)         a checkpoint
    kilter.evaluate("world", model=m)                   measures with intervals
    kilter.run("quickstart", set={"seed": 1}, out=o)    a whole recipe and its report

Importing `kilter` is quick: what a name stands on (torch, transformers) is imported when the name is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kilter.errors import KilterError
    from kilter.models.load import load
    from kilter.recipe.api import evaluate, read, reward, run, sample, score, train
    from kilter.registry import methods

__version__ = "0.1.0"
__all__ = [
    "KilterError",
    "__version__",
    "evaluate",
    "load",
    "methods",
    "read",
    "reward",
    "run",
    "sample",
    "score",
    "train",
]

_HOME = {
    "KilterError": "kilter.errors",
    "load": "kilter.models.load",
    "methods": "kilter.registry",
    **dict.fromkeys(("evaluate", "read", "reward", "run", "sample", "score", "train"), "kilter.recipe.api"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'kilter' has no attribute '{name}'; it has {', '.join(__all__)}")
    import importlib

    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
