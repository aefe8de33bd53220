"""Several models' answers to each prompt, steered by principles and rated in four aspects."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from typing import Any, Literal

from kilter.data.drafts import sound
from kilter.data.replies import grade, model_of, together
from kilter.errors import SetAside
from kilter.models.each import Each, each
from kilter.models.mixed import members
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Group, Origin, Prompt
from kilter.registry import Amount, Count, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2310.01377"
ASPECTS = {
    "instruction following": "does it do what was asked, all of it, and keep to every condition",
    "truthfulness": "is what it says true and does it agree with itself and with what was given",
    "honesty": "does it sound as sure as it may be, and say so where it does not know",
    "helpfulness": "is it right, useful and complete for the one who asks",
}
PRINCIPLES = {
    "helpfulness": (
        "Be of use: answer what was asked fully, concretely and in good order.",
        "Put yourself in the place of the one who asks, and give what helps most.",
        "Give a thorough answer with the details that are needed and none that are not.",
    ),
    "honesty": (
        "Be honest about what you know and what you do not, and about how you came to it.",
        "Do not pretend: where you cannot do or know something, say so plainly.",
        "Say what you really hold to be so, and let your doubts be seen.",
    ),
    "truthfulness": (
        "Say only what is true; leave out what you cannot be sure of rather than invent it.",
        "Check every statement before you make it, and contradict neither facts nor yourself.",
        "Keep to what was given and to what is known, and correct false premises.",
    ),
    "calibration": (
        "Say with each statement how sure you are of it, in words that fit.",
        "Use words such as certainly, probably or perhaps just as your confidence has it.",
        "End with how confident you are in your answer, and why.",
    ),
}
_LINE = re.compile(
    r"^[ \t*]*(?:answer[ \t]*)?(\d{1,2})[ \t*]*[:.)][ \t*]*(?:rating[: \t]*)?"
    r"([1-5])(?![\d.])(?:[ \t]*/[ \t]*5)?[ \t*:.–—-]*(.*)$",
    re.IGNORECASE | re.MULTILINE,
)


@method("ultrafeedback", wing="data", paper=PAPER, survey="S1 §4.3.1, S3 §imitation")
def ultrafeedback(
    model: Model,
    records: Iterable[Prompt],
    *,
    judge: str = "",
    completions: Count = 4,
    score: Literal["fine-grained", "overall"] = "fine-grained",
    max_tokens: Count = 1024,
    judge_tokens: Count = 1024,
    temperature: Amount = 1.0,
    seed: int = 0,
) -> Each[Group]:
    """Answers of different models to each prompt, rated by a judge in four aspects (Cui et al. 2023).

    The model is a mixture (`--model A,B,C,...`; the paper has 17): of each prompt `completions` (4) members answer,
    drawn without repetition as far as there are so many. Each answer is steered by a principle that is drawn
    (helpfulness, honesty, truthfulness, verbalised calibration), of which one of several wordings is its system
    message. The judge rates all answers at once in each of the four aspects, 1 to 5, and writes a critique of each
    answer with an overall grade, 1 to 10.

    The published set has 2,628 overall grades "10" that were misread "1"s; its mend is a rule here: an overall grade of
    10 stands where the mean of the aspects is above 4, is a 1 where that is 2 or lower, and in between the judge is
    asked once more. scores: the mean of the aspects, or the overall grade; critiques: the critiques; in
    meta["completions"] one {model, principle, custom_system_prompt, annotations, fine_grained_score, overall_score} for
    each answer.

    A prompt is left out whole where an answer or a rating of it cannot be used.

    Options:
        judge: model that rates; without it the one that answers (a mixture rates as a mixture)
        completions: answers a prompt
        score: what `scores` are, the mean of the four aspects or the overall grade
        max_tokens: longest answer
        judge_tokens: longest reply of the judge
        temperature: sampling temperature of the answers; the judge is greedy
        seed: seed of the draws and answers
    """
    rater = model_of(judge, model)
    greedy = Sampling(max_tokens=judge_tokens, seed=seed)

    async def one(prompt: Prompt) -> Group:
        draw = random.Random(f"ultrafeedback {seed} {prompt.id}")
        plans = _plans(members(model), completions, draw)
        question = prompt.messages[-1].content

        async def answer(k: int, who: Model, wording: str) -> tuple[str, str]:
            asked = PROMPTS("answer", principle=wording, messages=prompt.messages)
            sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed + k)
            reply = await sound(who, asked, sampling, of=question)
            return reply.text.strip(), reply.model or who.name

        answers = await together(answer(k, who, wording) for k, (who, _, wording) in enumerate(plans))
        responses = [text for text, _ in answers]
        found = await together(_aspect(rater, name, question, responses, greedy) for name in ASPECTS)
        overall = await together(_overall(rater, question, text, greedy) for text in responses)
        told: list[dict[str, Any]] = []
        for k, (_, principle, wording) in enumerate(plans):
            annotations = {name: ratings[k] for name, ratings in zip(ASPECTS, found, strict=True)}
            mean = sum(rating["rating"] for rating in annotations.values()) / len(ASPECTS)
            critique, grade_ = overall[k]
            mended = mend(grade_, mean)
            if mended is None:
                again = Sampling(max_tokens=judge_tokens, temperature=1.0, seed=seed + 1)
                critique, mended = await _overall(rater, question, responses[k], again)
            told.append(
                {
                    "model": answers[k][1],
                    "principle": principle,
                    "custom_system_prompt": wording,
                    "annotations": annotations,
                    "fine_grained_score": mean,
                    "overall_score": mended,
                    "critique": critique,
                }
            )
        return Group(
            list(prompt.messages),
            responses,
            scores=[each_["fine_grained_score" if score == "fine-grained" else "overall_score"] for each_ in told],
            critiques=[each_.pop("critique") for each_ in told],
            origin=Origin("ultrafeedback", PAPER, rater.name, (prompt.id,), seed, PROMPTS.version("aspect")),
            meta={**prompt.meta, "completions": told},
        )

    return each(records, one, label=f"answers and ratings · {model.name}")


def mend(overall: float, fine_grained: float) -> float | None:
    """Return the overall grade as it should be, None where the judge has to be asked again.

    10 is doubtful, for "1" was misread as it: it stands above a mean of 4 and is a 1 up to a mean of 2.
    """
    if overall != 10:
        return overall
    if fine_grained <= 2:
        return 1.0
    return 10.0 if fine_grained > 4 else None


def ratings(text: str, count: int) -> list[dict[str, Any]]:
    """Return {rating, rationale} of each of `count` answers; raise SetAside unless each has one line."""
    found = {int(n): {"rating": int(rating), "rationale": why.strip()} for n, rating, why in _LINE.findall(text)}
    if sorted(found) != list(range(1, count + 1)) or len(_LINE.findall(text)) != count:
        raise SetAside(f"The judge's reply does not rate {count} answers on a line each.", "no rating")
    return [found[n] for n in range(1, count + 1)]


def _plans(models: list[Model], count: int, draw: random.Random) -> list[tuple[Model, str, str]]:
    """Draw who answers, by which principle and in which wording."""
    chosen: list[Model] = []
    while len(chosen) < count:
        chosen += draw.sample(models, min(len(models), count - len(chosen)))
    names = [draw.choice(list(PRINCIPLES)) for _ in chosen]
    return [(who, name, draw.choice(PRINCIPLES[name])) for who, name in zip(chosen, names, strict=True)]


async def _aspect(
    rater: Model, name: str, question: str, responses: list[str], sampling: Sampling
) -> list[dict[str, Any]]:
    asked = PROMPTS("aspect", question=question, responses=responses, aspect=name, meaning=ASPECTS[name])
    return ratings((await sound(rater, asked, sampling)).text, len(responses))


async def _overall(rater: Model, question: str, response: str, sampling: Sampling) -> tuple[str, float]:
    asked = PROMPTS("overall", question=question, response=response, history="", reference="")
    text = (await sound(rater, asked, sampling)).text
    return text.strip(), grade(text, 1, 10)
