"""The novelty filter decides as comparing every pair by ROUGE-L does, in scripts that ROUGE does not know as well."""

import random
import re

import numpy as np
import pytest

from kilter.data.lcs import common
from kilter.data.novelty import Novel, novelty
from kilter.records import Demonstration, Message
from kilter.store.rejects import Rejects


def lcs(a, b):
    row = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], diagonal + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


def fmeasure(a, b):
    if not a or not b:
        return 0.0
    length = lcs(a, b)
    precision, recall = length / len(b), length / len(a)
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def plain(texts, threshold, cut):
    """Self-Instruct's loop: a text is kept if its highest ROUGE-L F with what is kept is not over the threshold."""
    pool, kept = [], []
    for text in texts:
        words = cut(text)
        kept.append(all(fmeasure(words, other) <= threshold for other in pool))
        if kept[-1]:
            pool.append(words)
    return kept


def english(text):
    return re.findall("[a-z0-9]+", text.lower())


def asked(text, **meta):
    return Demonstration([Message("user", text), Message("assistant", "Yes.")], meta=meta)


@pytest.mark.parametrize("threshold", [0.7, 0.5, 0.25, 1.0])
def test_decisions_are_those_of_the_pairwise_loop(threshold):
    draw = random.Random(3)
    words = english("write list give explain a the of to for short story poem about cat dog sea sum 2 10 why how")
    lengths = [1, 2, 3, 5, 8, 10, 10, 10, 20, 70, 150]
    texts = [" ".join(draw.choices(words, k=draw.choice(lengths))) for _ in range(400)]
    right = plain(texts, threshold, english)
    pool = Novel(threshold)
    found = np.concatenate([pool.sift(texts[start : start + 130])[0] for start in range(0, len(texts), 130)])
    assert found.tolist() == right
    assert 0 < sum(right) < len(texts) or threshold == 1.0


def test_at_the_threshold_a_text_is_kept():
    first = "a b c d e f g h i j"
    same_seven = "a b c d e f g 1 2 3"
    assert fmeasure(english(first), english(same_seven)) == pytest.approx(0.7)
    assert Novel(0.7).sift([first, same_seven])[0].tolist() == plain([first, same_seven], 0.7, english)
    assert Novel(0.69).sift([first, same_seven])[0].tolist() == [True, False]


CHINESE = ["写一首关于春天的诗。", "写一首关于秋天的诗。", "解释什么是光合作用。", "写一首关于春天的诗"]
JAPANESE = ["春についての短い詩を書いてください。", "秋についての短い詩を書いてください。", "光合成とは何ですか。"]
MIXED = ["用 Python 写一个排序函数", "用 Python 写一个排序的函数", "用 Java 解释递归"]


@pytest.mark.parametrize(
    ("texts", "kept"),
    [(CHINESE, [True, False, True, False]), (JAPANESE, [True, False, True]), (MIXED, [True, False, True])],
)
def test_it_does_not_switch_off_where_rouge_has_no_tokens(texts, kept):
    with Rejects() as rejects:
        found = list(novelty([asked(text) for text in texts]))
    assert [record.messages[0].content for record in found] == [t for t, k in zip(texts, kept, strict=True) if k]
    assert rejects.counts == {"ROUGE-L": kept.count(False)}

    def cut(text):
        return re.findall(r"[a-z0-9]+|[^\W\da-z_]", text.lower())

    assert Novel(0.7).sift(texts)[0].tolist() == plain(texts, 0.7, cut)


def test_by_the_english_rule_chinese_is_always_new():
    assert Novel(0.7, "english").sift(CHINESE)[0].all()


def test_the_instruction_is_compared_without_its_input():
    first = asked("Sort the words.\n\npear apple", input="pear apple")
    second = asked(
        "Sort the words.\n\na longer list of other things to sort here",
        input="a longer list of other things to sort here",
    )
    assert list(novelty([first, second])) == [first]
    assert list(novelty([first, second], part="prompt")) == [first, second]


def test_seeds_are_entered_whatever_they_resemble():
    pool = Novel(0.7)
    pool.add(["one two three four", "one two three five"])
    assert pool.sift(["one two three four", "six seven eight nine"])[0].tolist() == [False, True]
    kept, nearest = pool.sift(["six seven eight ten"])
    assert not kept[0]
    assert nearest.tolist() == [3]


def test_common_subsequences_of_all_lengths():
    draw = random.Random(1)
    firsts, seconds = [], []
    for _ in range(600):
        size, letters = draw.choice([20, 20, 70, 200]), draw.choice([2, 5, 30])
        for side in (firsts, seconds):
            side.append([draw.randrange(letters) for _ in range(draw.randrange(size))])

    def flat(rows):
        return np.array([x for row in rows for x in row], np.uint64), np.array([len(row) for row in rows])

    assert common(*flat(firsts), *flat(seconds)).tolist() == [lcs(a, b) for a, b in zip(firsts, seconds, strict=True)]
