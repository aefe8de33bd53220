"""Studies of data: the scaling law's known answers, nested subsets, trends of curves, a balanced plan of runs."""

import itertools
from collections import Counter

import pytest

from kilter import formats
from kilter.data.belle_scaling import belle_scaling, trend
from kilter.data.data_constrained import Law, data_constrained
from kilter.data.fine_mgmt import fine_mgmt, plan
from kilter.errors import KilterError
from kilter.records import Demonstration, Message


def demonstration(asked, answer="Yes.", **meta):
    return Demonstration([Message("user", asked), Message("assistant", answer)], meta=meta)


@pytest.mark.parametrize(
    ("parameters", "tokens", "loss"),
    [(6.34e9, 242e9, 2.2256440889984477), (8.67e9, 178e9, 2.2269634075087867)],
)
def test_losses_that_the_authors_code_gives(parameters, tokens, loss):
    assert Law().loss(parameters, tokens, 25e9) == pytest.approx(loss, rel=1e-14)


def test_the_best_allocation_of_compute():
    """The authors' search ends near here; the loss of the minimum that is found is not above theirs."""
    law = Law()
    parameters, tokens = law.best(1e22, 25e9)
    assert tokens == pytest.approx(237336955477.55, rel=1e-3)
    assert parameters == pytest.approx(7022364735.88, rel=1e-3)
    assert tokens / 25e9 == pytest.approx(9.493, abs=0.01)
    assert law.loss(parameters, tokens, 25e9) <= law.loss(7022364735.88, 237336955477.55, 25e9)
    nearby = [law.loss(parameters / f, tokens * f, 25e9) for f in (0.9, 0.99, 1.01, 1.1)]
    assert min(nearby) > law.loss(parameters, tokens, 25e9)


def test_four_epochs_are_nearly_new_data_and_forty_are_not():
    law = Law()
    new = [law.worth_of_tokens(epochs * 1e9, 1e9) / (epochs * 1e9) for epochs in (1, 4, 40)]
    assert new[0] == 1
    assert new[1] > 0.92
    assert new[2] < 0.4
    assert law.loss(1e9, 1e10) == law.loss(1e9, 1e10, 1e10)


def test_a_budget_is_filled_by_repeating_and_by_code(capsys):
    text = [demonstration(f"a b c d {i}", "e f g h i", source="web") for i in range(20)]
    code = [demonstration(f"x = {i}", "y", source="code") for i in range(200)]
    found = data_constrained(text, tokens=2_000, parameters=1e6)
    assert Counter(Counter(r.messages[0].content for r in found).values()) == {4: 20}
    assert len({r.id for r in found}) == 80
    err = capsys.readouterr().err
    assert "800 of 2,000 tokens, 200 of them different (4.00 epochs)" in err
    assert f"predicted loss {Law().loss(1e6, 800, 200):.4f}" in err
    some = data_constrained(text, tokens=333, parameters=1e6)
    assert len(some) == 33
    both = data_constrained(text + code, tokens=2_000, parameters=1e6, code="code")
    tokens = Counter()
    for record in both:
        tokens[record.meta["source"]] += 10 if record.meta["source"] == "web" else 3
    assert tokens["web"] == 800
    assert tokens["code"] <= 800
    assert tokens["code"] > 790
    with pytest.raises(KilterError, match="has the source 'kode'"):
        data_constrained(text, tokens=10, parameters=1e6, code="kode")


def test_subsets_are_nested_and_keep_the_kinds_in_proportion():
    records = [demonstration(f"{kind} {i}", family=kind) for kind, n in (("qa", 300), ("code", 100)) for i in range(n)]
    whole = belle_scaling(records)
    assert {r.id for r in whole} == {r.id for r in records}
    for part, earlier in ((0.1, 0.0), (0.3, 0.1), (0.5, 0.3)):
        subset = belle_scaling(records, part=part)
        assert [r.id for r in subset] == [r.id for r in whole[: len(subset)]]
        assert len(subset) == part * 400
        assert Counter(r.meta["family"] for r in subset)["qa"] == pytest.approx(part * 300, abs=1)
        assert {r.meta["subset"] for r in whole[int(earlier * 400) : len(subset)]} == {part}
    assert [r.id for r in belle_scaling(records, seed=1)] != [r.id for r in whole]


def test_trends_of_known_curves():
    sizes = [0.2e6, 0.6e6, 1e6, 2e6]
    assert trend(sizes, [0.30, 0.46, 0.53, 0.63]) == "rising"  # straight in the logarithm
    assert trend(sizes, [0.50, 0.70, 0.72, 0.72]) == "saturated"
    assert trend(sizes, [0.50, 0.70, 0.72, 0.70]) == "saturated"
    assert trend(sizes, [0.20, 0.21, 0.20, 0.21]) == "flat"
    assert trend(sizes[::-1], [0.63, 0.53, 0.46, 0.30]) == "rising"
    with pytest.raises(KilterError, match="three sizes"):
        trend([1, 2], [0, 1])


def test_the_plan_is_balanced():
    cells = plan(scored=True, several=True)
    assert len(cells) == 3 * 3 * 2 == len(set(cells))
    for a, b in itertools.combinations(("quality", "order", "mixing"), 2):
        pairs = Counter((getattr(cell, a), getattr(cell, b)) for cell in cells)
        assert len(set(pairs.values())) == 1
    assert len(plan(scored=False, several=False)) == 2


def test_a_run_has_its_levels_and_pins_its_files(tmp_path):
    sources = {}
    for name, count in (("a", 60), ("b", 20)):
        path = tmp_path / f"{name}.jsonl"
        records = [demonstration(f"{name} {i} " + "word " * (i % 7), score=float(i)) for i in range(count)]
        formats.write(records, path)
        sources[str(path)] = None
    cells = plan(scored=True, several=True)
    sizes = set()
    for number, cell in enumerate(cells):
        found = fine_mgmt(run=number, sources=sources, quality="score")
        sizes.add(len(found))
        run = found[0].meta["run"]
        assert (run["quality"], run["order"], run["mixing"]) == (cell.quality, cell.order, cell.mixing)
        assert set(run["hashes"]) == set(sources)
        scores = [r.meta["score"] for r in found]
        if cell.order == "best first":
            assert scores == sorted(scores, reverse=True)
        if cell.order == "short first":
            lengths = [len(r.messages[0].content) for r in found]
            assert lengths == sorted(lengths)
        counts = Counter(r.meta["source"] for r in found)
        assert sorted(counts.values()) == ([2, 2] if cell.mixing == "equal" else [1, 3])
        if cell.quality == "best tenth":
            assert min(scores) >= 18
    assert sizes == {4}
    before = fine_mgmt(run=0, sources=sources)[0].meta["run"]["hashes"]
    with (tmp_path / "a.jsonl").open("a") as stream:
        stream.write("\n")
    after = fine_mgmt(run=0, sources=sources)[0].meta["run"]["hashes"]
    assert {name for name in sources if before[name] != after[name]} == {str(tmp_path / "a.jsonl")}
    with pytest.raises(KilterError, match="no run 18"):
        fine_mgmt(run=18, sources=sources, quality="score")
