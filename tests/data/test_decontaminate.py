"""Decontamination: what shares n tokens in a row with a benchmark goes, whatever file and script it is in."""

import gzip
import json
import random
import re

import pytest

from kilter.data.decontaminate import Benchmarks, benchmark_texts, decontaminate
from kilter.errors import KilterError
from kilter.records import Demonstration, Message
from kilter.store.rejects import Rejects

QUESTION = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May."
CHINESE = "娜塔莉亚在四月份向她的四十八位朋友出售了夹子，然后在五月份又售出了一半。"


def demonstration(asked, answer="Yes.", **meta):
    return Demonstration([Message("user", asked), Message("assistant", answer)], meta=meta)


@pytest.fixture
def folder(tmp_path):
    rows = [{"question": QUESTION, "answer": "72", "choices": [{"label": "A", "text": CHINESE}]}]
    (tmp_path / "math.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "list.json").write_text(json.dumps([{"q": "Who wrote the tragedy of Hamlet?"}]))
    designer = "The developer argued with the designer because she did not like the design."
    (tmp_path / "lines.txt").write_text(f"a short line\n{designer}\n")
    with gzip.open(tmp_path / "packed.jsonl.gz", "wt") as stream:
        stream.write(json.dumps({"q": "one two three four five six seven eight nine ten eleven twelve thirteen"}))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0\0 the developer argued")
    (tmp_path / ".hidden").write_text("hidden words " * 20)
    return tmp_path


def test_every_text_of_every_file_is_read(folder):
    found = {file: [text.strip() for text in texts if len(text) > 14] for file, texts in benchmark_texts(folder)}
    assert found["math.jsonl"] == [QUESTION, CHINESE]
    assert found["deep/list.json"] == ["Who wrote the tragedy of Hamlet?"]
    assert found["lines.txt"][0].startswith("The developer argued")
    assert found["packed.jsonl.gz"][0].startswith("one two")
    assert found["picture.png"] == []
    assert ".hidden" not in found


def test_what_is_met_goes_and_the_file_is_named(folder):
    clean = demonstration("Natalia sold clips to 48 of her friends in May, and half as many in June.")
    met = [
        demonstration("Answer: " + QUESTION.upper().replace(",", " --")),
        demonstration("What comes next?", f"He said: {CHINESE[3:20]}！"),
        demonstration("who wrote the tragedy of hamlet"),
        demonstration("Who wrote the tragedy of Hamlet?\n\nShakespeare or Marlowe", input="Shakespeare or Marlowe"),
        demonstration("Is it right that the developer argued with the designer because she did not like the design?"),
        demonstration("Go on: one two three four five six seven eight nine ten eleven twelve thirteen fourteen"),
    ]
    longer = demonstration("Tell me who wrote the tragedy of Hamlet, and when.")
    short = demonstration("a short line")
    records = [clean, *met, longer, short]
    with Rejects() as rejects:
        assert list(decontaminate(records, benchmarks=str(folder))) == [clean, longer, short]
    assert rejects.counts == {"in math.jsonl": 2, "in list.json": 2, "in lines.txt": 1, "in packed.jsonl.gz": 1}
    assert len(records) == 3 + rejects.total
    in_responses = list(decontaminate(records, benchmarks=str(folder), part="response"))
    assert in_responses == [clean, met[0], met[4], met[5], longer, short]


@pytest.mark.parametrize("n", [3, 8])
def test_as_a_loop_over_sets_does_it(n):
    draw = random.Random(n)
    words = [f"w{i}" for i in range(12)] + ["好", "的"]

    def text():
        return " ".join(draw.choices(words, k=draw.randrange(30)))

    benchmarks = [(f"file {i}", [text() for _ in range(6)]) for i in range(5)]

    def plain_grams(text):
        cut = re.findall("[a-z0-9]+|[好的]", text)
        return [tuple(cut[i : i + n]) for i in range(len(cut) - n + 1)]

    sets = {file: {g for t in these for g in plain_grams(t)} for file, these in benchmarks}
    texts = [text() for _ in range(300)]
    known = Benchmarks(benchmarks, n)
    for text_, met in zip(texts, known.met(texts).tolist(), strict=True):
        first = next((g for g in plain_grams(text_) if any(g in s for s in sets.values())), None)
        right = next((file for file, s in sets.items() if first in s), None) if first else None
        assert (known.files[met] if met >= 0 else None) == right


def test_what_cannot_be_met_is_an_error(tmp_path):
    (tmp_path / "a.txt").write_text("too short\n")
    with pytest.raises(KilterError, match="no text of 5 tokens"):
        list(decontaminate([demonstration("x")], benchmarks=str(tmp_path)))
    with pytest.raises(KilterError, match="does not exist"):
        list(decontaminate([demonstration("x")], benchmarks=str(tmp_path / "none")))
