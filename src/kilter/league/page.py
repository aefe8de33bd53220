"""The league's page: league.md with its table and figure, and league.json with every number in it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import escape

from kilter import allocator
from kilter.files import make_folder, write_json, write_text
from kilter.league import table
from kilter.league.run import BEGINNING, Outcome
from kilter.league.settings import Settings
from kilter.recipe.account import machine
from kilter.recipe.resolve import resolve
from kilter.world import FAMILIES

TEMPLATE = Path(__file__).with_name("page.md.j2")
TOP, LINE, NAMES, GAINS, GAP, AWAY = 34, 15, 120, 420, 40, 330  # of the figure, in its units


def write(outcomes: Sequence[Outcome], settings: Settings, path: str | Path, *, command: str) -> Path:
    """Write the page to `path` (a .md), its figure and its numbers beside it under the same name; return `path`."""
    path = Path(path)
    make_folder(path.absolute().parent)
    rows = table.results(outcomes, settings.methods)
    write_json(path.with_suffix(".json"), {"rows": rows, "settings": settings.model_dump(mode="json")})
    write_text(path.with_suffix(".svg"), figure(rows))
    write_text(path, text(rows, outcomes, settings, command).replace("(league.svg)", f"({path.stem}.svg)"))
    return path


def text(rows: Sequence[Mapping[str, Any]], outcomes: Sequence[Outcome], settings: Settings, command: str) -> str:
    """Return the page."""
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    failures = [row for row in rows if row["errors"]]
    spent = sum(float(o.cost.get("core_seconds") or 0) for o in outcomes)
    start = resolve(settings.start.recipe, settings.start.set)
    own = machine()
    malloc = allocator.in_use(os.environ)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        command=command,
        ran=sum(row["row"] != BEGINNING for row in rows),
        failed=f", {len(failures)} of them failed" if failures else "",
        failures=failures,
        behind=[_behind(row) for row in rows if row.get("verdict") in (table.SAME, table.WORSE)],
        seeds=sorted({o.seed for o in outcomes}),
        hours=f"{spent / 3600:.1f}",
        machine=f"{own['processor']}, {own['cores']} cores" + (f" with {malloc}" if malloc != allocator.SYSTEM else ""),
        table=table.markdown(rows),
        demonstrations=start.stages[settings.start.demonstrations].options.get("n", 0),
        data=settings.data,
        shared={"epochs": None, "batch_size": None, **settings.shared},
        measuring=settings.measuring,
        families=len(FAMILIES),
    )


def _behind(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of a row that did not beat its start, and the likely reason."""
    gain = row["gain"]
    told = f"{row['verdict']}, {gain['value']:+.3f}, {gain['low']:+.3f} to {gain['high']:+.3f}"
    return {"row": row["row"], "told": told, "reason": row["note"] or _reason(row)}


def _reason(row: Mapping[str, Any]) -> str:
    """Return the likely reason that the numbers themselves suggest, where nobody has written one."""
    if "kl" not in row:
        return "how far it moved could not be measured."
    moved, steps = row["kl"]["value"], row["steps"]
    if moved < 0.5:
        return f"it hardly moved: {moved:.2f} nats a response away from its start after {steps:.0f} steps."
    if row["gain"]["low"] <= 0 < row["gain"]["value"]:
        return f"it moved ({moved:.1f} nats a response) and gained, but by less than these seeds can tell."
    if row["gain"]["low"] <= 0 <= row["gain"]["high"]:
        return f"it moved ({moved:.1f} nats a response), but what it gained in one place it lost in another."
    return f"it moved {moved:.1f} nats a response away from its start, and lost what that knew."


def figure(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the chart as an SVG of its own: for each row, best first, its gain in reward, and how far it went."""
    points = [row for row in rows if "gain" in row and "kl" in row]
    points.sort(key=lambda row: -row["gain"]["value"])
    low = min([row["gain"]["low"] for row in points] + [0.0])
    high = max([row["gain"]["high"] for row in points] + [0.01])
    most = max([row["kl"]["value"] for row in points] + [1.0])
    bottom = TOP + LINE * len(points)

    def gained(reward: float) -> float:
        return NAMES + GAINS * (reward - low) / (high - low)

    def away(kl: float) -> float:
        # The distance that a reward is known to grow with is the root.
        return NAMES + GAINS + GAP + AWAY * math.sqrt(max(0.0, kl) / most)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {NAMES + GAINS + GAP + AWAY + 20} {bottom + 24}" '
        'font-family="sans-serif" font-size="11" role="img"><title>Gain in reward and KL divergence</title>',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{NAMES}" y="14">gain in reward over SFT, 95 % interval</text>',
        f'<text x="{away(0)}" y="14">KL to the SFT model, nats a response (square-root scale)</text>',
    ]
    steps = _ticks(max(-low, high))
    gains = [-t for t in steps[:0:-1] if -t >= low] + [t for t in steps if t <= high]
    for x, mark in [(gained(t), f"{t:+g}" if t else "0") for t in gains] + [(away(t), f"{t:g}") for t in _ticks(most)]:
        shade = "#999" if mark == "0" else "#eee"
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{bottom}" stroke="{shade}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{mark}</text>')
    for number, row in enumerate(points):
        gain, y = row["gain"], TOP + LINE * (number + 0.5)
        shade = {table.BETTER: "#1a7f4b", table.SAME: "#777", table.WORSE: "#b3372f"}[row["verdict"]]
        ends = f'x1="{gained(gain["low"]):.1f}" x2="{gained(gain["high"]):.1f}"'
        length = away(row["kl"]["value"]) - away(0)
        parts += [
            f'<text x="{NAMES - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(row["row"])}</text>',
            f'<line {ends} y1="{y:.1f}" y2="{y:.1f}" stroke="{shade}" stroke-width="2" stroke-opacity=".4"/>',
            f'<circle cx="{gained(gain["value"]):.1f}" cy="{y:.1f}" r="3.5" fill="{shade}"/>',
            f'<rect x="{away(0)}" y="{y - 4:.1f}" width="{length:.1f}" height="8" fill="{shade}" fill-opacity=".5"/>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def _ticks(most: float) -> list[float]:
    """Return some round numbers from 0 to `most`."""
    if most <= 0:
        return [0.0]
    unit = 10 ** math.floor(math.log10(most))
    step = next(unit * s for s in (0.1, 0.2, 0.5, 1, 2) if most / (unit * s) <= 6)
    return [round(step * i, 10) for i in range(int(most / step) + 1)]


def brief(path: str | Path) -> str:
    """Return the table in the league.json at `path`, without the costs, as a README shows it."""
    return table.markdown(json.loads(Path(path).read_text(encoding="utf-8"))["rows"], brief=True)
