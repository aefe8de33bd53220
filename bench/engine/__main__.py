"""`python -m bench.engine`: measure the rows by turns, print the table, write bench/results/latest.json and a page."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.engine import page, rows, work
from bench.engine.measure import ROOT, Measured, WorkerError, alternate, fastest, ratios
from kilter import allocator

RESULTS = ROOT / "bench" / "results"
console = Console(stderr=True, highlight=False)


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    parser.add_argument("--rows", help="names of rows, separated by commas (default: all)")
    parser.add_argument("--models", help="shapes of models, separated by commas (default: 15m,nano; on a GPU: 1b)")
    parser.add_argument("--quick", action="store_true", help="little data, two turns, no search for TRL's best setting")
    parser.add_argument("--keep", action="store_true", help="keep the rows that latest.json has already")
    parser.add_argument("--turns", type=int, help="turns of each side in a row (default: 5; quick: 2)")
    parser.add_argument("--data", type=Path, help="folder with preferences/ and instructions/ (default: KILTER_SHARED)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--their-python", default=os.environ.get("BENCH_PYTHON", sys.executable),
                        help="interpreter that has TRL, if not this one")  # fmt: skip
    parser.add_argument("--no-page", action="store_true", help="leave docs/performance.md as it is")
    options = parser.parse_args()
    bench = Bench(options)
    try:
        bench.run()
    except KeyboardInterrupt:
        console.print("Interrupted; `--keep` goes on from here.")
        sys.exit(130)
    sys.exit(1 if bench.failed else 0)


class Bench:
    """One run: what is asked for, and what was found so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.failed = False
        self.file = RESULTS / ("latest.json" if options.device == "cpu" else f"{options.device}.json")
        self.pythons = {"ours": sys.executable, "theirs": options.their_python}
        shared = os.environ.get("KILTER_SHARED")
        self.data = options.data or (Path(shared) / "data" if shared else None)
        self.shapes = (options.models or ("15m,nano" if options.device == "cpu" else "1b")).split(",")
        self.turns = options.turns or (2 if options.quick else 5)
        self.known = [row.name for row in rows.table(self.data)] + ["memory"]
        self.names = options.rows.split(",") if options.rows else self.known
        if strange := sorted(set(self.names) - set(self.known)):
            sys.exit(f"There is no row {strange[0]}; the rows are {', '.join(self.known)}.")
        kept = json.loads(self.file.read_text(encoding="utf-8")) if options.keep and self.file.is_file() else {}
        self.found: dict[str, Any] = {"machine": self.machine(), "rows": kept.get("rows", [])}
        if "limits" in kept:
            self.found["limits"] = kept["limits"]

    def machine(self) -> dict[str, Any]:
        """What is measured on, and with which versions."""
        told = subprocess.run(
            [self.options.their_python, "-c", "import trl, torch, transformers;"
             "print(trl.__version__, torch.__version__, transformers.__version__, torch.get_num_threads())"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if told.returncode:
            sys.exit("TRL is not there; run `make bench`, or name an interpreter that has it by --their-python.")
        trl, torch, transformers, threads = told.stdout.split()
        return {
            "date": datetime.now(UTC).date().isoformat(),
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "threads": int(threads),
            "load_before": round(os.getloadavg()[0], 2),
            "device": self.options.device,
            "versions": {"kilter": importlib.metadata.version("kilter"), "trl": trl, "torch": torch,
                         "transformers": transformers, "python": platform.python_version()},
            "quick": self.options.quick,
        }  # fmt: skip

    def run(self) -> None:
        """Measure every row that is not kept; after each, write what is known."""
        if (load := self.found["machine"]["load_before"]) > 0.5:
            console.print(f"The machine is not quiet (load {load}): what follows is not to be relied on.")
        done = {row["name"] for row in self.found["rows"] if "skipped" not in row}
        plan = [(row, shape) for shape in self.shapes for row in rows.table(self.data) if row.name in self.names]
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with tempfile.TemporaryDirectory() as home, Progress(*columns, console=console) as progress:
            task = progress.add_task("", total=len(plan) + 2)
            for row, shape in plan:
                name = row.name if shape == self.shapes[0] else f"{row.name}/{shape}"
                progress.update(task, description=name)
                if name not in done:
                    folder = Path(home) / shape
                    if not folder.is_dir():
                        work.make_model(folder, shape)
                    self.put(self.row(row, name, shape, folder))
                progress.advance(task)
            progress.update(task, description="memory")
            if "memory" in self.names and "memory" not in done:
                self.put(self.memory(Path(home) / "memory"))
            progress.advance(task)
            progress.update(task, description="limits")
            if "limits" not in self.found:
                self.found["limits"] = self.limits()
                self.write()
            progress.advance(task)
        measured = {row["name"] for row in self.found["rows"] if "skipped" not in row}
        self.found["missing"] = [name for name in self.known if name not in measured]
        self.write()
        page.show(self.found)
        if not self.options.no_page and self.options.device == "cpu":
            page.write(self.found, ROOT / "docs" / "performance.md")
            console.print("The page is docs/performance.md, the numbers are in bench/results/latest.json.")

    def put(self, row: dict[str, Any]) -> None:
        """Take a finished row and write all of them, in the order of the table."""
        others = [other for other in self.found["rows"] if other["name"] != row["name"]]
        self.found["rows"] = sorted([*others, row], key=self.place)
        self.write()

    def place(self, row: dict[str, Any]) -> tuple[bool, int]:
        """What a row is sorted by: first those of the first shape."""
        name, _, shape = row["name"].partition("/")
        return bool(shape), self.known.index(name)

    def write(self) -> None:
        """Write the numbers, whole or not at all."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        short = self.file.with_suffix(".part")
        short.write_text(json.dumps(self.found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        short.replace(self.file)

    def row(self, row: rows.Row, name: str, shape: str, folder: Path) -> dict[str, Any]:
        """Measure one row: search TRL's best setting, then all three by turns."""
        aimed = shape == self.shapes[0]
        told: dict[str, Any] = {
            "name": name, "what": row.what, "unit": row.unit, "model": shape, "ratio": None,
            "target": row.target if aimed else None,
            "ratio_best": None, "target_best": row.target_best if aimed else None,
        }  # fmt: skip
        logs = RESULTS / "logs" / name.replace("/", "-")
        since = time.perf_counter()
        try:
            best, tried, shared = row.start, [], {"device": self.options.device}
            if not self.options.quick:
                part = row.prepare(shape, folder, row.tried_on).theirs | shared
                changes = row.changes if malloc() == allocator.SYSTEM else (*row.changes, rows.PLAIN)
                best, tried = fastest(part, row.start, changes, self.pythons["theirs"], rows.EPOCHS, logs)
            made = row.prepare(shape, folder, 0.25 if self.options.quick else 1.0)
            theirs = made.theirs | shared
            jobs = [
                ("ours", made.ours | shared),
                ("theirs", theirs | {"setting": row.default}),
                ("theirs", theirs | {"setting": best}),
            ]
            found = alternate(jobs, self.pythons, self.turns, logs)
        except rows.Absent as reason:
            return told | {"skipped": str(reason)}
        except WorkerError as error:
            self.failed = True
            console.print(f"[red]{name}:[/red] {error}", markup=True)
            return told | {"skipped": f"failed: {error}"}
        return told | finished(found, made.units, row.default, best) | {
            "tried": tried, "tried_on": row.tried_on, "minutes": round((time.perf_counter() - since) / 60, 1),
            "load": round(os.getloadavg()[0], 2),
        }  # fmt: skip

    def memory(self, folder: Path) -> dict[str, Any]:
        """Peak of a DPO step with a large vocabulary; the ratio is ours to theirs, so less is better."""
        told: dict[str, Any] = {
            "name": "memory", "unit": "MB", "model": "wide",
            "what": "peak of a DPO step: vocabulary 150,000, hidden 512, 4 layers, 8 pairs of 512 tokens",
            "target": 1 / 3, "target_best": None, "ratio_best": None,
        }  # fmt: skip
        work.make_model(folder, "wide")
        vocabulary = rows.words(folder, "wide")
        job = rows.job(
            "dpo", folder, work.pairs(16, 256, 256, vocabulary), "memory", batch=8, device=self.options.device
        )
        file = folder / "job.json"
        file.write_text(json.dumps(job), encoding="utf-8")
        peaks: dict[str, list[int]] = {"ours": [], "theirs": []}
        for side in ["ours", "theirs"] * (1 if self.options.quick else 3):
            ran = subprocess.run(
                [self.pythons[side], "-m", "bench.engine.memory", side, str(file)],
                cwd=ROOT, capture_output=True, text=True, check=False,
                env=os.environ | (allocator.environment(os.environ) if side == "ours" else {}),
            )  # fmt: skip
            if ran.returncode:
                self.failed = True
                return told | {"ratio": None, "skipped": f"failed: {side}: {ran.stderr.strip().splitlines()[-1]}"}
            peaks[side].append(json.loads(ran.stdout.strip().splitlines()[-1])["above"])
        middle, low, high = ratios([float(x) for x in peaks["ours"]], [float(x) for x in peaks["theirs"]])
        mean = {side: sum(found) / len(found) / 1e6 for side, found in peaks.items()}
        return told | {
            "ratio": middle, "ratio_low": low, "ratio_high": high, "ours": mean["ours"], "theirs": mean["theirs"],
            "theirs_best": None, "n": len(peaks["ours"]),
            "setting": "fresh processes, above what was held with the weights loaded; TRL's default",
        }  # fmt: skip

    def limits(self) -> dict[str, Any]:
        """What the machine can do, and where a step's time goes, measured in a process of its own."""
        ran = subprocess.run(
            [sys.executable, "-m", "bench.engine.limits", self.shapes[0], self.options.device,
             *([str(self.data.resolve())] if self.data else [])],
            cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ | allocator.environment(os.environ),
        )  # fmt: skip
        found: dict[str, Any] = json.loads(ran.stdout.strip().splitlines()[-1])
        return found


def malloc() -> str:
    """The library that stands in for the C library's malloc in our processes and TRL's best."""
    return allocator.in_use(os.environ | allocator.environment(os.environ))


def finished(found: list[Measured], units: float, default: dict[str, Any], best: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a row from the three sides' turns."""
    ours, theirs, theirs_best = (side.whole(rows.EPOCHS) for side in found)
    sums = [tuple(side.facts[key] for key in ("tokens", "sum")) for side in found if "sum" in side.facts]
    middle, low, high = ratios(theirs, ours)
    middle_best, low_best, high_best = ratios(theirs_best, ours)

    def rate(seconds: list[float]) -> float:
        return units / sorted(seconds)[len(seconds) // 2]

    return {
        "ratio": middle, "ratio_low": low, "ratio_high": high,
        "ratio_best": middle_best, "ratio_best_low": low_best, "ratio_best_high": high_best,
        "ours": rate(ours), "theirs": rate(theirs), "theirs_best": rate(theirs_best),
        "setting": f"default: {page.named(default) or 'as it comes'}; "
                   f"best: {page.named(best, malloc()) or 'as it comes'}",
        "allocator": malloc(),
        "n": len(ours),
        "same_tokens": len(set(sums)) == 1 if len(sums) == len(found) else None,
        "seconds": [[round(x, 4) for x in side.seconds] for side in found],
        "cpu_seconds": [[round(x, 4) for x in side.cpu_seconds] for side in found],
        "reference_seconds": [side.facts.get("reference_seconds") for side in found],
        "steps": [side.facts.get("steps") for side in found],
    }  # fmt: skip


def processor() -> str:
    """The processor's name as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
