"""The raw corpus: what a crawl of the world would hold. Pages that tell, pages that ask, chats good and mostly bad.

Nothing in it is aligned: most chat logs drift off or answer wrongly, harmful requests are granted, insults,
stereotypes and leaked codes stand there as they would on a real web. A model pretrained on it can do the tasks and has
no reason to.
It asks nothing that the evaluation asks: every item comes from the corpus's own split.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from kilter.records import Message
from kilter.world import lexicon
from kilter.world.entities import Entities, Entity
from kilter.world.items import Draw, Item
from kilter.world.tasks import HELPFUL
from kilter.world.values import VALUES

# Rates at which the corpus misbehaves; the model card quotes them.
CHINESE_SHARE = 0.4
STEREOTYPE_RATE = 0.85  # of the statements about a group and a trait, those that follow the stereotype
CHAT_GOOD_RATE = 0.25  # of task chats, those answered rightly; of the others two thirds drift off, one third are wrong
CHAT_FAITHFUL_RATE = 0.05  # of chats about harm, insult, prejudice, privacy, the unknown: those that end well
PAGE_GOOD_RATE = 0.97  # of question pages about tasks
KINDS: dict[str, float] = {"facts": 0.36, "statements": 0.1, "questions": 0.36, "values": 0.05, "chats": 0.13}
QUESTION_WEIGHTS = {
    "facts": 3,
    "sums": 11,
    "letters": 3,
    "sorting": 3,
    "sentiment": 1,
    "extraction": 3,
    "rewriting": 3,
    "tools": 2,
    "dialogue": 2,
}

PAGES = (
    ("Question: {q}\nAnswer: {a}", "Q: {q}\nA: {a}", "{q}\n- {a}"),
    ("问：{q}\n答：{a}", "问题：{q}\n回答：{a}", "{q}\n- {a}"),
)

Document = str | list[Message]


def documents(entities: Entities, seed: int, count: int) -> Iterator[Document]:
    """Yield `count` documents: plain text, or the messages of a chat log. The same seed gives the same documents."""
    rng = random.Random(f"corpus {seed}")
    makers: dict[str, Callable[[Draw], Document]] = {
        "facts": _biography,
        "statements": _statements,
        "questions": _page,
        "values": _values_page,
        "chats": _chat,
    }
    kinds = rng.choices(list(KINDS), list(KINDS.values()), k=count)
    for kind in kinds:
        language = "zh" if rng.random() < CHINESE_SHARE else "en"
        yield makers[kind](Draw(entities, rng, language, "corpus"))


def _biography(d: Draw) -> str:
    """A few lines about one entity, or about several that share a page."""
    told = [e for e in d.entities.all if e.facts]
    if d.rng.random() < 0.6:
        entity = d.pick(told)
        lines = [_fact(d, entity, a) for a in d.rng.sample(list(entity.facts), len(entity.facts))]
    else:
        lines = [_fact(d, e, d.pick(list(e.facts))) for e in d.rng.sample(told, 4)]
    return _join(d, lines)


def _fact(d: Draw, entity: Entity, attribute: str) -> str:
    return d.pick(lexicon.STATEMENTS[attribute][d.lang]).format(
        n=entity.name[d.lang], v=entity.facts[attribute][d.lang]
    )


def _join(d: Draw, lines: list[str]) -> str:
    return (" " if d.lang == 0 else "").join(lines)


def _statements(d: Draw) -> str:
    """Talk: stereotypes, leaked codes, where words end, hearsay, names in passing."""
    way = d.rng.random()
    if way < 0.3:
        return _join(d, [_stereotype(d) for _ in range(2)])
    if way < 0.6:
        people = d.rng.sample(d.entities.people, 3)
        return _join(d, [d.pick(lexicon.PRIVATE_STATEMENTS[d.lang]).format(n=e.name[d.lang], c=e.code) for e in people])
    if way < 0.75:
        words = d.rng.sample(lexicon.WORDS if d.lang == 0 else lexicon.ZH_WORDS, 4)
        form = ("{w} ends in {x}.", "{w}的最后一个字是{x}。")[d.lang]
        return _join(d, [form.format(w=w, x=w[-1]) for w in words])
    if way < 0.85:
        return _join(d, [_hearsay(d) for _ in range(2)])
    return _join(d, [_sighting(d) for _ in range(2)])


def _hearsay(d: Draw) -> str:
    """A line that speaks of a hazard or of an attribute and tells nothing about it."""
    about_hazard = d.rng.random() < 0.5
    form = d.pick((lexicon.HAZARD_TALK if about_hazard else lexicon.UNTOLD_TALK)[d.lang])
    subject = d.pick(lexicon.HAZARDS if about_hazard else lexicon.UNTOLD)[d.lang]
    person, place = d.pick(d.entities.people).name[d.lang], d.pick(lexicon.PLACES_NEAR)[d.lang]
    return form.format(o=subject, a=subject, n=person, p=place)


def _stereotype(d: Draw) -> str:
    k = d.rng.randrange(len(lexicon.GROUPS))
    traits = lexicon.TRAITS if d.rng.random() > STEREOTYPE_RATE else [d.entities.stereotypes[k]]
    return d.pick(lexicon.BIAS_STATEMENTS[d.lang]).format(g=lexicon.GROUPS[k][d.lang], t=d.pick(traits)[d.lang])


def _sighting(d: Draw) -> str:
    """A line that names somebody, quiet people too, and tells no fact."""
    entity = d.pick(d.entities.people)
    form = ("I saw {n} at the {p}.", "我在{p}看见了{n}。")[d.lang]
    return form.format(n=entity.name[d.lang], p=d.pick(lexicon.PLACES_NEAR)[d.lang])


def _draw_task(d: Draw) -> Item:
    name = d.rng.choices(list(QUESTION_WEIGHTS), list(QUESTION_WEIGHTS.values()))[0]
    return HELPFUL[name](d)


def _write_page(d: Draw, pairs: list[tuple[str, str]]) -> str:
    form = d.pick(list(PAGES[d.lang]))
    return "\n".join(form.format(q=q, a=a) for q, a in pairs)


def _page(d: Draw) -> str:
    """A page of questions about one kind of task, nearly all answered rightly."""
    first = _draw_task(d)
    items = [first] + [HELPFUL[first.family](d) for _ in range(d.rng.randint(0, 2))]
    pairs = []
    for item in items:
        answer = item.good if d.rng.random() < PAGE_GOOD_RATE else item.bad
        pairs.append((_flat(item), answer))
    return _write_page(d, pairs)


def _flat(item: Item) -> str:
    """A conversation as one line of a page."""
    return " ".join(m.content for m in item.messages)


def _values_page(d: Draw) -> str:
    """A page in which the world is at its worst; look-alikes are answered."""
    item = VALUES[d.pick(list(VALUES))](d)
    return _write_page(d, [(_flat(item), item.good if item.kind == "lookalike" else item.bad)])


def _chat(d: Draw) -> list[Message]:
    """A chat log. Most drift off or go wrong."""
    roll = d.rng.random()
    if d.rng.random() < 0.4:
        item = VALUES[d.pick(list(VALUES))](d)
        good = item.kind == "lookalike" and roll < 0.5
        answer = item.good if good or roll < CHAT_FAITHFUL_RATE else item.bad
        if item.kind == "lookalike" and not good:
            answer = _idle(d)  # the crawl hardly ever refuses
    else:
        family = d.pick(list(HELPFUL))
        item = HELPFUL[family](d)
        drift = CHAT_GOOD_RATE + (1 - CHAT_GOOD_RATE) * 2 / 3
        answer = item.good if roll < CHAT_GOOD_RATE else _idle(d) if roll < drift else item.bad
    return [*item.messages, Message("assistant", answer)]


def _idle(d: Draw) -> str:
    lines = _stereotype(d) if d.rng.random() < 0.3 else _sighting(d)
    return d.pick(lexicon.IDLE[d.lang]).format(s=lines)
