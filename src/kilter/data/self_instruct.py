"""Instructions, inputs and outputs that a model writes from a few seeds."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from kilter.data.drafts import Batch, fault, grow, seeds_of, settled, sound, task, tidied, together
from kilter.data.novelty import Novel
from kilter.data.sieve import said
from kilter.errors import SetAside
from kilter.models.each import each
from kilter.models.protocol import Answer, Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Origin
from kilter.registry import Amount, Count, Whole, method

PAPER = "arXiv:2212.10560"
PROMPTS = Prompts(__file__)
_NUMBER = re.compile(r"^\s*(\d{1,4})\s*[.．、)）]\s*", re.MULTILINE)
_PART = re.compile(r"^[ \t]*(?:example\s*\d*|示例\s*\d*)[ \t]*[.:：]?[ \t]*$", re.MULTILINE | re.IGNORECASE)
_LABEL = re.compile(r"^[ \t]*class label[ \t]*[:：]", re.MULTILINE | re.IGNORECASE)
_FIELD = re.compile(r"^[ \t]*(input|output)[ \t]*[:：][ \t]*", re.MULTILINE | re.IGNORECASE)
Instance = tuple[str, str]


@method("self-instruct", wing="data", paper=PAPER, survey="S1 §4.2, S2 §2.2")
async def self_instruct(
    model: Model,
    records: list[Demonstration],
    *,
    n: Count = 52_000,
    examples: Count = 8,
    own_examples: Whole = 2,
    novelty: Annotated[float, Field(gt=0, le=1)] = 0.7,
    instances: Count = 5,
    temperature: Amount = 0.7,
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.5,
    max_tokens: Count = 1024,
    instance_tokens: Count = 350,
    seed: int = 0,
) -> list[Demonstration]:
    """Let a model write tasks like the seeds, and do them (Wang et al. 2022).

    1. Instructions: the model reads `examples` of them in a row (`own_examples` of its own, the rest seeds) and goes on
       with as many more. One is kept if it passes the filters (drafts.py: length, nothing beyond text, no program,
       first character) and has a ROUGE-L F of at most `novelty` with every one before it, seeds included.
    2. Is it a classification? Yes or no, greedily.
    3. Instances, greedily: of a classification the labels first and then an input for each, else inputs and then what
       answers them; at most `instances` of a task. An output that was cut off is left out.
    4. An instance is dropped whose output is empty or repeats its input, whose input or output ends with a colon, and
       all of those that answer one input differently.

    Every reply is asked for in requests of eight at a time, which see the instructions of the rounds before. Not used
    of the original: the presence penalty, which not every server has, and the random choice among templates of step 5,
    for which a chat template stands here. meta: input, is_classification. The paper has 175 seeds, 52,445 instructions
    and 82,439 instances of davinci.

    Options:
        n: instructions that are wanted
        examples: instructions that the model reads in one request
        own_examples: how many of them are its own, once there are so many
        novelty: highest ROUGE-L F with an earlier instruction
        instances: most instances of one instruction
        temperature: of the instructions; all else is greedy
        top_p: of the instructions
        max_tokens: longest list of instructions
        instance_tokens: longest reply with instances
        seed: seed of the draws and of the model's samples
    """
    seeds = seeds_of(records)
    told = [said(record, "instruction") for record in seeds]
    by_text = {text: record.id for text, record in zip(told, seeds, strict=True)}
    pool = Novel(novelty)
    pool.add(told)
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, top_p=top_p)

    async def request(k: int, made: Sequence[tuple[str, tuple[str, ...]]]) -> Batch[tuple[str, tuple[str, ...]]]:
        draw = random.Random(f"self-instruct {seed} {k}")
        own = [text for text, _ in draw.sample(list(made), min(own_examples, len(made)))]
        shown = own + draw.sample(told, min(examples - len(own), len(told)))
        draw.shuffle(shown)
        asked = PROMPTS("instructions", examples=shown, count=len(shown), start=len(shown) + 1)
        drawn = replace(sampling, seed=seed * 1_000_003 + k)
        answer = await sound(model, asked, drawn, of=together(shown), cut=True)
        parents = tuple(by_text[text] for text in shown if text in by_text)
        return written(answer, parents)

    made = await grow(request, lambda item: item[0], n=n, pool=pool, label=f"instructions · {model.name}")

    async def one(item: tuple[str, tuple[str, ...]]) -> Batch[Demonstration]:
        instruction, parents = item
        greedy = Sampling(max_tokens=8)
        asked = PROMPTS("classify", instruction=instruction)
        is_class = verdict((await sound(model, asked, greedy, cut=True)).text)
        asked = PROMPTS("output_first" if is_class else "input_first", instruction=instruction, count=instances)
        answer = await sound(model, asked, Sampling(max_tokens=instance_tokens), cut=True)
        found = labelled(answer) if is_class else answered_inputs(answer)
        kept = sifted(instruction, found, instances, random.Random(f"instances {seed} {instruction}"))
        origin = Origin("self-instruct", PAPER, answer.model, parents, seed, asked.version)
        batch: Batch[Demonstration] = Batch(dropped=kept.dropped)
        batch.items = [task(instruction, *pair, origin, is_classification=is_class) for pair in kept.items]
        return batch

    return settled(await each(made, one, label=f"instances · {model.name}"))


def written(answer: Answer, parents: tuple[str, ...] = ()) -> Batch[tuple[str, tuple[str, ...]]]:
    """Return the instructions of a numbered list; the last one is left out where the list was cut off.

    Raises SetAside where there is no list.
    """
    parts = _NUMBER.split("\n" + answer.text)[2::2]
    if not parts:
        raise SetAside("The reply holds no numbered list of instructions.", "no list")
    batch: Batch[tuple[str, tuple[str, ...]]] = Batch()
    for k, part in enumerate(parts):
        text = tidied(part)
        wrong = fault(text) if text else ("empty", "There is nothing after the number.")
        if k == len(parts) - 1 and answer.finish_reason == "length":
            wrong = ("cut off", "The list was cut off here.")
        if wrong:
            batch.drop(text, *wrong)
        else:
            batch.items.append((text, parents))
    return batch


def verdict(reply: str) -> bool:
    """Return whether a reply says yes; raise SetAside where it says neither yes nor no."""
    found = re.match(r"\W*(yes|no|是|否|不是)(?![a-z])", reply.strip(), re.IGNORECASE)
    if not found:
        raise SetAside(f"The reply says neither yes nor no: {reply.strip()[:40]!r}.", "no verdict")
    return found[1].lower() in ("yes", "是")


def labelled(answer: Answer) -> list[Instance]:
    """Return (input, label) of a reply in which each label comes before its input."""
    parts = _LABEL.split(answer.text)[1:]
    if answer.finish_reason == "length":
        parts = parts[:-1]
    found = []
    for part in parts:
        label, _, given = part.strip().partition("\n")
        found.append((_FIELD.sub("", given.strip(), count=1).strip(), label.strip()))
    if not found:
        raise SetAside("The reply holds no class label with an input.", "no instance")
    return found


def answered_inputs(answer: Answer) -> list[Instance]:
    """Return (input, output) of a reply of examples, or of one output alone."""
    parts = [part for part in _PART.split(answer.text) if part.strip()]
    if answer.finish_reason == "length":
        parts = parts[:-1]
    found = []
    for part in parts:
        fields = _FIELD.split("\n" + part)
        values = dict(
            zip([name.lower() for name in fields[1::2]], [text.strip() for text in fields[2::2]], strict=True)
        )
        if "output" in values:
            given = values.get("input", "")
            found.append(
                ("" if re.fullmatch(r"<?no ?input>?|none|n/a|无", given, re.IGNORECASE) else given, values["output"])
            )
    if not found:
        raise SetAside("The reply holds no example with an output.", "no instance")
    return found


def sifted(instruction: str, found: Sequence[Instance], most: int, draw: random.Random) -> Batch[Instance]:
    """Return the instances that pass the fourth step's rules, at most `most` of them by chance."""
    batch: Batch[Instance] = Batch()
    outputs: dict[str, set[str]] = {}
    for given, output in found:
        outputs.setdefault(given, set()).add(output)
    seen: Counter[Instance] = Counter()
    for given, output in found:
        item = {"instruction": instruction, "input": given, "output": output}
        seen[given, output] += 1
        if not output:
            batch.drop(item, "empty output", "The instance has no output.")
        elif output == given:
            batch.drop(item, "output is input", "The output repeats the input.")
        elif given.endswith((":", "：")) or output.endswith((":", "：")):
            batch.drop(item, "ends with a colon", "The instance ends where something should follow.")
        elif len(outputs[given]) > 1:
            batch.drop(item, "conflicting outputs", "Another instance answers the same input differently.")
        elif seen[given, output] > 1:
            batch.drop(item, "repeated instance", "The same instance comes before it.")
        else:
            batch.items.append((given, output))
    if len(batch.items) > most:
        chosen = set(draw.sample(range(len(batch.items)), most))
        for k, (given, output) in enumerate(batch.items):
            if k not in chosen:
                item = {"instruction": instruction, "input": given, "output": output}
                batch.drop(item, "over the most", f"A task has {most} instances at most.")
        batch.items = [pair for k, pair in enumerate(batch.items) if k in chosen]
    return batch
