"""Requests are answered first and then translated, with their answers."""

from __future__ import annotations

from collections.abc import Iterable

from kilter.data.drafts import sound
from kilter.data.languages import language_of
from kilter.data.post_answer import told
from kilter.data.replies import asked_of, model_of
from kilter.data.translation import languages, translated
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, method

PAPER = "arXiv:2304.10453"


@method("post-translate", wing="data", paper=PAPER, survey="S1 §4.2, S2 §2.3", aliases=("post-translating",))
def post_translate(
    model: Model,
    records: Iterable[Prompt],
    *,
    to: str = "zh",
    translator: str = "",
    max_tokens: Count = 1024,
    temperature: Amount = 0.7,
    seed: int = 0,
) -> Each[list[Demonstration]]:
    """Let the teacher answer requests, then translate request and answer (Chen et al. 2023, Phoenix).

    y = the teacher's answer to x -> x', y' = translations of both. Two translations a request and language; the text is
    as good as the teacher writes the language of x, and its culture comes along. Compare `post-answer`. Code,
    placeholders, tags and addresses come through unchanged, or the record is left out; so is one whose translation is
    in another language. meta: strategy, src_lang, tgt_lang, mt_engine, source (the request as it was).

    Options:
        to: languages that are wanted, with commas (zh,de), or all
        translator: model that translates; without it the teacher does
        max_tokens: longest translation and longest answer
        temperature: sampling temperature of the answers; translations are greedy
        seed: seed of the answers
    """
    engine = model_of(translator, model)
    wanted = languages(to)
    greedy = Sampling(max_tokens=max_tokens, seed=seed)
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)

    async def one(prompt: Prompt) -> list[Demonstration]:
        source = asked_of(prompt.messages)
        reply = await sound(model, prompt.messages, sampling)
        spoken = language_of(source)
        made = []
        for language in wanted:
            texts = [source, reply.text.strip()]
            if spoken != language:
                texts = [(await translated(engine, text, language, greedy)).text for text in texts]
            made.append(
                Demonstration(
                    [*prompt.messages[:-1], Message("user", texts[0]), Message("assistant", texts[1])],
                    origin=Origin("post-translate", PAPER, reply.model, (prompt.id,), seed),
                    meta=told("post-translate", spoken, language, engine, source),
                )
            )
        return made

    return each(records, one, label=f"post-translating · {model.name}")
