"""Instructions out of code that is there: a varied core of it, written up by one model and checked by another."""

from __future__ import annotations

import random
import re

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kilter.data.drafts import sound
from kilter.data.replies import model_of, sections
from kilter.data.sieve import leave_out
from kilter.data.vectors import vectors
from kilter.errors import KilterError, SetAside, nearest
from kilter.models.each import each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, Whole, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2312.14187"
TASKS = {
    "generation": "a request to write code, and the code",
    "summarisation": "a request to say what given code does, and the summary",
    "translation": "a request to write given code in another programming language, and that code",
    "repair": "a request to find and mend a fault in given code, and the mended code with the reason",
}
_VERDICT = re.compile(r"verdict\W{0,6}(good|bad)\b", re.IGNORECASE)


@method("code-distill", wing="data", paper=PAPER, survey="S3 §imitation", aliases=("wavecoder",))
async def code_distill(
    model: Model,
    records: list[Prompt | Demonstration],
    *,
    core: Count = 1000,
    discriminator: str = "",
    tasks: str = ",".join(TASKS),
    batch: Count = 32,
    cases: Whole = 20,
    longest: Count = 8000,
    max_tokens: Count = 1024,
    temperature: Amount = 0.7,
    seed: int = 0,
) -> list[Demonstration]:
    """Code instructions by a generator and a discriminator (Yu et al. 2023, WaveCoder).

    1. Core: of all pieces of code (the records' last turns) `core` are taken by the greedy k-center rule on tf-idf
       vectors: each next one is the farthest from those taken, so that a few cover all,

           c_{j+1} = argmax_i min_{l <= j} ||v_i - v_{c_l}||.

       meta["radius"] is how far the farthest left one was when it was taken; it never grows.
    2. The generator makes an example of one of four tasks out of each piece, shown a good and a bad case.
    3. The discriminator reasons about it and says good or bad; with the same cases. Good ones come back; both kinds go
       into the cases that are shown from the next `batch` on (the latest `cases` of each).

    No code is run. meta: task, radius, code_id.

    Options:
        core: how many pieces of code are taken
        discriminator: model that judges; without it the generator does
        tasks: which of generation, summarisation, translation and repair, with commas
        batch: pieces between two changes of the cases
        cases: good and bad cases that are remembered
        longest: most characters of a piece of code
        max_tokens: longest example
        temperature: sampling temperature of the generator; the discriminator is greedy
        seed: seed of the draws and examples
    """
    wanted = _wanted(tasks)
    judge = model_of(discriminator, model)
    pieces = []
    for record in records:
        code = record.messages[-1].content if record.messages else ""
        if code.strip() and len(code) <= longest:
            pieces.append((record, code))
        else:
            leave_out(record, "length", f"It has {len(code):,} characters of code, not 1 to {longest:,}.")
    chosen, radii = k_center(vectors([code for _, code in pieces]), min(core, len(pieces)), seed)
    for i in sorted(set(range(len(pieces))) - set(chosen)):
        leave_out(pieces[i][0], "not in the core", "Pieces that were taken are near enough to it.")
    good: list[str] = []
    bad: list[str] = []
    found: list[Demonstration] = []

    async def one(item: tuple[int, int]) -> tuple[Demonstration, bool]:
        place, i = item
        record, code = pieces[i]
        draw = random.Random(f"code-distill {seed} {record.id}")
        task = draw.choice(wanted)
        shown = {"good": draw.choice(good) if good else "", "bad": draw.choice(bad) if bad else ""}
        asked = PROMPTS("generate", code=code, task=TASKS[task], **shown)
        reply = await sound(model, asked, Sampling(max_tokens, temperature, seed=seed))
        parts = sections(reply.text, ("Instruction", "Solution"))
        told = {"instruction": parts["Instruction"], "solution": parts["Solution"]}
        check = PROMPTS("discriminate", task=TASKS[task], **told, **shown)
        verdict = _VERDICT.findall((await sound(judge, check, Sampling(max_tokens, seed=seed))).text)
        if not verdict:
            raise SetAside("The discriminator says neither good nor bad.", "no verdict")
        origin = Origin("code-distill", PAPER, reply.model, (record.id,), seed, asked.version)
        meta = {"task": task, "radius": radii[place], "code_id": record.id}
        turns = [Message("user", parts["Instruction"]), Message("assistant", parts["Solution"])]
        return Demonstration(turns, origin=origin, meta=meta), verdict[-1].lower() == "good"

    for start in range(0, len(chosen), batch):
        items = list(enumerate(chosen))[start : start + batch]
        for record, passed in await each(items, one, label=f"examples · {model.name}"):
            case = f"Instruction: {record.messages[0].content}\nSolution: {record.messages[1].content}"
            (good if passed else bad).append(case)
            if passed:
                found.append(record)
            else:
                leave_out(record, "bad", "The discriminator found it bad.")
        good, bad = good[-cases:] if cases else [], bad[-cases:] if cases else []
    return found


def k_center(points: sparse.csr_matrix, k: int, seed: int = 0) -> tuple[list[int], list[float]]:
    """Return k rows of `points` [N, D], each the farthest from those before it, and how far it was (inf for the first).

    Rows are of length 1 or 0; distances are Euclidean, so that with the last radius r every row is within r of a taken
    one. The first is drawn by `seed`.
    """
    count = points.shape[0]
    if not count or not k:
        return [], []
    squares = np.asarray(points.multiply(points).sum(axis=1)).ravel()
    chosen = [random.Random(f"k-center {seed}").randrange(count)]
    radii = [float("inf")]
    nearest: NDArray[np.float64] = np.full(count, np.inf)
    while len(chosen) < k:
        last = chosen[-1]
        products = np.asarray((points @ points[last].T).todense()).ravel()
        nearest = np.minimum(nearest, np.sqrt(np.maximum(squares + squares[last] - 2 * products, 0)))
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
        radii.append(float(nearest[chosen[-1]]))
    return chosen, radii


def _wanted(tasks: str) -> list[str]:
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    unknown = [name for name in names if name not in TASKS]
    if unknown or not names:
        hint = nearest(unknown[0], TASKS) if unknown else ""
        raise KilterError(f"There is no task '{', '.join(unknown)}'; tasks are {', '.join(TASKS)}.{hint}")
    return names
