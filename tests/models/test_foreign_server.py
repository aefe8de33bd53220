"""The client against a server that is not ours: `transformers serve`, with the bundled model, on this machine.

`make test-server` installs it. Another interpreter that has it may be named: SERVER_PYTHON=/path/to/python.
"""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

import kilter
from jsonl import read, write
from kilter.errors import KilterError, SetAside
from kilter.models.load import load
from kilter.models.protocol import Answer, Sampling
from kilter.models.server import Server
from kilter.records import Message

PYTHON = os.environ.get("SERVER_PYTHON", sys.executable)
NEEDS = "import fastapi, openai, transformers, uvicorn"
SERVE = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
NANO = Path(kilter.__file__).parent / "assets" / "nano"
QUESTIONS = [
    "What is 2 + 3?",
    "Who are you?",
    "Sort these words: pear, apple",
    "\u8bf7\u95ee\u4e8c\u52a0\u4e09\u662f\u591a\u5c11?",
]


def user(text):
    return [Message("user", text)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The bundled model, set to sample where a temperature is asked for: this server looks at the model's settings."""
    if subprocess.run([PYTHON, "-c", NEEDS], capture_output=True, check=False).returncode:
        pytest.skip("transformers serve is not installed; `make test-server` does it.")
    found = tmp_path_factory.mktemp("served") / "nano"
    shutil.copytree(NANO, found)
    settings = json.loads((found / "generation_config.json").read_text(encoding="utf-8"))
    (found / "generation_config.json").write_text(json.dumps(settings | {"do_sample": True}), encoding="utf-8")
    (found.parent / "cache" / "hub").mkdir(parents=True)
    return found


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def serving(folder, port):
    """Run the server until the block is left; yields its process."""
    cache = folder.parent / "cache"
    environment = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    words = ["serve", str(folder), "--device", "cpu", "--host", "127.0.0.1", "--port", str(port), "--log-level", "info"]
    with (folder.parent / "server.log").open("a") as log:
        process = subprocess.Popen([PYTHON, "-c", SERVE, *words], stdout=log, stderr=log, env=environment)
    try:
        while True:
            assert process.poll() is None, (folder.parent / "server.log").read_text(encoding="utf-8")[-2000:]
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as reply:
                assert reply.status == 200
                break
            time.sleep(0.2)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def address(folder):
    port = free_port()
    with serving(folder, port):
        yield f"http://127.0.0.1:{port}/v1#{folder}"


def test_greedy_answers_are_those_of_the_same_model_here(address):
    async def main():
        there, here = Server(address), load(str(NANO))
        asked = Sampling(max_tokens=24)
        return [((await there.ask(user(q), asked))[0], (await here.ask(user(q), asked))[0]) for q in QUESTIONS]

    for found, expected in asyncio.run(main()):
        assert (found.text, found.tokens, found.finish_reason) == (
            expected.text,
            expected.tokens,
            expected.finish_reason,
        )


def test_an_answer_ends_before_a_stop_text_and_where_it_is_cut(address):
    async def main():
        model = Server(address)
        [whole] = await model.ask(user(QUESTIONS[0]), Sampling(max_tokens=24))
        word = whole.text.split()[2]
        [stopped] = await model.ask(user(QUESTIONS[0]), Sampling(max_tokens=24, stop=(word,)))
        [cut] = await model.ask(user(QUESTIONS[0]), Sampling(max_tokens=3))
        return whole, word, stopped, cut, model.usage

    whole, word, stopped, cut, usage = asyncio.run(main())
    assert stopped.text == whole.text.partition(word)[0].strip()
    assert (stopped.finish_reason, cut.finish_reason, cut.tokens) == ("stop", "length", 3)
    assert whole.text.startswith(cut.text)
    assert (usage.requests, usage.retries) == (3, 0)
    assert usage.completion_tokens >= whole.tokens + 3


def test_several_answers_come_one_by_one_and_differ(address):
    """This server knows no `n`, and says nothing of it."""
    asked = Sampling(max_tokens=16, n=4, temperature=1.5, seed=3, logprobs=True)
    found = asyncio.run(Server(address).ask(user(QUESTIONS[1]), asked))
    assert len(found) == 4
    assert len({answer.text for answer in found}) > 1
    assert all(answer.logprobs is None for answer in found), "not told, whoever asks for them"


def test_what_it_does_not_take_is_a_sentence(address):
    model = Server(address)
    with pytest.raises(SetAside, match=r"refuses a request \(422\): Unexpected fields in the request: \{'top_k'\}"):
        asyncio.run(model.ask(user("a"), Sampling(max_tokens=4, top_k=3)))
    with pytest.raises(KilterError, match="does not tell the log-probs of a given text, which scoring needs") as told:
        asyncio.run(model.score(user("a"), "b"))
    assert not isinstance(told.value, SetAside)
    other = address.partition("#")[0] + "#another"
    with pytest.raises(KilterError, match=r"refuses a request \(400\): Server is pinned to"):
        asyncio.run(Server(other).ask(user("a"), Sampling(max_tokens=4)))


def test_a_prompt_over_the_model_s_positions_harms_no_other(address):
    async def main():
        model = Server(address)
        asked = [model.ask(user(text), Sampling(max_tokens=4)) for text in ("word " * 3000, QUESTIONS[1])]
        return await asyncio.gather(*asked, return_exceptions=True)

    long, short = asyncio.run(main())
    assert isinstance(long, SetAside) or isinstance(long[0], Answer)
    assert short[0].text


def test_killed_and_started_again_in_the_middle_of_a_run(folder, tmp_path):
    """The run says that the server is gone; the same command goes on, asks nothing again, ends with the same file."""
    rows, port = 12, free_port()
    asked = ({"messages": [{"role": "user", "content": f"What is {i} + {i % 7}?"}]} for i in range(rows))
    records = write(tmp_path / "prompts.jsonl", list(asked))
    name = f"http://127.0.0.1:{port}/v1#{folder}"

    def command(out):
        given = ["--model", name, "--records", records, "--out", str(tmp_path / out), "--max-tokens", "24"]
        return [sys.executable, "-m", "kilter.cli", "data", "gpt4llm", "--temperature", "0", *given]

    def answered():
        with (
            contextlib.suppress(sqlite3.OperationalError),
            contextlib.closing(sqlite3.connect(f"file:{tmp_path}/killed.jsonl.journal?mode=ro", uri=True)) as kept,
        ):
            return kept.execute("SELECT count(*) FROM entries").fetchone()[0]
        return 0

    with serving(folder, port) as server:
        subprocess.run(command("whole.jsonl"), check=True, capture_output=True)
        run = subprocess.Popen(command("killed.jsonl"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while answered() < 3 and run.poll() is None:
            time.sleep(0.02)
        server.kill()
        _, said = run.communicate()
    known = answered()
    assert 3 <= known < rows
    assert run.returncode == 1
    assert "answers no more (Cannot connect to host" in said
    assert "start it again, then go on." in said
    assert not (tmp_path / "killed.jsonl").exists()
    with serving(folder, port):
        done = subprocess.run(command("killed.jsonl"), check=True, capture_output=True, text=True)
    assert f"{known} answers were kept from before" in done.stderr + done.stdout
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert Counter(len(row["messages"]) for row in read(tmp_path / "killed.jsonl")) == {2: rows}
