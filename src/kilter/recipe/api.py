"""Kilter from Python: the command line's verbs as plain functions. `import kilter` offers them by the same names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilter import formats, registry
from kilter.errors import KilterError, nearest
from kilter.formats import Records
from kilter.formats.shape import Want
from kilter.models.desk import Desk, attended
from kilter.models.each import pulled
from kilter.models.load import load
from kilter.models.protocol import Model, Sampling, cuts, used
from kilter.notes import tell
from kilter.prompts import overriding
from kilter.recipe.calling import call
from kilter.recipe.making import check_prompts
from kilter.recipe.wait import wait
from kilter.records import Message, Prompt, Record
from kilter.store.rejects import Rejects

if TYPE_CHECKING:
    from kilter.evaluation.result import Evaluation
    from kilter.models.rewarder import Rewarder
    from kilter.training.run import TrainResult

Messages = str | Prompt | Sequence[Message | Mapping[str, str]]


def read(path: str | Path, *, want: Want | None = None, rejects: str | Path | None = None) -> Records:
    """Return the records of a file, folder or hub id in any shape that Kilter knows (`kilter convert --help`).

    The list that comes back has `notes` too: sentences on what could not be read or was left out, which are also told
    on stderr. With `want` ("demonstrations", "groups", "prompts") every record is of that kind, as far as it can be
    made so. Lines that cannot be read are kept in the file `rejects`, where one is named, with number and reason.
    """
    found = Records(formats.read(str(path), want=want, rejects=rejects))
    tell(found.notes)
    return found


def sample(
    model: str | Model, prompts: Iterable[Messages], n: int = 1, *, journal: str | Path | None = None, **sampling: Any
) -> list[list[str]]:
    """Return `n` responses to each prompt.

    A prompt is a text (one user turn), a list of messages, or a `Prompt`; how many were too long for the model, and so
    were cut from the left, is told on stderr. `sampling` takes max_tokens, temperature (0, the most likely answer,
    unless n > 1; then 1), top_p, top_k, min_p, seed and stop. In the file `journal` a server's answers are kept, so
    that the same call asks none of them again.
    """
    asked = [messages(prompt) for prompt in prompts]
    settings = _sampling(n, sampling)
    with Desk(journal):
        loaded = load(model) if isinstance(model, str) else attended(model)

        async def one(prompt: list[Message]) -> list[str]:
            return [answer.text for answer in await loaded.ask(prompt, settings)]

        before = used(loaded)
        answers = wait(_each(asked, one, "sampling"))
        tell(cuts(used(loaded) - before))
    return answers


def score(model: str | Model, prompts: Iterable[Messages], responses: Iterable[str]) -> list[list[float]]:
    """Return the log-prob (nats) of each token of each response, given its prompt. They go in pairs."""
    pairs = _paired("score", prompts, responses)
    loaded = load(model) if isinstance(model, str) else model

    async def one(pair: tuple[list[Message], str]) -> list[float]:
        return await loaded.score(*pair)

    return wait(_each(pairs, one, "scoring"))


def reward(model: str | Rewarder, prompts: Iterable[Messages], responses: Iterable[str]) -> list[float]:
    """Return what a reward model says of each response, given its prompt; higher is better. They go in pairs."""
    from kilter.models.rewarder import Rewarder

    pairs = _paired("reward", prompts, responses)
    loaded = Rewarder(model) if isinstance(model, str) else model

    async def one(pair: tuple[list[Message], str]) -> float:
        return await loaded.reward(*pair)

    return wait(_each(pairs, one, "scoring"))


def train(
    method: str,
    *,
    model: str | Path,
    data: str | Path | list[Record],
    out: str | Path,
    overwrite: bool = False,
    **options: Any,
) -> TrainResult:
    """Train `model` (a name, folder or hub id) on `data` (a file, hub id or records) by `method`; write it to `out`.

    The options are those of `kilter show METHOD`. The folder written is an ordinary Hugging Face checkpoint. The same
    call continues what was interrupted and returns what is finished; anything else in `out` is replaced only with
    `overwrite`. What was left out of the data or cut is told on stderr and in the result's `notes`.
    """
    from kilter.training.run import train as training

    source = data if isinstance(data, list) else str(data)
    return training(method, model=str(model), data=source, out=Path(out), overwrite=overwrite, **options)


def evaluate(
    suite: str,
    *,
    model: str | Path | Model | None = None,
    records: Any = None,
    rejects: str | Path | None = None,
    journal: str | Path | Desk | None = None,
    **options: Any,
) -> Evaluation:
    """Measure `model` by an evaluation method ("world", "heldout" on `records`); returns measures with intervals.

    Methods that rate by stored judgements ("bradley-terry") take no model, but `data`.
    What was left out of `records` is in the evaluation's notes; it goes to the file `rejects`, with the prompts that
    could not be answered. In the file `journal` a server's answers are kept, so that an interrupted call goes on.
    """
    method = registry.find(suite, "evaluation")
    with journal if isinstance(journal, Desk) else Desk(journal), Rejects(rejects) as kept:
        begun = call(method, options, model=model, records=records, rejects=kept)
        evaluation = wait(begun.made())
    evaluation.notes = [*begun.notes(), *kept.sentences(), *evaluation.notes]
    evaluation.tokens = begun.usage.tokens or None
    return evaluation


def make(
    method: str,
    *,
    model: str | Path | Model | None = None,
    records: Any = None,
    rejects: str | Path | None = None,
    journal: str | Path | None = None,
    prompts: str | Path | None = None,
    **options: Any,
) -> list[Record]:
    """Return the records that a data method makes, with `model` or from `records` where it reads them.

    What was left out is told on stderr and goes to the file `rejects`. In the file `journal` answers are kept, so that
    the same call asks none of them again. Files in the folder `prompts` take the place of the method's own prompts.
    """
    found = registry.find(method, "data")
    check_prompts(found, prompts)
    with Desk(journal, local=True), Rejects(rejects) as kept, overriding(prompts):
        begun = call(found, options, model=model, records=records, rejects=kept)
        made = list(pulled(begun.made()))
    tell([*begun.notes(), *kept.sentences()])
    return made


def run(
    recipe: str | Path | Mapping[str, Any], *, set: Mapping[str, Any] | None = None, out: str | Path | None = None
) -> Path:
    """Run a recipe (a path, the name of one that ships, or its content); return the path of its report.html."""
    from kilter.recipe.run import run as whole

    return whole(recipe, set=set, out=out, command="kilter.run(...)")


def messages(prompt: Messages) -> list[Message]:
    """Return a prompt as messages, whichever way it was given."""
    if isinstance(prompt, str):
        return [Message("user", prompt)]
    if isinstance(prompt, Prompt):
        return prompt.messages
    return [m if isinstance(m, Message) else Message(m["role"], m["content"]) for m in prompt]


def _paired(name: str, prompts: Iterable[Messages], responses: Iterable[str]) -> list[tuple[list[Message], str]]:
    asked, given = [messages(prompt) for prompt in prompts], list(responses)
    if len(asked) != len(given):
        raise KilterError(
            f"{name}() was given {len(asked)} prompts and {len(given)} responses; give one response a prompt."
        )
    return list(zip(asked, given, strict=True))


def _sampling(n: int, given: dict[str, Any]) -> Sampling:
    if n > 1:
        given = {"temperature": 1.0, **given}
    if "stop" in given:
        given["stop"] = (given["stop"],) if isinstance(given["stop"], str) else tuple(given["stop"])
    known = Sampling.__dataclass_fields__
    for name in given:
        if name not in known:
            raise KilterError(
                f"Sampling has no '{name}'.{nearest(name, known) or ' Known are: ' + ', '.join(known) + '.'}"
            )
    return Sampling(n=n, **given)


async def _each(items: list[Any], one: Any, label: str) -> list[Any]:
    from kilter.models import drive

    return await drive.run(items, one, concurrency=512, label=label)
