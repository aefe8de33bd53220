"""Translating texts by a model, with what is no language (code, placeholders, addresses) taken out meanwhile."""

from __future__ import annotations

import re

from kilter.data.languages import DISTINGUISHED, language_of
from kilter.errors import KilterError, SetAside, nearest
from kilter.models.each import answered
from kilter.models.protocol import Answer, Model, Sampling
from kilter.prompts import Prompts

PROMPTS = Prompts(__file__)

LANGUAGES = {
    "af": "Afrikaans", "ar": "Arabic", "az": "Azerbaijani", "bn": "Bengali", "cs": "Czech", "de": "German",
    "en": "English", "es": "Spanish", "et": "Estonian", "fa": "Persian", "fi": "Finnish", "fr": "French",
    "gl": "Galician", "gu": "Gujarati", "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "id": "Indonesian",
    "it": "Italian", "ja": "Japanese", "ka": "Georgian", "kk": "Kazakh", "km": "Khmer", "ko": "Korean",
    "lt": "Lithuanian", "lv": "Latvian", "mk": "Macedonian", "ml": "Malayalam", "mn": "Mongolian", "mr": "Marathi",
    "my": "Burmese", "ne": "Nepali", "nl": "Dutch", "pl": "Polish", "ps": "Pashto", "pt": "Portuguese",
    "ro": "Romanian", "ru": "Russian", "si": "Sinhala", "sl": "Slovenian", "sv": "Swedish", "sw": "Swahili",
    "ta": "Tamil", "te": "Telugu", "th": "Thai", "tl": "Tagalog", "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu",
    "vi": "Vietnamese", "xh": "Xhosa", "zh": "Chinese",
}  # fmt: skip
"""The 52 languages of Bactrian-X, by their letters of ISO 639-1."""

_KEPT = re.compile(
    r"```.*?```|`[^`\n]+`|\{\{?\w*\}?\}|%\([a-z_]\w*\)[sd]|%[sd]\b|</?[a-zA-Z][^<>\n]{0,80}>|https?://[^\s)>\]]+|"
    r"[\w.+-]+@[\w-]+\.[\w.-]*\w",
    re.DOTALL,
)
_MARK = re.compile(r"⟦\s*(\d+)\s*⟧")
_LETTERS = 24  # from which on the small words of a Latin text tell its language


def languages(given: str) -> list[str]:
    """Return the languages of a list with commas, by their letters; all 52 for "all".

    Raises KilterError for one that is not among them.
    """
    if given.strip() == "all":
        return list(LANGUAGES)
    found = [part.strip().lower() for part in given.split(",") if part.strip()]
    by_name = {name.lower(): code for code, name in LANGUAGES.items()}
    found = [by_name.get(part, part) for part in found]
    for part in found:
        if part not in LANGUAGES:
            raise KilterError(
                f"There is no language '{part}' here.{nearest(part, [*LANGUAGES, *by_name]) or ' Give it as de or zh.'}"
            )
    if not found:
        raise KilterError("No language is named; give one or more, such as zh,de.")
    return list(dict.fromkeys(found))


async def translated(model: Model, text: str, language: str, sampling: Sampling) -> Answer:
    """Return `text` in the language with the letters `language`, everything that is no language as it was.

    Nothing is asked for a text that holds nothing else. Raises SetAside where something of that is lost on the way, and
    where what comes back is in another language.
    """
    masked, kept = mask(text)
    if not any(character.isalpha() for character in _MARK.sub("", masked)):
        return Answer(text, 0, None, "stop", model.name)
    asked = PROMPTS("translate", text=masked, language=language, name=LANGUAGES[language])
    reply = await answered(model, asked, sampling)
    found = reply.text.strip()
    if not is_in(_MARK.sub("", found), language):
        told = language_of(found) or "no language"
        raise SetAside(f"The translation is in '{told}', not in '{language}': {found[:60]!r}.", "wrong language")
    return Answer(unmask(found, kept), reply.tokens, None, reply.finish_reason, reply.model or model.name)


def mask(text: str) -> tuple[str, list[str]]:
    """Return `text` with marks ⟦0⟧, ⟦1⟧ ... in the place of code, placeholders, tags and addresses; and those."""
    kept: list[str] = []

    def mark(found: re.Match[str]) -> str:
        kept.append(found[0])
        return f"⟦{len(kept) - 1}⟧"

    # Marks that stand in the text already would be taken for ours.
    return _KEPT.sub(mark, text.replace("⟦", "[").replace("⟧", "]")), kept


def unmask(text: str, kept: list[str]) -> str:
    """Return `text` with what stood for its marks; raise SetAside unless each mark is there just once."""
    there = sorted(int(number) for number in _MARK.findall(text))
    if there != list(range(len(kept))):
        missing = next((kept[i] for i in range(len(kept)) if there.count(i) != 1), f"a mark {there}")
        raise SetAside(f"The translation does not hold {missing[:60]!r} just once.", "placeholder lost")
    return _MARK.sub(lambda found: kept[int(found[1])], text)


def is_in(text: str, language: str) -> bool:
    """Whether `text` may be in `language`: false where its script or its small words say that it is in another."""
    found = language_of(text)
    if not found or found == language or language not in DISTINGUISHED:
        return True
    latin = DISTINGUISHED[found] == DISTINGUISHED[language] == "LATIN"
    return latin and sum(character.isalpha() for character in text) < _LETTERS
