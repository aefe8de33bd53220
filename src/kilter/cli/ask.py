"""Asking a model: sample many answers to a file of prompts, chat with it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kilter.cli.verbs import emit, verb
from kilter.errors import KilterError
from kilter.files import due

if TYPE_CHECKING:
    from kilter.records import Group, Message, Prompt

PANEL = "One step at a time"
Temperature = Annotated[float, typer.Option("--temperature", help="0 is the most likely answer.")]
MaxTokens = Annotated[int, typer.Option("--max-tokens", min=1, help="The longest answer, in tokens.")]


def enter(app: typer.Typer) -> None:
    @verb(
        app,
        "sample",
        panel=PANEL,
        examples=[
            "kilter sample --model kilter/nano --prompts d.jsonl --out answers.jsonl",
            'kilter sample --model kilter/nano --prompt "What is 2 + 3?"',
        ],
    )
    def sample(
        model: Annotated[
            str, typer.Option("--model", metavar="M", help="A folder, hub id, server URL or kilter/nano.")
        ],
        prompts: Annotated[
            str | None, typer.Option("--prompts", metavar="FILE", help="Prompts in any known shape.")
        ] = None,
        prompt: Annotated[list[str] | None, typer.Option("--prompt", help="A prompt itself; may be repeated.")] = None,
        out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write here; else print.")] = None,
        n: Annotated[int, typer.Option("--n", min=1, help="Answers a prompt.")] = 1,
        temperature: Annotated[
            float | None, typer.Option("--temperature", help="0 is the most likely answer (default: 0, or 1 if n > 1).")
        ] = None,
        top_p: Annotated[float, typer.Option("--top-p", help="Share of probability to draw from.")] = 1.0,
        max_tokens: MaxTokens = 64,
        seed: Annotated[int, typer.Option("--seed", help="Seed of the draw.")] = 0,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Sample answers to a file of prompts, or to prompts given here."""
        if (prompts is None) == (not prompt):
            raise KilterError("Give the prompts as a file with --prompts FILE, or one by one with --prompt TEXT.")
        if out is not None:
            due(out)
        given: dict[str, Any] = {"top_p": top_p, "max_tokens": max_tokens, "seed": seed}
        if temperature is not None:
            given["temperature"] = temperature
        if out is not None:
            count = _into(out, model, prompts, prompt, {"n": n, **given})
            if not as_json:
                print(f"{count:,} prompts, {n} answer{'' if n == 1 else 's'} each: {out}")
                return
        groups = _here(model, prompts, prompt, n, given) if out is None else _groups(out)
        if as_json:
            emit([{"prompt": [m.to_json() for m in g.prompt], "responses": g.responses} for g in groups])
            return
        for group in groups:
            print(f"> {group.prompt[-1].content}")
            print("\n".join(group.responses) + "\n")

    @verb(app, "chat", panel=PANEL, examples=["kilter chat kilter/nano"])
    def chat(
        model: Annotated[str, typer.Argument(metavar="M", help="A folder, hub id, server URL or kilter/nano.")],
        temperature: Temperature = 0.0,
        max_tokens: MaxTokens = 128,
        system: Annotated[str | None, typer.Option("--system", help="What the model is told before the talk.")] = None,
    ) -> None:
        """Talk with a model. /reset forgets the talk so far, /quit ends it."""
        _chat(model, temperature, max_tokens, system)


def _into(out: Path, model: str, path: str | None, texts: list[str] | None, given: dict[str, Any]) -> int:
    """Write the answers to `out`, as they come and over a journal; return to how many prompts."""
    from kilter import formats
    from kilter.cli import asking
    from kilter.notes import tell
    from kilter.recipe.making import make_file
    from kilter.recipe.sampling import SAMPLE

    desk = asking.desk({}, out, local=False)
    records = path if path is not None else _prompts(texts)
    rejects = formats.rejects_beside(out)
    made = make_file(SAMPLE, given, out=out, rejects=rejects, desk=desk, model=model, records=records)
    tell(made.notes)
    return made.records


def _groups(path: Path) -> list[Group]:
    from kilter import formats
    from kilter.records import Group

    return [record for record in formats.read(path).records if isinstance(record, Group)]


def _here(model: str, path: str | None, texts: list[str] | None, n: int, given: dict[str, Any]) -> list[Group]:
    """Return the answers, to be printed."""
    from kilter.recipe import api
    from kilter.records import Group, Prompt

    read = api.read(path, want="prompts") if path is not None else _prompts(texts)
    asked = [record for record in read if isinstance(record, Prompt)]
    answers = api.sample(model, asked, n, **given)
    return [Group(prompt.messages, texts) for prompt, texts in zip(asked, answers, strict=True)]


def _prompts(texts: list[str] | None) -> list[Prompt]:
    from kilter.records import Message, Prompt

    return [Prompt([Message("user", text)]) for text in texts or []]


def _chat(name: str, temperature: float, max_tokens: int, system: str | None) -> None:
    from kilter.models.load import load
    from kilter.models.protocol import Sampling, used
    from kilter.notes import tell
    from kilter.recipe.wait import wait
    from kilter.records import Message

    model, terminal = load(name), sys.stdin.isatty()
    start: list[Message] = [Message("system", system)] if system else []
    told = False
    talk = list(start)
    if terminal:
        print(f"Talking with {model.name}. /reset forgets the talk so far, /quit ends it.")
    while True:
        line = _line("> " if terminal else "")
        if line is None or line.strip() in ("/quit", "/exit"):
            return
        if line.strip() == "/reset":
            talk = list(start)
        elif line.strip().startswith("/"):
            print(f"There is no {line.split()[0]} here; /reset and /quit are all there is.", file=sys.stderr)
        elif line.strip():
            talk.append(Message("user", line))
            sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=len(talk))
            [answer] = wait(model.ask(talk, sampling))
            talk.append(Message("assistant", answer.text))
            print(answer.text, flush=True)
            if not told and used(model).cut:
                told = True
                tell(["The talk is longer than the model has positions for: its beginning is forgotten (/reset)."])


def _line(prompt: str) -> str | None:
    """The next line typed or piped in, or None at the end of them."""
    try:
        return input(prompt)
    except EOFError:
        return None
