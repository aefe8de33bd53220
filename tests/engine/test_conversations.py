"""Trees for models that judge: the tokens are those of the chat template's own rendering, steps are marked."""

import pytest
from tokenizers_for_tests import CHATML, DEEPSEEK, KINDS, MISTRAL, TEMPLATES

from kilter.engine.conversations import conversation_trees, step_cuts
from kilter.engine.template import Dropped
from kilter.errors import KilterError
from kilter.records import Group, Message

PROMPT = [Message("user", "what is the capital?")]


def rendered(tokenizer, group, k):
    """Return what a user of transformers gives the model."""
    messages = [m.to_json() for m in (*group.prompt, Message("assistant", group.responses[k]))]
    return list(tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"])


@pytest.mark.parametrize("template", [*TEMPLATES, "deepseek"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_sequence_is_what_apply_chat_template_gives(kind, template):
    tokenizer = KINDS[kind]((TEMPLATES | {"deepseek": DEEPSEEK})[template])
    responses = ["Orim.", "Orim.", "I am fine,\nthank you.", "你好", "", " spaces around "]
    group = Group([Message("user", "Hello there"), Message("assistant", "Hello."), *PROMPT], responses)
    [tree] = conversation_trees(tokenizer, [group])
    assert tree.info["kept"] == list(range(len(responses)))
    assert all(tree.responses)
    for k in range(len(responses)):
        assert [*tree.prompt, *tree.responses[k]] == rendered(tokenizer, group, k)
    # The prompt is shared, all but perhaps its last tokens.
    bare = tokenizer.apply_chat_template([m.to_json() for m in group.prompt], return_dict=True)["input_ids"]
    assert len(tree.prompt) >= len(bare) - 4


def test_marks_are_on_what_stands_behind_each_step():
    tokenizer = KINDS["byte level"](CHATML)
    steps = ["First the fox.", "Then the dog.", "So: Orim."]
    groups = [Group(PROMPT, ["\n".join(steps)]), Group(PROMPT, ["  " + "\n".join(steps) + " \n", "one"])]
    cuts = [[step_cuts(steps)], [[2 + cut for cut in step_cuts(steps)], step_cuts(["one"])]]
    one, two = conversation_trees(tokenizer, groups, cuts=cuts)
    for tree, k in ((one, 0), (two, 0)):
        tokens, marks = tree.responses[k], tree.info["marks"][k]
        assert len(marks) == 3
        for i, mark in enumerate(marks):
            # All of the steps up to here, and none of the next, has been read at the mark.
            read = tokenizer.decode(tokens[: mark + 1])
            assert steps[i] in read
            assert i == 2 or steps[i + 1][:2] not in read.split(steps[i])[1]
    assert tokenizer.decode([one.responses[0][mark] for mark in one.info["marks"][0]]) == "\n\n<|im_end|>"
    assert tokenizer.decode(two.responses[1][two.info["marks"][1][0]]) == "<|im_end|>"


def test_a_template_that_leaves_a_response_out_leaves_nothing_to_mark():
    template = CHATML.replace("m['content']", "('hidden' if m['role'] == 'assistant' else m['content'])")
    dropped = Dropped()
    trees = conversation_trees(
        KINDS["byte level"](template), [Group(PROMPT, ["a\nb"])], cuts=[[step_cuts(["a", "b"])]], dropped=dropped
    )
    assert trees == [None]
    assert dropped.total == 1


def test_what_is_too_long_or_refused_is_counted():
    dropped = Dropped()
    tokenizer = KINDS["byte level"](MISTRAL)
    groups = [
        Group(PROMPT, ["short", "word " * 60], ranking=[0, 1]),
        Group([Message("system", "x"), *PROMPT], ["a", "b"]),
        Group([Message("user", "the lazy dog " * 30)], ["a", "b"]),
    ]
    first, second, third = conversation_trees(tokenizer, groups, max_length=48, dropped=dropped)
    assert first.info["kept"] == [0]
    assert first.info["pairs"] == []
    assert second is None
    assert len(third.prompt) + max(map(len, third.responses)) == 48
    assert third.prompt[0] == tokenizer.bos_token_id
    assert dropped.total == 3
    assert dropped.cut == 1
    assert "over 48 tokens" in str(dropped)
    assert "Roles must alternate" in str(dropped)


def test_a_tokenizer_without_places_cannot_mark_steps():
    class Blind:
        """A tokenizer written in Python, as its owner may have one."""

        def __init__(self, inner):
            self.inner, self.is_fast = inner, False

        def __getattr__(self, name):
            return getattr(self.inner, name)

    with pytest.raises(KilterError, match="does not tell where in the text its tokens are"):
        conversation_trees(Blind(KINDS["byte level"](CHATML)), [Group(PROMPT, ["a"])], cuts=[[step_cuts(["a"])]])
