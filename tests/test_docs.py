"""The documentation names files and tests; they have to be there."""

import re
from pathlib import Path

import pytest

from kilter import registry

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_tests_that_are_named_exist():
    defined = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for name in re.findall(r"`(?:[\w/.]+::)?(test_\w+)`", page.read_text(encoding="utf-8")):
            assert f"def {name}(" in defined, f"{page.name} names {name}"
        for file in re.findall(r"`(tests/[\w/.]+?\.py)(?:::\w+)?`", page.read_text(encoding="utf-8")):
            assert (ROOT / file).exists(), f"{page.name} names {file}"


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_the_readmes_name_every_method(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    # Other tests enter methods of their own.
    ours = [method.id for method in registry.methods() if method.function.__module__.startswith("kilter.")]
    missing = [name for name in ours if f"`{name}`" not in text]
    assert not missing, f"run `make docs`: {name} does not name {', '.join(missing)}"


def test_every_wing_with_methods_has_its_page():
    wings = {method.wing for method in registry.methods() if method.function.__module__.startswith("kilter.")}
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for wing in wings:
        assert f": methods/{wing}.md\n" in nav
        assert f"](methods/{wing}.md)" in (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
