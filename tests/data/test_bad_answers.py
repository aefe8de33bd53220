"""A teacher that answers badly, and wrong input, for the methods of test_with_the_teacher: counted or refused.

To enter a method, add it to CASES there.
"""

import json

import pytest
from test_with_the_teacher import ASKS_NOBODY, CASES, written

from kilter import formats, registry
from kilter.data import replies
from kilter.errors import KilterError
from kilter.models.desk import Desk
from kilter.models.protocol import Answer, Usage
from kilter.recipe.making import make_file

HUGE = "word " * 2_000_000  # ten megabytes
WAYS = {
    "empty": ("", "stop"),
    "blank": (" \n\t ", "stop"),
    "cut off": ("1. something and then", "length"),
    "filtered": ("some", "filter"),
    "wrong language": ("Это совсем другой язык, и никто его не просил.", "stop"),
    "broken JSON": ('[{"instruction": "Do it", "input_fields": ["te', "stop"),
    "prompt repeated": (None, "stop"),
    "ten megabytes": (HUGE, "stop"),
    "no text": ("a\x00b\ud800", "stop"),
}
ASKING = sorted(set(CASES) - ASKS_NOBODY)


class Broken:
    """Answers everything in one bad way."""

    name = "broken"

    def __init__(self, way):
        self.way, self.usage = way, Usage()

    async def ask(self, messages, sampling):
        said, reason = WAYS[self.way]
        said = "\n\n".join(m.content for m in messages) if said is None else said
        return [Answer(said, len(said) // 4, None, reason, self.name)] * sampling.n

    async def score(self, messages, response):
        raise KilterError("It tells no log-probs; ask another.")


def attempt(name, folder, model, records=None):
    make_records, files, options, _ = CASES[name]
    options = {**options, **{key: of(folder) for key, of in files.items()}}
    options.pop("oracle", None)
    out = folder / "out.jsonl"
    return make_file(
        registry.find(name, "data"),
        options,
        out=out,
        rejects=formats.rejects_beside(out),
        desk=Desk(None),
        model=model,
        records=records or (make_records(folder) if make_records else None),
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ASKING)
def test_a_bad_answer_is_counted_or_refused(name, way, tmp_path, monkeypatch):
    model = Broken(way)
    if name in ("llm2llm", "almost"):
        monkeypatch.setattr(f"kilter.data.{name}.model_of", lambda given, otherwise: model)
    out = tmp_path / "out.jsonl"
    made, refusal = None, ""
    try:
        made = attempt(name, tmp_path, model)
    except KilterError as error:
        refusal = str(error).strip()
    if made is None:
        assert "\n" not in refusal
        assert len(refusal) < 1000
        assert not out.exists(), "nothing half-read is written"
        assert not list(tmp_path.glob(".tmp-*"))
        rejects = formats.rejects_beside(out)
        assert not rejects.exists() or rejects.stat().st_size < 10**6, "an item of ten megabytes is not kept"
    else:
        # What is any text for a method that asks for any text: it cannot know that another was meant.
        assert way in ("wrong language", "broken JSON", "cut off", "prompt repeated")
        assert made.records == len([json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]) > 0


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("selfee", [{"messages": [{"role": "user", "content": "no answer"}]}]),
        ("aligner", [{"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "x"}]}]),
        ("humpback", [{"messages": [{"role": "user", "content": "  "}]}]),
        ("longform", [{"messages": [{"role": "user", "content": "x"}]}]),
        ("gpt4llm", [{"messages": [{"role": "user", "content": " "}]}]),
        ("baize", [{"messages": [{"role": "system", "content": "no question"}]}]),
        ("math-distill", [{"messages": [{"role": "user", "content": "no answer known"}]}]),
        ("parrot", [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]),
        ("safer-instruct", [{"messages": [{"role": "user", "content": "a"}]}]),
    ],
)
def test_records_with_nothing_in_them(name, rows, tmp_path):
    with pytest.raises(KilterError) as refused:
        attempt(name, tmp_path, "kilter/teacher", records=written(tmp_path / "wrong.jsonl", rows))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "prompt"),
    [("baize", "dialogue"), ("ultrachat", "subtopics"), ("selfee", "critique"), ("humpback", "instruct")],
)
def test_a_prompt_override_with_an_unknown_variable(name, prompt, tmp_path):
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / f"{prompt}.jinja").write_text("{{ nobody_gives_this }}", encoding="utf-8")
    make_records, _, options, _ = CASES[name]
    out = tmp_path / "out.jsonl"
    with pytest.raises(KilterError, match="reads 'nobody_gives_this', which it is not given"):
        make_file(
            registry.find(name, "data"),
            options,
            out=out,
            rejects=formats.rejects_beside(out),
            desk=Desk(None),
            model="kilter/teacher",
            records=make_records(tmp_path) if make_records else None,
            prompts=prompts,
        )
    assert not out.exists()


@pytest.mark.parametrize(
    ("read", "texts"),
    [
        (replies.listed, ["", "no list", "\n\n", "1."]),
        (replies.in_json, ["", "{", '{"a": ', "[1, 2", "no", "[" * 100_000]),
        (lambda text: replies.sections(text, ("A", "B")), ["", "A: a", "B: b\nA: a", "A:\nB: b", "A: a\nB:"]),
        (lambda text: replies.grade(text, 1, 10), ["", "no grade", "Score: 11", "Rating: none", "12 of 15 were good."]),
    ],
)
def test_replies_without_their_form_are_none(read, texts):
    for text in texts:
        with pytest.raises(replies.SetAside):
            read(text)


def test_replies_are_read():
    assert replies.listed("Here:\n1. one\n2) **two**\n- three\n1. one") == ["one", "two", "three"]
    assert replies.in_json('Sure [see {x}]: ```json\n{"a": [1]}\n```') == {"a": [1]}
    assert replies.sections("## One: a\nb\n[Two]\nc", ("One", "Two")) == {"One": "a\nb", "Two": "c"}
    texts = ("Rating: [[7]]", "8", "Fine.\nScore: 3/10", "good\n**9**", "评分：6")
    assert [replies.grade(text, 1, 10) for text in texts] == [7, 8, 3, 9, 6]
