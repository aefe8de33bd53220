"""People in the loop: who gets which item, what their answers come to, and what may be shared of conversations."""

import json
import re
from collections import Counter

import pytest

from kilter.data.human_annotation import human_annotation, verdict
from kilter.data.humanloop import humanloop, scrub
from kilter.errors import KilterError
from kilter.models.each import pulled
from kilter.records import Group, Message
from kilter.store.rejects import Rejects
from scripted_model import by_kind, made, prompt, shown


def answers(path, *rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_items_are_dealt_evenly_and_never_twice_to_one_person():
    records = [prompt(f"item {i}") for i in range(41)]
    found, _ = made(human_annotation(records, annotators="ada, bo, cy, di", each=3, guidelines="v2", kind="rate"))
    assert len(found) == 41 * 3
    tasks = [record.meta["task"] for record in found]
    assert max(Counter((t["item"], t["annotator"]) for t in tasks).values()) == 1
    loads = Counter(t["annotator"] for t in tasks)
    assert set(loads) == {"ada", "bo", "cy", "di"}
    assert max(loads.values()) - min(loads.values()) <= 1
    assert {(t["kind"], t["guidelines"]) for t in tasks} == {("rate", "v2")}
    orders = {name: [t["item"] for t in tasks if t["annotator"] == name] for name in loads}
    assert orders["ada"] != sorted(orders["ada"], key=[r.id for r in records].index)
    with pytest.raises(KilterError, match="goes to 3 annotators and there are 2"):
        human_annotation(records, annotators="ada,bo")
    with pytest.raises(KilterError, match="one id"):
        human_annotation([records[0], records[0]], annotators="a,b,c")


def test_labels_are_collected_adjudicated_and_their_agreement_told(tmp_path, capsys):
    records = [prompt(f"item {i}") for i in range(6)]
    said = ["aab", "abc", "bbb", "abc", "aaa"]
    rows = [
        {"item": r.id, "annotator": name, "answer": label, "seconds": 1800, "paid": 2}
        for r, labels in zip(records, said, strict=False)
        for name, label in zip(("x", "y", "z"), labels, strict=True)
    ]
    rows += [{"item": records[1].id, "annotator": "boss", "answer": "c"}, {**rows[0], "answer": "b"}]
    rows.append({"item": "elsewhere", "annotator": "x", "answer": "a"})
    source = answers(tmp_path / "a.jsonl", *rows)
    found, left = made(lambda: human_annotation(records, answers=source, adjudicator="boss"))
    told = [record.meta["annotation"] for record in found]
    assert [t["answer"] for t in told] == ["a", "c", "b", "a"]
    assert [t["adjudicated"] for t in told] == [False, True, False, False]
    assert told[0]["share"] == pytest.approx(2 / 3)
    assert left == {"no agreement": 1, "not annotated": 1}
    notes = capsys.readouterr().err
    assert "8.0 hours, paid 32.00" in notes
    assert "1 second answers" in notes
    assert "1 answers are to items that are not among the records" in notes


@pytest.mark.parametrize(("labels", "kappa"), [(["aa", "bb", "aa", "bb"], 1.0), (["aa", "ab", "ba", "bb"], 0.0)])
def test_kappa_is_one_for_agreement_and_nought_for_independence(tmp_path, capsys, labels, kappa):
    records = [prompt(f"item {i}") for i in range(4)]
    rows = [
        {"item": r.id, "annotator": n, "answer": a}
        for r, both in zip(records, labels, strict=True)
        for n, a in zip("xy", both, strict=True)
    ]
    human_annotation(records, answers=answers(tmp_path / "a.jsonl", *rows))
    notes = capsys.readouterr().err
    assert float(re.search(r"Cohen's kappa (-?[\d.]+)", notes)[1]) == kappa
    assert float(re.search(r"Fleiss' kappa (-?[\d.]+)", notes)[1]) == pytest.approx(kappa, abs=1e-9)


def test_other_kinds_of_tasks(tmp_path):
    asked, group = prompt("write"), Group([Message("user", "q")], ["one", "two"])
    single = Group([Message("user", "q")], ["one"])
    source = answers(tmp_path / "w.jsonl", {"item": asked.id, "annotator": "x", "answer": "A text."})
    [written] = human_annotation([asked], kind="write", answers=source)
    assert [m.content for m in written.messages] == ["write", "A text."]
    rows = [{"item": group.id, "annotator": n, "answer": a} for n, a in (("x", 2), ("y", 2), ("z", 0))]
    [ranked] = human_annotation([group], kind="compare", answers=answers(tmp_path / "c.jsonl", *rows))
    assert ranked.pairs() == [(1, 0)]
    rows = [{"item": single.id, "annotator": n, "answer": a} for n, a in (("x", 2), ("y", 5), ("z", 4))]
    [rated] = human_annotation([single], kind="rate", answers=answers(tmp_path / "r.jsonl", *rows))
    assert rated.scores == [4.0]
    assert verdict([], "choose", 0.5) == (None, None)
    for bad, match in (
        ({"item": "a"}, "lacks its item"),
        ({"item": "a", "annotator": "x", "answer": "good"}, "a number is due"),
    ):
        with pytest.raises(KilterError, match=match):
            human_annotation([asked], kind="rate", answers=answers(tmp_path / "b.jsonl", bad))


# ------------------------------------------------------------------------------------------------ humanloop


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Write to jo.doe+x@mail.example.org now", "Write to [EMAIL] now"),
        ("call +49 170 123 4567 or 13812345678", "call [PHONE] or [PHONE]"),
        ("card 4111 1111 1111 1111, not 4111 1111 1111 1112", "card [CARD], not 4111 1111 1111 1112"),
        ("from 192.168.0.12 with 123-45-6789", "from [IP] with [ID]"),
        ("身份证11010519491231002X号", "身份证[ID]号"),
        ("https://a.example/x?token=abc and https://a.example/y", "[URL] and https://a.example/y"),
        ("in 2019 there were 1200 of 3.14", "in 2019 there were 1200 of 3.14"),
    ],
)
def test_what_is_private_is_replaced(text, clean):
    assert scrub(text) == clean


def people():
    """Ten conversations, of which the even ones may be shared, with an address in each."""
    return [
        shown(f"question {i} of me@home.example", f"grade {i % 5 + 1}", consent=i % 2 == 0, user=f"person {i}")
        for i in range(20)
    ]


def model():
    return by_kind(
        grade=lambda v, _: f"{v['response'].split()[1]}\nso.",
        dialogue=lambda v, s: f"[Human] like {v['topic']} {s.seed}\n[AI] yes",
    )


def test_nothing_is_shared_without_consent(tmp_path):
    asked = model()
    with Rejects(tmp_path / "rejects.jsonl") as rejects:
        found = list(pulled(humanloop(asked, people(), synthetic=2)))
    shared = {f"question {i}" for i in range(0, 20, 2)}
    seen = [m.content for messages in asked.asked for m in messages] + [m.content for r in found for m in r.messages]
    for i in range(1, 20, 2):
        assert not any(re.search(rf"question {i}\b", text) for text in seen)
    assert not any("home.example" in text for text in seen)
    assert not any("person" in str(record.meta) for record in found)
    assert rejects.counts == {"no consent": 10, "grade under 4": 6}
    assert "home.example" not in (tmp_path / "rejects.jsonl").read_text().split('"no consent"')[0]
    assert "question 1 " not in (tmp_path / "rejects.jsonl").read_text()
    sources = Counter(record.meta["source"] for record in found)
    assert sources == {"human": 4, "synthetic": 8}
    assert all(record.meta["review"] == "open" for record in found)
    assert all(any(name in record.messages[0].content for name in shared) for record in found)


def test_the_share_of_people_and_what_annotators_accepted(capsys):
    alone = made(humanloop(model(), people(), human=0.0))[0]
    assert {r.meta["source"] for r in alone} == {"synthetic"}
    capsys.readouterr()
    none = made(humanloop(model(), people(), synthetic=0))[0]
    assert {r.meta["source"] for r in none} == {"human"}
    assert "100% human" in capsys.readouterr().err
    back = [shown("a", "b", source="synthetic", accepted=i < 3) for i in range(4)] + [shown("c", "d", accepted=True)]
    found, left = made(humanloop(model(), back))
    assert len(found) == 4
    assert left == {"not accepted": 1}
    notes = capsys.readouterr().err
    assert "accepted 3 of 4 synthetic" in notes
    assert "accepted 1 of 1 human" in notes
