"""Conversations that models have with each other: transcripts, roles and stops, feedback, sectors."""

import asyncio

import pytest

from kilter.data.baize import baize
from kilter.data.baize_sdf import baize_sdf
from kilter.data.belle_multiturn import ASSISTANT, USER, belle_multiturn, flattened
from kilter.data.camel import DONE, camel
from kilter.data.selfee import needless, selfee
from kilter.data.transcript import spoken, written
from kilter.data.ultrachat import ROUNDS, ultrachat
from kilter.errors import KilterError, SetAside
from kilter.models.each import pulled
from kilter.models.protocol import Answer
from kilter.records import Message
from kilter.store.rejects import Rejects
from scripted_model import Scripted, by_kind, made, prompt, shown

HUMAN = (("[Human]",), ("[AI]",))


# ------------------------------------------------------------------------------------------------ transcripts


def test_tags_come_off_turns_alternate_and_a_last_question_alone_is_dropped():
    text = "Here it is.\n[Human] Hi\n[AI] Hello.\nWhat a day.\n**[human]** And?\n[AI] Well.\n[Human] Bye"
    turns = spoken(text, *HUMAN)
    assert [(t.role, t.content) for t in turns] == [
        ("user", "Hi"), ("assistant", "Hello.\nWhat a day."), ("user", "And?"), ("assistant", "Well."),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("no tags at all", "no dialogue"),
        ("[AI] I begin.\n[Human] Alone", "no dialogue"),
        ("[Human] a\n[Human] b\n[AI] c", "alternation"),
        ("[Human] a\n[AI] b\n[AI] c", "alternation"),
        ("[Human]\n[AI] b", "empty turn"),
    ],
)
def test_what_is_no_dialogue(text, rule):
    with pytest.raises(SetAside) as why:
        spoken(text, *HUMAN)
    assert why.value.rule == rule


def test_a_transcript_is_read_back_as_what_was_written():
    turns = [
        Message("user", "你好"),
        Message("assistant", "你好！\n有事吗？"),
        Message("user", "a: b"),
        Message("assistant", "c"),
    ]
    assert spoken(written(turns)) == turns
    with pytest.raises(SetAside, match="tag itself"):
        written([Message("user", "Quote this:\nHuman: hi")])


# ------------------------------------------------------------------------------------------------ baize, BELLE


def test_baize_keeps_the_sound_transcripts():
    replies = {
        "good": "[Human] about good?\n[AI] yes\n[Human] more?\n[AI] more\n[Human] thanks",
        "short": "[Human] about?\n[AI] yes",
        "cut": Answer("[Human] a\n[AI] b", 3, None, "length"),
        "empty": "  ",
        "echo": "Write down a conversation between a person and an AI assistant",
    }
    model = by_kind(dialogue=lambda v, _: replies[v["topic"]])
    seeds = [prompt(name, source="quora") for name in replies]
    found, left = made(baize(model, seeds, least=2))
    assert [d.meta for d in found] == [{"source": "quora", "topic": "good", "rounds": 2}]
    assert [m.role for m in found[0].messages] == ["user", "assistant"] * 2
    assert "[" not in "".join(m.content for m in found[0].messages)
    assert found[0].origin.parents == (seeds[0].id,)
    assert left == {"too few rounds": 1, "cut off": 1, "empty": 1, "no dialogue": 1}
    assert len(seeds) == len(found) + sum(left.values())


def test_self_distillation_learns_the_best_of_its_own_answers():
    says = {
        "good": ["b", "a", "a", "c"],
        "alike": ["a", "a", "a", "a"],
        "alone": ["a", "", "", "a"],
        "cut": [Answer("a", 3, None, "length"), "b", "c", "b"],
        "unclear": ["a", "b", "c", "d"],
    }
    model = Scripted(lambda messages, sampling: says[messages[-1].content][sampling.seed])
    orders = {"good": "The order is\n2 > 1 > 3", "cut": "2 > 1", "unclear": "1 > 1 > 2 > 3"}
    judge = by_kind(rank=lambda v, _: orders[v["question"]])
    asked = [prompt(name, source="quora") for name in says]
    found, left = made(baize_sdf(model, asked, judge=judge))
    assert [[m.content for m in d.messages] for d in found] == [["good", "a"], ["cut", "c"]]
    assert [d.meta for d in found] == [
        {"source": "quora", "ranking": [2, 1, 3], "shown": 3}, {"source": "quora", "ranking": [2, 1], "shown": 2},
    ]  # fmt: skip
    assert found[0].origin.parents == (asked[0].id,)
    assert left == {"all alike": 1, "empty": 1, "no ranking": 1}
    assert len(asked) == len(found) + sum(left.values())
    groups, _ = made(baize_sdf(model, asked[:1], judge=judge, what="ranked"))
    assert (groups[0].responses, groups[0].ranking) == (["a", "b", "c"], [0, 1, 2])


def test_belle_s_topics_then_conversations_whose_flat_history_is_read_back():
    def topics(variables, sampling):
        return "\n".join(f"{i}. 话题{len(variables['known']) + i}" for i in range(1, variables["n"] + 1))

    def dialogue(variables, sampling):
        topic = variables["topic"]
        if topic == "话题3":
            return "Human: Hello, what is the weather?\nAssistant: It is the sun and the wind."
        return f"Human: 我想聊{topic}\nAssistant: 好的，请讲。\nHuman: 有什么建议？\nAssistant: 多练习。"

    model = by_kind(list=topics, dialogue=dialogue)
    found, left = made(belle_multiturn(model, n=25))
    assert len(found) == 24
    assert left == {"language": 1}
    assert len({d.meta["topic"] for d in found}) == 24
    flat, _ = made(belle_multiturn(model, n=25, flat=True))
    assert len(flat) == 48
    whole = {d.meta["topic"]: d.messages for d in found}
    for first, second in zip(flat[::2], flat[1::2], strict=True):
        turns = whole[first.meta["topic"]]
        assert first.messages == turns[:2]
        history, answer = second.messages
        assert history.content.endswith(ASSISTANT)
        assert spoken(f"{history.content} {answer.content}", (USER,), (ASSISTANT,)) == turns
    with pytest.raises(SetAside, match="tag itself"):
        flattened([Message("user", "a\nAssistant: b"), Message("assistant", "c")])


def test_belle_takes_topics_from_records_and_refuses_a_model_that_names_none():
    model = by_kind(dialogue=lambda v, _: f"用户：聊聊{v['topic']}\n助手：好的，没问题。")
    found, left = made(belle_multiturn(model, [prompt("春天"), prompt(" ")]))
    assert [d.messages[0].content for d in found] == ["聊聊春天"]
    assert left == {"no prompt": 1}
    with pytest.raises(KilterError, match="no list"):
        asyncio.run(belle_multiturn(by_kind(list=lambda v, _: "nothing")))


# ------------------------------------------------------------------------------------------------ CAMEL


def play(users, assistants, **options):
    """The conversation of two agents who say these things, the last of them for ever."""
    sides = {"role_user": list(users), "role_assistant": list(assistants)}

    def says(side):
        return lambda v, _: sides[side].pop(0) if len(sides[side]) > 1 else sides[side][0]

    model = by_kind(
        role_user=says("role_user"), role_assistant=says("role_assistant"), specify=lambda v, _: f"exactly {v['task']}"
    )
    with Rejects() as rejects:
        found = list(pulled(camel(model, [prompt("bake")], assistant_roles="baker", user_roles="guest", **options)))
    return (found[0], found[0].meta["termination_reason"]) if found else (None, next(iter(rejects.counts)))


GIVES, DOES = "Instruction: mix it\nInput: None", "Solution: mixed. Next request."


@pytest.mark.parametrize(
    ("users", "assistants", "options", "why", "messages"),
    [
        ([GIVES, GIVES, DONE], [DOES], {}, "done", 4),
        ([GIVES], [DOES], {}, "messages", 40),
        ([GIVES], [DOES], {"messages": 6}, "messages", 6),
        ([GIVES, "well", "hm", GIVES, "a", "b", "c"], [DOES], {}, "no instructions", 12),
        ([GIVES], [DOES, DOES, "Instruction: you mix it"], {}, "roles turned", 4),
        # Each message counts once: these two hold four words of farewell, and the loop is four messages long.
        (
            [GIVES, "Thank you, thanks, bye!\n" + GIVES, "Thanks!\n" + GIVES],
            [DOES, "Bye, welcome!"],
            {},
            "farewells",
            4,
        ),
        ([GIVES, "Thanks, thank you, goodbye, bye.\n" + GIVES, DONE], [DOES], {}, "done", 4),
        ([GIVES], [DOES], {"total_tokens": 25}, "tokens", 6),
        ([GIVES], [DOES, Answer("Solution: and", 9, None, "length")], {}, "cut off", 2),
        ([GIVES], [DOES, " "], {}, "empty", 2),
    ],
)
def test_every_stop_of_camel_has_its_reason(users, assistants, options, why, messages):
    found, reason = play(users, assistants, **options)
    assert reason == why
    assert len(found.messages) == found.meta["num_messages"] == messages
    assert [m.role for m in found.messages] == ["user", "assistant"] * (messages // 2)
    assert (found.meta["original_task"], found.meta["specified_task"]) == ("bake", "exactly bake")
    assert (found.meta["role_1"], found.meta["role_2"]) == ("baker", "guest")


def test_a_conversation_that_ends_before_the_first_answer_is_left_out():
    assert play([DONE], [DOES]) == (None, "done")
    assert play([GIVES], ["Instruction: no, you"]) == (None, "roles turned")


def test_camel_s_roles_times_roles_times_tasks():
    def items(variables, sampling):
        return "\n".join(f"{i}) {variables['what'].split()[0]} {i} {variables['about']}" for i in range(variables["n"]))

    model = by_kind(
        list=items, specify=lambda v, _: v["task"], role_user=lambda v, _: DONE if v["history"] else GIVES,
        role_assistant=lambda v, _: DOES,
    )  # fmt: skip
    found, left = made(camel(model, roles=3, tasks=2))
    assert len(found) == 3 * 3 * 2
    assert left == {}
    assert len({(d.meta["role_1"], d.meta["role_2"]) for d in found}) == 9
    drawn, _ = made(camel(model, roles=3, tasks=2, conversations=5))
    again, _ = made(camel(model, roles=3, tasks=2, conversations=5))
    assert len(drawn) == 5
    assert drawn == again
    # In the user agent's view the sides are exchanged.
    seen = next(asked for asked in model.asked if getattr(asked, "kind", "") == "role-user" and len(asked) == 4)
    assert [m.role for m in seen] == ["system", "user", "assistant", "user"]


# ------------------------------------------------------------------------------------------------ SelFee


def test_selfee_revises_until_nothing_is_to_be_revised():
    def critique(variables, sampling):
        goal = int(variables["question"].split()[-1])
        return f"Score: 5\nRevision is {'not ' if int(variables['response']) >= goal else ''}needed."

    model = by_kind(feedback=critique, revise=lambda v, _: str(int(v["response"]) + 1))
    found, left = made(selfee(model, [shown(f"count to {goal}", "0") for goal in (0, 1, 3, 5, 9)]))
    assert left == {}
    assert [d.messages[-1].content for d in found] == ["0", "1", "3", "5", "5"]
    assert [d.meta["iteration_truncated"] for d in found] == [False, False, False, False, True]
    for record in found:
        outputs = record.meta["outputs"]
        assert record.meta["iteration"] == len(outputs) - 1
        assert outputs[-1]["output"] == record.messages[-1].content
        assert needless(outputs[-1]["feedback"]) is not record.meta["iteration_truncated"]
        assert not any(needless(step["feedback"]) for step in outputs[:-1])
    forced, _ = made(selfee(model, [shown("count to 0", "0")], forced=3))
    assert forced[0].meta["iteration"] == 3
    assert "Revision is needed" in forced[0].meta["outputs"][0]["feedback"]


@pytest.mark.parametrize(
    "text",
    [
        "Revision is not needed.",
        "Good. Revision is not necessary",
        "No revision is needed",
        "there is no need for revision",
    ],
)
def test_the_four_phrases(text):
    assert needless(text)
    assert not needless("Revision is needed.")


def test_selfee_leaves_out_what_has_no_answer():
    model = by_kind(feedback=lambda v, _: "Revision is needed.", revise=lambda v, _: "")
    found, left = made(selfee(model, [shown("a", "b"), shown("a", " "), prompt("c")]))
    assert found == []
    assert left == {"empty": 1, "no answer": 2}


# ------------------------------------------------------------------------------------------------ UltraChat


def chatty():
    return by_kind(
        list=lambda v, _: "\n".join(f"{i}. {v['what']} {i} of {v['about'][:60]}" for i in range(1, v["n"] + 4)),
        specify=lambda v, _: f"In detail: {v['task']}",
        user_turn=lambda v, _: f"and then? {len(v['history'])}",
        plain=lambda m, _: f"answer {len(m)}",
    )


@pytest.mark.parametrize("sector", ["questions", "entities", "writing", "materials"])
def test_ultrachat_s_sectors_have_their_quotas_and_their_rounds(sector):
    records = [prompt("bread"), prompt("glass")]
    options = {"sector": sector, "subtopics": 3, "questions": 4, "general": 5, "instructions": 10, "requests": 3}
    found, left = made(ultrachat(chatty(), records, **options))
    assert left == {}
    assert len(found) == {"questions": 2 * 3 * 4, "entities": 2 * (4 + 5), "writing": 20, "materials": 6}[sector]
    low, high = ROUNDS[sector]
    rounds = {len(d.messages) / 2 for d in found}
    assert rounds <= set(range(low, high + 1))
    assert len(rounds) > 1
    for record in found:
        assert [m.role for m in record.messages] == ["user", "assistant"] * record.meta["rounds"]
        assert record.meta["sector"] == sector
    if sector == "writing":
        assert sum(d.messages[0].content.startswith("In detail") for d in found) == 16
    if sector == "materials":
        assert all("bread" in d.messages[0].content or "glass" in d.messages[0].content for d in found)
        assert len({d.messages[0].content.replace("bread", "").split("requests")[0] for d in found}) > 1
    assert {p for d in found for p in d.origin.parents} == {r.id for r in records}


def test_ultrachat_without_records_begins_from_its_own_topics_and_draws():
    model = chatty()
    found, _ = made(ultrachat(model, subtopics=2, questions=2, expansions=1, conversations=12, most=3))
    assert len(found) == 12
    assert {d.meta["rounds"] for d in found} == {3}
    assert made(ultrachat(chatty(), sector="writing", instructions=1, conversations=3))[0]
    with pytest.raises(KilterError, match="give it records"):
        asyncio.run(ultrachat(model, sector="materials"))
    with pytest.raises(KilterError, match="least is 9"):
        asyncio.run(ultrachat(model, least=9))


def test_a_person_who_speaks_as_an_assistant_is_left_out():
    assistantly = Scripted(lambda m, _: "As an AI language model, I am happy to help you!", "person")
    found, left = made(ultrachat_with(assistantly))
    assert found == []
    assert left == {"person speaks as AI": 2}


def ultrachat_with(person):
    return ultrachat(chatty(), [prompt("bread")], sector="materials", requests=2, user=person)
