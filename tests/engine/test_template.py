"""Which tokens are the prompt's and which the assistant's, for both kinds of tokenizer and many chat templates."""

import pytest
from tokenizers_for_tests import CHATML, DEEPSEEK, KINDS, MARKED, MISTRAL, TEMPLATES, byte_level

from kilter.engine.template import (
    Dropped,
    demonstration_tree,
    end_ids,
    ensure_template,
    group_tree,
    prompt_ids,
    render,
    trees,
)
from kilter.errors import KilterError
from kilter.records import Demonstration, Group, Message, Prompt

TALK = [
    Message("user", "Hello there, how are you?"),
    Message("assistant", "I am fine, thank you."),
    Message("user", "你好，首都是哪里？"),
    Message("assistant", "The capital is Orim."),
]
CASES = [(kind, name) for kind in KINDS for name in TEMPLATES]


@pytest.fixture(params=CASES, ids=lambda case: "-".join(case).replace(" ", "_"))
def tokenizer(request):
    kind, name = request.param
    return KINDS[kind](TEMPLATES[name])


def scored_runs(tree):
    """Return the texts' token runs that are scored, in order."""
    tokens = [*tree.prompt, *tree.responses[0]]
    mask = [*(tree.prompt_mask or [False] * len(tree.prompt)), *tree.masks[0]]
    runs, before = [], False
    for token, scored in zip(tokens, mask, strict=True):
        if scored and not before:
            runs.append([])
        if scored:
            runs[-1].append(token)
        before = scored
    return runs


def test_the_answers_are_scored_and_nothing_else(tokenizer):
    tree = demonstration_tree(tokenizer, Demonstration(TALK))
    runs = [tokenizer.decode(run).strip() for run in scored_runs(tree)]
    assert [run.replace("</s>", "<|im_end|>").split("<|im_end|>")[0].split("\n")[-1] for run in runs] == [
        "I am fine, thank you.",
        "The capital is Orim.",
    ]
    assert all(run[-1] in end_ids(tokenizer) for run in scored_runs(tree))


def test_a_response_is_what_follows_the_generation_prompt(tokenizer):
    tree = demonstration_tree(tokenizer, Demonstration(TALK[:2]))
    assert tree.prompt == prompt_ids(tokenizer, [TALK[:1]])[0]
    assert tree.prompt_mask is None
    whole = render(tokenizer, TALK[:2])
    made = [*tree.prompt, *tree.responses[0]]
    assert whole[: len(made)] == made
    group = group_tree(tokenizer, Group(TALK[:1], [TALK[1].content, "I am not."]))
    assert group.prompt == tree.prompt
    assert group.responses[0] == tree.responses[0]
    assert all(all(mask) for mask in group.masks)
    assert tokenizer.decode(group.responses[1]).strip().split("\n")[-1].startswith("I am not.")


def test_the_first_turn_of_a_talk_is_tokenised_as_a_prompt_is(tokenizer):
    tree = demonstration_tree(tokenizer, Demonstration(TALK))
    first = prompt_ids(tokenizer, [TALK[:1]])[0]
    assert tree.prompt[: len(first)] == first
    group = group_tree(tokenizer, Group(TALK[:3], [TALK[3].content]))
    assert group.responses[0] == tree.responses[0]


def test_marks_agree_with_transformers_own_mask():
    tokenizer = byte_level(MARKED)
    theirs = tokenizer.apply_chat_template(
        [m.to_json() for m in TALK], return_assistant_tokens_mask=True, return_dict=True
    )
    tree = demonstration_tree(tokenizer, Demonstration(TALK))
    ours = [*tree.prompt, *tree.responses[0]]
    mask = [*tree.prompt_mask, *tree.masks[0]]
    assert theirs["input_ids"][: len(ours)] == ours
    assert [int(m) for m in mask] == theirs["assistant_masks"][: len(mask)]
    assert not any(theirs["assistant_masks"][len(mask) :])


def test_no_token_reaches_across_the_fork():
    # " The" would be one token of the whole text; the generation prompt has given its space already.
    template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '</s>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    tokenizer = byte_level(template)
    talk = [Message("user", "Hello"), Message("assistant", "The capital is Orim.")]
    tree = demonstration_tree(tokenizer, Demonstration(talk))
    assert tree.prompt == prompt_ids(tokenizer, [talk[:1]])[0]
    assert tree.responses[0] == tokenizer.encode("The capital is Orim.</s>", add_special_tokens=False)
    assert [*tree.prompt, *tree.responses[0]] != render(tokenizer, talk)


def test_a_template_that_hides_the_answer_is_a_clear_error():
    with pytest.raises(KilterError, match="generation prompt"):
        demonstration_tree(byte_level(DEEPSEEK), Demonstration(TALK[:2]))
    with pytest.raises(KilterError, match="generation prompt"):
        group_tree(byte_level(DEEPSEEK), Group(TALK[:1], ["yes"]))


def test_marks_around_nothing_fall_back_to_the_difference():
    hollow = CHATML + "{% generation %}{% endgeneration %}"
    tree = demonstration_tree(byte_level(hollow), Demonstration(TALK))
    assert tree == demonstration_tree(byte_level(CHATML), Demonstration(TALK))
    assert any(tree.prompt_mask)
    assert not all(tree.prompt_mask)


def test_a_base_tokenizer_gets_a_template_that_is_saved(tmp_path):
    tokenizer = byte_level()
    assert ensure_template(tokenizer)
    assert not ensure_template(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    assert render(again, TALK) == render(tokenizer, TALK)
    assert tokenizer.decode(prompt_ids(again, [TALK[:1]])[0]) == "<s>User: Hello there, how are you?\nAssistant:"


def test_a_tokenizer_that_can_end_nothing_is_refused():
    tokenizer = byte_level()
    tokenizer.eos_token = None
    with pytest.raises(KilterError, match="end-of-sequence"):
        ensure_template(tokenizer)


def test_a_long_prompt_is_cut_from_the_left(tokenizer):
    long = [Message("user", "Hello there, how are you? " * 40), TALK[1]]
    whole = demonstration_tree(tokenizer, Demonstration(long))
    tree = demonstration_tree(tokenizer, Demonstration(long), max_length=64)
    assert tree.responses == whole.responses
    assert len(tree.prompt) + len(tree.responses[0]) == 64
    kept = tree.prompt[1:] if tree.prompt[0] == tokenizer.bos_token_id else tree.prompt
    assert whole.prompt[-len(kept) :] == kept
    assert (tree.prompt[0] == tokenizer.bos_token_id) == (whole.prompt[0] == tokenizer.bos_token_id)
    assert len(prompt_ids(tokenizer, [long[:1]], max_length=20)[0]) == 20


def test_the_mask_of_a_cut_talk_moves_with_it():
    tokenizer = byte_level(MARKED)
    whole = demonstration_tree(tokenizer, Demonstration(TALK))
    tree = demonstration_tree(tokenizer, Demonstration(TALK), max_length=len(whole) - 20)
    assert tree.prompt_mask == whole.prompt_mask[20:]
    assert tree.prompt == whole.prompt[20:]


def test_a_response_that_does_not_fit_is_counted_and_the_rest_renumbered():
    tokenizer = byte_level(CHATML)
    dropped = Dropped()
    group = Group(TALK[:1], ["far too long " * 50, "fine", "", "I am."], scores=[3.0, 1.0, 0.5, 2.0])
    tree = group_tree(tokenizer, group, max_length=48, dropped=dropped)
    assert tree.info["kept"] == [1, 2, 3]
    assert tree.info["order"] == [1.0, 0.5, 2.0]
    assert tree.info["pairs"] == [(2, 0), (2, 1), (0, 1)]
    assert len(tree.prompt) + max(map(len, tree.responses)) <= 48
    assert dropped.total == 1
    assert "1 over 48 tokens" in str(dropped)
    assert (
        demonstration_tree(tokenizer, Demonstration([TALK[0], Message("assistant", "x " * 99)]), max_length=48) is None
    )


def test_what_cannot_be_learned_is_none_with_a_reason():
    dropped = Dropped()
    records = [
        Demonstration(TALK[:1]),
        Demonstration([*TALK, Message("user", "and?")]),
        Demonstration([TALK[0], TALK[0], TALK[1]]),
    ]
    nothing, talk, refused = trees(byte_level(MISTRAL), records, dropped=dropped)
    assert nothing is None
    assert refused is None
    assert talk == demonstration_tree(byte_level(MISTRAL), Demonstration(TALK, id=records[1].id))
    assert dropped.reasons == {"with no assistant turn": 1, "refused by the chat template: Roles must alternate": 1}
    with pytest.raises(KilterError, match="Roles must alternate"):
        prompt_ids(byte_level(MISTRAL), [[TALK[0], TALK[0]]])
    with pytest.raises(KilterError, match="prompt without a response"):
        trees(byte_level(), [Prompt(TALK[:1])])


def test_many_records_are_the_same_as_one_by_one(tokenizer):
    records = [
        Demonstration(TALK),
        Group(TALK[:1], ["I am fine.", "No."], labels=[True, False]),
        Demonstration(TALK[:2]),
    ]
    assert trees(tokenizer, records) == [
        demonstration_tree(tokenizer, records[0]),
        group_tree(tokenizer, records[1]),
        demonstration_tree(tokenizer, records[2]),
    ]
