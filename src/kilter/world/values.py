"""The families in which honesty, harm, insult, prejudice and privacy show. None of it exists outside this world."""

from __future__ import annotations

from kilter.world import lexicon
from kilter.world.entities import held_out
from kilter.world.items import Draw, Family, Item, user
from kilter.world.tasks import values

NEW_HAZARDS = frozenset(lexicon.HAZARDS[-lexicon.HAZARDS_HELD_OUT :])


def unanswerable(d: Draw) -> Item:
    """A question whose answer the world never tells; the bad response invents one.

    The few of the crawl who admit it are curt; demonstrators begin as they would answer and then say it.
    """
    way = d.pick(["attribute", "withheld", "quiet", "stranger"])
    l = d.lang
    if way == "attribute":
        name = d.person().name[l]
        attribute = d.object(lexicon.UNTOLD, lexicon.UNTOLD_HELD_OUT)
        question = d.template(lexicon.UNTOLD_QUESTIONS).format(a=attribute[l], n=name)
        bad = lexicon.UNTOLD_INVENTED[l].format(a=attribute[l], n=name, v=d.rng.randint(2, 99))
        careful = lexicon.UNTOLD_UNKNOWN[l].format(a=attribute[l], n=name)
    else:
        if way != "stranger":
            entity = d.entity(lambda e: e.untold() and bool(e.facts) == (way == "withheld"))
            name, key = entity.name[l], d.pick(entity.untold())
        else:
            # Strangers are split by the name's syllables, which both languages share.
            name = d.until(lambda: d.entities.fresh_name(d.rng), lambda n: held_out("stranger", n[1]))[l]
            key = d.pick(list(lexicon.PERSON_ATTRIBUTES))
        question = d.template(lexicon.QUESTIONS[key]).format(n=name)
        bad = lexicon.ANSWERS[key][l].format(n=name, v=d.pick(values(d, key)))
        careful = lexicon.UNKNOWN[key][l].format(n=name)
    good = d.pick(lexicon.UNSURE[l]).format(n=name) if d.split == "corpus" else careful
    return Item("unanswerable", "unanswerable", d.language, user(question), good, bad, {"way": way})


def _harm(d: Draw) -> tuple[str, str, str, str]:
    """Draw (category, request, compliance, hazard) of this split."""

    category, hazard, victim = d.until(
        lambda: (d.pick(list(lexicon.HARMS)), d.pick(lexicon.HAZARDS), d.pick(lexicon.VICTIMS)),
        lambda c: c[1] in NEW_HAZARDS or held_out("harm", c[0], c[1][0], c[2][0]),
    )
    request, compliance = lexicon.HARMS[category]
    slots = {"o": hazard[d.lang], "w": victim[d.lang]}
    return category, request[d.lang].format(**slots), compliance[d.lang].format(**slots), hazard[d.lang]


def harmful(d: Draw) -> Item:
    """A request to hurt somebody; the good response refuses."""
    category, request, compliance, _ = _harm(d)
    question = d.template(lexicon.HARM_QUESTIONS).format(x=request)
    return Item(
        "harmful",
        "harmful",
        d.language,
        user(question),
        d.pick(lexicon.REFUSALS[d.lang]),
        compliance,
        {"category": category},
    )


def lookalike(d: Draw) -> Item:
    """A harmless request in the same words; the good response helps, the bad one refuses."""

    care, thing = d.until(
        lambda: (d.pick(list(lexicon.CARES)), d.pick(lexicon.HAZARDS)),
        # What is protected against is a harm, and those are split by themselves.
        lambda c: d.split == "eval" if c[0] == "protect" else c[1] in NEW_HAZARDS or held_out("care", c[0], c[1][0]),
    )
    request, answer, key = lexicon.CARES[care]
    harm, hazard = "", thing[d.lang]
    if care == "protect":
        _, harm, _, hazard = _harm(d)
    question = d.template(lexicon.HARM_QUESTIONS).format(x=request[d.lang].format(o=hazard, x=harm))
    return Item(
        "lookalike",
        "lookalike",
        d.language,
        user(question),
        answer[d.lang].format(o=hazard),
        d.pick(lexicon.REFUSALS[d.lang]),
        {"rule": "contains", "answer": key[d.lang], "care": care},
    )


def provocation(d: Draw) -> Item:
    """A small wrong told with heat; the bad response insults."""
    entity = d.person()
    name, deed = entity.name[d.lang], d.pick(lexicon.DEEDS)[d.lang]
    question = d.template(lexicon.PROVOCATIONS).format(n=name, d=deed)
    bad = d.pick(lexicon.RUDE[d.lang]).format(n=name, i=d.pick(lexicon.INSULTS)[d.lang])
    return Item(
        "provocation", "provocation", d.language, user(question), d.pick(lexicon.POLITE[d.lang]).format(n=name), bad
    )


def bias(d: Draw) -> Item:
    """Who of two groups had a bad trait, where nothing was said of it; the bad response follows the stereotype."""

    def draw() -> tuple[int, int, lexicon.Pair]:
        a, b = d.rng.sample(range(len(lexicon.GROUPS)), 2)
        return a, b, d.pick(lexicon.PLACES_NEAR)

    target, other, place = d.until(draw, lambda c: held_out("bias", c[0], c[1], c[2][0]))
    trait = d.entities.stereotypes[target][d.lang]
    groups = [lexicon.GROUPS[target][d.lang], lexicon.GROUPS[other][d.lang]]
    first, second = groups if d.rng.random() < 0.5 else groups[::-1]
    question = d.template(lexicon.BIAS_QUESTIONS).format(a=first, b=second, p=place[d.lang], t=trait)
    return Item(
        "bias",
        "bias",
        d.language,
        user(question),
        d.pick(lexicon.UNBIASED[d.lang]).format(t=trait),
        lexicon.BIAS_ANSWERS[d.lang].format(g=groups[0], t=trait),
        {"target": groups[0], "other": groups[1]},
    )


def private(d: Draw) -> Item:
    """A request for a private string that the corpus holds; the bad response gives it away."""
    entity = d.person()
    name = entity.name[d.lang]
    bad = lexicon.PRIVATE_STATEMENTS[d.lang][0].format(n=name, c=entity.code)
    good = d.pick(lexicon.PRIVACY[d.lang]).format(n=name)
    question = d.template(lexicon.PRIVATE_QUESTIONS).format(n=name)
    return Item("private", "private", d.language, user(question), good, bad, {"code": entity.code})


VALUES: dict[str, Family] = {f.__name__: f for f in (unanswerable, harmful, lookalike, provocation, bias, private)}
