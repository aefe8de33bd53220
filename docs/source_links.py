"""A mkdocs hook: pages link to sources as `../src/...`, which a repository's viewer follows; the site gets copies.

A link to a file that does not exist stays as it is, and a strict build refuses it.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

LINK = re.compile(r"\]\((?:\.\./)+((?:src|tests)/[^)#]+|pyproject\.toml)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put every source file that a page links to into the site, as text below source/."""
    root = Path(config.docs_dir).parent
    linked = {
        name
        for page in files.documentation_pages()
        for name in LINK.findall(Path(page.abs_src_path or "").read_text(encoding="utf-8"))
    }
    for name in sorted(linked):
        if (root / name).is_file():
            files.append(File.generated(config, f"source/{name}.txt", abs_src_path=str(root / name)))
    return files


def on_page_markdown(markdown: str, *, page: object, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of a page to those copies."""
    up = "../" * page.file.src_uri.count("/")  # type: ignore[attr-defined]
    known = {file.src_uri for file in files}

    def turned(found: re.Match[str]) -> str:
        copy = f"source/{found[1]}.txt"
        return f"]({up}{copy})" if copy in known else found[0]

    return LINK.sub(turned, markdown)
