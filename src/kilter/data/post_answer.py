"""Requests are translated first and then answered: the answer grows in the language itself."""

from __future__ import annotations

from collections.abc import Iterable

from kilter.data.drafts import sound
from kilter.data.languages import language_of
from kilter.data.replies import asked_of, model_of
from kilter.data.translation import is_in, languages, translated
from kilter.errors import SetAside
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, method

PAPER = "arXiv:2304.10453"


@method("post-answer", wing="data", paper=PAPER, survey="S1 §4.2, S2 §2.3", aliases=("post-answering",))
def post_answer(
    model: Model,
    records: Iterable[Prompt],
    *,
    to: str = "zh",
    translator: str = "",
    max_tokens: Count = 1024,
    temperature: Amount = 0.7,
    seed: int = 0,
) -> Each[list[Demonstration]]:
    """Translate requests, then let the teacher answer in the other language (Chen et al. 2023, Phoenix).

    x -> translation x' by the translator -> y' = the teacher's answer to x'. One translation a request and language;
    what is said is at home in the culture of the language, and as good as the teacher speaks it. Compare
    `post-translate`. Code, placeholders, tags and addresses come through a translation unchanged, or the record is left
    out; so is one whose translation or answer is in another language. A request that is in the language already is
    answered as it is. meta: strategy, src_lang, tgt_lang, mt_engine, source (the request as it was).

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
        spoken = language_of(source)
        made = []
        for language in wanted:
            text = source
            if spoken != language:
                text = (await translated(engine, source, language, greedy)).text
            turns = [*prompt.messages[:-1], Message("user", text)]
            reply = await sound(model, turns, sampling)
            if not is_in(reply.text, language):
                raise SetAside(f"The answer is in '{language_of(reply.text)}', not in '{language}'.", "wrong language")
            made.append(
                Demonstration(
                    [*turns, Message("assistant", reply.text.strip())],
                    origin=Origin("post-answer", PAPER, reply.model, (prompt.id,), seed),
                    meta=told("post-answer", spoken, language, engine, source),
                )
            )
        return made

    return each(records, one, label=f"post-answering · {model.name}")


def told(strategy: str, source: str, target: str, engine: Model, text: str) -> dict[str, str]:
    """Return what a record says of how it came into its language."""
    return {"strategy": strategy, "src_lang": source, "tgt_lang": target, "mt_engine": engine.name, "source": text}
