"""The league's table: means over seeds with their intervals, best first, as Markdown and as plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from kilter.evaluation.result import Measure
from kilter.evaluation.statistics import Difference, differences_over_seeds, over_seeds
from kilter.league.jobs import RESULT
from kilter.league.measure import Found
from kilter.league.run import BEGINNING, Outcome
from kilter.league.settings import Line

COSTS = ("seconds", "core_seconds", "tokens", "steps")
COLUMNS = ("helpful", "harmless", "honest")
BETTER, SAME, WORSE = "better", "not told apart", "worse"


def results(outcomes: Sequence[Outcome], lines: Mapping[str, Line]) -> list[dict[str, Any]]:
    """Return what there is to say of each row as plain data, best first, the start among them, failures last.

    A row's numbers are means over the seeds that it has; `gain` is its reward less that of the start of the same seed,
    over the same prompts. `verdict` says whether the interval of that leaves out 0.
    """
    starts = {o.seed: _found(o) for o in outcomes if o.row == BEGINNING and o.folder is not None}
    rows = []
    for name in dict.fromkeys(o.row for o in outcomes):
        own = [o for o in outcomes if o.row == name]
        done = [o for o in own if o.folder is not None]
        errors = list(dict.fromkeys(o.error for o in own if o.folder is None))
        note = lines[name].note if name in lines else ""
        row: dict[str, Any] = {"row": name, "seeds": [o.seed for o in done], "errors": errors, "note": note}
        if done:
            found = [_found(o) for o in done]
            row |= _numbers(found)
            row |= {key: fmean(float(o.cost.get(key) or 0) for o in done) for key in COSTS}
            row["notes"] = list(dict.fromkeys(text for o in done for text in o.cost.get("notes", [])))
            if name != BEGINNING:
                gain = differences_over_seeds([f.gain(starts[o.seed]) for f, o in zip(found, done, strict=True)])
                row["gain"] = _shown(gain)
                row["verdict"] = BETTER if gain.low > 0 else WORSE if gain.high < 0 else SAME
        rows.append(row)
    return sorted(rows, key=lambda row: (not row["seeds"], -_place(row)))


def _found(outcome: Outcome) -> Found:
    assert outcome.folder is not None
    return Found.from_json(json.loads((outcome.folder / RESULT).read_text(encoding="utf-8")))


def _numbers(found: Sequence[Found]) -> dict[str, Any]:
    each = [one.measures() for one in found]
    return {
        name: _shown(over_seeds([measures[name] for measures in each]))
        for name in each[0]
        if all(name in m for m in each)
    }


def _shown(number: Measure | Difference) -> dict[str, Any]:
    return {"value": number.value, "low": number.low, "high": number.high}


def _place(row: Mapping[str, Any]) -> float:
    return float(row["reward"]["value"]) if row["seeds"] else 0.0


def markdown(rows: Sequence[Mapping[str, Any]], *, brief: bool = False) -> str:
    """Return the table of `rows`; without the costs where it is `brief`. Failed rows stand in it with a dash."""
    heads = ["method", "reward", "gain over SFT", *COLUMNS, "KL (nats)", *([] if brief else ["core-seconds", "tokens"])]
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    for row in rows:
        name = "**SFT, the start**" if row["row"] == BEGINNING else f"`{row['row']}`"
        if not row["seeds"]:
            lines.append("| " + " | ".join([name, "failed", *["–"] * (len(heads) - 2)]) + " |")
            continue
        cells = [name, _cell(row["reward"]), _gain(row), *(_cell(row[column]) for column in COLUMNS)]
        cells.append(_cell(row["kl"], 1) if "kl" in row else "0" if row["row"] == BEGINNING else "–")
        if not brief:
            cells += [f"{row['core_seconds']:.0f}", f"{row['tokens']:,.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _gain(row: Mapping[str, Any]) -> str:
    if "gain" not in row:
        return ""
    mark = {BETTER: "", SAME: " =", WORSE: " ↓"}[row["verdict"]]
    return f"{row['gain']['value']:+.3f} ±{_reach(row['gain'], 3)}{mark}"


def _cell(number: Mapping[str, float], digits: int = 2) -> str:
    return f"{number['value']:.{digits}f} ±{_reach(number, digits)}"


def _reach(number: Mapping[str, float], digits: int) -> str:
    """Half of an interval's width: the intervals of shares are a little longer towards the middle."""
    return f"{(number['high'] - number['low']) / 2:.{digits}f}"
