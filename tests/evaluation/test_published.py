"""The table of published numbers: what it makes of raw material, of material that is missing and of a wrong figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jsonl import write
from kilter.cli.entry import main
from kilter.errors import KilterError
from kilter.evaluation.published import Figure, llmbar_statistics, recomputed, winner


def alpaca(folder: Path, win_rate: float = 62.5) -> Path:
    shares = [2, 1.5, 1, 2]
    rows = [
        {"model": "m", "instruction": f"i{at}", "preference": p, "len_model": 10, "len_reference": 9}
        for at, p in enumerate(shares)
    ]
    rows += [
        {"model": "n", "instruction": f"i{at}", "preference": 1.2, "len_model": 8, "len_reference": 9}
        for at in range(3)
    ]
    write(folder / "alpaca_eval2_annotations_x.jsonl", rows)
    board = [
        {"model": "m", "win_rate": str(win_rate), "n_wins": "2", "n_draws": "1", "n_total": "4", "avg_length": "10"},
        {"model": "n", "win_rate": "20.0", "avg_length": "6"},
        {"model": "gone", "win_rate": "1"},
    ]
    write(folder / "alpaca_eval2_leaderboard_x.jsonl", board)
    return folder


def test_each_figure_is_a_row_and_a_wrong_one_differs(tmp_path: Path) -> None:
    figures, notes = recomputed(alpaca(tmp_path, win_rate=62.6))
    by_name = {figure.name: figure for figure in figures}
    assert not by_name["AlpacaEval 2, m, win_rate"].agrees
    assert by_name["AlpacaEval 2, m, win_rate"].ours == pytest.approx(62.5)
    assert all(f.agrees for name, f in by_name.items() if name != "AlpacaEval 2, m, win_rate")
    # An output that was not judged is an empty one: 3 of 8 characters over 4 instructions are 6.
    assert by_name["AlpacaEval 2, n, avg_length"].ours == 6
    assert notes == ["AlpacaEval: gone has no annotations."]


ORIGINAL = {"label": 1, "results": [["metrics"], {"swap = False": {"winner": "1"}, "swap = True": {"winner": None}}]}


def test_verdicts_of_llmbar_in_all_its_forms() -> None:
    assert (winner(ORIGINAL, False), winner(ORIGINAL, True)) == ("1", None)
    assert (winner({"swap_False": "2", "swap_True": None}, False), winner({"swap_True": {"winner": "1"}}, True)) == (
        "2",
        "1",
    )
    assert winner({"swap_False": None}, False) is None


def test_llmbars_statistics_by_hand() -> None:
    pairs = [("1", "1"), ("2", "1"), ("2", "2"), (None, "2")]
    found = llmbar_statistics(pairs, ["1", "1", "2", "2"])
    assert found["correct_False"] == 50  # an unread verdict is wrong
    assert found["correct_True"] == 100
    assert (found["correct_average"], found["correct_both"], found["equal"]) == (75, 50, 50)
    # Codes 1, 0, 0, 0 and 1, 1, 0, 0: observed 3/4, expected 1/2.
    assert found["kappa_agreement"] == pytest.approx(0.5)


def test_llmbar_with_and_without_verdicts(tmp_path: Path) -> None:
    folder = tmp_path / "llmbar"
    statistics = {"correct_False": "1 / 2 = 50.0%", "equal": "2 / 2 = 100.0%", "kappa_False": 0.2}
    write(folder / "Natural_dataset.jsonl", [{"label": 1}, {"label": 2}])
    for name, said in (("Natural_J_CoT", ["1", "1"]), ("Natural_J_Swap", [None, None])):
        write(folder / f"{name}.jsonl", [{"swap_False": x, "swap_True": x} for x in said])
        (folder / f"{name}.statistics.json").write_text(json.dumps(statistics), encoding="utf-8")
    figures, notes = recomputed(tmp_path)
    assert [(f.name, f.ours, f.agrees) for f in figures] == [
        ("LLMBar, Natural_J_CoT, correct_False", 50.0, True), ("LLMBar, Natural_J_CoT, equal", 100.0, True)
    ]  # fmt: skip
    assert notes == ["LLMBar: 1 files hold no verdict to compute anything from (Natural_J_Swap)."]


def test_a_file_that_nobody_published_a_figure_of_is_told(tmp_path: Path) -> None:
    write(
        tmp_path / "halluqa" / "mymodel_output_qa_prompt.jsonl",
        [{"is_hallucination": False}, {"is_hallucination": "Invalid_Judge"}],
    )
    write(tmp_path / "bbh_codex" / "my_task_cot.jsonl", [{"prediction": "So the answer is 1.", "target": "1"}])
    write(
        tmp_path / "ifeval" / "mymodel.jsonl",
        [{"follow_instruction_list": [True, False], "follow_all_instructions": True}],
    )
    figures, notes = recomputed(tmp_path)
    assert figures == [Figure("IFEval, mymodel, prompts whose verdicts contradict", 0, 1, 0)]
    assert [note.split(":")[0] for note in notes] == ["HalluQA", "BIG-Bench Hard", "IFEval"]
    assert "it is 50.00 here" in notes[0]


def test_where_there_is_nothing_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(KilterError, match="holds nothing of a published source"):
        recomputed(tmp_path)
    with pytest.raises(KilterError, match="is no folder"):
        recomputed(tmp_path / "missing")


def test_the_command_prints_the_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alpaca(tmp_path / "published", win_rate=62.6)
    with pytest.raises(SystemExit) as stopped:
        main(["eval", "--published", "--data", str(tmp_path)])
    assert stopped.value.code == 0
    shown = capsys.readouterr()
    assert "differs" in next(line for line in shown.out.splitlines() if "m, win_rate" in line)
    assert shown.out.splitlines()[-1] == "6 of 7 figures are as published."
    assert "gone has no annotations" in shown.err
    with pytest.raises(SystemExit):
        main(["eval", "--published", "--data", str(tmp_path), "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows[0] == {"name": "AlpacaEval 2, m, win_rate", "published": 62.6, "ours": 62.5, "tolerance": 1e-6}
