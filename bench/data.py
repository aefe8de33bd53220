"""Kilter's data pipeline beside a bare aiohttp loop and distilabel: same server, rows and requests in flight, by turns.

    python -m bench.data [--rows tail,instant,faults,memory,...] [--turns 3] [--distilabel PYTHON] [--out FILE]

`make bench-data`. The loop sends the same requests and writes the same answers to a file; it journals nothing and tries
nothing again. Kilter's side is `kilter data` whole: records read from a file, every answer journalled durably before it
is used, the output written. distilabel is measured where an interpreter that has it is named.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from bench import data_managing, data_server
from kilter import formats
from kilter.models.desk import Desk
from kilter.models.each import Each, answered, each
from kilter.models.protocol import Model, Sampling
from kilter.recipe.making import make_file
from kilter.records import Demonstration, Message, Prompt
from kilter.registry import Method

ROOT = Path(__file__).parents[1]
FAULTS = {"refuse": 0.01, "crowd": 0.05, "hang": 0.01}


@contextlib.contextmanager
def serving(**plan: Any) -> Iterator[str]:
    """A scripted server in a process of its own; yields its address."""
    words = [sys.executable, "-m", "bench.data_server", json.dumps(plan)]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


def prompts(folder: Path, rows: int) -> Path:
    """Write the prompts to a file."""
    path = folder / f"prompts-{rows}.jsonl"
    lines = ({"messages": [{"role": "user", "content": f"Please answer row {i}"}]} for i in range(rows))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def bare(address: str, records: Path, out: Path, in_flight: int) -> dict[str, Any]:
    """The loop that anybody would write; returns rows and seconds."""
    rows = [json.loads(line)["messages"] for line in records.read_text(encoding="utf-8").splitlines()]
    answers: list[str] = [""] * len(rows)
    body = {"model": "teacher", "max_tokens": 512, "temperature": 0.0, "top_p": 1.0, "n": 1, "seed": 0}

    async def main() -> None:
        waiting = iter(range(len(rows)))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def work() -> None:
                for i in waiting:
                    async with session.post(f"{address}/chat/completions", json={**body, "messages": rows[i]}) as reply:
                        answers[i] = (await reply.json())["choices"][0]["message"]["content"]

            await asyncio.gather(*(work() for _ in range(in_flight)))

    began, cpu = time.perf_counter(), time.process_time()
    asyncio.run(main())
    with out.open("w", encoding="utf-8") as file:
        for messages, text in zip(rows, answers, strict=True):
            file.write(json.dumps({"messages": [*messages, {"role": "assistant", "content": text}]}) + "\n")
    return {
        "rows": len(rows),
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
    }


def ours(address: str, records: Path, out: Path, in_flight: int) -> dict[str, Any]:
    """`kilter data` with a method of one call; returns rows, seconds, what was set aside and what it cost."""

    def method(model: Model, records: Iterable[Prompt]) -> Each[Demonstration]:
        async def one(prompt: Prompt) -> Demonstration:
            answer = await answered(model, prompt.messages, Sampling(max_tokens=512))
            return Demonstration([*prompt.messages, Message("assistant", answer.text)])

        return each(records, one, concurrency=in_flight)

    # Its annotations are read, and they name what this function does not see.
    method.__annotations__ = {"model": Model, "records": Iterable[Prompt], "return": Any}
    began, cpu = time.perf_counter(), time.process_time()
    desk = Desk(f"{out}.journal")
    made = make_file(
        Method("one-call", "data", method, None, None, ()),
        {},
        out=out,
        rejects=formats.rejects_beside(out),
        desk=desk,
        model=f"{address}#teacher",
        records=str(records),
    )
    return {
        "rows": made.records,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "aside": made.aside,
        "retries": made.account["retries"],
    }


def distilabel(python: str, address: str, rows: int, in_flight: int, folder: Path) -> dict[str, Any]:
    """The same in distilabel; returns rows and seconds, or why there are none."""
    job = folder / "distilabel.json"
    job.write_text(json.dumps({"address": address, "rows": rows, "in_flight": in_flight}), encoding="utf-8")
    words = [python, str(ROOT / "bench" / "data_distilabel.py"), str(job)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HOME": str(folder)}
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    if done.returncode:
        return {"failed": (done.stderr or done.stdout).strip().splitlines()[-1:]}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


class Bench:
    """The rows of the table; each method returns what is written of its row."""

    def __init__(
        self, turns: int, distilabel: str | None, gigabytes: float, folder: Path, data: Path, part: float = 1.0
    ) -> None:
        """`part` of the rows are measured: below 1 to see that all works, never for a figure."""
        self.turns, self.distilabel, self.gigabytes, self.folder = turns, distilabel, gigabytes, folder
        self.data, self.part = data, part

    def tail(self) -> dict[str, Any]:
        """Long-tail latency: 3,000 rows, 256 in flight."""
        with serving(latency="tail") as address:
            rows = self._rows(3000)
            found = self._by_turns(address, rows, 256)
            if self.distilabel:
                theirs = distilabel(self.distilabel, address, rows, 256, self.folder)
                found["distilabel"] = theirs
                if "seconds" in theirs:
                    found["ratio_to_distilabel"] = theirs["seconds"] / median(found["ours_seconds"])
        return {"wanted": "0.95 of the loop, 5 x distilabel", **found, "met": found["ratio"] >= 0.95}

    def instant(self) -> dict[str, Any]:
        """A server that answers at once: 20,000 rows, 256 in flight."""
        with serving(latency="none") as address:
            found = self._by_turns(address, self._rows(20_000), 256)
        met = found["ratio"] >= 0.5 or found["ours_rows_a_second"] >= 2500
        return {"wanted": "2,500 rows/s or 0.5 of the loop", **found, "met": met}

    def faults(self) -> dict[str, Any]:
        """1 % refused, 5 % crowded, 1 % hung: 3,000 rows of 0.5 to 1.5 s, 64 in flight, beside a clean run."""
        rows, in_flight = self._rows(3000), 64
        records = prompts(self.folder, rows)
        refused = [i for i in range(rows) if data_server.fault(i, FAULTS) == "refuse"]
        clean, faulty, exact = [], [], True
        for turn in range(self.turns):
            with serving(latency="even") as address:
                clean.append(ours(address, records, self._out(f"clean-{turn}"), in_flight)["seconds"])
            with serving(latency="even", **FAULTS) as address:
                out = self._out(f"faulty-{turn}")
                found = ours(address, records, out, in_flight)
            faulty.append(found["seconds"])
            made = [int(json.loads(line)["messages"][0]["content"].split()[-1]) for line in out.open(encoding="utf-8")]
            exact &= made == [i for i in range(rows) if i not in set(refused)]
            exact &= found["aside"] == {"refused": len(refused)}
        # 429 asks for one second; who waits for it holds up nobody else, but the last row may.
        ratio = median((f - 1.0) / c for f, c in zip(faulty, clean, strict=True))
        return {
            "wanted": "exactly the refused set aside; time <= 1.3 of a clean run plus the waits asked for",
            "rows": rows,
            "refused": len(refused),
            "exact": exact,
            "retries": found["retries"],
            "clean_seconds": clean,
            "faulty_seconds": faulty,
            "ratio": ratio,
            "met": exact and ratio <= 1.3,
        }

    def memory(self) -> dict[str, Any]:
        """A JSONL file far larger than what may be resident, through a method that streams, in a process of its own."""
        path = self.folder / "large.jsonl"
        size = int(self.gigabytes * 1e9)
        text = "some words of no great interest " * 60
        with path.open("w", encoding="utf-8") as file:
            count = 0
            while file.tell() < size:
                for _ in range(1000):
                    turns = [
                        {"role": "user", "content": f"{count}"},
                        {"role": "assistant", "content": f"{text}{count}"},
                    ]
                    file.write(json.dumps({"messages": turns}) + "\n")
                    count += 1
        words = [
            sys.executable,
            "-m",
            "kilter.cli",
            "data",
            "exact-duplicates",
            "--records",
            path,
            "--out",
            f"{path}.out",
        ]
        code = "import resource,subprocess,sys; r=subprocess.run(sys.argv[1:]).returncode; " \
               "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss*1024); sys.exit(r)"  # fmt: skip
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True
        )
        seconds, peak = time.perf_counter() - began, int(done.stdout.split()[-1])
        same = path.stat().st_size <= Path(f"{path}.out").stat().st_size
        for made in (path, Path(f"{path}.out")):
            made.unlink()
        return {
            "wanted": "at most 1 GiB resident",
            "bytes": size,
            "rows": count,
            "peak_bytes": peak,
            "seconds": seconds,
            "whole": same,
            "met": peak <= 2**30 and same,
        }

    def managing(self) -> dict[str, dict[str, Any]]:
        """The rows on managing data, by name: novelty, near duplicates, decontamination."""
        if not (self.data / "instructions" / "alpaca_52k.jsonl").exists():
            raise SystemExit(f"{self.data} does not hold instructions/alpaca_52k.jsonl; name the folder with --data.")
        found = {}
        for one in data_managing.rows(self.data, self.turns):
            name = one["row"] if one["row"] not in found else f"{one['row']} 2"
            wanted = f"{one['least']:g} x {one['against']}"
            found[name] = {"wanted": wanted, **one, "met": one["ratio"] >= one["least"]}
        return found

    def _rows(self, count: int) -> int:
        return max(300, round(count * self.part))

    def _by_turns(self, address: str, rows: int, in_flight: int) -> dict[str, Any]:
        records = prompts(self.folder, rows)
        loop, kilter = [], []
        for turn in range(self.turns):
            sides = [("loop", bare, loop), ("ours", ours, kilter)]
            for name, side, found in sides if turn % 2 == 0 else sides[::-1]:
                found.append(side(address, records, self._out(f"{name}-{turn}"), in_flight))
        pairs = list(zip(loop, kilter, strict=True))
        ratios = [a["seconds"] / b["seconds"] for a, b in pairs]
        cpu = [b["cpu_seconds"] / a["cpu_seconds"] for a, b in pairs]
        return {
            "rows": rows,
            "in_flight": in_flight,
            "loop_seconds": [a["seconds"] for a in loop],
            "ours_seconds": [b["seconds"] for b in kilter],
            "loop_rows_a_second": rows / median(a["seconds"] for a in loop),
            "ours_rows_a_second": rows / median(b["seconds"] for b in kilter),
            "cpu_times_the_loop": median(cpu),
            "ratios": ratios,
            "ratio": median(ratios),
        }

    def _out(self, name: str) -> Path:
        """A file of a folder that is new, so that no journal has the answers already."""
        return Path(tempfile.mkdtemp(dir=self.folder)) / f"{name}.jsonl"


def main() -> None:
    """Read the options, measure, print the table, write the results."""
    parser = argparse.ArgumentParser(prog="python -m bench.data", description=__doc__)
    parser.add_argument("--rows", default="tail,instant,faults,memory,managing", help="names, separated by commas")
    parser.add_argument("--turns", type=int, default=3, help="turns of each side")
    parser.add_argument("--distilabel", default=os.environ.get("BENCH_DISTILABEL"), help="an interpreter that has it")
    parser.add_argument("--gigabytes", type=float, default=5.0, help="size of the file of the memory row")
    parser.add_argument("--data", type=Path, default=data_managing.shared(), help="folder with instructions/ ...")
    parser.add_argument("--part", type=float, default=1.0, help="part of the rows, to see that all works")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "data.json")
    options = parser.parse_args()
    kept = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {"rows": {}}
    folder = Path(tempfile.mkdtemp(prefix="bench-data-"))
    failed = False
    try:
        bench = Bench(
            options.turns, options.distilabel, options.gigabytes * options.part, folder, options.data, options.part
        )
        for name in options.rows.split(","):
            measured = getattr(bench, name)()
            for row, found in (measured if name == "managing" else {name: measured}).items():
                failed |= not found.get("met", True)
                kept["rows"][row] = {**found, "measured": datetime.now(UTC).isoformat(timespec="seconds")}
                print(f"{row:<16} {json.dumps(shown(found), ensure_ascii=False)}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    kept["machine"] = {"system": platform.platform(terse=True), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for row, found in kept["rows"].items():
        told = f"{found['ratio']:,.2f}" if "ratio" in found else f"{found['peak_bytes'] / 2**30:.2f} GiB"
        more = f", {found['ratio_to_distilabel']:.1f} x distilabel" if "ratio_to_distilabel" in found else ""
        print(f"{row:<18} wanted: {found['wanted']:<82} {'met    ' if found['met'] else 'NOT MET'} {told}{more}")
    sys.exit(1 if failed else 0)


def shown(found: dict[str, Any]) -> dict[str, Any]:
    """A row with numbers that are read."""
    return {k: round(v, 3) if isinstance(v, float) else [round(x, 2) if isinstance(x, float) else x for x in v]
            if isinstance(v, list) else v for k, v in found.items()}  # fmt: skip


if __name__ == "__main__":
    main()
