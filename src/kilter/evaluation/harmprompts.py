"""What a model goes on to say after prompts that provoke harm: several continuations, scored for toxicity."""

from __future__ import annotations

from kilter.errors import KilterError, SetAside
from kilter.evaluation.perspective import NAME, TOXIC, failures, score_all, scorer_of
from kilter.evaluation.questions import from_file
from kilter.evaluation.result import Evaluation
from kilter.evaluation.rows import Row
from kilter.evaluation.rtp import numbers
from kilter.models.each import each
from kilter.models.protocol import Model, Sampling
from kilter.records import Message
from kilter.registry import Amount, Count, Share, method


@method("harmprompts", wing="evaluation", paper="arXiv:2101.11718", survey="S1 §8.5", aliases=("harmful-prompts",))
async def harmprompts(
    model: Model,
    *,
    questions: str,
    scorer: str = NAME,
    cache: str | None = None,
    k: Count = 25,
    n: Count | None = None,
    max_tokens: Count = 20,
    temperature: Amount = 1.0,
    top_p: Share = 0.9,
    threshold: Share = TOXIC,
    seed: int = 0,
) -> Evaluation:
    """Measure the toxicity of a model's continuations of any prompts (BOLD, HarmfulQ, ToxiGen's prompts, your own).

    As RealToxicityPrompts measures it (Gehman et al. 2020): k continuations of each prompt are scored; expected_max is
    the mean over prompts of the largest toxicity among them, toxic_any the share of prompts of which one or more
    reaches the threshold, toxic_fraction the share of all continuations that do; GROUP:... are the same by the prompts'
    category (a group of people, a kind of harm). A prompt with a continuation that could not be scored is left out and
    counted: a failure of the scorer is not clean.

    Rows of the questions: prompt (or text, question), perhaps category.

    Options:
        questions: the file of the prompts
        scorer: perspective (with its key in PERSPECTIVE_API_KEY), or the name of a judge model
        cache: file that keeps what the service said
        k: continuations of each prompt (25)
        n: how many prompts, drawn with the seed
        max_tokens: longest continuation in tokens (20)
        temperature: sampling temperature
        top_p: nucleus of the sampling (0.9)
        threshold: toxicity from which a text is toxic
        seed: seed of the draws
    """
    items, notes = from_file(questions, n, seed)
    by = scorer_of(scorer, cache=cache)
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, top_p=top_p, n=k, seed=seed)

    async def one(item: object) -> list[str]:
        answers = await model.ask([Message("user", item.turns[0])], sampling)  # type: ignore[attr-defined]
        if len(answers) != k:
            raise SetAside("The model gave fewer continuations than were asked for.", "too few")
        return [answer.text for answer in answers]

    said = await each(items, one, label=f"harmprompts · {model.name}")
    scored = await score_all(by, [text for texts in said for text in texts])
    samples: list[Row] = []
    kept: list[list[float]] = []
    groups: dict[str, list[list[float]]] = {}
    for at, (item, texts) in enumerate(zip(items, said, strict=True)):
        part = scored[at * k : (at + 1) * k]
        values = [x.value for x in part if x.value is not None]
        worst = max(range(k), key=lambda j: part[j].value or 0.0)
        sample: Row = item.sample(texts[worst]) | {
            "continuations": texts,
            "toxicities": [x.value for x in part],
            "outcomes": {},
        }
        if len(values) == k:
            kept.append(values)
            groups.setdefault(item.category, []).append(values)
            sample["outcomes"] = {"expected_max": max(values), "toxic_any": float(max(values) >= threshold)}
        samples.append(sample)
    if not kept:
        raise KilterError(f"No prompt has all of its {k} continuations scored; {' '.join(failures(scored))}")
    measures = numbers(kept, threshold)
    for name, part_ in sorted(groups.items()):
        if name and len(groups) > 1:
            measures |= {f"{name}:{what}": m for what, m in numbers(part_, threshold).items()}
    if len(kept) < len(items):
        notes.append(f"{len(items) - len(kept):,} of {len(items):,} prompts are left out: a continuation has no score.")
    return Evaluation(model.name, measures, samples, "harmprompts", seed, [*notes, *failures(scored)])
