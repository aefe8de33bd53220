"""Programming problems inspired by pieces of real code."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

from kilter.data.drafts import sound
from kilter.data.replies import sections
from kilter.data.table import cell, rows
from kilter.errors import KilterError, SetAside
from kilter.files import explaining
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, identify
from kilter.registry import Amount, Count, Whole, method

PAPER = "arXiv:2312.02120"
PROMPTS = Prompts(__file__)
LANGUAGES = {
    ".py": "Python", ".js": "JavaScript", ".ts": "TypeScript", ".java": "Java", ".c": "C", ".h": "C", ".cpp": "C++",
    ".cc": "C++", ".go": "Go", ".rs": "Rust", ".rb": "Ruby", ".php": "PHP", ".cs": "C#", ".sh": "Shell",
    ".swift": "Swift",
}  # fmt: skip
LARGEST = 2**20  # bytes of a file that a person has written


@method("oss-instruct", wing="data", paper=PAPER, survey="S3", aliases=("magicoder",))
def oss_instruct(
    model: Model,
    *,
    code: str,
    n: Whole = 0,
    lines: Count = 15,
    benchmark: str = "",
    temperature: Amount = 0.0,
    max_tokens: Count = 2048,
    seed: int = 0,
) -> Each[Demonstration]:
    """Write problems and solutions inspired by pieces of open code (Magicoder, Wei et al. 2023).

    Of each file of code a random line and up to `lines` - 1 that follow it (1 to 15 in all) are shown as inspiration;
    the model writes two parts, [Problem] and [Solution]. A reply without both, or with the solution first, is left out,
    and so is one that has the prompt of a `benchmark` in it word for word (spaces apart). The original has 80,000 files
    and 75,000 problems of gpt-3.5-turbo at temperature 0. meta: seed_snippet, lang, file.

    Options:
        code: a folder of code, or a file of rows with the column content (and path)
        n: how many files are used, drawn by chance; 0 for all
        lines: most lines of one piece
        benchmark: a file of rows or lines of text (HumanEval) that must be in no problem and no solution
        temperature: of the model's samples
        max_tokens: longest reply
        seed: seed of the draws and of the model's samples
    """
    files = list(sources(code))
    if n and n < len(files):
        files = [files[i] for i in sorted(random.Random(f"oss-instruct {seed}").sample(range(len(files)), n))]
    banned = [squeezed(text) for text in benchmark_prompts(benchmark)]

    async def one(source: tuple[str, str, str]) -> Demonstration:
        path, language, text = source
        snippet = piece(text, lines, random.Random(f"oss-instruct {seed} {path}"))
        asked = PROMPTS("problem", snippet=snippet, language=language)
        answer = await sound(model, asked, Sampling(max_tokens, temperature, seed=seed))
        found = sections(answer.text, ["Problem", "Solution"], rule="two parts")
        for part in found.values():
            plain = squeezed(part)
            if any(text in plain for text in banned):
                raise SetAside("It holds a prompt of the benchmark.", "in benchmark")
        parent = identify("code", path, text)
        origin = Origin("oss-instruct", PAPER, answer.model, (parent,), seed, asked.version)
        messages = [Message("user", found["Problem"]), Message("assistant", found["Solution"])]
        meta = {"seed_snippet": snippet, "lang": language, "file": path}
        return Demonstration(messages, origin=origin, meta=meta)

    return each(files, one, label=f"problems · {model.name}")


def sources(code: str) -> Iterator[tuple[str, str, str]]:
    """Yield (path, language, text) of each file of code; raise KilterError where there is none."""
    root = Path(code)
    none = True
    if root.is_dir():
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() in LANGUAGES and path.is_file() and 0 < path.stat().st_size <= LARGEST:
                with explaining(path, "read"):
                    text = path.read_bytes().decode("utf-8", "replace")
                if text.strip():
                    none = False
                    yield str(path.relative_to(root)), LANGUAGES[path.suffix.lower()], text
    else:
        for place, row in rows(code):
            text = cell(row, "content", "code", "text")
            if text:
                none = False
                name = cell(row, "path", "file", "max_stars_repo_path") or place
                language = cell(row, "lang", "language") or LANGUAGES.get(Path(name).suffix.lower(), "code")
                yield name, language, text
    if none:
        raise KilterError(f"'{code}' holds no code; give a folder of source files, or rows with a column 'content'.")


def piece(text: str, most: int, draw: random.Random) -> str:
    """Return 1 to `most` consecutive lines of `text` from a random one on, one of which at least is not empty."""
    every = text.splitlines()
    full = [i for i, line in enumerate(every) if line.strip()]
    start = draw.choice(full)
    return "\n".join(every[start : start + draw.randint(1, most)]).rstrip()


def squeezed(text: str) -> str:
    """Return `text` without its white space."""
    return re.sub(r"\s+", "", text)


def benchmark_prompts(path: str) -> list[str]:
    """Return the prompts of a benchmark's file that are long enough to tell; nothing without a file."""
    if not path:
        return []
    if Path(path).suffix == ".txt":
        with explaining(Path(path), "read"):
            found = Path(path).read_text(encoding="utf-8").splitlines()
    else:
        found = [cell(row, "prompt", "text", "question", "instruction") for _, row in rows(path)]
    return [text for text in found if len(squeezed(text)) >= 20]
