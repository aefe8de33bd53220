"""Mathematics, code and tools out of strong models: what is verified stays, by the checks of the catalogue."""

import asyncio
import itertools
import json
import random
from collections import Counter

import numpy as np
import pytest

from jsonl import write
from kilter.data.agent_distill import agent_distill, retrieved, step_in
from kilter.data.calls import fault, interfaces, parsed, same
from kilter.data.code_distill import TASKS, code_distill, k_center
from kilter.data.math_distill import hidden, math_distill
from kilter.data.tool_search import Search, depth_first
from kilter.data.vectors import vectors
from kilter.errors import KilterError, SetAside
from sandboxed import needs_a_sandbox
from scripted_model import Scripted, by_kind, made, prompt, shown

# ------------------------------------------------------------------------------------------------ mathematics

SUM = shown("Ann has 12 eggs and buys 5 more. How many eggs has she?", "12 + 5 = 17\n#### 17")


def test_answers_that_are_wrong_are_left_out_and_different_right_ones_kept():
    said = {
        0: "12 + 5.\nThe answer is: 17",
        1: "The answer is: 16",
        2: "5 + 12.\nThe answer is: 17.0",
        3: "12 + 5.\nThe answer is: 17",
    }
    model = by_kind(steps=lambda v, s: said[s.seed])
    found, left = made(math_distill(model, [SUM, prompt("no answer known")], samples=4))
    assert [r.messages[1].content for r in found] == [said[0], said[2]]
    assert left == {"no answer": 1}
    assert all(r.meta == {"aug_type": "answer", "answer": "17", "verified": True, "question_id": SUM.id} for r in found)
    wrong = by_kind(steps=lambda v, s: "The answer is: 3")
    assert made(math_distill(wrong, [SUM])) == ([], {"wrong answer": 1})


def test_a_rephrased_question_is_kept_where_its_solution_comes_to_the_answer():
    model = by_kind(
        paraphrase=lambda v, _: v["instruction"].replace("buys", "gets" if "Ann" in v["instruction"] else "loses"),
        steps=lambda v, _: f"The answer is: {17 if 'gets' in v['question'] else 7}",
    )
    bob = shown(SUM.messages[0].content.replace("Ann", "Bob"), "17")
    found, left = made(math_distill(model, [SUM, bob], way="rephrase"))
    assert [r.messages[0].content for r in found] == [SUM.messages[0].content.replace("buys", "gets")]
    assert left == {"wrong answer": 1}


def test_the_hidden_number_put_back_gives_the_question_and_its_answer():
    question = SUM.messages[0].content
    backward = hidden(question)
    assert [found.number for found in backward] == ["12", "5"]
    assert all(found.with_number() == question for found in backward)
    assert hidden("find x if x + 1 = 3") == []
    assert [found.with_number() for found in hidden("six boxes of 2.5 kg and 3")] == ["six boxes of 2.5 kg and 3"] * 2
    model = by_kind(steps=lambda v, _: "The answer is: " + ("12" if "has x" in v["question"] else "9"))
    found, left = made(math_distill(model, [SUM], way="fobar", samples=2))
    assert left == {}
    [record] = found
    assert "If we know that the answer to this is 17" in record.messages[0].content
    assert record.meta["answer"] == "12"
    # Substituting the number satisfies the original: 17 = x + 5.
    assert record.meta["masked"].replace("x", "12", 1) == record.meta["original"] == question
    assert int(record.meta["answer"]) + 5 == 17


def test_self_verification_hides_a_number_of_the_question_in_the_statement():
    model = by_kind(
        declare=lambda v, _: f"Ann has 12 eggs and buys 5 more, so she has {v['answer']}.",
        steps=lambda v, _: "The answer is: 12",
    )
    [found], _ = made(math_distill(model, [SUM], way="self-verification"))
    assert (
        found.messages[0].content
        == "Ann has x eggs and buys 5 more, so she has 17.\nWhat is the value of the unknown x?"
    )


def test_a_harder_question_needs_solutions_that_agree():
    model = by_kind(
        evolve=lambda v, _: f"{v['instruction']} And then?",
        steps=lambda v, s: f"Way {s.seed}. The answer is: {20 if s.seed < 2 else 21}",
    )
    [found], _ = made(math_distill(model, [SUM], way="harder"))
    assert found.meta["answer"] == "20"
    assert made(math_distill(model, [SUM], way="harder", agree=0.9))[1] == {"no agreement": 1}
    same_ = by_kind(evolve=lambda v, _: v["instruction"])
    assert made(math_distill(same_, [SUM], way="easier"))[1] == {"unchanged": 1}


def test_without_weight_there_are_no_rationales():
    model = by_kind(steps=lambda v, _: "12 and 5. The answer is: 17")
    label, rationale = made(math_distill(model, [SUM], way="rationale", weight=0.5))[0]
    assert (label.messages[0].content[:7], label.messages[1].content, label.meta["weight"]) == ("[label]", "17", 1.0)
    assert (rationale.messages[0].content[:11], rationale.meta["weight"]) == ("[rationale]", 0.5)
    assert [r.meta["weight"] for r in made(math_distill(model, [SUM], way="rationale", weight=0))[0]] == [1.0]


@needs_a_sandbox
def test_programs_are_run_and_what_they_print_is_compared():
    program = "Here:\n```python\nprint({})\n```"
    model = by_kind(
        math_program=lambda v, _: program.format("12 + 5" if "Ann" in v["question"] else "1 / 0"),
        steps=lambda v, _: "In words. The answer is: 17",
    )
    bob = shown(SUM.messages[0].content.replace("Ann", "Bob"), "17")
    first, second = made(math_distill(model, [SUM, bob], way="program"))[0]
    assert first.meta["programs"]
    assert "print(12 + 5)" in first.messages[1].content
    assert not second.meta["programs"]
    assert second.messages[1].content.startswith("In words")

    def blocks(variables, sampling):
        steps = variables["steps"]
        return (
            f"So it is {steps[0]['output']}.\nThe answer is: {steps[0]['output']}"
            if steps
            else program.format("12 + 5") + " 99!"
        )

    [found], _ = made(math_distill(by_kind(math_blocks=blocks), [SUM], way="interleaved"))
    assert "```output\n17\n```" in found.messages[1].content
    assert "99" not in found.messages[1].content, "what was written before the program had run"
    back = by_kind(
        augment_solution=lambda v, _: "12 + 6 = 18. The answer is: 18",
        instruct=lambda v, _: "Ann has 12 eggs and gets 6. How many?",
        math_program=lambda v, _: program.format("12 + 6"),
    )
    [found], _ = made(math_distill(back, [SUM], way="back"))
    assert (found.messages[0].content, found.meta["answer"]) == ("Ann has 12 eggs and gets 6. How many?", "18")
    off = by_kind(
        augment_solution=lambda v, _: "The answer is: 19",
        instruct=lambda v, _: "q",
        math_program=lambda v, _: program.format("12 + 6"),
    )
    assert made(math_distill(off, [SUM], way="back"))[1] == {"not verified": 1}


# ------------------------------------------------------------------------------------------------ code


def test_the_radius_of_the_core_never_grows_and_covers_all():
    words = [f"w{i}" for i in range(40)]
    draw = random.Random(0)
    points = vectors([" ".join(draw.sample(words, 6)) for _ in range(120)])
    chosen, radii = k_center(points, 30)
    assert len(set(chosen)) == 30
    assert all(before >= after for before, after in itertools.pairwise(radii))
    apart = np.sqrt(np.maximum(2 - 2 * (points @ points.T).toarray(), 0))
    for k in (1, 5, 29):
        assert apart[:, chosen[:k]].min(axis=1).max() == pytest.approx(radii[k], abs=1e-6)
    assert k_center(points, 0) == ([], [])


def test_the_discriminator_leaves_out_a_bad_item_and_its_cases_are_shown_later():
    model = by_kind(
        code_task=lambda v, _: (
            "only this" if "three" in v["code"] else f"Instruction: explain {v['code']}\nSolution: it is {v['code']}"
        ),
        code_verdict=lambda v, _: "Hm.\nVerdict: " + ("bad" if "evil" in v["solution"] else "good"),
    )
    pieces = [prompt(f"def f{i}(): return '{w}'") for i, w in enumerate(("one", "evil", "two", "three", "four"))]
    found, left = made(code_distill(model, [*pieces, prompt(" ")], core=5, batch=1))
    assert left == {"bad": 1, "sections": 1, "length": 1}
    assert len(found) == 3
    assert all(r.meta["task"] in TASKS for r in found)
    radii = [r.meta["radius"] for r in found]
    assert radii == sorted(radii, reverse=True)
    shown_ = [asked.variables for asked in model.asked if asked.kind == "code-task"]
    assert shown_[0]["good"] == shown_[0]["bad"] == ""
    assert shown_[-1]["good"].startswith("Instruction: explain")
    _, left = made(code_distill(model, pieces, core=2))
    assert left["not in the core"] == 3
    with pytest.raises(KilterError, match="no task 'poetry'"):
        asyncio.run(code_distill(model, pieces, tasks="poetry"))


# ------------------------------------------------------------------------------------------------ tools

CITY = {"properties": {"city": {"description": "its name"}, "unit": {}}, "required": ["city"]}
WEATHER = {"name": "weather.today", "description": "the weather of a city", "parameters": CITY}
ADD = {"type": "function", "function": {"name": "add", "description": "sum of numbers", "parameters": ["a", "b"]}}


@pytest.fixture
def tools(tmp_path):
    return write(tmp_path / "tools.jsonl", [WEATHER, ADD])


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("weather.today(city='Ulm')", None),
        ("weather.today(unit='C', city='Ulm')", None),
        ("weather.today('Ulm', unit='C')", None),
        ("weather.today(unit='C')", "arguments"),
        ("weather.today('Ulm', city='Ulm')", "arguments"),
        ("weather.today(city='Ulm', day=1)", "arguments"),
        ("add(1, 2, 3)", "arguments"),
        ("weather.tomorrow(city='Ulm')", "hallucination"),
    ],
)
def test_calls_are_matched_as_syntax_trees(tools, text, rule):
    found = fault(parsed(text), interfaces(tools))
    assert (found and found[0]) == rule


def test_the_order_and_the_writing_of_arguments_do_not_matter(tools):
    known = interfaces(tools)
    calls = [
        parsed(t) for t in ("add(a=1, b=2)", "add(b=2, a=1)", "add(1, 2)", "Here:\n```python\nx = add(1, b = 2)\n```")
    ]
    assert all(same(calls[0], call, known) for call in calls)
    assert not same(calls[0], parsed("add(a=2, b=1)"), known)
    assert not same(calls[0], parsed("add(a=1)"), known)
    for text in ("no call", "add(1, 2", "", "add(**kwargs)", "1 + 2", "(" * 400):
        assert parsed(text) is None
    assert parsed("add(a=__import__('os').system('x'), b=1)").names["b"] == 1, "read, never run"


@pytest.mark.parametrize("seed", range(40))
def test_a_search_finds_a_path_if_and_only_if_there_is_one(seed):
    draw = random.Random(seed)
    nodes = range(8)
    graph = {n: draw.sample(nodes, draw.randint(0, 3)) for n in nodes}
    reachable, border = {0}, [0]
    while border:
        border = [m for n in border for m in graph[n] if m not in reachable and not reachable.add(m)]

    async def expand(path, tried):
        here = path[-1] if path else 0
        return next((m for m in graph[here] if m not in tried and m not in path), None)

    told = Search()
    found = asyncio.run(
        depth_first(expand, lambda n: True if n == 7 else None, depth=8, width=3, most=10_000, told=told)
    )
    assert (found is not None) is (7 in reachable)
    if found:
        assert found[-1] == 7
        assert all(b in graph[a] for a, b in zip([0, *found], found, strict=False))


def test_the_search_keeps_its_bounds():
    async def expand(path, tried):
        return len(tried)

    told = Search()
    assert asyncio.run(depth_first(expand, lambda step: None, depth=3, width=2, told=told)) is None
    assert told.steps == 2 + 4 + 8
    told = Search()
    asyncio.run(depth_first(expand, lambda step: None, depth=50, width=50, most=20, told=told))
    assert told.steps == 20


def test_gorilla_s_calls_match_the_function_that_the_request_is_for(tools):
    requests = {
        "weather.today": ["city Ulm", "unit only", "make it up", "no call", "sum please"],
        "add": ["numbers 1 2"],
    }
    answers = {
        "city Ulm": "weather.today(city='Ulm')", "unit only": "weather.today(unit='C')", "no call": "I cannot.",
        "make it up": "weather.guess(city='x')", "sum please": "add(1, 2)", "numbers 1 2": "add(b=2, a=1)",
    }  # fmt: skip
    model = by_kind(
        list=lambda v, _: "\n".join(f"{i}. {t}" for i, t in enumerate(requests[v["tool"]["name"]], 1)),
        tool_call=lambda v, _: answers[v["question"]],
    )
    found, left = made(agent_distill(model, tools=tools))
    assert [r.messages[-1].content for r in found] == ["weather.today(city='Ulm')", "add(b=2, a=1)"]
    assert left == {"arguments": 1, "hallucination": 1, "no call": 1, "wrong function": 1}
    assert retrieved("what is the sum of 1 and 2", list(interfaces(tools).values()), 1)[0].name == "add"


def agent(plan):
    """An agent that goes on as `plan` says of the actions so far, and functions that return what they were given."""
    return by_kind(
        agent_step=lambda v, _: plan(
            tuple(s["action"] if isinstance(s, dict) else s.action for s in v["steps"]), v["tried"], v
        ),
        tool_result=lambda v, _: json.dumps({"got": v["call"]}),
        steps=lambda v, _: "The answer is: 5",
        reflect=lambda v, _: "add the other way",
    )


def test_toolllm_s_search_goes_back_from_what_leads_nowhere(tools):
    def plan(path, tried, variables):
        if not path:
            return "Thought: guess\nAction: weather.guess()" if not tried else "Thought: add\nAction: add(1, 2)"
        return "Thought: done\nAction: Finish(answer='3')"

    found, left = made(agent_distill(agent(plan), [prompt("1 and 2?")], way="search", tools=tools))
    assert left == {}
    [record] = found
    assert [step["action"] for step in record.meta["trajectory"]] == ["add(1, 2)", "Finish(answer='3')"]
    assert [m.role for m in record.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert record.messages[3].content == 'Observation: {"got": "add(1, 2)"}'
    # Without going back the first mistake is the last.
    assert made(agent_distill(agent(plan), [prompt("1 and 2?")], way="react", tools=tools))[1] == {"no path": 1}
    gives_up = agent(lambda path, tried, v: "Thought: no\nAction: GiveUp(reason='x')")
    assert made(agent_distill(gives_up, [prompt("q")], way="search", tools=tools))[1] == {"no path": 1}


def test_fireact_mixes_styles_that_come_to_the_answer(tools):
    def plan(path, tried, variables):
        if not path:
            return "Thought: add\nAction: add(1, 2)"
        return f"Thought: done\nAction: Finish(answer='{3 if variables['advice'] else 4}')"

    three, five, nine = (shown(f"is it {n}?", str(n)) for n in (3, 5, 9))
    found, left = made(agent_distill(agent(plan), [three, five, nine, prompt("?")], way="fireact", tools=tools))
    assert [(r.meta["style"], r.origin.parents[0]) for r in found] == [("reflexion", three.id), ("cot", five.id)]
    assert found[0].meta["advice"] == "add the other way"
    assert left == {"wrong answer": 1, "no answer": 1}


def test_agenttuning_s_filter_is_exact_and_its_mixture_has_its_share():
    trajectories = [
        shown(f"task {i}", "done", reward=r) for i, r in enumerate([1, 1.0, 0.99, 0, "1", "bad", 1, 1, 1, 1, 1])
    ]
    general = [shown(f"talk {i}", "hello") for i in range(100)]
    found, left = made(agent_distill(records=[*trajectories, *general, prompt("x")], way="filter"))
    counts = Counter("reward" in r.meta for r in found)
    assert counts[True] == 8
    assert counts[True] / counts.total() == pytest.approx(0.2)
    assert left == {"reward under 1": 2, "no reward": 1, "mixture": 68, "no answer": 1}
    assert all(r.meta["kept"] for r in found if "reward" in r.meta)
    alone, _ = made(agent_distill(records=[*trajectories, *general], way="filter", agents=1.0))
    assert len(alone) == 8


def test_what_agents_are_refused(tmp_path, tools):
    with pytest.raises(KilterError, match="give a model, and their file"):
        asyncio.run(agent_distill(Scripted(lambda m, _: ""), [prompt("q")], way="search"))
    with pytest.raises(KilterError, match="reads records"):
        asyncio.run(agent_distill(Scripted(lambda m, _: ""), way="react", tools=tools))
    for row, match in (({"x": 1}, "has no name"), ({"name": "f", "parameters": 3}, "neither an object nor a list")):
        with pytest.raises(KilterError, match=match):
            interfaces(write(tmp_path / "bad.jsonl", [row]))
    with pytest.raises(KilterError, match="another row has described"):
        interfaces(write(tmp_path / "twice.jsonl", [WEATHER, WEATHER]))
    with pytest.raises(SetAside):
        step_in("Thought: hm\nAction: ")
