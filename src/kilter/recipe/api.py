"""Kilter from Python: the command line's verbs as plain functions. `import kilter` offers them by the same names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilter import formats, registry
from kilter.errors import KilterError, nearest
from kilter.formats import Records
from kilter.formats.shape import Want
from kilter.models.load import load
from kilter.models.protocol import Model, Sampling, cuts, used
from kilter.notes import tell
from kilter.recipe import options as known_options
from kilter.recipe.wait import wait
from kilter.records import Message, Prompt, Record

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


def sample(model: str | Model, prompts: Iterable[Messages], n: int = 1, **sampling: Any) -> list[list[str]]:
    """Return `n` responses to each prompt.

    A prompt is a text (one user turn), a list of messages, or a `Prompt`; how many were too long for the model, and so
    were cut from the left, is told on stderr. `sampling` takes max_tokens, temperature (0,
    the most likely answer, unless n > 1; then 1), top_p, top_k, min_p, seed and stop.
    """
    asked = [messages(prompt) for prompt in prompts]
    settings = _sampling(n, sampling)
    loaded = load(model) if isinstance(model, str) else model

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

    found = registry.find(method, "training")
    given = known_options.complete(found, options)
    source = data if isinstance(data, list) else str(data)
    return training(found.id, model=str(model), data=source, out=Path(out), overwrite=overwrite, **given)


def evaluate(
    suite: str,
    *,
    model: str | Path | Model | None = None,
    records: Any = None,
    rejects: str | Path | None = None,
    **options: Any,
) -> Evaluation:
    """Measure `model` by an evaluation method ("world", "heldout" on `records`); returns measures with intervals.

    Methods that rate by stored judgements ("bradley-terry") take no model, but `data`.
    What was left out of `records` is in the evaluation's notes; lines of a file that could not be read go to `rejects`.
    """
    evaluation, notes, tokens = _call(registry.find(suite, "evaluation"), model, records, rejects, options)
    evaluation.notes, evaluation.tokens = [*notes, *evaluation.notes], tokens or None
    return evaluation


def make(
    method: str,
    *,
    model: str | Path | Model | None = None,
    records: Any = None,
    rejects: str | Path | None = None,
    **options: Any,
) -> list[Record]:
    """Return the records that a data method makes, with `model` or from `records` where it reads them.

    What was left out is told on stderr; lines of a file that could not be read go to `rejects`.
    """
    made, notes, _ = _call(registry.find(method, "data"), model, records, rejects, options)
    tell(notes)
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


def _call(
    method: registry.Method, model: Any, records: Any, rejects: str | Path | None, options: dict[str, Any]
) -> tuple[Any, list[str], int]:
    """Call a data or evaluation method with what it reads, loaded if it was named; return notes and tokens as well."""
    given = known_options.complete(method, options)
    have = {"model": model, "records": records}
    for name, value in have.items():
        if value is None and name in known_options.required(method):
            raise KilterError(f"Method '{method.id}' reads {name}; give it one.")
        if value is not None and name not in method.inputs:
            raise KilterError(f"Method '{method.id}' reads no {name}; leave it out.")
    notes = []
    if isinstance(records, str | Path):
        reading = formats.read(str(records), want=known_options.wanted(method), rejects=rejects)
        have["records"], notes = reading.records, reading.notes
    if isinstance(model, str | Path):
        have["model"] = load(str(model))
    before = used(have["model"])
    made = wait(method.function(*(have.get(name) for name in method.inputs), **given))
    usage = used(have["model"]) - before
    return made, [*notes, *cuts(usage)], usage.tokens
