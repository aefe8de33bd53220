"""One side of one row in a process of its own: `python -m bench.engine.worker SIDE JOB READ WRITE`.

The runner starts it. JOB is a file that says what to do (measure.py writes it), READ and WRITE are the numbers of two
open pipes.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

from bench.engine.clock import Finished, Turns


def main() -> None:
    """Do the job until the runner says that it is enough."""
    side, file, reads, writes = sys.argv[1:]
    job = json.loads(Path(file).read_text(encoding="utf-8"))
    turns = Turns(int(reads), int(writes), job["device"])
    work = getattr(importlib.import_module(f"bench.engine.{side}"), job["kind"])
    try:
        work(job, turns)
    except Finished:
        # Trainers keep threads and files; nothing of what they would still do is wanted.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
