"""Asking a model: sample many answers to a file of prompts, chat with it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kilter.cli.verbs import emit, verb
from kilter.errors import KilterError

if TYPE_CHECKING:
    from kilter.records import Group, Message, Prompt, Record

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
        asked = _prompts(prompts, prompt, out)
        given: dict[str, Any] = {"top_p": top_p, "max_tokens": max_tokens, "seed": seed}
        if temperature is not None:
            given["temperature"] = temperature
        from kilter import formats
        from kilter.recipe import api

        answers = api.sample(model, asked, n, **given)
        groups = [_group(p, texts, model, seed) for p, texts in zip(asked, answers, strict=True)]
        if out is not None:
            formats.write(groups, out)
        if as_json:
            emit([{"prompt": [m.to_json() for m in g.prompt], "responses": g.responses} for g in groups])
        elif out is not None:
            print(f"{len(groups):,} prompts, {n} answer{'' if n == 1 else 's'} each: {out}")
        else:
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


def _prompts(path: str | None, given: list[str] | None, out: Path | None) -> list[Prompt]:
    from kilter import formats
    from kilter.recipe import api
    from kilter.records import Message, Prompt

    if (path is None) == (not given):
        raise KilterError("Give the prompts as a file with --prompts FILE, or one by one with --prompt TEXT.")
    if path is None:
        return [Prompt([Message("user", text)]) for text in given or []]
    rejects = formats.rejects_beside(out) if out else None
    return [_as_prompt(record) for record in api.read(path, want="prompts", rejects=rejects)]


def _as_prompt(record: Record) -> Prompt:
    from kilter.records import Prompt

    assert isinstance(record, Prompt)  # what want="prompts" asked for
    return record


def _group(prompt: Prompt, responses: list[str], model: str, seed: int) -> Group:
    from kilter.records import Group, Origin

    origin = Origin("sample", None, model, (prompt.id,), seed)
    return Group(prompt.messages, responses, origin=origin, meta=prompt.meta)


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
