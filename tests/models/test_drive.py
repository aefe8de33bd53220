"""Many items at once."""

import asyncio
import signal
import subprocess
import sys
import time

import pytest

from kilter.errors import KilterError
from kilter.models.drive import run


def test_results_come_in_order_whatever_takes_longest():
    async def one(item):
        await asyncio.sleep(0.01 * (5 - item))
        return item * 2

    assert asyncio.run(run(range(5), one)) == [0, 2, 4, 6, 8]
    assert asyncio.run(run([], one)) == []


def test_no_more_than_so_many_at_a_time():
    inside = most = 0

    async def one(item):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.001)
        inside -= 1

    asyncio.run(run(range(50), one, concurrency=7))
    assert most == 7


def test_the_first_failure_stops_the_rest():
    done = []

    async def one(item):
        if item == 3:
            raise KilterError("The third is bad; leave it out.")
        await asyncio.sleep(0.5)
        done.append(item)

    began = time.monotonic()
    with pytest.raises(KilterError, match="The third is bad"):
        asyncio.run(run(range(100), one, concurrency=10))
    assert not done
    assert time.monotonic() - began < 0.4


def test_nothing_is_drawn_where_there_is_no_terminal(capfd):
    async def one(item):
        return item

    asyncio.run(run(range(3), one, label="testing"))
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_ends_sampling_at_once(tiny_model):
    code = f"""
import asyncio
from kilter.models.drive import run
from kilter.models.local import Local
from kilter.models.protocol import Sampling
from kilter.records import Message
model = Local({str(tiny_model)!r}, device="cpu")
model.ends = set()
print("ready", flush=True)
asyncio.run(run(range(2000), lambda i: model.ask([Message("user", str(i))], Sampling(max_tokens=200, n=4))))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, told = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert process.returncode != 0
    assert told.strip().endswith("KeyboardInterrupt")
    assert "never retrieved" not in told
