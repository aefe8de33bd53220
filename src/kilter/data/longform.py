"""Long texts that people wrote, with instructions that would ask for them."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from typing import Literal

from kilter.data.drafts import sound
from kilter.data.languages import language_of
from kilter.errors import KilterError, SetAside
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, Share, Whole, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2304.08460"
Style = Literal["instruction", "chatbot", "query"]
STYLES: tuple[Style, ...] = ("instruction", "chatbot", "query")
_SENTENCE = re.compile(r"[.!?](?:\s|$)|[。！？]")
_LENGTHS = {
    "zh": "请写{n}句话。",
    "": "Respond in {n} sentences.",
}


@method("longform", wing="data", paper=PAPER, survey="S3 §imitation")
def longform(
    model: Model,
    records: Iterable[Prompt | Demonstration],
    *,
    styles: str = "1,1,1",
    length: Share = 0.5,
    shortest: Whole = 20,
    longest: Count = 20_000,
    max_tokens: Count = 128,
    temperature: Amount = 0.7,
    seed: int = 0,
) -> Each[Demonstration]:
    """Reverse instructions for texts of a corpus (Köksal et al. 2023, LongForm).

    The text (a record's last turn, whoever's it is) stays as it is, to the letter, and becomes the answer. The model
    writes what would ask for it, in one of three styles that is drawn by weight: an instruction, a message to a
    chatbot, a search query. To the share `length` a sentence is added that says how many sentences the text has. Left
    out are texts that are too short or too long, and instructions that are the text, or its beginning, once more. meta:
    style, length (whether it is told).

    Options:
        styles: weights of instruction, chatbot and query, with commas
        length: share of the instructions that say the length
        shortest: fewest characters of a text
        longest: most characters of a text
        max_tokens: longest instruction
        temperature: sampling temperature
        seed: seed of draws and instructions
    """
    weights = weights_of(styles, len(STYLES))

    async def one(record: Prompt | Demonstration) -> Demonstration:
        text = record.messages[-1].content if record.messages else ""
        if not shortest <= len(text.strip()) <= longest:
            raise SetAside(f"The text has {len(text.strip())} characters, not {shortest} to {longest}.", "length")
        draw = random.Random(f"longform {seed} {record.id}")
        [style] = draw.choices(STYLES, weights)
        told = draw.random() < length
        asked = PROMPTS("instruct", text=text, style=style)
        reply = await sound(model, asked, Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed), of=text)
        instruction = reply.text.strip().strip('"“”')
        if not instruction or text.strip().startswith(instruction) or text.strip() in instruction:
            raise SetAside("The instruction is the text, or its beginning, once more.", "echo")
        if told:
            wording = _LENGTHS["zh" if language_of(text) == "zh" else ""]
            instruction = f"{instruction} {wording.format(n=sentences(text))}"
        origin = Origin("longform", PAPER, reply.model, (record.id,), seed, asked.version)
        meta = {**record.meta, "style": style, "length": told}
        return Demonstration([Message("user", instruction), Message("assistant", text)], origin=origin, meta=meta)

    return each(records, one, label=f"instructions · {model.name}")


def sentences(text: str) -> int:
    """Return how many sentences a text has, at least one."""
    return max(1, len(_SENTENCE.findall(text)))


def weights_of(given: str, count: int) -> list[float]:
    """Return so many weights of a list with commas; raise KilterError for anything else."""
    try:
        found = [float(part) for part in given.split(",")]
    except ValueError:
        found = []
    if len(found) != count or min(found) < 0 or not 0 < sum(found) < float("inf"):
        raise KilterError(f"'{given}' are no {count} weights; write {count} numbers with commas, not all 0.")
    return found
