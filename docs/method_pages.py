"""Write the pages of methods: docs/methods.md, which leads to docs/methods/WING.md for each wing that has methods."""

from __future__ import annotations

from pathlib import Path

from kilter import registry
from kilter.cli.pages import index, page

DOCS = Path(__file__).parent

if __name__ == "__main__":
    (DOCS / "methods").mkdir(exist_ok=True)
    (DOCS / "methods.md").write_text(index() + "\n", encoding="utf-8")
    for wing in dict.fromkeys(method.wing for method in registry.methods()):
        (DOCS / "methods" / f"{wing}.md").write_text(page(wing) + "\n", encoding="utf-8")
