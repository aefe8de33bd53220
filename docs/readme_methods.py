"""Write the table of methods into the READMEs, between its two marks: one row a wing, every method by its name."""

from __future__ import annotations

from pathlib import Path

from kilter import registry

ROOT = Path(__file__).parent.parent
START, END = "<!-- methods: made by `make docs` -->", "<!-- end of methods -->"
HEADS = {"README.md": ("wing", "methods"), "README.zh.md": ("类别", "方法")}


def table(head: tuple[str, str]) -> str:
    """Return the Markdown table of all methods under `head`."""
    wings: dict[str, list[str]] = {}
    for method in registry.methods():
        wings.setdefault(method.wing, []).append(f"`{method.id}`")
    rows = [f"| {wing} ({len(names)}) | {' '.join(names)} |" for wing, names in wings.items()]
    return "\n".join([f"| {head[0]} | {head[1]} |", "|---|---|", *rows])


def filled(text: str, head: tuple[str, str]) -> str:
    """Return a README's text with the table as it is now."""
    before, _, rest = text.partition(START)
    return f"{before}{START}\n\n{table(head)}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    for name, head in HEADS.items():
        path = ROOT / name
        path.write_text(filled(path.read_text(encoding="utf-8"), head), encoding="utf-8")
