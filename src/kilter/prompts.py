"""The texts that models are asked with: Jinja files beside the method that uses them, which a user may override.

A prompt is one file, `prompts/MODULE/NAME.jinja` beside the method's module. Its text is a user's turn; where there are
several turns, each stands in its own tags, which may be in loops and conditions like any other:

    {% system %}You translate into {{ language }}.{% endsystem %}
    {% for example in examples %}
    {% user %}{{ example.source }}{% enduser %}
    {% assistant %}{{ example.target }}{% endassistant %}
    {% endfor %}
    {% user %}{{ instruction }}{% enduser %}

A file may begin by saying what kind of request it is, `{# kind: compare #}`, for a model that acts by that and does not
read the wording (models/teacher).

What a variable holds is text and nothing else: it can neither open a turn nor run as a template. Whoever wants another
wording copies the file into a folder, changes it there and names the folder: `kilter data METHOD --prompts DIR`.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kilter.errors import KilterError, nearest
from kilter.files import explaining
from kilter.notes import ended
from kilter.records import Message

SUFFIX = ".jinja"
ROLES = ("system", "user", "assistant")
_TURNS = "turns_"  # the list that a rendering collects its turns in
_KIND = re.compile(r"\{#-?\s*kind:\s*([\w-]+)\s*-?#\}")


class Asked(list[Message]):
    """The messages of a rendered prompt.

    `version` is the hash of the file that they were rendered from, `kind` what the method's own file says of the
    request (another's wording does not change it), `variables` what it was filled in with.
    """

    def __init__(
        self, messages: list[Message], version: str, kind: str = "", variables: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(messages)
        self.version, self.kind, self.variables = version, kind, dict(variables or {})


class Prompts:
    """The prompts of one method: `PROMPTS = Prompts(__file__)`, then `PROMPTS("answer", instruction=...)`."""

    def __init__(self, module: str | Path) -> None:
        """`module` is the file of the method's code; its prompts are in `prompts/MODULE/` beside it."""
        self.folder = Path(module).parent / "prompts" / Path(module).stem
        self._own: dict[str, _Prompt] = {}

    def names(self) -> list[str]:
        """Return the names of the prompts that there are."""
        return sorted(path.name.removesuffix(SUFFIX) for path in self.folder.glob(f"*{SUFFIX}"))

    def version(self, name: str) -> str:
        """Return 16 hex digits that depend on the text of the prompt's file, the user's where there is one."""
        return self._find(name).version

    def __call__(self, name: str, /, **variables: Any) -> Asked:
        """Return the prompt `name` as messages, its variables filled in.

        Raises KilterError for a variable that the file reads and is not given, and for a file that is no template.
        """
        prompt = self._find(name)
        unknown = sorted(prompt.variables - set(variables))
        if unknown:
            hint = nearest(unknown[0], variables) or f" It is given {', '.join(sorted(variables)) or 'none'}."
            raise KilterError(f"The prompt {prompt.path} reads '{unknown[0]}', which it is not given.{hint}")
        return Asked(prompt.render(variables), prompt.version, self._shipped(name).kind, variables)

    def _find(self, name: str) -> _Prompt:
        override = _override.get()
        if override is not None:
            if self not in override.checked:
                self._check(override)
            if name in override.files:
                return override.read(name)
        return self._shipped(name)

    def _shipped(self, name: str) -> _Prompt:
        if name not in self._own:
            self._own[name] = _parse(self.folder / f"{name}{SUFFIX}")
        return self._own[name]

    def _check(self, override: _Override) -> None:
        """Refuse an override of a prompt that there is not; it would change nothing, without a word."""
        for name, path in override.files.items():
            if name not in self.names():
                hint = nearest(name, self.names()) or f" There are: {', '.join(self.names())}."
                raise KilterError(f"{path} overrides no prompt of this method.{hint}")
        override.checked.add(self)


@contextlib.contextmanager
def overriding(folder: str | Path | None) -> Iterator[None]:
    """Let the prompts in `folder` take the place of those of the same name; None changes nothing.

    Raises KilterError where the folder is not there or holds no prompt.
    """
    if folder is None:
        yield
        return
    path = Path(folder).absolute()
    if not path.is_dir():
        raise KilterError(f"There is no folder {folder} with prompts; name a folder of *{SUFFIX} files.")
    files = {found.name.removesuffix(SUFFIX): found for found in sorted(path.glob(f"*{SUFFIX}"))}
    if not files:
        raise KilterError(f"The folder {folder} holds no *{SUFFIX} file; copy one of the method's there and edit it.")
    token = _override.set(_Override(files))
    try:
        yield
    finally:
        _override.reset(token)


@dataclass(frozen=True)
class _Override:
    """The user's prompts of one run, each read once in it."""

    files: dict[str, Path]
    parsed: dict[str, _Prompt] = field(default_factory=dict)
    checked: set[Prompts] = field(default_factory=set)

    def read(self, name: str) -> _Prompt:
        if name not in self.parsed:
            self.parsed[name] = _parse(self.files[name])
        return self.parsed[name]


_override: ContextVar[_Override | None] = ContextVar("prompts", default=None)


@dataclass(frozen=True)
class _Prompt:
    """A parsed file: its template, the variables that it reads, its version, the kind of request that it says it is."""

    path: Path
    template: jinja2.Template
    variables: frozenset[str]
    version: str
    kind: str

    def render(self, variables: dict[str, Any]) -> list[Message]:
        turns: list[Message] = []
        try:
            rest = self.template.render({**variables, _TURNS: turns}).strip()
        except KilterError:
            raise
        except jinja2.TemplateError as error:
            told = ended(error.message or type(error).__name__)
            raise KilterError(f"The prompt {self.path} cannot be rendered: {told}") from None
        except Exception as error:  # whatever the expressions of a user's template do
            raise KilterError(
                f"The prompt {self.path} cannot be rendered ({type(error).__name__}: {error}); mend that file."
            ) from None
        if turns and rest:
            raise KilterError(
                f"The prompt {self.path} has text outside of its turns ({rest[:40]!r}); put it between "
                "{% user %} and {% enduser %}."
            )
        return turns or [Message("user", rest)]


class _Turns(Extension):
    """The tags {% system %}, {% user %} and {% assistant %}: what they enclose becomes a message."""

    tags = set(ROLES)  # noqa: RUF012 - the base class wants a plain set

    def parse(self, parser: Parser) -> nodes.Node:
        token = next(parser.stream)
        body = parser.parse_statements((f"name:end{token.value}",), drop_needle=True)
        turn = self.call_method("_turn", [nodes.Const(token.value), nodes.Name(_TURNS, "load")])
        return nodes.CallBlock(turn, [], [], body).set_lineno(token.lineno)

    def _turn(self, role: str, turns: list[Message], caller: Any) -> str:
        turns.append(Message(role, str(caller()).strip()))
        return ""


_environment = ImmutableSandboxedEnvironment(
    extensions=[_Turns], undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
)


def _parse(path: Path) -> _Prompt:
    with explaining(path, "read"):
        raw = path.read_bytes()
    try:
        text = raw.decode("utf-8")
        tree = _environment.parse(text)
        if list(meta.find_referenced_templates(tree)):
            raise KilterError(f"The prompt {path} includes another file; a prompt stands by itself, so write it out.")
        variables = meta.find_undeclared_variables(tree) - {_TURNS, *_environment.globals}
        template = _environment.from_string(tree)
    except UnicodeDecodeError:
        raise KilterError(f"The prompt {path} is not UTF-8; save it as UTF-8.") from None
    except jinja2.TemplateSyntaxError as error:
        where = f"The prompt {path}, line {error.lineno}"
        raise KilterError(f"{where}, is no template: {ended(error.message or 'it breaks off')}") from None
    kind = _KIND.match(text)
    version = hashlib.sha256(raw).hexdigest()[:16]
    return _Prompt(path, template, frozenset(variables), version, kind[1] if kind else "")
