"""Exact and near duplicates: what is found is what comparing all pairs finds, in every script."""

import random
import re

import numpy as np
import pytest

from kilter.data import overlap, shelf
from kilter.data.exact_duplicates import Seen, exact_duplicates
from kilter.data.near_duplicates import near_duplicates, shingles
from kilter.data.overlap import Pool, counted, dice_of_jaccard
from kilter.data.tokens import tokenise
from kilter.records import Demonstration, Group, Message
from kilter.store.rejects import Rejects


def demonstration(asked, answer="Yes.", **more):
    return Demonstration([Message("user", asked), Message("assistant", answer)], **more)


def variations(count, seed=0, words=60):
    """Texts of which many differ from an earlier one in some words only."""
    draw = random.Random(seed)
    texts = []
    for _ in range(count):
        if texts and draw.random() < 0.6:
            text = draw.choice(texts).split()
            for _ in range(draw.randrange(1 + len(text) // 3)):
                text[draw.randrange(len(text))] = f"w{draw.randrange(words)}"
            texts.append(" ".join(text))
        else:
            texts.append(
                " ".join(f"w{draw.randrange(words)}" for _ in range(draw.choice([0, 1, 2, 3, 8, 30, 90, 400])))
            )
    return texts


def plain_shingles(text, size):
    words = re.findall("[a-z0-9]+", text.lower())
    return {tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1))} if words else set()


def plain_pairs(texts, size, jaccard):
    sets = [plain_shingles(text, size) for text in texts]
    return {
        (i, j)
        for j in range(len(sets))
        for i in range(j)
        if sets[i] and sets[j] and len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= jaccard
    }


@pytest.mark.parametrize(("size", "jaccard"), [(1, 0.8), (3, 0.8), (3, 0.5), (2, 1.0), (1, 0.3)])
def test_every_pair_is_found_and_no_other(size, jaccard):
    texts = variations(400, seed=size)
    pool = Pool(dice_of_jaccard(jaccard))
    found = set()
    for start in range(0, len(texts), 150):
        for pairs in pool.pairs(shingles(texts[start : start + 150], size)):
            found |= set(zip(pairs.earlier.tolist(), pairs.later.tolist(), strict=True))
    right = plain_pairs(texts, size, jaccard)
    assert len(right) > 50
    assert found == right


def test_what_is_kept_is_similar_to_nothing_kept_and_what_is_left_out_is():
    texts = variations(500)
    records = [demonstration(text) for text in texts]
    with Rejects() as rejects:
        kept = list(near_duplicates(records, jaccard=0.7, shingle=2, part="prompt"))
    places = [i for i, record in enumerate(records) if any(record is k for k in kept)]
    pairs = plain_pairs(texts, 2, 0.7)
    assert not any((i, j) in pairs for i in places for j in places)
    for j in set(range(len(texts))) - set(places):
        assert any((i, j) in pairs for i in places)
    assert len(records) == len(kept) + rejects.counts["near duplicate"]
    assert len(kept) < len(records)


def test_little_memory_finds_the_same(monkeypatch):
    texts = variations(600, seed=5)
    sets = shingles(texts, 2)
    kept, nearest = Pool(0.8).sift(sets)
    monkeypatch.setattr(overlap, "RUN", 500)
    monkeypatch.setattr(overlap, "AT_ONCE", 300)
    monkeypatch.setattr(shelf, "BLOCK", 100)
    pool = Pool(0.8)
    pool._elements = shelf.Shelf(spill=True, held=2000)
    again, nearest_again = pool.sift(sets)
    assert len(pool._runs) > 2
    assert pool._elements.size > 5000
    assert (kept == again).all()
    assert (nearest == nearest_again).all()


SIMILAR = [
    ("小说《骆驼祥子》的主题是什么？请用三句话说明。", "小说《骆驼祥子》的主题是什么？请用两句话说明。"),
    ("東京タワーの高さは何メートルですか、教えてください。", "東京タワーの高さは何メートルですか、教えて下さい。"),
    ("把 good morning everyone 翻译成中文，并说明用法。", "把 good morning everyone 翻译成中文，并说明用法吧。"),
    ("다음 문장을 영어로 번역하고 그 뜻을 설명하세요.", "다음 문장을 영어로 번역하고 그 뜻을 설명하시오."),
]


@pytest.mark.parametrize(("first", "second"), SIMILAR)
def test_near_duplicates_are_found_in_scripts_without_spaces(first, second):
    other = demonstration("写一首关于春天的诗，要求押韵，并且不超过八行。")
    kept = list(near_duplicates([demonstration(first), other, demonstration(second)], jaccard=0.6, part="prompt"))
    assert [record.messages[0].content for record in kept] == [first, other.messages[0].content]


def test_short_texts_are_one_shingle():
    records = [demonstration(text) for text in ("Yes.", "yes", "No.", "", "")]
    kept = list(near_duplicates(records, part="prompt", shingle=5))
    assert [record.messages[0].content for record in kept] == ["Yes.", "No.", "", ""]


@pytest.mark.parametrize("jaccard", [0.8, 1.0])
def test_many_equal_texts_cost_no_pairs(jaccard):
    """Of ten thousand equal texts each is compared with the one that is kept, not with all others."""
    kept, nearest = Pool(dice_of_jaccard(jaccard)).sift(shingles(["one and the same text again"] * 10_000, 3))
    assert kept.sum() == 1
    assert (nearest[1:] == 0).all()


def test_exact_duplicates_and_their_books():
    group = Group([Message("user", "a")], ["x", "y"])
    records = [demonstration("a"), demonstration("A!"), demonstration("a"), group, demonstration("a", "No."), group]
    with Rejects() as rejects:
        assert list(exact_duplicates(records)) == [records[0], records[1], group, records[4]]
    assert rejects.counts == {"exact duplicate": 2}
    assert list(exact_duplicates(records, part="prompt")) == records[:2]
    assert list(exact_duplicates(records, part="prompt", loose=True)) == records[:1]


def test_loose_duplicates_in_chinese():
    records = [demonstration(text) for text in ("你好，世界！", "你好世界", "你好 世间")]
    assert list(exact_duplicates(records, loose=True)) == [records[0], records[2]]


def test_seen_numbers_over_many_calls():
    draw = np.random.default_rng(0)
    seen, plain = Seen(), set()
    for _ in range(40):
        numbers = draw.integers(0, 3000, draw.integers(0, 200)).astype(np.uint64)
        right = []
        for number in numbers.tolist():
            right.append(number not in plain)
            plain.add(number)
        assert seen.fresh(numbers).tolist() == right


def test_a_second_occurrence_is_an_element_of_its_own():
    sets = counted(tokenise(["a b a a", "a a b", "b a"]))
    rows = [set(sets.hashes[sets.starts[i] : sets.starts[i + 1]].tolist()) for i in range(3)]
    assert [len(row) for row in rows] == [4, 3, 2]
    assert rows[2] < rows[1] < rows[0]
