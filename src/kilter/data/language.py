"""Records in certain languages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kilter.data.languages import language_of
from kilter.data.sieve import Part, Record, passing, said
from kilter.errors import KilterError
from kilter.registry import method


@method("language", wing="data", paper="arXiv:2112.11446", survey="S2 §2.4", aliases=("language-filter",))
def language(
    records: Iterable[Record], *, keep: str = "en", part: Part = "all", unknown: bool = True
) -> Iterator[Record]:
    """Keep the records in the languages named.

    The language is told by the script of the letters and, in Latin script, by small words (data/languages.py). A text
    that has neither, such as a formula or code, is of no language.

    Options:
        keep: languages as their two letters of ISO 639-1, with commas between: en,zh
        part: what is looked at: all, prompt, instruction or response
        unknown: whether text of no language is kept
    """
    wanted = {name.strip().lower() for name in keep.split(",") if name.strip()}
    if not wanted:
        raise KilterError("No language is to be kept; name at least one, as in keep=en,zh.")
    wanted |= {""} if unknown else set()

    def fault(record: Record) -> tuple[str, str] | None:
        found = language_of(said(record, part))
        if found in wanted:
            return None
        return f"language {found or 'unknown'}", f"Its language is {found or 'unknown'}; kept are {keep}."

    return passing(records, fault)
