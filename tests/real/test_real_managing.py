"""Filters, mixtures and readers on real data, against numbers that are known."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pytest

from kilter.data.decontaminate import Benchmarks, benchmark_texts, decontaminate
from kilter.data.dolly import CATEGORIES, dolly
from kilter.data.exact_duplicates import exact_duplicates
from kilter.data.ifs import _learned
from kilter.data.languages import language_of
from kilter.data.near_duplicates import near_duplicates, shingles
from kilter.data.novelty import Novel, novelty
from kilter.data.oasst import oasst
from kilter.data.overlap import Pool, dice_of_jaccard
from kilter.data.promptsource import promptsource
from kilter.data.sharegpt_vicuna import sharegpt_vicuna
from kilter.data.sieve import said
from kilter.data.superni import TEST_TYPES, superni
from kilter.formats import read
from kilter.store.rejects import Rejects


@pytest.fixture(scope="module")
def instructions(shared: Path) -> Path:
    return shared / "data" / "instructions"


@pytest.fixture(scope="module")
def alpaca(instructions: Path) -> list[Any]:
    return read(instructions / "alpaca_52k.jsonl").records


@pytest.fixture(scope="module")
def chinese(instructions: Path) -> list[Any]:
    return read(instructions / "alpaca_zh_4k.jsonl").records


def test_alpaca_was_made_with_this_novelty_filter(alpaca: list[Any]) -> None:
    """Each of the 52,002 was kept because its ROUGE-L with all others was at most 0.7; it is so here too."""
    assert sum(1 for _ in novelty(alpaca)) == 52_002
    assert sum(1 for _ in novelty(alpaca, tokens="english")) == 52_002
    assert sum(1 for _ in exact_duplicates(alpaca, loose=True)) == 52_002


def test_a_changed_word_is_found_again_among_all_of_them(alpaca: list[Any]) -> None:
    """Copies of 300 of Alpaca's instructions, one word in ten replaced, are too similar to what they are made of."""
    draw = random.Random(0)
    chosen = draw.sample([i for i, r in enumerate(alpaca) if len(said(r, "instruction").split()) >= 10], 300)
    pool = Novel(0.7)
    pool.add([said(record, "instruction") for record in alpaca])
    changed = []
    for i in chosen:
        words = said(alpaca[i], "instruction").split()
        for place in draw.sample(range(len(words)), len(words) // 10):
            words[place] = "zyx"
        changed.append(" ".join(words))
    kept, nearest = pool.sift(changed)
    assert not kept.any()
    assert sum(n == i for n, i in zip(nearest.tolist(), chosen, strict=True)) > 270


def test_near_duplicates_of_alpaca(alpaca: list[Any]) -> None:
    """Recall of all pairs over Jaccard 0.8: those of instructions as sets of words, counted pair by pair."""
    texts = [said(record, "instruction") for record in alpaca[:12_000]]
    found = {
        pair
        for pairs in Pool(dice_of_jaccard(0.8)).pairs(shingles(texts, 1))
        for pair in zip(pairs.earlier.tolist(), pairs.later.tolist(), strict=True)
    }
    sets = [frozenset(re.findall("[a-z0-9]+", text.lower())) for text in texts]
    by_word: dict[str, list[int]] = {}
    right = set()
    for j, words in enumerate(sets):
        overlap = Counter(i for word in words for i in by_word.get(word, ()))
        right |= {(i, j) for i, n in overlap.items() if n / len(words | sets[i]) >= 0.8}
        rare = sorted(words, key=lambda word: len(by_word.get(word, ())))
        for word in rare:
            by_word.setdefault(word, []).append(j)
    assert right
    assert found == right
    assert 52_002 - sum(1 for _ in near_duplicates(alpaca)) == 3


def test_chinese_alpaca_has_duplicates_and_little_that_is_not_new(chinese: list[Any]) -> None:
    with Rejects() as rejects:
        kept = list(novelty(chinese))
    assert len(kept) + rejects.counts["ROUGE-L"] == 4_000
    assert 3_800 < len(kept) < 3_950
    # By ROUGE's own rule most of it has no tokens: repetitions stay, and what shares its only Latin word goes.
    english, ours = ({record.id for record in some} for some in (novelty(chinese, tokens="english"), kept))
    assert len(english - ours) > 50
    assert len(ours - english) > 50
    assert sum(1 for _ in near_duplicates(chinese, shingle=2, part="instruction")) < 4_000


def test_alpaca_against_every_benchmark(shared: Path, alpaca: list[Any]) -> None:
    evaluation = shared / "data" / "evaluation"
    with Rejects() as rejects:
        kept = sum(1 for _ in decontaminate(alpaca, benchmarks=str(evaluation)))
    assert kept + rejects.total == 52_002
    assert rejects.counts["in mbpp_974.jsonl"] > 10
    # A benchmark's own questions are all met, in English and in Chinese.
    for name in ("gsm8k_test.jsonl", "belle_zh_1000.jsonl"):
        texts = [text for _, some in benchmark_texts(evaluation / name) for text in some if len(text) > 200]
        known = Benchmarks(benchmark_texts(evaluation))
        assert (known.met(texts) >= 0).all()


@pytest.mark.parametrize(
    ("name", "language", "least"),
    [("alpaca_52k", "en", 0.985), ("lima", "en", 0.98), ("alpaca_zh_4k", "zh", 0.96), ("codealpaca_2k", "en", 0.97)],
)
def test_languages(instructions: Path, name: str, language: str, least: float) -> None:
    records = read(instructions / f"{name}.jsonl").records[:4000]
    assert sum(language_of(said(record)) == language for record in records) / len(records) > least


def test_windows_of_shared_conversations(instructions: Path) -> None:
    records = read(instructions / "sharegpt_zh_1k.jsonl").records
    with Rejects() as rejects:
        found: list[Any] = list(sharegpt_vicuna(records, max_tokens=1024))
    assert {record.id.partition("_")[0] for record in found} <= {record.id for record in records}
    assert rejects.counts["blocked word"] > 50
    for record in found:
        assert [m.role for m in record.messages if m.role != "system"] == ["user", "assistant"] * (
            sum(m.role != "system" for m in record.messages) // 2
        )


def test_trees(instructions: Path) -> None:
    source = str(instructions / "oasst_trees_100.jsonl")
    assert len(list(oasst(trees=source))) == 100
    groups = list(oasst(trees=source, what="groups"))
    assert len(groups) == 212
    assert all(group.order() is not None for group in groups)  # type: ignore[union-attr]


def test_tasks(instructions: Path) -> None:
    source = str(instructions / "super_natural_instructions")
    splits: tuple[Literal["all", "train", "test"], ...] = ("all", "train", "test")
    parts = {split: list(superni(tasks=source, split=split)) for split in splits}
    assert len(parts["all"]) == len(parts["train"]) + len(parts["test"]) == 1_197
    assert {r.meta["type"] for r in parts["test"]} <= TEST_TYPES
    assert not {r.meta["type"] for r in parts["train"]} & TEST_TYPES


def test_dolly(instructions: Path) -> None:
    found = list(dolly(read(instructions / "dolly_3k.jsonl").records))
    assert len(found) == 2_996
    assert {record.meta["category"] for record in found} == set(CATEGORIES)


def test_templates_over_real_rows(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "templates.yaml").write_text(
        "dataset: gsm8k\ntemplates:\n  a: !Template\n    id: a\n    name: ask\n"
        "    jinja: \"{{question}}\\nAnswer: ||| {{answer.split('#### ')[1]}}\"\n    metadata: !TemplateMetadata {}\n"
    )
    rows = shared / "data" / "evaluation" / "gsm8k_test.jsonl"
    found = list(promptsource(rows=str(rows), templates=str(tmp_path / "templates.yaml")))
    assert len(found) == 1_319
    assert all(record.messages[1].content.replace(",", "").lstrip("-").isdigit() for record in found)


def test_answers_are_told_from_continuations(alpaca: list[Any]) -> None:
    """The paper's BERT is right on 0.970 of such texts, this classifier on somewhat fewer."""
    pairs = [(said(record, "instruction"), record.messages[-1].content) for record in alpaca[:6000]]
    _, accuracy = _learned(pairs, 0)
    assert accuracy > 0.93


def test_published_selection_is_a_part_of_alpaca(instructions: Path, alpaca: list[Any]) -> None:
    """AlpaGasus' 5,305 (Claude, 4.5 or more) are records of Alpaca: as many duplicates as there are of them."""
    chosen = read(instructions / "alpagasus_claude_t45.jsonl").records
    assert len(chosen) == 5_305
    with Rejects() as rejects:
        both = sum(1 for _ in exact_duplicates([*alpaca, *chosen]))
    assert both + rejects.total == 52_002 + 5_305
    assert rejects.counts["exact duplicate"] > 5_000
