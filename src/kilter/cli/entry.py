"""From the words of the command line to an exit code; whatever goes wrong on the way becomes one sentence.

0: done. 1: it did not work, the sentence on stderr says why. 2: the command was not understood. 130: Ctrl-C.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from kilter import allocator
from kilter.cli.verbs import Interrupted, verb_of
from kilter.errors import KilterError

PROGRAMS = ("kilter", "__main__")  # the script, and python -m
# Verbs that take longer than it takes to begin again; the doctor says what they find.
COMPUTING = {"run", "quickstart", "league", "data", "train", "eval", "pretrain", "sample", "chat", "score", "doctor"}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line (`sys.argv` where no arguments are given) and exit with its code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None and Path(sys.argv[0]).stem in PROGRAMS and verb_of(words) in COMPUTING:
        allocator.begin_again()
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"] or ["--help"]
    try:
        code = _run(words)
    except (Interrupted, KeyboardInterrupt) as stop:
        if debug:
            traceback.print_exc()
        print(f"\nkilter: {str(stop) or 'Stopped.'}", file=sys.stderr)
        code = 130
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(f"kilter: {sentence(error)}", file=sys.stderr)
        code = int(getattr(error, "exit_code", 1))
    sys.exit(code)


def _run(words: list[str]) -> int:
    from kilter.cli import app

    code = app.command(words).main(words, prog_name="kilter", standalone_mode=False)
    return code if isinstance(code, int) else 0


def sentence(error: Exception) -> str:
    """Return what to tell the user of `error`: its own words if they are for them, else what kind of thing happened."""
    if isinstance(error, KilterError):
        return str(error)
    if hasattr(error, "format_message"):  # of typer: a flag or an argument that is wrong
        context = getattr(error, "ctx", None)
        where = f" See `{context.command_path} --help`." if context else ""
        said = error.format_message()
        return said + ("" if said.endswith((".", "?")) else ".") + where
    text = " ".join(str(error).split())
    if isinstance(error, OSError):
        from kilter.files import explain

        try:
            explain(error, error.filename or "the output", "use" if error.filename else "write")
        except KilterError as explained:
            return str(explained)
    if "No space left" in text or "os error 28" in text:  # from safetensors and tokenizers, whose errors are their own
        return "The disk is full; free some space and give the same command again, nothing finished is lost."
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return (
            "The memory is used up; use a smaller model or fewer tokens a batch (`kilter doctor` says what there is)."
        )
    kind = type(error).__name__
    return f"Something unexpected happened ({kind}: {text[:300]}); give the command again with --debug to see where."
