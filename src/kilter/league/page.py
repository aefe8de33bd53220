"""The league's page: league.md with its table and figure, and league.json with every number in it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import escape

from kilter.files import make_folder, write_json, write_text
from kilter.league import table
from kilter.league.run import BEGINNING, Outcome
from kilter.league.settings import Settings
from kilter.recipe.account import machine
from kilter.recipe.resolve import resolve
from kilter.world import FAMILIES

TEMPLATE = Path(__file__).with_name("page.md.j2")
WIDTH, HEIGHT, LEFT, BELOW = 820, 460, 64, 48


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
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        command=command,
        ran=sum(row["row"] != BEGINNING for row in rows),
        failed=f", {len(failures)} of them failed" if failures else "",
        failures=failures,
        behind=[_behind(row) for row in rows if row.get("verdict") in (table.SAME, table.WORSE)],
        seeds=sorted({o.seed for o in outcomes}),
        hours=f"{spent / 3600:.1f}",
        machine=f"{own['processor']}, {own['cores']} cores",
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
    if row["gain"]["low"] <= 0 <= row["gain"]["high"]:
        return f"it moved ({moved:.1f} nats a response), but what it gained in one place it lost in another."
    return f"it moved {moved:.1f} nats a response away from its start, and lost what that knew."


def figure(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the chart of the gain in reward over sqrt(KL), one mark a row with its interval, as an SVG of its own."""
    points = [row for row in rows if "gain" in row and "kl" in row]
    away = [math.sqrt(max(0.0, row["kl"]["value"])) for row in points]
    most = max([*away, 1.0]) * 1.05
    low = min([row["gain"]["low"] for row in points] + [0.0])
    high = max([row["gain"]["high"] for row in points] + [0.01])
    span = (high - low) * 1.08 or 1.0

    def across(x: float) -> float:
        return LEFT + (WIDTH - LEFT - 130) * x / most

    def down(y: float) -> float:
        return 16 + (HEIGHT - BELOW - 16) * (1 - (y - low + 0.04 * span) / (span * 1.04))

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="11" role="img"><title>Gain in reward over the square root of the KL divergence</title>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<line x1="{LEFT}" x2="{WIDTH - 8}" y1="{down(0):.1f}" y2="{down(0):.1f}" stroke="#999"/>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">KL to the SFT model, nats a response '
        "(square-root scale)</text>",
        f'<text transform="translate(14 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">gain in reward over SFT</text>',
    ]
    for tick in _ticks(most**2):
        x = across(math.sqrt(tick))
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="16" y2="{HEIGHT - BELOW}" stroke="#eee"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BELOW + 16}" text-anchor="middle">{tick:g}</text>')
    for tick in _ticks(high) + ([-t for t in _ticks(-low) if t] if low < 0 else []):
        parts.append(f'<text x="{LEFT - 6}" y="{down(tick) + 4:.1f}" text-anchor="end">{tick:+g}</text>')
    taken: list[tuple[float, float]] = []
    for row, x in sorted(zip(points, away, strict=True), key=lambda pair: -pair[0]["gain"]["value"]):
        gain, name = row["gain"], escape(row["row"])
        cx, cy = across(x), down(gain["value"])
        shade = {table.BETTER: "#1a7f4b", table.SAME: "#777", table.WORSE: "#b3372f"}[row["verdict"]]
        label = cy + 4
        # Names of neighbours would lie on one another: the next goes below.
        while any(abs(label - y) < 11 and abs(cx - other) < 90 for other, y in taken):
            label += 11
        taken.append((cx, label))
        ends = f'y1="{down(gain["low"]):.1f}" y2="{down(gain["high"]):.1f}"'
        parts.append(f'<line x1="{cx:.1f}" x2="{cx:.1f}" {ends} stroke="{shade}" stroke-opacity=".35"/>')
        parts.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="3.5" fill="{shade}"/>')
        parts.append(f'<text x="{cx + 6:.1f}" y="{label:.1f}" fill="#333">{name}</text>')
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
