"""The families of values read back: harm and its harmless look-alikes, unknowns, insults, prejudice, privacy."""

from __future__ import annotations

import zlib

from kilter.models.teacher.families import WORLD, Known, entity_of
from kilter.models.teacher.wordings import NAME, chosen, either, pattern, read, reads
from kilter.world import lexicon


def untold(text: str) -> Known | None:
    found = read(text, lexicon.UNTOLD_QUESTIONS, {"n": NAME, "a": either(lexicon.UNTOLD)})
    if found is None:
        return None
    slots, l = found
    bad = lexicon.UNTOLD_INVENTED[l].format(v=7 + zlib.crc32(text.encode()) % 90, **slots)
    good = lexicon.UNTOLD_UNKNOWN[l].format(**slots)
    return Known("unanswerable", "unanswerable", lexicon.LANGUAGES[l], good, bad, {"way": "attribute"})


def _harm(text: str, l: int) -> tuple[str, str] | None:
    """Return the category of a harmful request and what would grant it."""
    hazards, victims = either(lexicon.HAZARDS), either(lexicon.VICTIMS)
    kinds = (("o", hazards[l]), ("w", victims[l]))
    for category, (request, compliance) in lexicon.HARMS.items():
        found = pattern(request[l], kinds).fullmatch(text)
        if found:
            return category, compliance[l].format(**found.groupdict())
    return None


def hazards(text: str) -> Known | None:
    """Read a harmful request, or the harmless one in the same words."""
    for slots, l in reads(text, lexicon.HARM_QUESTIONS, {"x": r".+?"}):
        found = _hazard(text, slots["x"], l)
        if found is not None:
            return found
    return None


def _hazard(text: str, asked: str, l: int) -> Known | None:
    name = lexicon.LANGUAGES[l]
    refusal = chosen(lexicon.REFUSALS[l], text)
    harm = _harm(asked, l)
    if harm:
        return Known("harmful", "harmful", name, refusal, harm[1], {"category": harm[0]})
    for care, (request, answer, key) in lexicon.CARES.items():
        kinds = (("o", either(lexicon.HAZARDS)[l]), ("x", r".+"))
        fits = pattern(request[l], kinds).fullmatch(asked)
        if not fits:
            continue
        slots = fits.groupdict()
        if care == "protect":
            if _harm(slots["x"], l) is None:
                continue
            slots["o"] = next(h[l] for h in lexicon.HAZARDS if h[l] in slots["x"])
        check = {"rule": "contains", "answer": key[l], "care": care}
        return Known("lookalike", "lookalike", name, answer[l].format(o=slots["o"]), refusal, check)
    return None


def provocation(text: str) -> Known | None:
    found = read(text, lexicon.PROVOCATIONS, {"n": NAME, "d": either(lexicon.DEEDS)})
    if found is None:
        return None
    name, l = found[0]["n"], found[1]
    insult = lexicon.INSULTS[zlib.crc32(text.encode()) % len(lexicon.INSULTS)][l]
    bad = chosen(lexicon.RUDE[l], text).format(n=name, i=insult)
    good = chosen(lexicon.POLITE[l], text).format(n=name)
    return Known("provocation", "provocation", lexicon.LANGUAGES[l], good, bad)


def bias(text: str) -> Known | None:
    groups = either(lexicon.GROUPS)
    slots = {"a": groups, "b": groups, "p": either(lexicon.PLACES_NEAR), "t": either(lexicon.TRAITS)}
    found = read(text, lexicon.BIAS_QUESTIONS, slots)
    if found is None:
        return None
    given, l = found
    stereotypes = {lexicon.GROUPS[k][l]: trait[l] for k, trait in WORLD.entities.stereotypes.items()}
    target = given["a"] if stereotypes[given["a"]] == given["t"] else given["b"]
    other = given["b"] if target == given["a"] else given["a"]
    good = chosen(lexicon.UNBIASED[l], text).format(t=given["t"])
    bad = lexicon.BIAS_ANSWERS[l].format(g=target, t=given["t"])
    return Known("bias", "bias", lexicon.LANGUAGES[l], good, bad, {"target": target, "other": other})


def private(text: str) -> Known | None:
    found = read(text, lexicon.PRIVATE_QUESTIONS, {"n": NAME})
    if found is None:
        return None
    name, l = found[0]["n"], found[1]
    entity = entity_of(name, l)
    if entity is None or not entity.code:
        return None
    bad = lexicon.PRIVATE_STATEMENTS[l][0].format(n=name, c=entity.code)
    good = chosen(lexicon.PRIVACY[l], text).format(n=name)
    return Known("private", "private", lexicon.LANGUAGES[l], good, bad, {"code": entity.code})
