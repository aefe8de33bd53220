"""The card beside a file: what it says is what was made."""

import re

from kilter import formats, registry
from kilter.data import card as module
from kilter.data.card import Card, card_beside
from kilter.records import Demonstration, Group, Message, Origin, Prompt

NOVELTY = registry.find("novelty", "data")


def demonstration(asked, answer, **more):
    return Demonstration([Message("user", asked), Message("assistant", answer)], **more)


RECORDS = [
    demonstration(
        "What is the tallest of the mountains?", "It is Mount Everest.", origin=Origin("alpaca", "arXiv:1", "m")
    ),
    demonstration("世界上最高的山是哪一座？", "珠穆朗玛峰。" * 10, origin=Origin("alpaca", "arXiv:1", "m")),
    Group([Message("user", "Which of the two is it?")], ["a", "b | c"]),
    Prompt([Message("user", "Why is this so?")]),
]


def test_a_card_counts_what_passes():
    card = Card(NOVELTY, {"threshold": 0.7, "part": "instruction"}, records="some.jsonl")
    assert list(card.watch(RECORDS)) == RECORDS
    text = card.text(
        read=10, aside={"ROUGE-L": 6}, unread=2, account={"requests": 4, "tokens": 1200, "cost": 0.25, "x": 0}
    )
    assert 'language: ["en", "zh"]' in text
    assert "# 4 records by `novelty`" in text
    assert NOVELTY.summary in text
    for line in (
        "| threshold | 0.7 |",
        "| records read | 10 |",
        "| left out: ROUGE-L | -6 |",
        "| records written | 4 |",
        "| lines that could not be read | 2 |",
        "| demonstration | 2 |",
        "| zh | 25.0% |",
        "| alpaca | m | arXiv:1 | 2 |",
        "| tokens | 1,200 |",
        "| cost | 0.2500 |",
        "| 30 to 99 | 1 | 1 |",
        "- response: b | c",
    ):
        assert line in text, line
    assert "| x |" not in text
    assert "more than one of a record" not in text


def test_what_the_books_lack_is_said():
    card = Card(NOVELTY, {})
    list(card.watch(RECORDS))
    assert "| more than one of a record | 2 |" in card.text(read=3, aside={"x": 1})
    assert "| put together, or not drawn | -5 |" in card.text(read=9)


def test_languages_of_a_long_file_are_told_from_records_all_over_it(monkeypatch):
    monkeypatch.setattr(module, "LOOKED_AT", 50)
    english = [demonstration("What is it that you see?", f"It is the number {i} of them.") for i in range(600)]
    chinese = [demonstration("这是什么？", f"这是第{i}个。") for i in range(200)]
    card = Card(NOVELTY, {})
    list(card.watch(english + chinese))
    assert len(card._sample) <= 51
    share = float(re.search(r"\| zh \| ([\d.]+)% \|", card.text())[1])
    assert abs(share - 25) < 4


def test_it_stands_beside_its_file_and_is_no_record(tmp_path):
    out = tmp_path / "out.jsonl"
    card = Card(NOVELTY, {}, model="kilter/nano")
    formats.write(card.watch(RECORDS), out)
    assert card.save(out, read=4) == card_beside(out) == tmp_path / "out.jsonl.card.md"
    assert "Model: `kilter/nano`" in card_beside(out).read_text(encoding="utf-8")
    assert len(formats.read(tmp_path).records) == 4
    assert card.text(read=4) == card_beside(out).read_text(encoding="utf-8")
