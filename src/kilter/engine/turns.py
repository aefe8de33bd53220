"""Where the assistant's turns are in a rendered conversation.

Read from the chat template's `{% generation %}` marks, else found by comparing the rendering of the whole conversation
with those of its beginnings. Places are offsets of characters; template.py makes tokens of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from kilter.errors import KilterError
from kilter.records import Message

FALLBACK = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ 'Assistant:' }}{% generation %}{{ ' ' + message['content'] + eos_token }}{% endgeneration %}{{ '\\n' }}"
    "{% else %}{{ message['role'] | capitalize + ': ' + message['content'] + '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def ensure_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Give `tokenizer` the fallback template if it has none; return whether it had none.

    Raises KilterError where there is no end-of-sequence token either: nothing could then end an answer.
    """
    if tokenizer.chat_template:
        return False
    if "eos_token" not in tokenizer.special_tokens_map:
        raise KilterError(
            f"The tokenizer of {name_of(tokenizer)} has neither a chat template nor an end-of-sequence token; "
            "set `eos_token` or `chat_template` in its tokenizer_config.json."
        )
    tokenizer.chat_template = FALLBACK
    return True


class TemplateRefusal(KilterError):
    """The chat template raised an error of its own, `why`, about this one conversation."""

    def __init__(self, name: str, why: str) -> None:
        self.why = why
        super().__init__(
            f"The chat template of {name} refuses a conversation: {why}; "
            "change the conversation, or the template in the tokenizer's folder."
        )


class Turns:
    """Renders conversations with a tokenizer's chat template and finds the assistant's turns in the text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        ensure_template(tokenizer)
        self.name = name_of(tokenizer)
        self.template = tokenizer.get_chat_template()
        self.variables: dict[str, Any] = dict(tokenizer.special_tokens_map)
        self.marked = bool(re.search(r"\{%-?\s*generation\s*-?%\}", self.template))
        specials = sorted(tokenizer.convert_ids_to_tokens(sorted(special_ids(tokenizer))), key=len, reverse=True)
        self.special = re.compile("|".join(map(re.escape, specials)) or "(?!)")

    def draw(self, messages: Sequence[Message], *, prompt: bool = False) -> str:
        """Return the rendering, with the generation prompt where `prompt` says so. Raises TemplateRefusal."""
        return self._render(messages, prompt, marks=False)[0]

    def _render(self, messages: Sequence[Message], prompt: bool, marks: bool) -> tuple[str, list[tuple[int, int]]]:
        try:
            drawn: Any = render_jinja_template(
                conversations=[[message.to_json() for message in messages]],
                chat_template=self.template,
                add_generation_prompt=prompt,
                return_assistant_tokens_mask=marks,
                **self.variables,
            )
        except (TemplateError, TypeError) as error:
            raise TemplateRefusal(self.name, str(error).rstrip(".")) from error
        texts, spans = drawn
        return texts[0], spans[0] if marks else []

    def demonstration(self, messages: Sequence[Message]) -> tuple[str, int, list[tuple[int, int]]]:
        """Return the rendering, the offset at which the last answer begins, and the spans that are the assistant's.

        The last message has to be the assistant's. Raises KilterError where the template does not let them be told.
        """
        before = self.draw(messages[:-1], prompt=True)
        fork = len(before)
        text, spans = self._render(messages, False, marks=self.marked)
        spans = [span for span in spans if span[1] > span[0]]
        if not spans or spans[-1][1] <= fork:
            turns = [i for i, message in enumerate(messages) if message.role == "assistant"]
            spans = [self._turn(text, messages, i) for i in turns]
        if not text.startswith(before):
            raise self._inconsistent()
        # A mark may begin at the header of the turn, which the generation prompt has already given.
        return text, fork, [(fork if start < fork < end else start, end) for start, end in spans]

    def answers(self, prompt: Sequence[Message], responses: Sequence[str]) -> tuple[str, list[str]]:
        """Return the prompt's rendering, and what the template writes behind it for each response, to its end."""
        before = self.draw(prompt, prompt=True)
        written: list[str] = []
        for response in responses:
            messages = [*prompt, Message("assistant", response)]
            text = self.draw(messages)
            start, end = self._turn(text, messages, len(prompt), before)
            written.append(text[start:end])
        return before, written

    def _turn(self, text: str, messages: Sequence[Message], i: int, before: str | None = None) -> tuple[int, int]:
        """Return where the assistant's turn `i` begins and ends in `text`, by difference of renderings.

        It begins where the rendering of what came before, with generation prompt, ends; it ends with the first special
        token after its content. Templates that render a turn otherwise once more follows (Qwen 3 leaves its reasoning
        out) are followed as long as content and ending are there to be found.
        """
        before = self.draw(messages[:i], prompt=True) if before is None else before
        whole = text if i + 1 == len(messages) else self.draw(messages[: i + 1])
        content = messages[i].content.strip()
        if text.startswith(before) and whole.startswith(before):
            own = whole.find(content, len(before))
            if own < 0 and text.startswith(whole):
                return len(before), len(whole)  # the template changed the content, but is consistent
            end = self.special.search(whole, own + len(content))
            turn = whole[own : end.end() if end else len(whole)]
            at = text.find(turn, len(before), len(whole)) if own >= 0 else -1
            if at >= 0:
                return len(before), at + len(turn)
        raise self._inconsistent()

    def _inconsistent(self) -> KilterError:
        return KilterError(
            f"The chat template of {self.name} does not render an answer as a continuation of its generation prompt, "
            "so the assistant's tokens cannot be told from the others; "
            "put {% generation %} marks around them in its chat_template."
        )


def special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the ids of tokens that stand for no text: added special ones, and those with a role (bos, eos ...)."""
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | set(tokenizer.all_special_ids)


def name_of(tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.name_or_path) or "this tokenizer"
