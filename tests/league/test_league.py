"""The league end to end on the shipped model, two methods and one seed; and what it refuses."""

import importlib.util
import json
from pathlib import Path

import pytest

from kilter import registry
from kilter.cli import main
from kilter.errors import KilterError
from kilter.league import league, page, table
from kilter.league.measure import Found, divergences
from kilter.league.run import Outcome
from kilter.league.settings import chosen, options_for, read, trains_a_policy, unlisted
from kilter.models.load import load
from kilter.world import World

# A start that is hardly tuned, and a handful of prompts: what is tested is the way, not the effect.
TINY = {
    "start.set.demonstrations.n": 64,
    "start.set.sft.batch_size": 16,
    "start.set.demonstrations.lenient": 0.0,
    "data.prompts": 10,
    "data.max_tokens": 8,
    "measuring.n": 60,
    "measuring.kl_prompts": 3,
    "measuring.max_tokens": 8,
    "online.max_tokens": 8,
}


@pytest.fixture(scope="module")
def settings_file(tmp_path_factory):
    """Two methods that train, and a row whose method refuses what it is given."""
    path = tmp_path_factory.mktemp("settings") / "two.yaml"
    path.write_text(
        """
shared: {learning_rate: 1.0e-3, epochs: 1, batch_size: 4, max_length: 256, checkpoint_every: 0}
online: {epochs: 1, samples: 2, feedback: world}
methods:
  sft:
  rloo: {note: It hardly had anything to learn from.}
  judged: {method: rlhf-ppo, first: {critic: {method: reward-outcome}}, options: {updates: 1}}
  broken: {method: sft, options: {max_length: 2}}
""",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, settings_file):
    out = tmp_path_factory.mktemp("league")
    told = []
    done = league(out, seeds=[0], settings=settings_file, set=TINY, workers=1, say=told.append)
    return out, done, told


def test_every_row_is_measured_and_one_that_fails_stops_no_other(finished):
    out, done, told = finished
    found = {outcome.row: outcome for outcome in done}
    assert list(found) == ["start", "sft", "rloo", "judged", "broken"]
    assert not found["sft"].error
    assert not found["rloo"].error
    assert "raise max_length" in found["broken"].error
    assert any("broken.0" in line and "failed" in line for line in told)
    assert not found["judged"].error, "its critic is trained first, on the same groups"
    assert not list(found["judged"].folder.glob("first-*"))
    for row in ("sft", "rloo", "judged"):
        measured = Found.from_json(json.loads((found[row].folder / "result.json").read_text(encoding="utf-8")))
        assert len(measured.rewards) == 60
        assert len(measured.kl) == 3
        assert set(measured.measures()) == {"reward", "helpful", "harmless", "honest", "kl"}
        assert found[row].cost["tokens"] > 0
        assert not (found[row].folder / "model").exists(), "weights are kept only where they are wanted"
    # All learn from the same: the start's answers, and the truth about them.
    data = out / "stages" / "start.0"
    groups = [json.loads(line) for line in (data / "groups.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(groups) == 10
    assert all(len(group["scores"]) == len(group["responses"]) for group in groups)


def test_what_is_finished_is_kept_and_a_changed_row_runs_again(finished, settings_file):
    out, done, _ = finished
    told = []
    again = league(out, rows=["sft"], seeds=[0], settings=settings_file, set=TINY, workers=1, say=told.append)
    assert told == ["2 of 2 were finished before and are kept."]
    assert again == done[:2]
    other = {**TINY, "measuring.kl_prompts": 2}
    with pytest.raises(KilterError, match="no row 'dop'"):
        league(out, rows=["dop"], seeds=[0], settings=settings_file, set=other)


def test_the_command_writes_the_page_with_its_numbers_and_says_what_failed(finished, settings_file, tmp_path, capsys):
    out, _, _ = finished
    sets = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    page = tmp_path / "page.md"
    words = ["league", "--out", str(out), "--seeds", "0", "--settings", str(settings_file), "--page", str(page), *sets]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--workers", "1"])
    assert stop.value.code == 1, "a row has failed"
    assert "broken on seed 0" in capsys.readouterr().err
    text = page.read_text(encoding="utf-8")
    assert "**SFT, the start**" in text
    assert "| `broken` | failed |" in text
    assert "raise max_length" in text
    assert "(page.svg)" in text
    assert (tmp_path / "page.svg").read_text(encoding="utf-8").count("<circle") == 3
    rows = json.loads((tmp_path / "page.json").read_text(encoding="utf-8"))["rows"]
    assert [row["row"] for row in rows][-1] == "broken"
    for row in rows[:-1]:
        assert f"{row['reward']['value']:.2f}" in text


def test_a_row_is_better_only_where_the_interval_of_its_gain_leaves_out_zero(tmp_path):
    """Three seeds, 100 prompts of one family: rewards by hand."""

    def outcome(row, seed, good, kl=(1.0, 2.0)):
        folder = tmp_path / f"{row}.{seed}"
        folder.mkdir()
        families = [family for family in ("facts", "harmful") for _ in range(50)]
        rewards = [float(i % 50 < good) for i in range(100)]
        found = Found(rewards, families, [] if row == "start" else list(kl))
        (folder / "result.json").write_text(json.dumps(found.to_json()), encoding="utf-8")
        return Outcome(row, seed, folder, {"seconds": 2.0, "core_seconds": 1.0, "tokens": 100, "steps": 3})

    done = [outcome("start", s, 20) for s in range(3)]
    done += [outcome("up", s, 40) for s in range(3)]
    done += [outcome("down", s, 5) for s in range(3)]
    done += [outcome("either", s, 20 + change) for s, change in enumerate((-6, 0, 7))]
    done += [Outcome("lost", s, error="No.") for s in range(3)]
    rows = {row["row"]: row for row in table.results(done, {})}
    assert list(rows) == ["up", "either", "start", "down", "lost"], "best first, failures last"
    assert rows["up"]["verdict"] == "better"
    assert rows["up"]["gain"]["value"] == pytest.approx(0.4)
    assert rows["down"]["verdict"] == "worse"
    assert rows["either"]["verdict"] == "not told apart"
    assert rows["start"]["reward"]["value"] == pytest.approx(0.4)
    assert rows["up"]["kl"]["value"] == pytest.approx(1.5)
    assert rows["up"]["tokens"] == 100
    lines = table.markdown(list(rows.values())).splitlines()
    assert lines[2].startswith("| `up` | 0.80 ±")
    assert "| `down` |" in lines[5]
    assert "↓" in lines[5]


@pytest.mark.parametrize(
    ("gain", "kl", "said"),
    [
        ((0.02, -0.01, 0.05), 2.0, "gained, but by less than these seeds can tell"),
        ((-0.02, -0.05, 0.01), 2.0, "what it gained in one place it lost in another"),
        ((-0.2, -0.3, -0.1), 2.0, "lost what that knew"),
        ((-0.02, -0.05, 0.01), 0.1, "hardly moved"),
    ],
)
def test_the_likely_reason_fits_the_numbers(gain, kl, said):
    row = {"gain": dict(zip(("value", "low", "high"), gain, strict=True)), "kl": {"value": kl}, "steps": 20}
    assert said in page._reason(row)


def test_the_readme_s_table_is_the_league_s(tmp_path):
    root = Path(__file__).parents[2]
    spec = importlib.util.spec_from_file_location("readme_methods", root / "docs" / "readme_methods.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    number = {"value": 0.5, "low": 0.4, "high": 0.6}
    row = {"row": "dpo", "seeds": [0], "gain": number, "verdict": "better"}
    row |= dict.fromkeys(("reward", "helpful", "harmless", "honest", "kl"), number)
    (tmp_path / "league.json").write_text(json.dumps({"rows": [row]}), encoding="utf-8")
    text = f"before\n{made.LEAGUE}\nold\n{made.LEAGUE_END}\nafter"
    found = made.with_league(text, tmp_path / "league.json")
    assert "| `dpo` | 0.50 ±0.10 | +0.500 ±0.100 |" in found
    assert "old" not in found
    assert found.startswith("before")
    assert found.endswith("after")
    assert made.with_league("no marks", tmp_path / "league.json") == "no marks"


def test_a_model_is_no_nats_away_from_itself():
    nano = load("kilter/nano")
    prompts = World().prompts("eval", 3, seed=0)
    assert divergences(nano, nano, prompts, 6) == [0.0, 0.0, 0.0]


def test_every_method_that_trains_a_policy_has_a_line():
    found = read()
    assert unlisted(found) == [], "add a line to assets/league.yaml, with the reason for each option that it sets"
    assert trains_a_policy(registry.find("dpo", "training"))
    assert not trains_a_policy(registry.find("rm-bt", "training"))


@pytest.mark.parametrize("row", sorted(read().methods))
def test_the_options_of_every_line_are_the_methods_own(row):
    found = read()
    line = found.methods[row]
    if line.model is None:
        given = options_for(found, row, line, seed=1)
        assert given.get("seed", 1) == 1


def test_settings_that_are_wrong_are_refused_in_a_sentence(tmp_path, settings_file):
    with pytest.raises(KilterError, match="measuring"):
        read(set_file(tmp_path, "methods: {sft: }\nmeasurings: {n: 3}"))
    with pytest.raises(KilterError, match="has no row 'dop'"):
        chosen(read(), ["dop"])
    with pytest.raises(KilterError, match="Row 'sft' of the league: Unknown option 'beta'"):
        league(tmp_path / "out", settings=set_file(tmp_path, "methods: {sft: {options: {beta: 1}}}"))
    with pytest.raises(KilterError, match="No seed"):
        league(tmp_path / "out", seeds=[], settings=settings_file)
    assert not (tmp_path / "out").exists(), "nothing has begun"


def set_file(folder, text):
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path
