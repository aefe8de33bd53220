"""Shared conversations: each rule on a conversation made for it, windows that join to the whole again, HTML."""

import itertools

import pytest

from kilter.data.markdown import to_markdown
from kilter.data.sharegpt_vicuna import sharegpt_vicuna
from kilter.data.tokens import tokenise
from kilter.engine.template import demonstration_tree
from kilter.models.local import Local
from kilter.records import Demonstration, Message, Prompt
from kilter.store.rejects import Rejects

ROLES = {"u": "user", "a": "assistant", "s": "system", "t": "tool"}


def chat(*turns, **more):
    return Demonstration([Message(ROLES[turn[0]], turn[1:]) for turn in turns], **more)


def said(record):
    return [turn.role[0] + turn.content for turn in record.messages]


GOOD = chat("uWhat is the tallest mountain?", "aIt is Mount Everest.")


def test_ends_are_trimmed_to_question_and_answer():
    record = chat("aWelcome back!", "uHow high is it, please?", "a8,849 metres.", "uThanks!")
    assert [said(r) for r in sharegpt_vicuna([record])] == [["uHow high is it, please?", "a8,849 metres."]]
    prompt = Prompt(record.messages)
    assert [said(r) for r in sharegpt_vicuna([prompt])] == [["uHow high is it, please?", "a8,849 metres."]]


@pytest.mark.parametrize(
    "last",
    ["aToo many requests in 1 hour. Try again later.", "a!Too many requests in 1 hour. Try again later.", "a<p></p>"],
)
def test_a_refusal_of_the_server_ends_the_conversation(last):
    record = chat("uHow high is it, please?", "a8,849 metres.", "uAnd K2?", last, "uHello?", "aYes.")
    assert [said(r) for r in sharegpt_vicuna([record])] == [["uHow high is it, please?", "a8,849 metres."]]


FAULTS = {
    "empty": chat("uHi", "aHo"),
    "turns": chat("uWhat is this about?", "uPlease say.", "aIt is about mountains."),
    "blocked word": chat("uWho made you, please?", "aI am ChatGPT, a model."),
    "language": chat("u世界上最高的山是哪一座？", "a珠穆朗玛峰，海拔八千八百四十九米。"),
    "broken list": chat("uWhat are the three highest mountains?", "aHere they are:\n1. Everest\n1. K2\n3. Lhotse"),
    "digits": chat("uWhat is a third of one?", "a0.333333333 or so"),
    "duplicate": chat("uWhat is the tallest mountain?", "aIt is Mount Everest.", "uThank you!", "aYou are welcome."),
}


@pytest.mark.parametrize("rule", FAULTS)
def test_each_rule_finds_its_fault(rule):
    with Rejects() as rejects:
        kept = list(sharegpt_vicuna([GOOD, FAULTS[rule]], keep="en", digits=True))
    assert [record.messages for record in kept] == [GOOD.messages]
    assert rejects.counts == {rule: 1}


def test_rules_that_were_not_asked_for_do_not_apply():
    records = [FAULTS["language"], FAULTS["digits"], FAULTS["blocked word"]]
    assert len(list(sharegpt_vicuna(records, blocked=""))) == 3


def test_the_same_id_twice():
    first, second = chat("uOne question.", "aOne answer.", id="x"), chat("uAnother question.", "aAnother.", id="x")
    assert [r.messages for r in sharegpt_vicuna([first, second])] == [first.messages]


def long_chat(sizes, system=()):
    turns = [f"{'ua'[i % 2]}" + " ".join(f"w{i}x{k}" for k in range(size)) for i, size in enumerate(sizes)]
    return chat(*system, *turns, id="c")


@pytest.mark.parametrize(
    "sizes",
    [
        [10, 10] * 8,  # windows that are full to the last pair
        [10, 30] * 7 + [3, 3],  # the last pair overflows, and is a window of its own
        [90, 30, 5, 5, 5, 5],  # the first pair is too long
        [5, 5, 20, 200, 5, 5],  # one in the middle is
        [5, 5, 5, 5, 50, 70],  # the last is
        [60, 27, 60, 28, 60, 29],  # as long as a window may be, one more, and two more
    ],
)
def test_windows_join_to_the_whole_but_for_pairs_that_are_left_out(sizes):
    record = long_chat(sizes)
    with Rejects() as rejects:
        windows = list(sharegpt_vicuna([record], max_tokens=100))
    pairs = [record.messages[i : i + 2] for i in range(0, len(sizes), 2)]
    fitting = [pair for i, pair in enumerate(pairs) if sizes[2 * i] + sizes[2 * i + 1] + 12 <= 100]
    assert [m for window in windows for m in window.messages] == [m for pair in fitting for m in pair]
    assert rejects.counts["pair too long"] == len(pairs) - len(fitting)
    for window in windows:
        assert window.messages[0].role == "user"
        assert window.messages[-1].role == "assistant"
        assert sum(tokenise([m.content])[0].size + 6 for m in window.messages) <= 100
        first = record.messages.index(window.messages[0])
        assert window.id == f"c_{first}"
    lengths = [sum(len(m.content.split()) + 6 for m in window.messages) for window in windows]
    for i, (window, after) in enumerate(itertools.pairwise(windows)):
        follows = record.messages.index(after.messages[0]) == record.messages.index(window.messages[-1]) + 1
        if follows:  # then the next pair had no room
            assert lengths[i] + sum(len(m.content.split()) + 6 for m in after.messages[:2]) > 100


def test_every_window_has_the_system_s_turn():
    windows = list(sharegpt_vicuna([long_chat([10, 20] * 6, system=["sBe kind to all."])], max_tokens=100))
    assert len(windows) == 6 / 2
    for window in windows:
        assert window.messages[0] == Message("system", "Be kind to all.")
        assert sum(len(m.content.split()) + 6 for m in window.messages) <= 100


def test_a_conversation_that_fits_keeps_its_id():
    assert [r.id for r in sharegpt_vicuna([long_chat([5, 5])])] == ["c"]


def test_only_the_assistant_is_learned_from(tiny_model):
    tokenizer = Local(str(tiny_model)).tokenizer
    record = long_chat([3, 4] * 3, system=["sBe kind."])
    counted = list(sharegpt_vicuna([record], max_tokens=120, tokenizer=str(tiny_model)))
    assert 1 < len(counted) <= 3
    for window in counted:
        tree = demonstration_tree(tokenizer, window)
        ids = [*zip(tree.prompt, tree.prompt_mask or [False] * len(tree.prompt), strict=True)]
        ids += [*zip(tree.responses[0], tree.masks[0], strict=True)]
        learned = tokenizer.decode([token for token, scored in ids if scored], skip_special_tokens=True)
        for message in window.messages:
            assert (message.content in learned) == (message.role == "assistant")


HTML = [
    ("<p>One &amp; two.</p><p>Three</p>", "One & two.\n\nThree"),
    ("<ol><li><p>first</p></li><li><p>second</p></li></ol>", "1. first\n2. second"),
    ('<ol start="3">\n<li>third</li>\n</ol>', "3. third"),
    ("<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>", "- a\n    - b\n- c"),
    ("<h2>Title</h2><p>A <strong>bold</strong> <em>word</em>.</p>", "## Title\n\nA **bold** *word*."),
    (
        '<p>Run:</p><pre><div><span>python</span><button>Copy code</button></div><code class="language-python">'
        "if a &lt; b:\n    print(a)\n</code></pre>",
        None,
    ),
    ('See <a href="http://x.y">here</a>.', "See [here](http://x.y)."),
    ("line<br>break</br>", "line\nbreak"),
    (
        "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td>2</td></tr></tbody></table>",
        "| a | b |\n| --- | --- |\n| 1 | 2 |",
    ),
    ("<p>中文<code>x</code>。</p>", "中文`x`。"),
]


@pytest.mark.parametrize(("html", "markdown"), HTML)
def test_html_as_markdown(html, markdown):
    found = to_markdown(html)
    if markdown is not None:
        assert found == markdown
    else:
        assert found.startswith("Run:\n\n```")
        assert "if a < b:\n    print(a)\n```" in found
        assert "Copy code" not in found


@pytest.mark.parametrize(
    "text",
    [
        "a < b and c > d",
        "Use `<p>text</p>` for paragraphs.",
        "```html\n<ul><li>x</li></ul>\n```",
        "1. one\n2. two",
        "x <- y",
    ],
)
def test_what_is_no_html_stays_as_it_is(text):
    assert to_markdown(text) == text
