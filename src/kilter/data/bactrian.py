"""The same instructions in many languages, each answered in its own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable

from kilter.data.drafts import sound
from kilter.data.languages import language_of
from kilter.data.replies import model_of
from kilter.data.sieve import said
from kilter.data.translation import is_in, languages, translated
from kilter.errors import SetAside
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, method

PAPER = "arXiv:2305.15011"
_CODE = re.compile(
    r"```|\b(python|javascript|java|typescript|c\+\+|c#|sql|html|css|regex|regular expression|bash|shell script|"
    r"source code|pseudocode|code snippet|snippet of code)\b|\b(def|class|function)\s+\w+\s*\(|\bSELECT\b.+\bFROM\b|"
    r"#include|</?(div|html|body|p|a)\b[^>]*>|(write|debug|fix|refactor|optimi[sz]e|complete)\b[^.\n]{0,30}\bcode\b|"
    r"[;{}]\s*$",
    re.IGNORECASE | re.MULTILINE,
)


@method("bactrian", wing="data", paper=PAPER, survey="S1 §4.2, S2 §2.3", aliases=("bactrian-x",))
def bactrian(
    model: Model,
    records: Iterable[Prompt],
    *,
    to: str = "all",
    translator: str = "",
    aligned: bool = True,
    max_tokens: Count = 1024,
    temperature: Amount = 0.7,
    seed: int = 0,
) -> Each[list[Demonstration]] | Each[Demonstration]:
    """Instructions in 52 languages with answers in those languages (Li et al. 2023, Bactrian-X).

    Instruction and input are translated, each by itself, then the teacher answers them in the language (post-answering,
    see `post-answer`). Instructions about code are left out: a translator breaks them. The records of one instruction
    have one id in meta["id"], so that the languages are aligned; their own ids are that with the language's letters.
    With `aligned` an instruction that fails in one language (wrong language, placeholder lost, cut off) is left out in
    all of them; else only there. meta: id, lang, input, mt_engine.

    The paper: 67k instructions (Alpaca's 52k, Dolly's 15k), Google Translate, gpt-3.5-turbo; 3.4M pairs.

    Options:
        to: languages, with commas (en,zh,de), or all 52
        translator: model that translates; without it the teacher does
        aligned: leave an instruction out of all languages where it fails in one
        max_tokens: longest translation and longest answer
        temperature: sampling temperature of the answers; translations are greedy
        seed: seed of the answers
    """
    engine = model_of(translator, model)
    wanted = languages(to)
    greedy = Sampling(max_tokens=max_tokens, seed=seed)
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)

    async def in_one(item: tuple[Prompt, str]) -> Demonstration:
        prompt, language = item
        instruction, given = said(prompt, "instruction"), prompt.meta.get("input")
        if not instruction.strip():
            raise SetAside("It asks nothing; give it a user's turn.", "no prompt")
        parts = [instruction, given if isinstance(given, str) else ""]
        if any(is_code(part) for part in parts):
            raise SetAside("It is about code, which a translation breaks.", "code")
        if language != language_of(instruction):
            parts = [(await translated(engine, part, language, greedy)).text if part else "" for part in parts]
        asked = "\n\n".join(part for part in parts if part)
        reply = await sound(model, [Message("user", asked)], sampling)
        if not is_in(reply.text, language):
            raise SetAside(f"The answer is in '{language_of(reply.text)}', not in '{language}'.", "wrong language")
        meta = {"id": prompt.id, "lang": language, "mt_engine": engine.name, "source": instruction}
        return Demonstration(
            [Message("user", asked), Message("assistant", reply.text.strip())],
            f"{prompt.id}/{language}",
            Origin("bactrian", PAPER, reply.model, (prompt.id,), seed),
            {**meta, **({"input": parts[1]} if parts[1] else {})},
        )

    async def in_all(prompt: Prompt) -> list[Demonstration]:
        made = await asyncio.gather(*(in_one((prompt, language)) for language in wanted), return_exceptions=True)
        found: list[Demonstration] = []
        for language, record in zip(wanted, made, strict=True):
            if isinstance(record, SetAside):
                raise SetAside(f"In '{language}': {record}", record.rule)
            if isinstance(record, BaseException):
                raise record
            found.append(record)
        return found

    label = f"in {len(wanted)} languages · {model.name}"
    if aligned:
        return each(records, in_all, label=label)
    return each(((prompt, language) for prompt in records for language in wanted), in_one, label=label)


def is_code(text: str) -> bool:
    """Whether an instruction is about code."""
    return _CODE.search(text) is not None
