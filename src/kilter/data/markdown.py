"""HTML as Markdown: what copied chats hold of it, and nothing that a page needs beyond that."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_TAG = re.compile(
    r"</?(p|div|span|br|pre|code|ol|ul|li|h[1-6]|strong|em|b|i|a|img|table|thead|tbody|tr|td|th|blockquote|hr|button)\b[^>]*>",
    re.IGNORECASE,
)
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_BLANK = re.compile(r"\n[ \t]*\n[ \t\n]*\n")
# What stands on buttons of the page, beside a block of code.
_BUTTONS = re.compile(r"^[ \t]*(?:Copy code|复制代码)[ \t]*\n", re.MULTILINE)


def to_markdown(text: str) -> str:
    """Return `text` with its HTML turned into Markdown; text without any, or that only speaks of tags, is unchanged.

    A text is HTML where a tag is opened and closed outside of its code.
    """
    bare = _CODE.sub("", text)
    if not _TAG.search(bare) or not ("</" in bare or "<br" in bare.lower() or "<hr" in bare.lower()):
        return text
    page = _Page()
    page.feed(text)
    page.close()
    whole = "".join(page.written)
    return _BLANK.sub("\n\n", _BUTTONS.sub("", whole)).strip()


class _Page(HTMLParser):
    """Writes Markdown while it reads HTML."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.written: list[str] = []
        self._lists: list[int | None] = []  # the number of the last item, None where they have dots
        self._links: list[str] = []
        self._pre = 0
        self._skipped = 0
        self._cells = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "button":
            self._skipped += 1
        elif tag == "pre":
            self._pre += 1
            self._block("```")
        elif tag == "code":
            self._open_code(given.get("class") or "")
        elif tag in ("p", "div", "blockquote", "table"):
            self._block("> " if tag == "blockquote" else "")
        elif tag == "br":
            self.written.append("\n")
        elif tag == "hr":
            self._block("---\n\n")
        elif tag in ("ol", "ul"):
            self._lists.append(int(given.get("start") or 1) - 1 if tag == "ol" else None)
            self.written.append("\n" if len(self._lists) > 1 else "\n\n")
        elif tag == "li":
            self._item()
        elif re.fullmatch("h[1-6]", tag):
            self._block("#" * int(tag[1]) + " ")
        elif tag in ("strong", "b", "em", "i"):
            self.written.append("**" if tag in ("strong", "b") else "*")
        elif tag == "a":
            self._links.append(given.get("href") or "")
            self.written.append("[")
        elif tag == "img":
            self.written.append(f"![{given.get('alt') or ''}]({given.get('src') or ''})")
        elif tag in ("td", "th"):
            self._cells += 1
            self.written.append("| ")

    def handle_endtag(self, tag: str) -> None:
        if tag == "button":
            self._skipped = max(0, self._skipped - 1)
        elif tag == "pre":
            self._pre = max(0, self._pre - 1)
            self.written.append("\n```\n\n" if not "".join(self.written[-1:]).endswith("\n") else "```\n\n")
        elif tag == "code" and not self._pre:
            self.written.append("`")
        elif tag in ("p", "div", "blockquote", "table") or re.fullmatch("h[1-6]", tag):
            self.written.append("\n" if self._lists else "\n\n")
        elif tag in ("ol", "ul") and self._lists:
            self._lists.pop()
            self.written.append("\n" if self._lists else "\n\n")
        elif tag in ("strong", "b", "em", "i"):
            self.written.append("**" if tag in ("strong", "b") else "*")
        elif tag == "a" and self._links:
            self.written.append(f"]({self._links.pop()})")
        elif tag in ("td", "th"):
            self.written.append(" ")
        elif tag == "tr":
            self.written.append("|\n")
        elif tag == "thead":
            self.written.append("|" + " --- |" * self._cells + "\n")

    def handle_data(self, data: str) -> None:
        if self._skipped:
            return
        if self._pre:
            self.written.append(data)
        elif data.strip():
            # Within a list the page's own line breaks are no text.
            self.written.append(re.sub(r"\s*\n\s*", " ", data) if self._lists else data)
        elif "\n" not in data:
            self.written.append(" ")

    def _block(self, begin: str) -> None:
        ends = "".join(self.written[-2:])
        first = begin or not self._lists  # a paragraph that an item consists of goes on in the item's line
        if first and ends and not ends.endswith("\n\n"):
            self.written.append("\n\n")
        self.written.append(begin)

    def _open_code(self, kind: str) -> None:
        if not self._pre:
            self.written.append("`")
            return
        language = re.search(r"language-([\w+#-]+)", kind)
        if "".join(self.written).endswith("```"):
            self.written.append((language[1] if language else "") + "\n")

    def _item(self) -> None:
        if not "".join(self.written[-1:]).endswith("\n"):
            self.written.append("\n")
        number = self._lists[-1] if self._lists else None
        if number is None:
            mark = "- "
        else:
            self._lists[-1] = number + 1
            mark = f"{number + 1}. "
        self.written.append("    " * max(0, len(self._lists) - 1) + mark)
