"""Write the tables of methods and of the league into the READMEs, each between its two marks.

Methods: one row a wing, every method by its name. The league: the table of docs/league.json, which
`kilter league --page docs/league.md` leaves, without its costs; a README without the marks is left as it is.
"""

from __future__ import annotations

from pathlib import Path

from kilter import registry
from kilter.league.page import brief

ROOT = Path(__file__).parent.parent
START, END = "<!-- methods: made by `make docs` -->", "<!-- end of methods -->"
LEAGUE, LEAGUE_END = "<!-- league: made by `make docs` from docs/league.json -->", "<!-- end of the league -->"
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


def with_league(text: str, numbers: Path = ROOT / "docs" / "league.json") -> str:
    """Return a README's text with the league's table as it is in `numbers`."""
    if LEAGUE not in text or not numbers.is_file():
        return text
    before, _, rest = text.partition(LEAGUE)
    return f"{before}{LEAGUE}\n\n{brief(numbers)}\n\n{LEAGUE_END}{rest.partition(LEAGUE_END)[2]}"


if __name__ == "__main__":
    for name, head in HEADS.items():
        path = ROOT / name
        path.write_text(with_league(filled(path.read_text(encoding="utf-8"), head)), encoding="utf-8")
