"""The faulty server in a process of its own, and prompts for it, for every test that asks over the network."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

SERVER = Path(__file__).parents[1] / "models" / "faulty_server.py"


@contextlib.contextmanager
def serving(folder, **plan):
    """Yield the server's address with its model, and what returns the rows that it was asked for so far."""
    log = folder / "asked.log"
    (folder / "plan.json").write_text(json.dumps({"log": str(log), **plan}), encoding="utf-8")
    server = subprocess.Popen([sys.executable, SERVER, folder / "plan.json"], stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().strip()
        yield address + "#teacher", lambda: [int(entry.split()[1]) for entry in log.read_text().splitlines()]
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


def write_prompts(folder, count):
    """Write `count` prompts, "say row N", to a file; return its path."""
    path = folder / "prompts.jsonl"
    rows = ({"messages": [{"role": "user", "content": f"say row {i}"}]} for i in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def lines(path):
    return [json.loads(entry) for entry in path.read_text(encoding="utf-8").splitlines()]
