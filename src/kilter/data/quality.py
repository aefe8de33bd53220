"""Records that nobody should learn from, by rules that need no model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Annotated

import numpy as np
from pydantic import Field

from kilter.data.grams import grams, whole
from kilter.data.overlap import distinct
from kilter.data.sieve import Record, batches, leave_out, said
from kilter.data.tokens import tokenise
from kilter.records import Prompt
from kilter.registry import method

# What text turns into when UTF-8 is read as a Western code page, and what stands for what could not be read.
_BROKEN = re.compile("\ufffd|Ã[\x80-\xbf©¨¤¶¼]|â€[™œ\x9d“”]|ï¿½")
_NO_PERSON = re.compile(
    r"\b(as an? (ai|artificial intelligence|language model|large language model)\b|i am an? (ai|language model)\b"
    r"|openai|chatgpt)|作为一个?(人工智能|ai|语言模型)|我是一个?(人工智能|ai|语言模型)",
    re.IGNORECASE,
)
_RUN = 4  # tokens in the runs that repetition is measured by


@method("quality", wing="data", paper="arXiv:2112.11446", survey="S2 §2.4", aliases=("quality-filter",))
def quality(
    records: Iterable[Record],
    *,
    min_tokens: Annotated[int, Field(ge=0)] = 1,
    max_tokens: int | None = None,
    repetition: Annotated[float, Field(ge=0, le=1)] = 0.5,
    symbols: Annotated[float, Field(ge=0, le=1)] = 0.7,
    boilerplate: bool = False,
) -> Iterator[Record]:
    """Leave out records whose responses are empty, broken, echoes or repetitions (after Rae et al. 2021, A.1.1).

    The first rule that applies is the one that counts: no prompt; a response that is empty, shorter or longer than
    allowed, the prompt once more, undecodable (U+FFFD, UTF-8 read as something else), a repetition (more than
    `repetition` of its runs of four tokens were there before, of a response of 40 tokens or more), or mostly symbols.
    Tokens are words, and single characters where a script has no spaces. Prompts without responses are judged by the
    first and the fifth rule alone.

    Options:
        min_tokens: fewest tokens of a response
        max_tokens: most tokens of a response
        repetition: largest share of runs of four tokens that are not new
        symbols: largest share of characters other than spaces that are neither letters nor digits
        boilerplate: whether responses that speak of themselves as a language model are left out
    """
    for held, responses in batches(records, "response"):
        prompts = [said(record, "prompt") for record in held]
        tokens, asked = tokenise(responses), tokenise(prompts)
        runs = grams(tokens, _RUN, short=False)
        repeated = 1 - distinct(runs).lengths / np.maximum(runs.lengths, 1)
        repeated[tokens.lengths < 40] = 0
        echo = (whole(tokens) == whole(asked)) & (tokens.lengths > 0)
        rows = zip(held, prompts, responses, tokens.lengths.tolist(), repeated.tolist(), echo.tolist(), strict=True)
        for record, prompt, response, length, share, same in rows:
            answered = not isinstance(record, Prompt)
            if not prompt.strip():
                leave_out(record, "no prompt", "Nothing is asked.")
            elif answered and not response.strip():
                leave_out(record, "empty", "The response is empty.")
            elif answered and length < min_tokens:
                leave_out(record, "too short", f"The response has {length} tokens, fewer than {min_tokens}.")
            elif max_tokens is not None and length > max_tokens:
                leave_out(record, "too long", f"The response has {length} tokens, more than {max_tokens}.")
            elif same:
                leave_out(record, "echo", "The response is the prompt once more.")
            elif _BROKEN.search(response) or _BROKEN.search(prompt):
                leave_out(record, "broken text", "Characters were lost or misread on the way here.")
            elif share > repetition:
                leave_out(record, "repetition", f"Of its runs of four tokens {share:.0%} are repeated.")
            elif answered and _symbols(response) > symbols:
                leave_out(record, "symbols", f"Of its characters {_symbols(response):.0%} are no letters or digits.")
            elif boilerplate and _NO_PERSON.search(response):
                leave_out(record, "boilerplate", "It speaks of itself as a language model.")
            else:
                yield record


def _symbols(text: str) -> float:
    shown = [character for character in text if not character.isspace()]
    return sum(not character.isalnum() for character in shown) / len(shown) if shown else 0.0
