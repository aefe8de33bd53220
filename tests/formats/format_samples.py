"""One row of every shape, as it stands in the wild, and the records that it holds."""

from __future__ import annotations

from typing import Any

from kilter.records import Demonstration, Group, Message, Prompt, Record


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


def system(text: str) -> Message:
    return Message("system", text)


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def said(speaker: str, value: str) -> dict[str, str]:
    return {"from": speaker, "value": value}


CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
CALL_TEXT = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
TOOLS = [{"type": "function", "function": {"name": "add"}}]

PAIR = Group([user("q")], ["good", "bad"], ranking=[0, 1])
TREE = {
    "message_tree_id": "t",
    "prompt": {
        "message_id": "m1",
        "text": "q",
        "role": "prompter",
        "lang": "en",
        "replies": [
            {"message_id": "m2", "text": "worse", "role": "assistant", "rank": 1, "replies": []},
            {
                "message_id": "m3",
                "text": "better",
                "role": "assistant",
                "rank": 0,
                "replies": [
                    {
                        "message_id": "m4",
                        "text": "and then?",
                        "role": "prompter",
                        "replies": [
                            {"message_id": "m5", "text": "no", "role": "assistant", "deleted": True, "replies": []},
                            {"message_id": "m6", "text": "this", "role": "assistant", "replies": []},
                        ],
                    }
                ],
            },
        ],
    },
}
TREE_META = {"tree": "t", "language": "en"}

# name of the shape, the row, its records
SAMPLES: list[tuple[str, dict[str, Any], list[Record]]] = [
    ("hh", {"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"}, [PAIR]),
    (
        "hh",
        {
            "chosen": "\n\nHuman: 你好\n\nAssistant: a\n\nHuman: b\n\nAssistant: 好",
            "rejected": "\n\nHuman: 你好\n\nAssistant: a\n\nHuman: b\n\nAssistant: x\n\nHuman: made up",
        },
        [Group([user("你好"), assistant("a"), user("b")], ["好", "x\n\nHuman: made up"], ranking=[0, 1])],
    ),
    (
        "hh-prompt",
        {"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": " good", "rejected": " bad"},
        [PAIR],
    ),
    (
        "webgpt",
        {
            "chosen": "## Human:\nq\n\n## Assistant:\ngood",
            "rejected": "## Human:\nq\n\n## Assistant:\nbad",
            "score": [0.5, 1.5],
        },
        [Group([user("q")], ["good", "bad"], scores=[0.5, 1.5])],
    ),
    (
        "prometheus-pairs",
        {
            f"{side}_instruction": "###The instruction to evaluate:\nq\n\n"
            f"###Response to evaluate:\n{answer}\n\n###Score Rubrics:\n[]"
            for side, answer in (("chosen", "good"), ("rejected", "bad"))
        },
        [PAIR],
    ),
    (
        "alpaca",
        {"instruction": "Sort", "input": "b a", "output": "a b"},
        [Demonstration([user("Sort\n\nb a"), assistant("a b")], meta={"input": "b a"})],
    ),
    (
        "alpaca",
        {"instruction": "c", "output": "d", "system": "s", "history": [["a", "b"]], "category": "chat", "id": "r7"},
        [
            Demonstration(
                [system("s"), user("a"), assistant("b"), user("c"), assistant("d")],
                id="r7",
                meta={"extra": {"category": "chat"}},
            )
        ],
    ),
    (
        "alpaca-ranked",
        {"instruction": "q", "input": "", "output": ["best", "middle", "worst"], "history": []},
        [Group([user("q")], ["best", "middle", "worst"], ranking=[0, 1, 2])],
    ),
    ("alpaca-preference", {"instruction": "q", "chosen": "good", "rejected": "bad"}, [PAIR]),
    (
        "alpaca-kto",
        {"instruction": "q", "output": "a", "tag": False, "label": "news"},
        [Group([user("q")], ["a"], labels=[False], meta={"extra": {"label": "news"}})],
    ),
    (
        "dolly",
        {"instruction": "q", "context": "c", "response": "a", "category": "qa"},
        [Demonstration([user("q\n\nc"), assistant("a")], meta={"input": "c", "extra": {"category": "qa"}})],
    ),
    (
        "self-instruct",
        {"id": "s1", "instruction": "q", "instances": [{"input": "", "output": "a"}, {"input": "i", "output": "b"}]},
        [
            Demonstration([user("q"), assistant("a")], id="s1/0"),
            Demonstration([user("q\n\ni"), assistant("b")], id="s1/1", meta={"input": "i"}),
        ],
    ),
    (
        "super-natural-instructions",
        {
            "Definition": ["d"],
            "Positive Examples": [1],
            "Instances": [{"id": "i1", "input": "x", "output": ["y", "z"]}],
        },
        [Demonstration([user("d\n\nx"), assistant("y")], id="i1", meta={"input": "x", "references": ["y", "z"]})],
    ),
    (
        "sharegpt",
        {"conversations": [said("system", "s"), said("human", "q"), said("gpt", "a")]},
        [Demonstration([system("s"), user("q"), assistant("a")])],
    ),
    (
        "sharegpt",
        {"conversations": [said("user", "q"), said("bing", "a")], "system": "s", "tools": "[]", "lang": "en"},
        [
            Demonstration(
                [system("s"), user("q"), assistant("a")],
                meta={
                    "tools": "[]",
                    "turns": {"1": {"from": "user"}, "2": {"from": "bing"}},
                    "extra": {"lang": "en"},
                },
            )
        ],
    ),
    (
        "sharegpt",
        {
            "conversations": [
                said("human", "1+2"),
                said("function_call", '{"name": "add"}'),
                said("observation", "3"),
                said("gpt", "3"),
            ]
        },
        [
            Demonstration(
                [user("1+2"), assistant('{"name": "add"}'), Message("tool", "3"), assistant("3")],
                meta={"turns": {"1": {"from": "function_call"}}},
            )
        ],
    ),
    (
        "sharegpt-preference",
        {"conversations": [said("human", "q")], "chosen": said("gpt", "good"), "rejected": "bad"},
        [PAIR],
    ),
    (
        "sharegpt-kto",
        {"conversations": [said("human", "q"), said("gpt", "a")], "kto_tag": True},
        [Group([user("q")], ["a"], labels=[True])],
    ),
    (
        "lima",
        {"conversations": ["a", "b", "c", "d"]},
        [Demonstration([user("a"), assistant("b"), user("c"), assistant("d")])],
    ),
    ("lima", {"conversations": ["only a question"]}, [Prompt([user("only a question")])]),
    (
        "messages",
        {"messages": [turn("developer", "s"), turn("user", "q"), turn("assistant", "a")]},
        [Demonstration([system("s"), user("q"), assistant("a")], meta={"turns": {"0": {"role": "developer"}}})],
    ),
    ("messages", {"messages": [turn("user", "q")]}, [Prompt([user("q")])]),
    (
        "messages",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "1+"}, {"type": "text", "text": "2"}]},
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "content": "3", "tool_call_id": "c1"},
                turn("assistant", "3"),
            ],
            "tools": TOOLS,
        },
        [
            Demonstration(
                [user("1+2"), assistant(CALL_TEXT), Message("tool", "3"), assistant("3")],
                meta={
                    "tools": TOOLS,
                    "turns": {
                        "0": {"content": [{"type": "text", "text": "1+"}, {"type": "text", "text": "2"}]},
                        "1": {"tool_calls": [CALL]},
                        "2": {"tool_call_id": "c1"},
                    },
                },
            )
        ],
    ),
    ("trl-preference", {"prompt": "q", "chosen": "good", "rejected": "bad"}, [PAIR]),
    (
        "trl-preference",
        {
            "prompt": "q",
            "chosen": [turn("user", "q"), turn("assistant", "good")],
            "rejected": [turn("user", "q"), turn("assistant", "bad")],
            "messages": [],
            "score_chosen": 8.0,
            "score_rejected": 3.0,
        },
        [Group([user("q")], ["good", "bad"], scores=[8.0, 3.0], meta={"extra": {"messages": []}})],
    ),
    (
        "trl-preference",
        {"prompt": [turn("user", "q")], "chosen": [turn("assistant", "good")], "rejected": turn("assistant", "bad")},
        [PAIR],
    ),
    (
        "trl-preference",
        {"prompt": "q", "chosen": "good", "rejected": "bad", "score_chosen": 1.0, "score_rejected": 1.0},
        [
            Group(
                [user("q")],
                ["good", "bad"],
                ranking=[0, 1],
                meta={"extra": {"score_chosen": 1.0, "score_rejected": 1.0}},
            )
        ],
    ),
    (
        "trl-implicit",
        {
            "chosen": [turn("user", "q"), turn("assistant", "good")],
            "rejected": [turn("user", "q"), turn("assistant", "bad")],
        },
        [PAIR],
    ),
    ("trl-completion", {"prompt": "q", "completion": "a"}, [Demonstration([user("q"), assistant("a")])]),
    (
        "trl-kto",
        {"prompt": [turn("user", "q")], "completion": [turn("assistant", "a")], "label": True},
        [Group([user("q")], ["a"], labels=[True])],
    ),
    (
        "trl-stepwise",
        {"prompt": "q", "completions": ["one", "two"], "labels": [True, False]},
        [
            Group(
                [user("q")], ["one\ntwo"], labels=[False], meta={"steps": ["one", "two"], "step_labels": [True, False]}
            )
        ],
    ),
    (
        "question-answer",
        {"question": "1+1", "answer": "2", "level": 1},
        [Demonstration([user("1+1"), assistant("2")], meta={"extra": {"level": 1}})],
    ),
    ("question-answer", {"id": "x", "prompt": "q", "response": "a"}, [Demonstration([user("q"), assistant("a")], "x")]),
    ("trl-prompt", {"prompt": "q", "type": "homonyms"}, [Prompt([user("q")], meta={"extra": {"type": "homonyms"}})]),
    (
        "oasst",
        TREE,
        [
            Demonstration(
                [user("q"), assistant("better"), user("and then?"), assistant("this")], "m1/best", meta=TREE_META
            ),
            Group([user("q")], ["better", "worse"], ranking=[0, 1], id="m1/ranked", meta=TREE_META),
        ],
    ),
    (
        "ultrafeedback",
        {
            "instruction": "q",
            "completions": [
                {"response": "a", "overall_score": 7.0, "critique": "fine", "model": "m"},
                {"response": "b", "fine-grained_score": 4.5, "overall_score": 10.0, "critique": "poor"},
            ],
            "source": "x",
        },
        [
            Group(
                [user("q")],
                ["a", "b"],
                scores=[7.0, 4.5],
                critiques=["fine", "poor"],
                meta={
                    "completions": [{"model": "m"}, {"fine-grained_score": 4.5, "overall_score": 10.0}],
                    "extra": {"source": "x"},
                },
            )
        ],
    ),
    (
        "responses",
        {"prompt": "q", "responses": ["a", "b", "c"], "scores": [1, 3, 2], "critiques": ["x", "y", "z"]},
        [Group([user("q")], ["a", "b", "c"], scores=[1, 3, 2], critiques=["x", "y", "z"])],
    ),
    (
        "responses",
        {"prompt": [turn("user", "q")], "responses": ["a", "b"], "labels": [True, False]},
        [Group([user("q")], ["a", "b"], labels=[True, False])],
    ),
    (
        "webgpt-comparisons",
        {"question": {"full_text": "q"}, "answer_0": "a", "answer_1": "b", "score_0": -0.5, "score_1": 0.5},
        [Group([user("q")], ["a", "b"], scores=[-0.5, 0.5])],
    ),
    ("orca-pairs", {"question": "q", "chosen": "good", "rejected": "bad", "system": ""}, [PAIR]),
    (
        "shp",
        {"history": "q", "human_ref_A": "a", "human_ref_B": "b", "labels": 0},
        [Group([user("q")], ["a", "b"], ranking=[1, 0])],
    ),
    (
        "pku-saferlhf",
        {"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 1, "safer_response_id": 0},
        [Group([user("q")], ["a", "b"], ranking=[1, 0], meta={"extra": {"safer_response_id": 0}})],
    ),
    (
        "qa-feedback",
        {
            "question": "q",
            "passages": [["t", "one", "two"]],
            "preference": [1, 1, 0, 2, 1, 0],
            **{f"prediction {k}": f"p{k}" for k in (1, 2, 3, 4)},
        },
        [
            Group(
                [user("q\n\none two")],
                ["p1", "p2", "p3", "p4"],
                scores=[2.5, 1.0, 1.5, 1.0],
                meta={"extra": {"preference": [1, 1, 0, 2, 1, 0]}},
            )
        ],
    ),
    (
        "kilter",
        {
            "kind": "group",
            "id": "g1",
            "prompt": [turn("user", "q")],
            "responses": ["a"],
            "scores": [0.5],
            "meta": {"family": "facts"},
        },
        [Group([user("q")], ["a"], scores=[0.5], id="g1", meta={"family": "facts"})],
    ),
    ("kilter", {"kind": "prompt", "id": "p1", "messages": [turn("user", "q")]}, [Prompt([user("q")], "p1")]),
]
