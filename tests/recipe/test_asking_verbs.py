"""`kilter data`, `sample` and `eval` with a teacher behind a server, as people type them."""

import json

import answering_rows  # noqa: F401 - enters its method in the catalogue
import pytest
from serving_rows import lines, serving, write_prompts

from kilter.cli import main
from kilter.models import line


@pytest.fixture
def kilter(capsys, monkeypatch, tmp_path):
    """Call the command line in this process, in a folder of its own; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(line, "FIRST_PAUSE", 0.01)

    def call(*words):
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return call


def test_data_tells_what_it_made_what_it_left_out_and_what_it_cost(kilter, tmp_path):
    write_prompts(tmp_path, 40)
    words = ["data", "answering-rows", "--records", "prompts.jsonl", "--out", "d.jsonl", "--price", "1,2"]
    with serving(tmp_path, refuse=[5], crowd=[6]) as (model, asked):
        code, out, err = kilter(*words, "--model", model)
        assert (code, out) == (0, "39 records: d.jsonl\n")
        assert "1 item was set aside (refused), the first because: The server at" in err
        assert "See d.jsonl.rejects.jsonl." in err
        assert "41 requests, 1 of them again" in err
        assert "; cost 0.0" in err
        code, out, _ = kilter(*words, "--model", model, "--json")
        told = json.loads(out)
        assert (told["records"], told["read"], told["aside"]) == (39, 40, {"refused": 1})
        assert told["account"]["replayed"] == 39
        assert len(asked()) == 42
    assert len(lines(tmp_path / "d.jsonl")) == 39
    assert (tmp_path / "d.jsonl.journal").exists()


def test_a_dry_run_shows_prompts_and_an_estimate(kilter, tmp_path):
    write_prompts(tmp_path, 40)
    words = ["data", "answering-rows", "--model", "http://127.0.0.1:9/v1#none", "--records", "prompts.jsonl"]
    code, out, _ = kilter(*words, "--out", "d.jsonl", "--dry-run", "--price", "1,2", "--max-tokens", 100)
    assert code == 0
    assert "--- 1. to http://127.0.0.1:9/v1#none: 1 answer of at most 100 tokens" in out
    assert "[system]\nExplain at length. 请详细说明。\n[user]\nsay row 1" in out
    assert "--- 40 first questions: about" in out
    assert "at most 4,000 to write, at most 0.00" in out
    code, out, _ = kilter(*words, "--out", "d.jsonl", "--dry-run", "--json")
    assert json.loads(out)["requests"] == 40
    assert not list(tmp_path.glob("d.jsonl*"))


def test_a_budget_and_other_prompts_on_the_command_line(kilter, tmp_path):
    write_prompts(tmp_path, 40)
    words = ["data", "answering-rows", "--records", "prompts.jsonl", "--out", "d.jsonl"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "short.jinja").write_text("kurz: {{ request }}", encoding="utf-8")
    with serving(tmp_path) as (model, asked):
        code, _, err = kilter(*words, "--model", model, "--budget", "100 tokens")
        assert code == 1
        assert "kilter: The budget of 100 tokens is used up" in err
        some = len(asked())
        assert 0 < some < 40
        code, _, err = kilter(*words, "--model", model, "--budget", "1M tokens", "--prompts", "mine")
        assert code == 0, err
        assert len(asked()) <= some + 40
        for wrong, says in [
            (["--budget", "plenty"], "is no budget"),
            (["--price", "x"], "is no price"),
            (["--prompts", "none"], "There is no folder none"),
        ]:
            code, _, err = kilter(*words, "--model", model, *wrong)
            assert code == 1
            assert says in err
    code, _, err = kilter("data", "world-demonstrations", "--out", "w.jsonl", "--prompts", "mine")
    assert code == 2, "a method that asks nobody has no such flag"


def test_sampling_into_a_file_asks_nothing_twice(kilter, tmp_path):
    write_prompts(tmp_path, 20)
    words = ["sample", "--prompts", "prompts.jsonl", "--out", "s.jsonl", "--max-tokens", "9"]
    with serving(tmp_path, refuse=[3]) as (model, asked):
        code, out, err = kilter(*words, "--model", model)
        assert (code, out) == (0, "19 prompts, 1 answer each: s.jsonl\n")
        assert "1 item was set aside (refused)" in err
        first = (tmp_path / "s.jsonl").read_bytes()
        assert kilter(*words, "--model", model)[0] == 0
        assert asked()[20:] == [3]
        assert (tmp_path / "s.jsonl").read_bytes() == first
        code, out, _ = kilter("sample", "--model", model, "--prompt", "row 7", "--json")
        assert json.loads(out)[0]["responses"][0].startswith("answer 7 回答")


def test_a_suite_goes_on_where_it_was(kilter, tmp_path, monkeypatch):
    """The world's prompts name no rows, so this server is told which row each of them is."""
    from kilter.models.server import Server

    ask = Server.ask

    async def numbered(self, messages, sampling):
        from kilter.records import Message

        return await ask(
            self, [*messages[:-1], Message("user", f"{messages[-1].content} row {sampling.seed}")], sampling
        )

    monkeypatch.setattr(Server, "ask", numbered)
    words = ["eval", "world", "--n", "30", "--out", "world.json"]
    with serving(tmp_path, refuse=[4]) as (model, asked):
        code, out, err = kilter(*words, "--model", model)
        assert code == 0, err
        assert "1 item was set aside (refused)" in err
        assert len(asked()) == 30
        first = out
        code, out, _ = kilter(*words, "--model", model)
        assert (code, out) == (0, first)
        assert asked()[30:] == [4]
    found = json.loads((tmp_path / "world.json").read_text(encoding="utf-8"))
    assert any("set aside" in note for note in found["notes"])
