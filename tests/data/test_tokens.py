"""Texts as hashes: the words are those of a plain regular expression, and equal where the words are."""

import random
import re

import numpy as np
import pytest

from kilter.data import tokens as module
from kilter.data.grams import grams, whole
from kilter.data.tokens import tokenise

TEXTS = [
    "Give three tips for staying healthy.",
    "",
    "2+2 = four_five; x1  X1\tx1",
    "a" * 7 + " " + "b" * 8 + " " + "c" * 9 + " " + "d" * 64 + " " + "e" * 65 + " " + "f" * 1000,
    "naïve café — 3½ °C, K = Kelvin",
    "Translate 'good morning' to Chinese: 早上好！",
    "東京タワーはどこですか？ Tokyo Tower",
    "Привет, мир. β-carotene",
    "a zero \0 inside",
    "  \n",
]


def shared(texts, rule, other):
    """Whether two words are equal, for every two words of all texts, by hash and as `other` cuts them."""
    found = tokenise(texts, rule)
    words = [other(text) for text in texts]
    assert found.lengths.tolist() == [len(w) for w in words]
    flat = [word for text in words for word in text]
    by_hash = found.hashes[:, None] == found.hashes[None, :]
    by_word = np.array([[a == b for b in flat] for a in flat])
    assert (by_hash == by_word).all()


def test_english_is_what_rouge_does():
    shared(TEXTS, "english", lambda text: re.findall("[a-z0-9]+", text.lower()))


def test_rouge_adds_the_other_scripts_alone():
    other = "[a-z0-9]+|[早上好東京タワーはどこですか]|[а-яё]+|β"
    shared(TEXTS, "rouge", lambda text: re.findall(other, text.lower()))


def test_words_keep_their_accents_and_forms_of_unicode_are_one():
    found = tokenise(["naïve Ｔｅｓｔ ½", "nai\u0308ve test 1 2", "naive"], "words")
    first, second, third = (found.hashes[found.starts[i] : found.starts[i + 1]].tolist() for i in range(3))
    assert first == second
    assert third[0] != first[0]


@pytest.mark.parametrize("text", ["小说的主题是什么", "すしとさしみ", "ตัวอย่าง"])
def test_a_script_without_spaces_has_a_token_for_every_character(text):
    for rule in ("words", "rouge"):
        assert tokenise([text], rule).lengths.tolist() == [len(text)]
    assert tokenise([text], "english").lengths.tolist() == [0]


def test_symbols_alone_are_tokens_too():
    found = tokenise(["🙂🙂", "🙂 🙁", " "], "rouge")
    assert found.lengths.tolist() == [2, 2, 0]
    assert len(set(found.hashes.tolist())) == 2


def test_batches_do_not_matter(monkeypatch):
    draw = random.Random(0)
    texts = ["".join(draw.choices("ab cé好。 \0", k=draw.randrange(40))) for _ in range(300)]
    wide = tokenise(texts)
    monkeypatch.setattr(module, "BLOCK", 30)
    narrow = tokenise(texts)
    alone = [tokenise([text]) for text in texts]
    assert (wide.hashes == narrow.hashes).all()
    assert (wide.starts == narrow.starts).all()
    assert (wide.hashes == np.concatenate([one.hashes for one in alone])).all()
    assert wide.lengths.tolist() == [one.lengths[0] for one in alone]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_grams_are_equal_where_their_words_are(n):
    draw = random.Random(n)
    texts = [" ".join(draw.choices("abc", k=draw.randrange(12))) for _ in range(40)]
    found = grams(tokenise(texts), n)
    words = [text.split() for text in texts]
    plain = [[tuple(w[i : i + n]) for i in range(max(1, len(w) - n + 1))] if w else [] for w in words]
    assert found.lengths.tolist() == [len(p) for p in plain]
    flat = [gram for text in plain for gram in text]
    assert len(set(flat)) == len(set(found.hashes.tolist()))
    assert len(set(zip(flat, found.hashes.tolist(), strict=True))) == len(set(flat))
    longer = grams(tokenise(texts), n, short=False)
    assert longer.lengths.tolist() == [max(0, len(w) - n + 1) for w in words]
    hashes = whole(tokenise(texts)).tolist()
    assert len(set(zip(hashes, texts, strict=True))) == len(set(texts)) == len(set(hashes))
