"""The verbs whose flags are the methods' own options: data, train, eval, and pretrain.

They are made from the catalogue, and only when one of them is called: the catalogue imports torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from kilter.cli import asking, flags, measured
from kilter.cli.verbs import EXAMPLES, emit, epilog, interruptible, progress
from kilter.files import due

PANEL = "One step at a time"
ABOUT = {
    "data": ("data", "Make or manage data by one method.", ["kilter data world-demonstrations --n 50 --out d.jsonl"]),
    "train": (
        "training",
        "Train a model by one method.",
        ["kilter train sft --model kilter/nano --data d.jsonl --out models/sft", "kilter train dpo --help"],
    ),
    "eval": (
        "evaluation",
        "Measure a model by one suite; rate models by stored judgements; compare two results.",
        ["kilter eval world --model kilter/nano --out nano.json", *measured.EXAMPLES],
    ),
}
PRETRAIN = "Make the bundled base model anew from a seed, from nothing."
PRETRAIN_EXAMPLES = ["kilter pretrain --out models/nano --seed 0"]
EXAMPLES.update({name: examples for name, (_, _, examples) in ABOUT.items()})
EXAMPLES["pretrain"] = PRETRAIN_EXAMPLES

_json = flags.fixed("as_json", bool, "Print JSON.", default=False, flag="--json")
_overwrite = flags.fixed(
    "overwrite", bool, "Replace a model or another run that the folder holds.", default=False, flag="--overwrite"
)
_records = flags.fixed(
    "records", str | None, "Records that the method reads: a file, folder or hub id.", default=None, metavar="FILE"
)


def enter(app: typer.Typer, name: str, rest: list[str] | None) -> None:
    """Enter the verb `name`; `rest` are the words after it, or None where another verb was called."""
    if name == "pretrain":
        _enter_pretrain(app, called=rest is not None)
        return
    wing, about, examples = ABOUT[name]
    group = typer.Typer(help=about)
    app.add_typer(group, name=name, rich_help_panel=PANEL, epilog=epilog(examples))

    if name == "eval":
        measured.enter(group)
    else:

        @group.callback(invoke_without_command=True)
        def listing(context: typer.Context) -> None:
            if context.invoked_subcommand is None:
                print(context.get_help())

    if rest is None or (name == "eval" and any(word.split("=")[0] in measured.WITHOUT_A_SUITE for word in rest)):
        return
    from kilter import registry

    called = next((word for word in rest if not word.startswith("-")), None)
    if called is not None:
        _enter_method(group, name, called, registry.find(called, wing))
        return
    for method in registry.methods(wing):
        group.command(method.id, short_help=method.summary)(lambda: None)


def _enter_method(group: typer.Typer, verb: str, word: str, method: Any) -> None:
    """Enter the one method that is called, under the word it was called by (its id or an alias)."""
    from kilter.cli.pages import example
    from kilter.recipe.options import required, told

    model = flags.fixed("model", str, "A folder, hub id, server URL or kilter/nano.", metavar="M")
    out = flags.fixed("out", Path, "The file to write.", metavar="FILE")
    if verb == "train":
        data = flags.fixed("data", str, "Records to learn from: a file, folder or hub id.", metavar="FILE")
        folder = flags.fixed("out", Path, "The folder of the trained model.", metavar="DIR")
        own = [model, data, folder, _overwrite, _json]
    else:
        need = required(method)
        own = [model] if "model" in method.inputs else []
        if "records" in method.inputs:
            own.append(
                flags.fixed("records", str, "The records it reads.", metavar="FILE") if "records" in need else _records
            )
        own += [out, *asking.parameters(method, verb), _json]
    if "model" in method.inputs and verb != "train" and "model" not in required(method):
        own[0] = flags.fixed(
            "model", str | None, "A folder, hub id, server URL or kilter/nano.", default=None, metavar="M"
        )

    def call(given: dict[str, Any], options: dict[str, Any]) -> None:
        CALLS[verb](method, given, options)

    function = interruptible(flags.command(own, told(method), call), resumes=verb == "train")
    group.command(word, help=method.summary, epilog=epilog([example(method)]))(function)


def _data(method: Any, given: dict[str, Any], options: dict[str, Any]) -> None:
    from kilter import formats
    from kilter.notes import tell
    from kilter.recipe import making

    desk = asking.desk(given, due(given["out"]), local=True)
    inputs = {name: given.get(name) for name in ("model", "records", "prompts")}
    if desk.dry:
        found = asking.rehearsed(making.rehearse(method, options, desk=desk, **inputs), desk.price)
        emit(found) if given["as_json"] else asking.show(found)
        return
    rejects = formats.rejects_beside(given["out"])
    made = making.make_file(method, options, out=given["out"], rejects=rejects, desk=desk, **inputs)
    tell([*made.notes, *made.lost, *desk.sentences()])
    if given["as_json"]:
        told = {name: getattr(made, name) for name in ("records", "read", "aside", "unread", "account", "lost")}
        emit({"out": str(given["out"]), **told})
    else:
        print(f"{made.records:,} records: {given['out']}")


def _train(method: Any, given: dict[str, Any], options: dict[str, Any]) -> None:
    from kilter.notes import speaks
    from kilter.recipe import api
    from kilter.recipe.account import Account
    from kilter.recipe.run import duration

    account = Account()
    named = {name: given[name] for name in ("model", "data", "out", "overwrite")}
    done = api.train(method.id, **named, **options)
    cost = account.close(done.tokens)
    if not speaks():
        return
    if given["as_json"]:
        emit({"out": str(given["out"]), "steps": done.steps, "kept": done.kept, "notes": done.notes, **cost})
    elif done.kept:
        print(f"This very run is finished, nothing was trained: {given['out']}")
    else:
        steps = "1 step" if done.steps == 1 else f"{done.steps:,} steps"
        print(f"{steps}, {done.tokens:,} tokens, {duration(cost['seconds'])}: {given['out']}")


def _eval(method: Any, given: dict[str, Any], options: dict[str, Any]) -> None:
    from kilter import formats
    from kilter.evaluation import result
    from kilter.notes import tell
    from kilter.recipe import api

    rejects = formats.rejects_beside(due(given["out"]))
    # Suites that can ask in plain text are long: what a model on this machine said is kept as well.
    desk = asking.desk(given, given["out"], local="chat" in method.options)
    inputs = {name: given.get(name) for name in ("model", "records")}
    found = api.evaluate(method.id, rejects=rejects, journal=desk, **inputs, **options)
    result.write(found, given["out"])
    tell([*found.notes, *desk.sentences()])
    if given["as_json"]:
        results = {name: m.to_json() for name, m in found.measures.items()}
        emit({"model": found.model, "results": results, "notes": found.notes})
        return
    width = max(len(name) for name in found.measures)
    last = ""
    for name, m in found.measures.items():
        group = result.group_of(name)
        if group == result.JUDGE != last:
            print("The judge, whatever the answers are worth (biases are gaps from -1 to 1, 0 is none):")
        last = group
        print(f"{name:<{width}}  {m.value:7.3f}  [{m.low:.3f}, {m.high:.3f}]  n={m.n}")
    progress(False)(f"Samples: {given['out']}")


CALLS = {"data": _data, "train": _train, "eval": _eval}


def _enter_pretrain(app: typer.Typer, called: bool) -> None:
    settings: dict[str, Any] = {"rich_help_panel": PANEL, "help": PRETRAIN, "epilog": epilog(PRETRAIN_EXAMPLES)}
    if not called:
        app.command("pretrain", **settings)(lambda: None)
        return
    from kilter.recipe.card import pretrain_with_card
    from kilter.recipe.options import told
    from kilter.registry import Method
    from kilter.training.pretrain import pretrain

    # Not a method of the catalogue, but documented and checked like one.
    like = Method("pretrain", "data", pretrain, None, None, ())
    out = flags.fixed("out", Path, "The folder of the new model.", metavar="DIR")

    def call(given: dict[str, Any], options: dict[str, Any]) -> None:
        card = pretrain_with_card(given["out"], overwrite=given["overwrite"], **like.check(options))
        if given["as_json"]:
            emit({"out": str(given["out"]), "card": str(card)})
        else:
            print(f"A new base model: {given['out']}; its card: {card}")

    app.command("pretrain", **settings)(
        interruptible(flags.command([out, _overwrite, _json], told(like), call), resumes=True)
    )
