"""Which language a text is in: by its script, and where many share one, by the small words that every sentence has."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache

# The commonest words of languages in Latin script; words that many of them share decide little and cost nothing.
# Single letters are left out, for they are names in formulas and code.
_SMALL_WORDS = {
    "en": "the of and to in is that it for you with as are this be on have not what from or an by how can your do "
    "my we they was which their has will write give there if about when who why does would more me one some",
    "de": "der die das und ist nicht ein eine zu den von mit sich auf für im dem es des auch als an wie werden aus "
    "bei oder ich sie wir hat nach sind was kann wenn mir du er wird um einen einer zum zur über noch nur",
    "fr": "le la les de des et est un une que en du dans pour qui sur pas au ce il elle vous nous je plus par avec "
    "ne se sont ou cette aux être mais comme qu quelle son ses leur ont fait votre",
    "es": "el la los las de que en un una es por con para no se del al como su lo más pero sus le ya este sí porque "
    "esta entre cuando muy sin sobre también me hasta hay qué cómo cuál son fue está puede ser",
    "pt": "os as de que em um uma é por com para não se do da dos das no na ao como mais mas seu sua ele foi ou "
    "quando muito nos já eu também só pelo pela até isso são está você qual ser tem",
    "it": "il lo la gli le di che è un una per con non si del della dei delle nel nella al alla come più ma anche "
    "sono questo questa da in ha cosa quale perché se su mi ti degli essere ci molto",
    "nl": "de het een en van is dat in te die niet op zijn voor met er aan als ook om maar bij door naar hij ze wat "
    "kan dit deze worden uit of wordt je ik heeft over hoe waar geen nog we meer",
    "sv": "och att det som en på är av för med den till inte om har de ett vad kan jag vi du han var från så men "
    "eller när hur ska där mer sig sina denna alla mycket",
    "da": "og at det som en på er af for med den til ikke om har de et hvad kan jeg vi du han var fra så men eller "
    "når hvordan skal der mere sig sine denne alle meget blev hvor",
    "pl": "na że nie się do to jest jak co po ale za od przez jego czy tak są dla był może ten tym które który lub "
    "oraz ma przy jej ich być tylko już jako tego",
    "cs": "na se je že do to jako pro by ale po jsou od za nebo které který jak co má tak ve při byl jeho také není "
    "pokud více být jen už tento této aby",
    "ro": "și de la în cu nu că este pe un mai din care pentru sau se au ce are fi prin ca sunt să le lor lui ei "
    "cum acest această dar fost poate între după",
    "hu": "az és hogy nem is egy van ez de meg csak mint el már még azt volt ki lehet ha mi vagy kell ezt minden "
    "után mert én te ő olyan milyen hogyan való között",
    "fi": "ja on ei se että oli hän mutta kun niin ovat myös joka kuin tai mitä olla voi jos ne sen tämä mukaan "
    "sekä jotka siitä minä sinä vain ole miten kanssa nyt",
    "tr": "ve bir bu için ile da de ne çok daha olarak olan gibi en ama kadar sonra var mi mı değil ya her ben sen "
    "nasıl olduğu göre hangi veya tarafından içinde",
    "vi": "và của là có cho không các một được trong những người để với này khi đã từ về như đến ở ra nhiều tôi bạn "
    "thì hay cũng vào sẽ nào gì việc hoặc trên",
    "id": "dan yang di ini itu dengan untuk dari tidak dalam akan pada ke adalah atau saya anda juga dapat oleh "
    "bisa kami mereka ada seperti sebuah apa lebih telah sudah bagaimana karena kita",
}  # fmt: skip
_OF_WORD: dict[str, list[str]] = {}
for _language, _words in _SMALL_WORDS.items():
    for _word in set(_words.split()):
        _OF_WORD.setdefault(_word, []).append(_language)

_OF_SCRIPT = {
    "HANGUL": "ko", "HIRAGANA": "ja", "KATAKANA": "ja", "CJK": "zh", "THAI": "th", "GREEK": "el", "HEBREW": "he",
    "DEVANAGARI": "hi", "BENGALI": "bn", "TAMIL": "ta", "TELUGU": "te", "GEORGIAN": "ka", "ARMENIAN": "hy",
    "KHMER": "km", "LAO": "lo", "MYANMAR": "my", "GUJARATI": "gu", "KANNADA": "kn", "MALAYALAM": "ml",
    "CYRILLIC": "ru", "ARABIC": "ar", "ETHIOPIC": "am", "SINHALA": "si", "TIBETAN": "bo",
}  # fmt: skip
# Letters that a language has and the one that its script stands for has not.
_OWN_LETTERS = {"uk": "іїєґ", "sr": "ђјљњћџ", "fa": "پچژگ", "ur": "ٹڈڑںے"}
DISTINGUISHED = (
    dict.fromkeys(_SMALL_WORDS, "LATIN")
    | {language: script for script, language in _OF_SCRIPT.items()}
    | {"uk": "CYRILLIC", "sr": "CYRILLIC", "fa": "ARABIC", "ur": "ARABIC"}
)
"""The languages that `language_of` tells apart, with their scripts."""
_WORD = re.compile(r"[^\W\d_]+")
LOOKED_AT = 4000  # characters that are enough to tell


def language_of(text: str) -> str:
    """Return the language of `text` as its two letters of ISO 639-1, an empty text where nothing tells.

    A character of a script without spaces counts as two letters: it holds as much. Languages of one script are told
    apart in Latin script (seventeen of them), Cyrillic (ru, uk, sr) and Arabic (ar, fa, ur).
    """
    text = text[:LOOKED_AT].lower()
    if text.isascii():
        return _latin(text)
    scripts: Counter[str] = Counter()
    for character, count in Counter(text).items():
        script = _script(character)
        if script:
            scripts[script] += count * (2 if script in ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI") else 1)
    # Japanese is written in three scripts, of which Chinese has one.
    kana = scripts["HIRAGANA"] + scripts["KATAKANA"]
    if kana and kana * 10 >= scripts["CJK"]:
        scripts["HIRAGANA"] += scripts.pop("CJK", 0) + scripts.pop("KATAKANA", 0)
    if not scripts:
        return ""
    [(script, _)] = scripts.most_common(1)
    if script == "LATIN":
        return _latin(text)
    found = _OF_SCRIPT.get(script, "")
    if found == "ru":
        return next((other for other in ("uk", "sr") if _has(text, other)), found)
    if found == "ar":
        return next((other for other in ("ur", "fa") if _has(text, other)), found)
    return found


def _has(text: str, language: str) -> bool:
    own = sum(text.count(letter) for letter in _OWN_LETTERS[language])
    return own * 100 >= sum(character.isalpha() for character in text)


@cache
def _script(character: str) -> str:
    if not character.isalpha():
        return ""
    return unicodedata.name(character, "").split(" ", 1)[0].split("-", 1)[0]


def _latin(text: str) -> str:
    found: Counter[str] = Counter()
    for word, count in Counter(_WORD.findall(text)).items():
        known = _OF_WORD.get(word, ())
        for language in known:
            found[language] += count / len(known)  # type: ignore[assignment]
    return max(found, key=lambda language: found[language]) if found else ""
