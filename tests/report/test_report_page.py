from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import made_runs as made
import pytest

from kilter import report
from kilter.errors import KilterError

VOID = {"meta", "line", "rect", "circle", "path", "polyline", "link", "br"}


class Page(HTMLParser):
    """Collects what a reader would see, and checks that elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


@pytest.fixture(scope="module")
def built(run_folder: Path) -> tuple[Page, dict, str]:
    page = report.build(run_folder)
    assert page == run_folder / "report.html"
    data = json.loads((run_folder / "report.json").read_text(encoding="utf-8"))
    return Page(page.read_text(encoding="utf-8")), data, (run_folder / "report.md").read_text(encoding="utf-8")


def test_the_page_is_one_file_that_asks_for_nothing(run_folder: Path, built: tuple[Page, dict, str]) -> None:
    text = (run_folder / "report.html").read_text(encoding="utf-8")
    assert len(text) < 1_000_000
    assert "http" not in re.sub(r'http-equiv="Content-Security-Policy"', "", text)
    page = built[0]
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on") or a in ("src", "srcset")]
    assert "{{" not in text
    assert "None" not in page.text


def test_what_a_model_wrote_is_text_and_nothing_else(make_run: Callable[..., Path]) -> None:
    folder = make_run(0, 8)
    path = folder / "stages" / "evaluation" / "base.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    for sample in data["samples"]:
        sample["response"] = made.EVIL
    path.write_text(json.dumps(data), encoding="utf-8")
    page = Page(report.build(folder).read_text(encoding="utf-8"))
    assert made.EVIL in page.text
    assert "script" not in {tag for tag, _ in page.tags}
    # In Markdown it stands in a code block whose fence is longer than any inside.
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    for found in re.finditer(re.escape(made.EVIL), markdown):
        assert markdown[: found.start()].rstrip("\n").endswith("````text")


def test_the_page_says_everything_that_was_asked_for(built: tuple[Page, dict, str]) -> None:
    page, data, markdown = built
    for heading in ("What changed", "Training", "Where it got worse", "Samples", "What it cost", "How to repeat it"):
        assert heading in page.text
        assert heading in markdown
    assert data["verdict"] in page.text
    assert data["command"] in page.text
    assert "2.13.0" in page.text
    assert "含中文" in page.text
    assert "AMD EPYC 7R13 · 2 cores · 8.00 GiB memory · no accelerator" in page.text
    assert "3 min 38 s" in page.text
    labels = [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg" and attrs.get("role") == "img"]
    assert "Loss over 150 steps, from 4.580 to 0.417" in labels
    assert sum(label.startswith("Reward margin") for label in labels if label) == 1
    for name, value in (("Helpfulness", data["results"]["dpo"]["helpful"]["value"]), ("Over-refusal", 0.0583333)):
        label = next(label for label in labels if label and label.startswith(name))
        assert f"dpo {100 * value:.1f}%" in label


def test_tables_keep_their_roles_where_a_phone_lays_them_out_anew(built: tuple[Page, dict, str]) -> None:
    tags = built[0].tags
    for tag, role in (("table", "table"), ("tr", "row"), ("td", "cell")):
        assert {attrs.get("role") for t, attrs in tags if t == tag} == {role}
    assert {attrs.get("scope") for t, attrs in tags if t == "th"} == {"col", "row"}


def test_report_json_holds_the_results_by_model_and_dimension(built: tuple[Page, dict, str]) -> None:
    data = built[1]
    assert list(data["results"]) == ["base", "sft", "dpo"]
    helpful = data["results"]["dpo"]["helpful"]
    assert set(helpful) == {"value", "low", "high", "n"}
    assert helpful["low"] < helpful["value"] < helpful["high"]
    assert helpful["n"] == 480
    # Three pairs of models in eight dimensions.
    assert len(data["comparisons"]) == 24
    assert {c["verdict"] for c in data["comparisons"]} == {"better", "unclear"}
    assert data["worst"][0]["family"] == "rewriting"
    assert data["worst"][0]["language"] == "zh"
    assert data["worst"][0]["changes"]["sft"]["value"] < 0
    assert data["cost"]["tokens"] == sum(stage.get("tokens") or 0 for stage in made.STAGES)
    assert data["cost"]["seconds"] == pytest.approx(218.3)
    assert len(data["targets"]) == 9
    assert data["recipe"]["report"]["title"] == "Aligning kilter/nano"


def test_samples_that_got_worse_are_shown_side_by_side(built: tuple[Page, dict, str]) -> None:
    text = built[0].text
    worse = text[text.index("Samples that got worse") : text.index("Where dpo is weakest")]
    assert "worse than sft" in worse
    assert "请把这些词倒过来" in worse
    first = worse[worse.index("柠檬 森林") :]
    assert first.index("base") < first.index("sft") < first.index("dpo")


def test_the_same_run_gives_the_same_page(run_folder: Path) -> None:
    first = report.build(run_folder).read_bytes()
    assert report.build(run_folder).read_bytes() == first


def test_held_out_text_is_shown_once_with_the_models_numbers(tmp_path: Path) -> None:
    page = Page(report.build(made.preferences(tmp_path)).read_text(encoding="utf-8"))
    data = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    better = "dpo is better than base on held-out loss (3.249 → 2.646), worse on none and not clearly different on"
    assert data["verdict"] == f"{better} preference accuracy."
    assert "Boil" in page.text
    assert "preferred" in page.text
    assert "Nats per token" in page.text
    # Perplexity is a function of the loss: it is shown, and not tested a second time.
    assert "perplexity" in data["results"]["dpo"]
    assert {c["dimension"] for c in data["comparisons"]} == {"loss", "preference_accuracy"}
    assert "more characters]" not in page.text or "Please explain." in page.text


def test_what_was_left_out_or_cut_has_a_section(tmp_path: Path) -> None:
    page = Page(report.build(made.preferences(tmp_path)).read_text(encoding="utf-8"))
    data = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    left_out = "2 of 82 held-out records were left out, the first because: it does not fit."
    cut = "1 prompt was cut from the left."
    assert "What was left out or cut" in page.text
    assert f"sft: {made.LEFT_OUT}" in page.text
    assert f"test: {left_out}" in page.text
    assert page.text.count(left_out) == 1
    assert f"test (base): {cut}" in page.text
    assert r"- **sft:** 3 responses left out (3 over \<64\> tokens)." in markdown
    assert f"- **test (base):** {cut}" in markdown
    assert data["notes"] == [
        {"stage": "sft", "models": [], "note": made.LEFT_OUT},
        {"stage": "test", "models": ["base", "sft", "dpo"], "note": left_out},
        {"stage": "test", "models": ["base"], "note": cut},
    ]


def test_over_seeds_a_note_says_of_which_it_is(make_run: Callable[..., Path], tmp_path: Path) -> None:
    folders = [make_run(seed) for seed in (0, 1, 2)]
    for folder in folders:
        path = folder / "run.json"
        run = json.loads(path.read_text(encoding="utf-8"))
        run["stages"][1]["notes"] = ["1 line could not be read."] + ["More."] * (run["seed"] > 0)
        path.write_text(json.dumps(run), encoding="utf-8")
    page = Page(report.combine(folders, tmp_path / "all").read_text(encoding="utf-8"))
    assert "sft: 1 line could not be read." in page.text
    assert "sft (seeds 1 and 2): More." in page.text
    data = json.loads((tmp_path / "all" / "report.json").read_text(encoding="utf-8"))
    assert [note["seeds"] for note in data["notes"]] == [[0, 1, 2], [1, 2]]


def test_where_nothing_was_left_out_there_is_no_such_section(built: tuple[Page, dict, str]) -> None:
    page, data, markdown = built
    assert data["notes"] == []
    assert "left out" not in page.text
    assert "left out" not in markdown


def test_one_model_alone_has_a_page_without_comparisons(tmp_path: Path) -> None:
    page = Page(report.build(made.preferences(tmp_path, ("base",))).read_text(encoding="utf-8"))
    assert "base reaches 3.249 on held-out loss" in page.text
    assert "Where it got worse" not in page.text
    assert "Every comparison" not in page.text
    assert "Drawn at random" in page.text


def test_an_unfinished_run_has_a_page_that_says_so(tmp_path: Path) -> None:
    page = Page(report.build(made.preferences(tmp_path, finished=False)).read_text(encoding="utf-8"))
    assert "This run has not finished" in page.text
    assert "Nothing has been measured yet." in page.text
    assert "Training" in page.text


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("failed", "This run failed in the stage dpo. What stands here"),
        ("interrupted", "This run was interrupted in the stage dpo; its command goes on from there. What stands here"),
    ],
)
def test_a_stage_that_did_not_end_is_named(make_run: Callable[..., Path], status: str, says: str) -> None:
    folder = make_run()
    path = folder / "run.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    run["stages"][3]["status"] = status
    run["finished"] = None
    path.write_text(json.dumps(run), encoding="utf-8")
    text = Page(report.build(folder).read_text(encoding="utf-8")).text
    assert says in text
    assert f"train · dpo · {status}" in text


def test_a_folder_without_a_run_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KilterError, match="no run in"):
        report.build(tmp_path)
    (tmp_path / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(KilterError, match="cannot be read as a run"):
        report.build(tmp_path)


def test_an_unknown_baseline_offers_the_nearest(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    path = folder / "run.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    run["recipe"]["report"]["baseline"] = "bsae"
    path.write_text(json.dumps(run), encoding="utf-8")
    with pytest.raises(KilterError, match="Did you mean 'base'"):
        report.build(folder)


def test_over_several_seeds_the_page_tells_means_and_every_seed(make_run: Callable[..., Path], tmp_path: Path) -> None:
    folders = [make_run(seed, 20) for seed in (2, 0, 1)]
    report.build(folders[0])
    out = tmp_path / "all"
    page = Page(report.combine(folders, out).read_text(encoding="utf-8"))
    data = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert data["seeds"] == [0, 1, 2]
    values = [run["results"]["dpo"]["helpful"]["value"] for run in data["runs"]]
    mean = data["results"]["dpo"]["helpful"]
    assert mean["value"] == pytest.approx(sum(values) / 3)
    assert mean["low"] < min(values)
    assert all(m["low"] >= 0 and m["high"] <= 1 for m in data["results"]["sft"].values() if m["value"] > 0.5)
    assert data["verdict"].startswith("Over 3 seeds, dpo is better than base")
    assert " · ".join(f"{100 * value:.1f}" for value in values) in page.text
    # The one seed whose own report exists is linked to.
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a" and not str(attrs["href"]).startswith("#")]
    assert links == ["../seed-2/report.html"]
    assert (out / "report.md").is_file()


def test_runs_that_do_not_go_together_are_refused(make_run: Callable[..., Path], tmp_path: Path) -> None:
    first = make_run(0)
    with pytest.raises(KilterError, match="no runs"):
        report.combine([], tmp_path / "out")
    with pytest.raises(KilterError, match="same seed"):
        report.combine([first, first], tmp_path / "out")
    with pytest.raises(KilterError, match="different recipes"):
        report.combine([first, made.preferences(tmp_path / "hh")], tmp_path / "out")
    second = make_run(1)
    (second / "stages" / "evaluation" / "dpo.json").unlink()
    with pytest.raises(KilterError, match="did not measure the same models"):
        report.combine([first, second], tmp_path / "out")
