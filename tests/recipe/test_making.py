"""A file of records made with a teacher that fails, by a process that is killed."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import answering_rows
import pytest
from serving_rows import lines, serving, write_prompts

from kilter import formats, registry
from kilter.errors import KilterError
from kilter.models import line, patience
from kilter.models.budget import parse_budget, parse_price
from kilter.models.desk import Desk
from kilter.recipe import api
from kilter.recipe.making import make_file, rehearse
from kilter.recipe.run import run

PROGRAM = Path(answering_rows.__file__)


@pytest.fixture
def prompts(tmp_path):
    """Write so many prompts to a file."""
    return partial(write_prompts, tmp_path)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(line, "FIRST_PAUSE", 0.01)


def make(out, model, records, *, journal=None, options=None, **desk):
    found = registry.find("answering-rows", "data")
    overridden = desk.pop("prompts", None)
    at = Desk(journal or f"{out}.journal", local=True, **desk)
    rejects = formats.rejects_beside(out)
    return make_file(
        found, options or {}, out=out, rejects=rejects, desk=at, model=model, records=records, prompts=overridden
    )


def command(model, records, out):
    """The same in a process of its own."""
    named = ["--model", model, "--records", records, "--out", out]
    return [sys.executable, PROGRAM, "data", "answering-rows", *named]


def rows_of(path):
    return [int(record["messages"][0]["content"].split()[-1]) for record in lines(path)]


def answers_in(journal):
    """How many answers the journal of a killed process holds."""
    with contextlib.closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as kept:
        return kept.execute("SELECT count(*) FROM entries").fetchone()[0]


def test_killed_at_any_moment_and_given_again(tmp_path, prompts):
    """kill -9, twice: the file of an undisturbed run, byte for byte, and nothing that was answered is asked again."""
    rows, at_once = 400, 16
    records, out, kept = prompts(rows), tmp_path / "killed.jsonl", tmp_path / "killed.jsonl.journal"
    rng = random.Random(5)
    with serving(tmp_path, seconds=[0.002, 0.03], refuse=[7, 200]) as (model, asked):
        whole = make(tmp_path / "whole.jsonl", model, records)
        assert whole.records == rows - 2
        assert Counter(asked()) == Counter(range(rows))
        words = command(model, records, out)
        for _ in range(2):
            before = len(asked())
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            enough = before + rng.randrange(20, 150)
            while len(asked()) < enough and process.poll() is None:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            assert not out.exists()
            # Whatever was asked is in the journal, but for what was under way.
            assert len(set(asked()[rows:])) - answers_in(kept) <= at_once
        known, before = answers_in(kept), len(asked())
        make(out, model, records)
        assert len(asked()) - before == rows - known, "just what the journal did not have"
        times = Counter(asked()[rows:])
        assert set(times) == set(range(rows))
        assert times.total() - rows <= 2 * at_once
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert formats.rejects_beside(out).read_bytes() == (tmp_path / "whole.jsonl.rejects.jsonl").read_bytes()
    assert not list(tmp_path.glob(".tmp-*")), "a killed run's half a file is swept away by the next"


def test_given_again_when_done_it_asks_only_what_was_refused(tmp_path, prompts):
    records, out = prompts(60), tmp_path / "d.jsonl"
    with serving(tmp_path, refuse=[3, 4]) as (model, asked):
        first = make(out, model, records)
        content, before = out.read_bytes(), len(asked())
        again = make(out, model, records)
        assert sorted(asked()[before:]) == [3, 4]
    assert out.read_bytes() == content
    assert first.aside == again.aside == {"refused": 2}
    assert first.account["requests"] == 60
    assert again.account == {**first.account, "requests": 62, "replayed": 58}


def test_exactly_the_refused_are_set_aside(tmp_path, prompts, monkeypatch):
    """1 % answered 400, 5 % crowded, 1 % hung for ever the first time."""
    monkeypatch.setattr(patience, "LEAST", 0.5)
    rows = 600
    order = random.Random(1).sample(range(rows), 42)
    plan = {"refuse": sorted(order[:6]), "crowd": order[6:36], "hang": order[36:]}
    with serving(tmp_path, seconds=[0.001, 0.01], **plan) as (model, asked):
        made = make(tmp_path / "d.jsonl", model, prompts(rows), options={"concurrency": 64})
        times = Counter(asked())
    assert rows_of(tmp_path / "d.jsonl") == [row for row in range(rows) if row not in plan["refuse"]]
    assert made.aside == {"refused": 6}
    kept = lines(tmp_path / "d.jsonl.rejects.jsonl")
    assert [int(reject["item"]["messages"][0]["content"].split()[-1]) for reject in kept] == plan["refuse"]
    for reject, row in zip(kept, plan["refuse"], strict=True):
        assert f"refuses a request (400): row {row} is not for us" in reject["reason"]
    assert all(times[row] > 1 for row in plan["crowd"] + plan["hang"])
    assert made.account["retries"] == times.total() - rows
    assert "6 items were set aside (refused), the first because: The server at" in made.notes[0]


def test_a_teacher_that_answers_badly(tmp_path, prompts):
    plan = {"empty": [1], "cut": [2], "huge": [3], "break": [4], "drop": [5], "odd": [6]}
    with serving(tmp_path, **plan) as (model, _):
        made = make(tmp_path / "d.jsonl", model, prompts(8))
        first = (tmp_path / "d.jsonl").read_bytes()
        make(tmp_path / "d.jsonl", model, prompts(8))
        assert (tmp_path / "d.jsonl").read_bytes() == first
    assert rows_of(tmp_path / "d.jsonl") == [0, 4, 5, 6, 7]
    assert made.aside == {"empty": 1, "cut off": 1, "too long": 1}
    reasons = {reject["rule"]: reject["reason"] for reject in lines(tmp_path / "d.jsonl.rejects.jsonl")}
    assert "cut off at 32 tokens" in reasons["cut off"]
    assert "sent more than 1.0 MiB" in reasons["too long"]
    assert lines(tmp_path / "d.jsonl")[3]["messages"][-1]["content"].endswith("\ufffd")


def test_a_changed_prompt_makes_exactly_its_rows_new(tmp_path, prompts):
    records, out = prompts(20), tmp_path / "d.jsonl"
    mine = tmp_path / "mine"
    mine.mkdir()
    with serving(tmp_path) as (model, asked):
        make(out, model, records)
        first = lines(out)

        def changed(name, text):
            (mine / f"{name}.jinja").write_text(text, encoding="utf-8")
            before = len(asked())
            made = make(out, model, records, prompts=mine)
            return sorted(asked()[before:]), made

        own = (PROGRAM.parent / "prompts/answering_rows/long.jinja").read_text(encoding="utf-8")
        assert changed("long", own)[0] == []
        odd, made = changed("long", own.replace("at length", "in one sentence"))
        assert odd == list(range(1, 20, 2))
        assert made.account["replayed"] == 10
        second = lines(out)
        assert second[::2] == first[::2]
        assert all(
            a["origin"]["prompt"] != b["origin"]["prompt"] for a, b in zip(first[1::2], second[1::2], strict=True)
        )
        with pytest.raises(
            KilterError, match=r"long.jinja reads 'requst', which it is not given. Did you mean 'request'"
        ):
            changed("long", "{{ requst }}")
        (mine / "long.jinja").unlink()
        with pytest.raises(KilterError, match=r"lnog.jinja overrides no prompt of this method. Did you mean 'long'"):
            changed("lnog", "{{ request }}")
        assert make(out, model, records).account["requests"] == 30, "with the method's own prompts nothing is new"
    assert lines(out) == first


def test_a_budget_stops_and_what_was_bought_is_kept(tmp_path, prompts):
    records, out = prompts(100), tmp_path / "d.jsonl"
    price = parse_price("10,20")
    with serving(tmp_path) as (model, asked):
        # What was under way when it was used up is waited for and counts.
        with pytest.raises(
            KilterError, match=r"The budget of 300 tokens is used up \([3-9]\d\d\); what was answered is kept"
        ):
            make(out, model, records, budget=parse_budget("300 tokens", None))
        assert not out.exists()
        spent = len(asked())
        assert spent < 70
        made = make(out, model, records, price=price, budget=parse_budget("1", price))
        assert len(asked()) == 100
    assert made.records == 100
    assert made.account["cost"] == pytest.approx(
        (10 * made.account["prompt_tokens"] + 20 * made.account["completion_tokens"]) / 1e6
    )
    assert made.account["completion_tokens"] == 400


def test_a_dry_run_asks_nothing_and_shows_what_would_be_asked(tmp_path, prompts):
    found = registry.find("answering-rows", "data")
    desk = Desk(dry=True)
    with serving(tmp_path) as (model, _):
        [teacher] = rehearse(found, {}, desk=desk, model=model, records=prompts(50))
        assert not (tmp_path / "asked.log").read_text()
    assert teacher.requests == 50
    assert teacher.completion_tokens == 50 * 32
    [system, user] = teacher.shown[0][0]
    assert (system.content, user.content) == ("Be brief.", "say row 0")
    assert 50 * 5 < teacher.prompt_tokens < 50 * 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asked.log", "plan.json", "prompts.jsonl"]


def test_nothing_but_refusals_is_an_error_that_says_why(tmp_path, prompts):
    with (
        serving(tmp_path, refuse=[0, 1, 2]) as (model, _),
        pytest.raises(KilterError, match=r"made no records at all; look at what was left out: 3 items were set aside"),
    ):
        make(tmp_path / "d.jsonl", model, prompts(3))


def test_ctrl_c_says_how_to_go_on(tmp_path, prompts):
    records, out = prompts(300), tmp_path / "d.jsonl"
    with serving(tmp_path, seconds=[0.001, 0.01]) as (model, asked):
        words = command(model, records, out)
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while len(asked()) < 100 and process.poll() is None:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGINT)
        _, told = process.communicate()
        assert process.returncode == 130, told
        assert f"What was answered is kept in {out}.journal; the same command goes on from there." in told
        before = len(asked())
        assert make(out, model, records).records == 300
        assert len(asked()) - before <= 300 - 100 + 16


def test_records_that_cannot_be_read_stand_before_those_set_aside(tmp_path, prompts):
    records = prompts(6)
    with records.open("a", encoding="utf-8") as file:
        file.write("{broken\n")
    with serving(tmp_path, refuse=[2]) as (model, _):
        made = make(tmp_path / "d.jsonl", model, records)
    broken, refused = lines(tmp_path / "d.jsonl.rejects.jsonl")
    assert (broken["line"], refused["rule"]) == (7, "refused")
    assert (made.read, made.records, made.unread, made.aside) == (6, 5, 1, {"refused": 1})


def test_a_recipe_s_stages_share_a_journal_that_outlives_them(tmp_path, prompts):
    records = prompts(30)
    with serving(tmp_path, refuse=[9]) as (model, asked):
        recipe = {
            "name": "asking",
            "stages": {
                "make": {"data": "answering-rows", "model": model, "records": str(records)},
                "more": {"data": "answering-rows", "model": model, "records": "make"},
            },
        }
        said = []
        run(recipe, out=tmp_path / "run", say=said.append)
        assert any("1 item was set aside (refused)" in entry for entry in said)
        first = (tmp_path / "run/stages/make/records.jsonl").read_bytes()
        before = len(asked())
        # Another fingerprint begins the stage anew, in an empty folder; the answers still hold.
        recipe["stages"]["make"]["options"] = {"concurrency": 3}
        run(recipe, out=tmp_path / "run")
        assert asked()[before:] == [9]
    assert (tmp_path / "run/stages/make/records.jsonl").read_bytes() == first


def test_from_python_as_well(tmp_path, prompts):
    records = prompts(12)
    with serving(tmp_path) as (model, asked):
        made = api.make("answering-rows", model=model, records=str(records), journal=tmp_path / "j")
        assert [m.messages[0].content for m in made] == [f"say row {i}" for i in range(12)]
        again = api.make("answering-rows", model=model, records=str(records), journal=tmp_path / "j")
        answers = api.sample(model, ["row 1", "row 2"], journal=tmp_path / "j", max_tokens=8)
        assert answers == api.sample(model, ["row 1", "row 2"], journal=tmp_path / "j", max_tokens=8)
        assert len(asked()) == 14
    assert again == made
