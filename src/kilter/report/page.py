"""Writes a report: report.html (one file, nothing from the network, no script), report.md and report.json.

Whatever a model or a data file wrote is text here: escaped in the page, fenced in the Markdown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kilter.files import make_folder, write_json, write_text
from kilter.report import figures, findings, judged, notes, numbers, plain, read, seeds, view, worst
from kilter.report.findings import Findings
from kilter.report.read import Evidence, Run

SO_FAR = "What stands here is what it had when this page was made."
ROWS = 8  # categories that the page lists; report.json has all


def write_run(folder: Path) -> Path:
    """Write the report of the run in `folder`."""
    run = read.run(folder)
    evidence = read.evidence(run)
    if run.finished is None and run.settings.baseline not in evidence.labels:
        # The baseline may be what is still to be measured.
        run.settings.baseline = None
    found = findings.find(evidence, run.settings)
    categories = worst.categories(evidence, found)
    content = _common(found, [run]) | _samples(run, evidence, found, categories)
    moment, trained = view.when(run.finished or run.started), _trained(run)
    content |= {
        "facts": [fact for fact in (moment, _seed(run), f"{content['total']['time']} of work", _kilter(run)) if fact],
        "warnings": _warnings(run),
        "trained": trained,
        "has_kl": any(curve.name == "kl" for _, _, curves in trained for curve in curves),
        "cost": view.cost(run),
        "longest": max((stage.seconds or 0.0 for stage in run.stages), default=0.0),
    }
    told = notes.gather([run], [evidence])
    content["left_out"] = notes.shown(told, found.labels, 1)
    return _write(folder, content, plain.run(run, found, categories, told, content["verdict"]))


def write_seeds(folders: Sequence[Path], out: Path) -> Path:
    """Write the report of several runs of one recipe into `out`."""
    runs, evidence, each = seeds.gather(folders)
    found = seeds.mean(runs, evidence, each)
    make_folder(out)
    content = _common(found, runs)
    content["verdict"] = f"Over {len(runs)} seeds, {content['verdict']}"
    which = f"seeds {', '.join(str(run.seed) for run in runs)}"
    content |= {
        "facts": [which, f"{content['total']['time']} of work", _kilter(runs[0])],
        "warnings": [warning for run in runs for warning in _warnings(run)],
        "results": view.results(found, each),
        "seeds": [{"seed": run.seed, "command": run.command, "link": _link(run.folder, out)} for run in runs],
    }
    told = notes.gather(runs, evidence)
    content["left_out"] = notes.shown(told, found.labels, len(runs))
    return _write(out, content, plain.seeds(runs, found, each, told, content["verdict"]))


def _common(found: Findings, runs: Sequence[Run]) -> dict[str, Any]:
    """What a page of one run and a page of several have in common; parts that one of them lacks are empty."""
    run = runs[0]
    return {
        "title": run.title,
        "description": run.description,
        "verdict": findings.verdict(found),
        "labels": found.labels,
        "final": found.final,
        "results": view.results(found),
        "has_targets": bool(found.targets),
        "story": findings.story(found),
        "tested": len(found.comparisons),
        "dots": figures.dots(found),
        "parts": judged.parts(found),
        "judge": view.results(found, groups=("judge",)),
        "verdicts": judged.verdicts(found),
        "comparisons": view.comparisons(found),
        "total": view.total(runs),
        "machine": view.machine(run),
        "command": run.command,
        "versions": run.versions,
        "recipe": yaml.safe_dump(run.recipe, sort_keys=False, allow_unicode=True, width=100) if run.recipe else "",
        "compared": False,
        "has_kl": False,
        **dict.fromkeys(("facts", "warnings", "trained", "worse", "regressions", "weakest", "improvements"), ()),
        **dict.fromkeys(("drawn", "cost", "seeds", "left_out"), ()),
    }


def _samples(run: Run, evidence: Evidence, found: Findings, categories: list[worst.Category]) -> dict[str, Any]:
    most = run.settings.samples
    lost = worst.worse(categories)
    fell = worst.regressions(evidence, found, categories, most)
    rose = worst.improvements(evidence, found, most)
    random = worst.drawn(evidence, found, min(most, 4), [*fell, *rose])
    return {
        "compared": bool(categories),
        "worse": view.lost(lost[:ROWS], found),
        "kinds": len(categories),
        "all_worse": len(lost),
        "more_worse": max(len(lost) - ROWS, 0),
        "sure_worse": sum(category.sure for category in lost),
        "weakest": view.lost(worst.weakest(categories[min(len(lost), ROWS) :], found, ROWS // 2), found),
        "regressions": [view.card(example, found.labels) for example in fell],
        "improvements": [view.card(example, found.labels) for example in rose],
        "drawn": [view.card(example, found.labels) for example in random],
    }


def _trained(run: Run) -> list[tuple[str, str, list[figures.Curve]]]:
    drawn = [(stage, figures.curves(read.metrics(stage))) for stage in run.stages if stage.kind == "train"]
    return [(stage.name, stage.method, curves) for stage, curves in drawn if curves]


def _warnings(run: Run) -> list[str]:
    failed, stopped = ([s.name for s in run.stages if s.status == status] for status in ("failed", "interrupted"))
    if stopped:
        stage = numbers.several(stopped)
        return [f"This run was interrupted in the stage {stage}; its command goes on from there. {SO_FAR}"]
    if failed:
        return [f"This run failed in the stage {numbers.several(failed)}. {SO_FAR}"]
    if run.finished is None:
        return [f"This run has not finished. {SO_FAR}"]
    return []


def _seed(run: Run) -> str:
    return "" if run.seed is None else f"seed {run.seed}"


def _kilter(run: Run) -> str:
    return f"Kilter {run.versions['kilter']}" if "kilter" in run.versions else "Kilter"


def _link(folder: Path, out: Path) -> str:
    page = folder / "report.html"
    return Path(os.path.relpath(page, out)).as_posix() if page.is_file() else ""


def _write(folder: Path, content: dict[str, Any], data: dict[str, Any]) -> Path:
    places = (
        ("results", "What changed", content["results"]),
        ("parts", "By category", content["parts"]),
        ("judge", "The judge", content["judge"]),
        ("training", "Training", content["trained"]),
        ("left-out", "Left out", content["left_out"]),
        ("worse", "Where it got worse", content["compared"]),
        ("samples", "Samples", content["improvements"] or content["drawn"]),
        ("comparisons", "Every comparison", content["comparisons"]),
        ("cost", "Cost", True),
        ("repeat", "Repeat", True),
    )
    content["contents"] = [(place, name) for place, name, there in places if there]
    page = folder / "report.html"
    write_json(folder / "report.json", data)
    write_text(folder / "report.md", re.sub(r"\n{3,}", "\n\n", _template("page.md.j2").render(content)))
    write_text(page, _template("page.html.j2").render(content))
    return page


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=lambda name: name is not None and ".html." in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"marker": figures.marker, "bar": figures.share}
    environment.filters |= {
        "several": numbers.several,
        "lowered": numbers.lower,
        "fenced": _fenced,
        "cell": _cell,
        "line": _line,
    }
    return environment


def _template(name: str) -> Any:
    return _environment().get_template(name)


def _fenced(text: str) -> str:
    """A code block that the text cannot close."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _line(text: str) -> str:
    """Text of one line in Markdown, with what would be markup taken as it stands."""
    return re.sub(r"([\\`*_\[\]<>#|~])", r"\\\1", " ".join(str(text).split()))


def _cell(text: str) -> str:
    return _line(text)
