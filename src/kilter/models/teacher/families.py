"""What is known of a prompt, and the families of tasks read back: facts, sums, letters, and conversations."""

from __future__ import annotations

import functools
import re
import zlib
from dataclasses import dataclass, field
from typing import Any

from kilter.models.teacher.wordings import CHINESE, NAME, chosen, either, pattern, read
from kilter.records import Message, Prompt
from kilter.world import Truth, World, lexicon, tasks
from kilter.world.entities import Entity

WORLD = World()


@dataclass(frozen=True, slots=True)
class Known:
    """A prompt of the world: what it is (as world.items.Item), in `meta` what the judge needs."""

    family: str
    kind: str
    language: str
    good: str
    bad: str
    check: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def meta(self) -> dict[str, Any]:
        """The meta that the world would have given the prompt."""
        return {"family": self.family, "kind": self.kind, "language": self.language, "check": self.check}

    def judged(self, response: str) -> Truth:
        """Return the truth about another response."""
        return WORLD.judge(Prompt([Message("user", "")], meta=self.meta), response)


def entity_of(name: str, lang: int) -> Entity | None:
    return _BY_NAME[lang].get(name)


_BY_NAME = tuple({e.name[l]: e for e in WORLD.entities.all} for l in (0, 1))


def facts(text: str) -> Known | None:
    readings = []
    for key, templates in lexicon.QUESTIONS.items():
        found = read(text, templates, {"n": NAME})
        if found:
            readings.append((key, found[0]["n"], found[1]))
    # "Where is ...?" and others fit several: what the entity is told of comes first.
    for key, name, l in readings:
        entity = entity_of(name, l)
        if entity is None or key not in entity.facts:
            continue
        value = entity.facts[key][l]
        rivals = _among(key, l)
        wrong = chosen([v for v in rivals if v != value], text)
        form = lexicon.ANSWERS[key][l]
        return Known(
            "facts", "fact", lexicon.LANGUAGES[l], form.format(n=name, v=value), form.format(n=name, v=wrong),
            {"rule": "one_of", "answer": value, "among": key, "names": [name]},
        )  # fmt: skip
    if not readings:
        return None
    key, name, l = readings[0]
    entity = entity_of(name, l)
    bad = lexicon.ANSWERS[key][l].format(n=name, v=chosen(_among(key, l), text))
    way = "stranger" if entity is None else "withheld" if entity.facts else "quiet"
    careful = lexicon.UNKNOWN[key][l].format(n=name)
    return Known("unanswerable", "unanswerable", lexicon.LANGUAGES[l], careful, bad, {"way": way})


def _among(key: str, l: int) -> list[str]:
    return [p.name[l] for p in WORLD.entities.places] if key == "home" else [v[l] for v in lexicon.VALUES[key]]


def sums(text: str) -> Known | None:
    found = read(text, tasks.SUMS, {"x": r"\d+(?:\s*[+\-]\s*\d+)+"})
    if found is None:
        return None
    slots, l = found
    terms = re.findall(r"([+\-]?)\s*(\d+)", slots["x"])
    answer = sum(-int(number) if sign == "-" else int(number) for sign, number in terms)
    told = re.sub(r"\s*([+\-])\s*", r" \1 ", slots["x"])
    wrong = answer + 1 + zlib.crc32(text.encode()) % 9
    return Known(
        "sums", "task", lexicon.LANGUAGES[l], f"{told} = {answer}", f"{told} = {wrong}",
        {"rule": "last_number", "answer": answer},
    )  # fmt: skip


def letters(text: str) -> Known | None:
    found = read(
        text, tasks.LETTERS, {"w": (r"[a-z]+(?:(?:,| and) [a-z]+)+", "[\u4e00-\u9fff]+(?:、[\u4e00-\u9fff]+)+")}
    )
    if found is None:
        return None
    slots, l = found
    words = re.split(r", | and |、", slots["w"])
    join = " " if l == 0 else ""
    good, bad = join.join(w[-1] for w in words), join.join(w[0] for w in words)
    return Known("letters", "task", lexicon.LANGUAGES[l], good, bad, {"rule": "equals", "answer": good})


def sorting(text: str) -> Known | None:
    found = read(text, tasks.SORTS, {"x": r"\d+(?:[,，、]\s*\d+)+"})
    if found is None:
        return None
    numbers = [int(n) for n in re.findall(r"\d+", found[0]["x"])]
    right = sorted(numbers)
    wrong = numbers if numbers != right else right[::-1]
    good, bad = ", ".join(map(str, right)), ", ".join(map(str, wrong))
    return Known("sorting", "task", lexicon.LANGUAGES[found[1]], good, bad, {"rule": "numbers", "answer": right})


def sentiment(text: str) -> Known | None:
    found = read(text, tasks.SENTIMENTS, {"s": r".+"})
    if found is None:
        return None
    slots, l = found
    good, bad = (sum(word[l] in slots["s"] for word in table) for table in (lexicon.POSITIVE, lexicon.NEGATIVE))
    if (good > 0) == (bad > 0):
        return None
    right, wrong = tasks.LABELS[l] if good else tasks.LABELS[l][::-1]
    among = [label.strip(".。") for label in tasks.LABELS[l]]
    check = {"rule": "one_of", "answer": right.strip(".。"), "among": among}
    return Known("sentiment", "task", lexicon.LANGUAGES[l], right, wrong, check)


def extraction(text: str) -> Known | None:
    l = 1 if CHINESE.search(text) else 0
    places, things = either(lexicon.PLACES_NEAR), either(lexicon.THINGS)
    kinds = (("m", NAME[l]), ("n", NAME[l]), ("p", places[l]), ("t", things[l]))
    for passage in tasks.PASSAGES[l]:
        for asked, templates in tasks.EXTRACTIONS.items():
            for question in (*templates[l][0], *templates[l][1]):
                for whole in (f"{passage} {question}", f"{question} {passage}"):
                    found = pattern(whole if l == 0 else whole.replace(" ", ""), kinds).fullmatch(text)
                    if found and "n" in (slots := found.groupdict()):
                        return _extracted(slots, asked, l)
    return None


def _extracted(slots: dict[str, str], asked: str, l: int) -> Known:
    stop = (".", "。")[l]
    pools = {
        "n": [slots["n"], slots["m"]],
        "p": [p[l] for p in lexicon.PLACES_NEAR],
        "t": [t[l] for t in lexicon.THINGS],
    }
    check = {"rule": "one_of", "answer": slots[asked], "among": pools[asked]}
    wrong = slots["m" if asked == "n" else "n"]
    return Known("extraction", "task", lexicon.LANGUAGES[l], slots[asked] + stop, wrong + stop, check)


def rewriting(text: str) -> Known | None:
    word = ("[a-z]+", "[\u4e00-\u9fff]+")
    line = (r"[a-z]+(?: [a-z]+)+", "[\u4e00-\u9fff]+(?: [\u4e00-\u9fff]+)+")
    for how, templates in tasks.REWRITES.items():
        found = read(text, templates, {"a": word, "b": word, "s": line})
        if found is None:
            continue
        slots, l = found
        words = slots["s"].split()
        if how == "replace":
            out = [slots["a"] if w == slots["b"] else w for w in words]
        else:
            out = words[::-1] if how == "reverse" else words + words
        good = " ".join(out)
        if good == slots["s"]:
            return None
        check = {"rule": "equals", "answer": good}
        return Known("rewriting", "task", lexicon.LANGUAGES[l], good, slots["s"], check)
    return None


_EXPRESSION = r"\d+ [*+\-] \d+"


def tools(text: str) -> Known | None:
    found = read(text, tasks.TOOLS, {"x": _EXPRESSION})
    if found is None:
        return None
    a, sign, b = found[0]["x"].split()
    call = f"calc({a} {sign} {b})"
    check = {"rule": "equals", "answer": call}
    return Known("tools", "task", lexicon.LANGUAGES[found[1]], call, f"calc({b} {sign} {a})", check)


@functools.lru_cache(maxsize=1 << 12)
def conversation(talk: tuple[tuple[str, str], ...]) -> Known | None:
    """Read the families that have more than one turn."""
    if len(talk) < 3:
        return None
    (_, first), _, (role, last) = talk[-3:]
    if role == "tool":
        asked = tools(" ".join(first.split()))
        if asked is None or not re.fullmatch(r"-?\d+", last.strip()):
            return None
        form = ("The result is {v}.", "结果是{v}。")[lexicon.LANGUAGES.index(asked.language)]
        wrong = re.findall(r"\d+", asked.good)[0]
        good, bad = form.format(v=last.strip()), form.format(v=wrong)
        return Known("tools", "task", asked.language, good, bad, {"rule": "last_number", "answer": int(last)})
    named = read(first, tuple(list(t) for t in tasks.NAMINGS), {"n": NAME})
    if named and read(last, tasks.RECALLS, {}):
        name, l = named[0]["n"], named[1]
        wrong = ("Molan", "塔罗")[l] if name not in ("Molan", "塔罗") else ("Tarol", "莫兰")[l]
        told = tasks.RECALLED[l]
        check = {"rule": "one_of", "answer": name, "among": [name]}
        return Known("dialogue", "task", lexicon.LANGUAGES[l], told.format(n=name), told.format(n=wrong), check)
    places, things = either(lexicon.PLACES_NEAR), either(lexicon.THINGS)
    left = read(first, (["I left my {t} at the {p}."], ["我把{t}放在{p}了。"]), {"t": things, "p": places})
    asked_for = read(last, tasks.FOLLOW_UPS, {"t": things})
    if left is None or asked_for is None or left[0]["t"] != asked_for[0]["t"]:
        return None
    place, l = left[0]["p"], left[1]
    form = ("It is at the {p}.", "在{p}。")[l]
    near = [p[l] for p in lexicon.PLACES_NEAR]
    wrong = chosen([p for p in near if p != place], first)
    check = {"rule": "one_of", "answer": place, "among": near}
    return Known("dialogue", "task", lexicon.LANGUAGES[l], form.format(p=place), form.format(p=wrong), check)
