"""Mixtures: shares as the formulas give them, counts that are exact, and what the papers' tables add up to."""

from collections import Counter

import numpy as np
import pytest

from kilter import formats
from kilter.data.flacuna import FLAN_MINI, flacuna
from kilter.data.flan import CAPS, FORMS, OPTIONS, WEIGHTS, collection, flan
from kilter.data.mix import mix
from kilter.data.mixture import counts, shares
from kilter.data.tulu import HUMAN, HUMAN_AND_GPT, ablation, parse, render, tulu
from kilter.errors import KilterError
from kilter.records import Demonstration, Message


def some(count, name, **meta):
    return [
        Demonstration([Message("user", f"{name} {i}?"), Message("assistant", f"{i}!")], meta=meta) for i in range(count)
    ]


def file(path, count):
    formats.write(some(count, path.stem), path)
    return str(path)


def test_shares_are_capped_and_warmed():
    assert shares([100, 300]).tolist() == [0.25, 0.75]
    assert shares([10_000, 50_000, 1_500], cap=3_000).tolist() == [0.4, 0.4, 0.2]
    assert shares([1, 16], temperature=2).tolist() == pytest.approx([1 / 5, 4 / 5])
    assert shares([1, 10**6, 0], temperature=1e9).tolist() == pytest.approx([0.5, 0.5, 0])
    with pytest.raises(KilterError, match="No source"):
        shares([0, 0])


def test_counts_are_exact_and_what_one_lacks_the_others_give():
    assert counts(np.array([0.5, 0.25, 0.25]), [100, 100, 100], 101) == [51, 25, 25]
    assert counts(np.array([0.5, 0.25, 0.25]), [10, 100, 100], 100) == [10, 45, 45]
    assert counts(np.array([0.5, 0.25, 0.25]), [10, 100, 100], 100, epochs=3) == [30, 35, 35]
    assert counts(np.array([0.9, 0.1]), [5, 5], 1000) == [5, 5]
    assert counts(np.array([1.0, 0.0]), [5, 5], 8) == [5, 0]


def test_mix_of_files_by_weights(tmp_path):
    a, b = file(tmp_path / "a.jsonl", 90), file(tmp_path / "b.jsonl", 30)
    found = mix(sources={a: 0.25, b: 0.75}, n=40, seed=1)
    assert Counter(r.meta["source"] for r in found) == {a: 10, b: 30}
    assert len({r.id for r in found}) == 40
    assert [r.id for r in mix(sources={a: 0.25, b: 0.75}, n=40, seed=1)] == [r.id for r in found]
    assert [r.id for r in mix(sources={a: 0.25, b: 0.75}, n=40, seed=2)] != [r.id for r in found]
    assert len(mix(sources={a: 0.25, b: 0.75})) == 40  # the most at which nothing is repeated
    assert Counter(r.meta["source"] for r in mix(sources={a: None, b: None}, cap=45)) == {a: 45, b: 30}
    repeated = mix(sources={a: 0.1, b: 0.9}, n=100, epochs=3)
    assert Counter(r.meta["source"] for r in repeated) == {a: 10, b: 90}
    assert len({r.id for r in repeated}) == 100
    with pytest.raises(KilterError, match="has no weight"):
        mix(sources={a: 0.5, b: None})
    with pytest.raises(KilterError, match="nothing to mix"):
        mix()


def test_mix_of_records_by_their_meta():
    records = some(80, "x", domain="x") + some(20, "y", domain="y")
    found = mix(records, by="domain", n=40, temperature=1e6)
    assert Counter(r.meta["source"] for r in found) == {"x": 20, "y": 20}
    assert "source" not in records[0].meta


def test_flan_2021_gives_capped_tasks_equal_shares():
    records = some(9_000, "big", task="big") + some(4_000, "mid", task="mid") + some(1_000, "small", task="small")
    found = flan(records, n=3_500, seed=3)
    assert Counter(r.meta["source"] for r in found) == {"big": 1500, "mid": 1500, "small": 500}
    for task in ("big", "mid", "small"):
        forms = Counter(r.meta["form"] for r in found if r.meta["source"] == task)
        assert set(forms) == set(FORMS)
        assert max(forms.values()) - min(forms.values()) <= 1


def test_flan_forms():
    options = ["yes", "no"]
    found = flan(some(40, "q", task="t", options=options), shots=2)
    for record in found:
        asked, answer = (m.content for m in record.messages)
        assert asked.count(OPTIONS) == (0 if not record.meta["form"].endswith("options") else asked.count("?"))
        if record.meta["form"].startswith("few-shot"):
            assert asked.count("?") == 3
            assert asked.count("!") == 2
            assert f"q {answer[:-1]}?" in asked.split("\n\n\n")[-1]
            assert f"q {answer[:-1]}?" not in "".join(asked.split("\n\n\n")[:-1])
        else:
            assert asked.startswith(f"q {answer[:-1]}?")


def test_the_flan_collection_has_the_paper_s_weights():
    assert sum(WEIGHTS.values()) == pytest.approx(1)
    tasks = {f"{kind} {i}": some(size, "q", submixture=kind) for kind in WEIGHTS for i, size in enumerate((30, 10))}
    found = dict(zip(tasks, collection(tasks), strict=True))
    for kind, weight in WEIGHTS.items():
        assert found[f"{kind} 0"] == pytest.approx(weight * 0.75)
        assert found[f"{kind} 1"] == pytest.approx(weight * 0.25)
    records = [r for kind in WEIGHTS for r in some(4_000, kind, task=kind, submixture=kind)]
    drawn = flan(records, version="v2", n=10_000, epochs=2)
    n = len(drawn)
    for kind, weight in WEIGHTS.items():
        assert abs(sum(r.meta["source"] == kind for r in drawn) - n * weight) <= 3 * (n * weight * (1 - weight)) ** 0.5
    inverted = {kind: [r.meta["inverted"] for r in drawn if r.meta["source"] == kind] for kind in WEIGHTS}
    assert not any(map(any, (inverted["flan"], inverted["t0"], inverted["niv2"])))
    both = inverted["cot"] + inverted["dialog"]
    assert abs(sum(both) - 0.3 * len(both)) <= 3 * (0.21 * len(both)) ** 0.5
    assert set(CAPS) == set(WEIGHTS)
    with pytest.raises(KilterError, match="Did you mean 'dialog'"):
        flan(some(3, "q", task="t", submixture="dialogs"), version="v2")


def test_an_inverted_example_asks_for_the_question():
    records = some(200, "q", task="t", submixture="cot")
    for record in flan(records, version="v2"):
        asked, answer = (m.content for m in record.messages)
        assert answer.endswith("?") == record.meta["inverted"]
        assert asked.split("\n\n\n")[-1].startswith(answer.split()[-1].strip("?") + "!") == record.meta["inverted"]


def test_flacuna_adds_up_and_keeps_its_proportions(tmp_path):
    assert sum(FLAN_MINI.values()) == 1_340_000
    sources = {name: file(tmp_path / f"{name}.jsonl", 60) for name in FLAN_MINI}
    found = Counter(r.meta["source"] for r in flacuna(sources=sources, n=134))
    assert found == {name: pytest.approx(size / 10_000, abs=1) for name, size in FLAN_MINI.items()}
    assert sum(found.values()) == 134
    del sources["apps"]
    with pytest.raises(KilterError, match="lacks apps"):
        flacuna(sources=sources, n=134)
    assert len(flacuna(sources=sources, n=134, partial=True)) == 134


def test_tulu_mixtures(tmp_path):
    sources = {name: file(tmp_path / f"{name}.jsonl", 5 + i) for i, name in enumerate(HUMAN_AND_GPT)}
    found = tulu(sources=sources)
    assert Counter(r.meta["source"] for r in found) == {name: 5 + i for i, name in enumerate(HUMAN_AND_GPT)}
    human = {name: sources[name] for name in HUMAN}
    assert {r.meta["source"] for r in tulu(sources=human, mixture="human")} == set(HUMAN)
    with pytest.raises(KilterError, match="lacks gpt4-alpaca, code-alpaca, sharegpt"):
        tulu(sources=human)
    with pytest.raises(KilterError, match="Did you mean 'dolly'"):
        tulu(sources={"doly": "x"})


def test_tulu_s_format_there_and_back():
    turns = [Message("system", "Be kind."), Message("user", "Hi\n\n"), Message("assistant", ""), Message("user", "<b>")]
    assert parse(render(turns)) == turns
    assert render(turns[1:2]) == "<|user|>\nHi\n\n"
    with pytest.raises(KilterError, match="does not begin"):
        parse("Hello")


def test_tulu_s_table_names_the_best_of_each_column():
    results = {
        "cot": {"gsm": 0.5, "code": 0.1, "chat": 0.2},
        "code-alpaca": {"gsm": 0.2, "code": 0.4, "chat": 0.3},
        "mix": {"gsm": 0.45, "code": 0.4, "chat": 0.6},
    }
    best, average = ablation(results)
    assert best == {"gsm": ["cot"], "code": ["code-alpaca", "mix"], "chat": ["mix"]}
    assert average == "mix"
    with pytest.raises(KilterError, match="'cot' has no result of chat"):
        ablation({"mix": {"chat": 1.0}, "cot": {}})
