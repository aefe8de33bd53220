"""A constitution that is found, rule by rule, where the model fails, and by which it corrects itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kilter.data.drafts import sound
from kilter.data.lcs import common
from kilter.data.novelty import rouge_l
from kilter.data.replies import asked_of, listed, model_of
from kilter.data.tokens import tokenise
from kilter.errors import KilterError, SetAside
from kilter.files import explaining, write_text
from kilter.models.each import each
from kilter.models.protocol import Model, Sampling
from kilter.notes import tell
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, Share, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2403.18341"


@method("iteralign", wing="data", paper=PAPER, survey="S3 §imitation")
async def iteralign(
    model: Model,
    records: list[Prompt],
    *,
    oracle: str = "",
    constitution: str = "",
    save: str = "",
    batch: Count = 64,
    similar: Share = 0.7,
    keep_sound: bool = False,
    max_tokens: Count = 512,
    temperature: Amount = 0.7,
    seed: int = 0,
) -> list[Demonstration]:
    """Self-corrections by a constitution that grows from the model's own failures (Chen et al. 2024, IterAlign).

    The records are red-teaming prompts. Every `batch` of them goes through five steps: (1) the model answers; (2) the
    `oracle`, a stronger model, says which rules an answer breaks, in general words; (3) rules that are new, of ROUGE-L
    at most `similar` with every rule there is, join the constitution, and none ever leaves it; (4) the model is shown
    its answer with the rules that it broke, as the constitution words them, and answers once more; (5) the oracle looks
    again, and what still breaks a rule is left out. What comes back are the corrected answers, to be fine-tuned on; the
    next round is this method on the model so trained, with the constitution that was saved.

    meta: violated (the rules), constitution (how many rules there were after its batch), before (the answer).

    Options:
        oracle: stronger model that finds what is violated; without it the same model
        constitution: file of rules to begin with, one a line
        save: file that the grown constitution is written to
        batch: prompts between two changes of the constitution
        similar: ROUGE-L from which on a rule counts as known
        keep_sound: whether answers that break no rule come back too
        max_tokens: longest answer
        temperature: sampling temperature of the model; the oracle is greedy
        seed: seed of the answers
    """
    judge = model_of(oracle, model)
    rules = _read(constitution)
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
    greedy = Sampling(max_tokens=max_tokens, seed=seed)
    found: list[Demonstration] = []

    async def violated(question: str, response: str) -> list[str]:
        reply = await sound(judge, PROMPTS("violations", question=question, response=response), greedy)
        said = reply.text.strip()
        return [] if said.strip(" .*\"'").casefold() in ("none", "无", "没有") else listed(said)

    async def look(prompt: Prompt) -> tuple[Prompt, str, list[str]]:
        response = (await sound(model, prompt.messages, sampling, of=asked_of(prompt.messages))).text.strip()
        return prompt, response, await violated(asked_of(prompt.messages), response)

    async def correct(item: tuple[Prompt, str, list[str]]) -> Demonstration:
        prompt, response, broken = item
        question = asked_of(prompt.messages)
        told = list(dict.fromkeys(nearest_rule(rule, rules) or rule for rule in broken))
        after, version = response, None
        if told:
            asked = PROMPTS("reflect", question=question, response=response, critique="\n".join(told))
            after, version = (await sound(model, asked, sampling)).text.strip(), asked.version
            still = await violated(question, after)
            if still:
                raise SetAside(f"Its answer is corrected and still breaks a rule: {still[0]}", "still violated")
        elif not keep_sound:
            raise SetAside("Its answer breaks no rule, so that there is nothing to correct.", "no violation")
        origin = Origin("iteralign", PAPER, model.name, (prompt.id,), seed, version)
        meta = {**prompt.meta, "violated": told, "constitution": len(rules), "before": response}
        return Demonstration([*prompt.messages, Message("assistant", after)], origin=origin, meta=meta)

    for start in range(0, len(records), batch):
        looked = await each(records[start : start + batch], look, label=f"red-teaming · {model.name}")
        for _, _, broken in looked:
            for rule in broken:
                if nearest_rule(rule, rules, similar) is None:
                    rules.append(rule)
        found += await each(looked, correct, label=f"corrections · {model.name}")
    tell([f"The constitution has {len(rules)} rules."])
    if save:
        write_text(Path(save), "".join(f"{rule}\n" for rule in rules))
    return found


def nearest_rule(rule: str, rules: list[str], least: float = 0.0) -> str | None:
    """Return the rule of `rules` that is most like `rule`, None where that is not more alike than `least`."""
    if not rules:
        return None
    tokens = tokenise([rule, *rules])
    sizes = tokens.lengths[1:]
    size = np.full(len(rules), tokens.lengths[0])
    alike = rouge_l(
        common(np.tile(tokens.hashes[: size[0]], len(rules)), size, tokens.hashes[size[0] :], sizes), size, sizes
    )
    best = rules.index(rule) if rule in rules else int(alike.argmax())
    return rules[best] if alike[best] > least or rules[best] == rule else None


def _read(constitution: str) -> list[str]:
    """Return the rules of a file, each once."""
    if not constitution:
        return []
    try:
        with explaining(constitution, "read"):
            lines = Path(constitution).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise KilterError(f"The constitution {constitution} is not UTF-8; save it as UTF-8.") from None
    rules = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not rules:
        raise KilterError(f"The constitution {constitution} holds no rules; write one a line, or leave it out.")
    return rules
