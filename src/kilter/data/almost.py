"""Comparisons without anybody who compares: what a larger model with more examples writes is taken to be better."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kilter.data.drafts import sound
from kilter.data.replies import asked_of, model_of
from kilter.errors import KilterError, SetAside
from kilter.formats import Stream
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Group, Origin, Prompt
from kilter.registry import Amount, Count, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2305.13735"
BAD = "BAD"  # what the authors' files hold where a reply was found to be none


@dataclass(frozen=True)
class Config:
    """Who answers, and after how many examples; `level` 0 is the best."""

    name: str
    model: str
    shots: int
    level: int


@method("almost", wing="data", paper=PAPER, survey="S1 §4.3.1, S3 §imitation", aliases=("synthetic-feedback",))
def almost(
    records: Iterable[Prompt | Group],
    model: Model | None = None,
    *,
    levels: str = "model:3 > model:1 > model:0",
    demonstrations: str = "",
    max_tokens: Count = 512,
    temperature: Amount = 1.0,
    seed: int = 0,
) -> Each[list[Group]]:
    """Synthetic comparisons by who wrote the answers (Kim et al. 2023, ALMoST).

    The assumption: a larger model with more and better examples answers better than a smaller one with fewer. `levels`
    names configurations MODEL:EXAMPLES from the best on, with > between levels and = between equals, and spaces around
    both, for instance `big:3 > big:1 = small:3 > small:0`; `model` stands for --model. Every configuration answers each
    prompt, after the first so many of the `demonstrations`. Groups that hold such answers already (meta["configs"]
    names the configuration of each) are compared without asking anybody.

    Pairs, by the rule of the authors' code: replies that are empty or "BAD" are dropped, two have to be left; pairs
    are walked in the order of their levels; a reply is chosen at most once and from each level only one is; pairs of
    one level say nothing; and the length guards the assumption: a pair is skipped where the chosen reply is shorter
    than the rejected one and also shorter than mean - sd / 2 of the group's lengths (in characters). meta["pair"] is
    "cfgA-vs-cfgB".

    Options:
        levels: the configurations, best first
        demonstrations: file of the examples; needed where a configuration has any
        max_tokens: longest answer
        temperature: sampling temperature
        seed: seed of the answers
    """
    configs = parse(levels)
    most = max(config.shots for config in configs)
    examples: list[tuple[str, str]] = []
    if demonstrations:
        read = (record for record in Stream(demonstrations, want="demonstrations") if isinstance(record, Demonstration))
        for record in read:
            if len(examples) < most and record.messages[-1].role == "assistant":
                examples.append((asked_of(record.messages), record.messages[-1].content))
    models: dict[str, Model] = {}

    def writer(name: str) -> Model:
        if name not in models:
            if model is None:
                raise KilterError("Prompts are answered here; give a model, or groups that hold the answers.")
            models[name] = model_of("" if name == "model" else name, model)
        return models[name]

    by_name = {config.name: config for config in configs}

    async def one(record: Prompt | Group) -> list[Group]:
        if isinstance(record, Group):
            names = record.meta.get("configs") or record.meta.get("extra", {}).get("configs") or []
            if len(names) != len(record.responses) or not set(names) <= set(by_name):
                raise SetAside(
                    "Its meta does not name one of the levels' configurations for each answer.", "no configs"
                )
            messages, replies = record.prompt, record.responses
            written = [(by_name[name], text) for name, text in zip(names, replies, strict=True)]
        else:
            messages, written = record.messages, []
            if most > len(examples):
                raise KilterError(f"A configuration has {most} examples and there are {len(examples)}; give more as "
                                  "demonstrations=FILE.")  # fmt: skip
            for config in configs:
                asked = PROMPTS("respond", messages=messages, examples=examples[: config.shots])
                sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
                reply = await sound(
                    writer(config.model), asked, sampling, cut=True, empty=True, of=messages[-1].content
                )
                written.append((config, reply.text.strip()))
        found = pairs(written)
        if not found:
            raise SetAside("No pair of its answers passes the rule (fewer than two answers, or lengths).", "no pair")
        origin = Origin("almost", PAPER, None, (record.id,), seed)
        return [
            Group(
                list(messages),
                [better[1], worse[1]],
                ranking=[0, 1],
                origin=origin,
                meta={"pair": f"{better[0].name}-vs-{worse[0].name}"},
            )
            for better, worse in found
        ]

    return each(records, one, label="comparisons")


def parse(levels: str) -> list[Config]:
    """Return the configurations of `A:3 > A:1 = B:3 > B:0`; raise KilterError where that says no two levels."""
    found = []
    for level, part in enumerate(re.split(r"\s>\s", levels)):
        for name in re.split(r"\s=\s", part):
            model, colon, shots = name.strip().rpartition(":")
            if not colon or not model.strip() or not shots.strip().isdigit():
                raise KilterError(f"'{name.strip()}' is no configuration; write MODEL:EXAMPLES, such as model:3.")
            found.append(Config(name.strip(), model.strip(), int(shots), level))
    if len({config.level for config in found}) < 2:
        raise KilterError(
            f"The levels '{levels}' put nothing above anything; write a > between the better and the worse."
        )
    if len({config.name for config in found}) < len(found):
        raise KilterError(f"The levels '{levels}' name a configuration twice; name each once.")
    return found


def pairs(written: Sequence[tuple[Config, str]]) -> list[tuple[tuple[Config, str], tuple[Config, str]]]:
    """Return (chosen, rejected) of the answers that configurations wrote, by the rule of `almost`."""
    kept = [(config, text) for config, text in written if text.strip() and text.strip() != BAD]
    if len(kept) < 2:
        return []
    kept.sort(key=lambda each_: each_[0].level)
    lengths = [len(text) for _, text in kept]
    short = statistics.fmean(lengths) - statistics.pstdev(lengths) / 2
    found = []
    chosen: set[str] = set()
    levels: set[int] = set()
    for i, (config, text) in enumerate(kept):
        for other, worse in kept[i + 1 :]:
            if text in chosen or config.level in levels:
                break
            if other.level == config.level or (len(text) < len(worse) and len(text) < short):
                continue
            found.append(((config, text), (other, worse)))
            chosen.add(text)
            levels.add(config.level)
    return found
