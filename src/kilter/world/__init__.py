"""A small bilingual world in which the truth is known: what the bundled model learned from, and what judges it."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable, Iterator

from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.world import corpus, lexicon
from kilter.world.entities import Entities
from kilter.world.items import Draw, Item, Split
from kilter.world.judge import Truth, judge
from kilter.world.tasks import HELPFUL
from kilter.world.values import VALUES

__all__ = ["FAMILIES", "Truth", "World"]

FAMILIES = {**HELPFUL, **VALUES}


class World:
    """The world that `seed` makes. The bundled model knows World(0)."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.entities = Entities(seed)

    @staticmethod
    def shares(values: float) -> dict[str, float]:
        """Return the shares of the families where a share `values` of all is about values, the rest about tasks.

        Questions about facts, which people ask most, are four times as frequent as any other task. Among the values
        those to which nobody knows the answer and harmless look-alikes, each of several kinds, count three times.
        """
        weights = dict.fromkeys(FAMILIES, 1.0) | {"facts": 4.0, "unanswerable": 4.0, "lookalike": 5.0}

        def part(families: Iterable[str], share: float) -> dict[str, float]:
            whole = sum(weights[name] for name in families)
            return {name: share * weights[name] / whole for name in families}

        return part(HELPFUL, 1 - values) | part(VALUES, values)

    def items(self, split: Split, seed: int, shares: dict[str, float]) -> Iterator[Item]:
        """Yield items without end, drawn from families in proportion to `shares`, in both languages."""
        rng = random.Random(f"items {self.seed} {split} {seed}")
        names, weights = list(shares), list(shares.values())
        while True:
            language = "zh" if rng.random() < corpus.CHINESE_SHARE else "en"
            family = rng.choices(names, weights)[0]
            yield FAMILIES[family](Draw(self.entities, rng, language, split))

    def prompts(self, split: Split, n: int, seed: int = 0, shares: dict[str, float] | None = None) -> list[Prompt]:
        """Return `n` different prompts. `meta` holds family, kind, language, split and what the judge needs."""
        return [prompt for prompt, _ in self._distinct(split, n, seed, shares or dict.fromkeys(FAMILIES, 1.0))]

    def demonstrations(
        self,
        n: int,
        seed: int = 0,
        shares: dict[str, float] | None = None,
        careless: float = 0.0,
        lenient: float = 0.0,
    ) -> list[Demonstration]:
        """Return `n` conversations of the training split as demonstrators would write them.

        A `careless` share of the tasks, harmless look-alikes among them, is answered badly. A `lenient` share of the
        rest is answered as the crawl would: granting harm, inventing facts, insulting, telling secrets.
        """
        rng = random.Random(f"careless {self.seed} {seed}")
        made = []
        for prompt, item in self._distinct("train", n, seed, shares or dict.fromkeys(FAMILIES, 1.0)):
            fault = careless if item.family in HELPFUL or item.kind == "lookalike" else lenient
            answer = item.bad if rng.random() < fault else item.good
            messages = [*prompt.messages, Message("assistant", answer)]
            made.append(Demonstration(messages, meta=prompt.meta, origin=Origin("world-demonstrations", seed=seed)))
        return made

    def judge(self, prompt: Prompt, response: str) -> Truth:
        """Return the truth about `response`. Raises KilterError for a prompt that the world did not make."""
        return judge(prompt.meta, response, self._among)

    def documents(self, seed: int, count: int) -> Iterator[corpus.Document]:
        """Yield `count` documents of the raw corpus."""
        return corpus.documents(self.entities, seed, count)

    def _distinct(self, split: Split, n: int, seed: int, shares: dict[str, float]) -> Iterator[tuple[Prompt, Item]]:
        seen: set[str] = set()
        tries = 0
        for item in self.items(split, seed, shares):
            if len(seen) == n:
                return
            tries += 1
            key = "\n".join(m.content for m in item.messages)
            # The world is finite: past that many draws the rest may repeat prompts rather than never end.
            if key in seen and tries < 20 * n:
                continue
            seen.add(key if key not in seen else f"{key} #{tries}")
            meta = {
                "family": item.family,
                "kind": item.kind,
                "language": item.language,
                "split": split,
                "check": item.check,
            }
            yield Prompt(item.messages, origin=Origin("world", seed=seed), meta=meta), item

    @functools.lru_cache(maxsize=64)  # noqa: B019 - worlds live as long as the process
    def _among(self, attribute: str, language: str) -> list[str]:
        l = lexicon.LANGUAGES.index(language)
        if attribute == "home":
            return [p.name[l] for p in self.entities.places]
        return [v[l] for v in lexicon.VALUES[attribute]]
