"""Judged runs: scores, biases that were planted, words that cannot be read, and scoring again."""

from __future__ import annotations

import asyncio
import inspect
import json
import random
from pathlib import Path

import pytest
from judges import Planted, Says

from kilter import registry
from kilter.errors import KilterError, SetAside
from kilter.evaluation import result
from kilter.evaluation.llm_judge import llm_judge
from kilter.evaluation.probes import marked_up, padded, sentences
from kilter.evaluation.questions import from_file, from_records
from kilter.evaluation.rescore import rescore
from kilter.feedback.judge import PROMPTS, SHOTS, Case, Judge, JudgeFeedback
from kilter.models.drive import wait
from kilter.records import Demonstration, Group, Message, Prompt


def numbered(n: int) -> list[Prompt]:
    return [
        Prompt([Message("user", f"question {at}")], meta={"family": "even" if at % 2 == 0 else "odd"})
        for at in range(n)
    ]


def worth(question: str, answer: str) -> float:
    """An answer is worth the number in it, which is not changed by padding or layout."""
    return float(next((word.strip(".-*") for word in answer.split() if word.strip(".-*").isdigit()), "1"))


def model(points: dict[str, int] | None = None, constant: int | None = None, name: str = "m") -> Says:
    def answer(messages, sampling, k):
        question = messages[-1].content
        drawn = random.Random(f"{question} {name}").randint(1, 10)
        return f"It is {constant or (points or {}).get(question, drawn)} points. I am sure."

    return Says(answer, name)


def evaluate(*inputs, **options):
    return wait(llm_judge(*inputs, **options))


# ------------------------------------------------------------------------------------------------------------- scores


def test_ratings_are_averaged_and_told_by_category():
    prompts = numbered(4)
    points = {f"question {at}": at + 1 for at in range(4)}
    found = evaluate(model(points), prompts, judge=Planted(worth), probes=0)
    assert found.measures["score"].value == pytest.approx(2.5)
    assert found.measures["category:even"].value == 2
    assert found.measures["category:odd"].value == 3
    assert found.measures["judge:parsed"].value == 1
    assert all(name.startswith("judge:") for name in list(found.measures)[3:])
    assert "Rating" in found.samples[0]["judgements"][0]["text"]


def test_ratings_that_are_all_1_are_no_share_of_anything():
    found = evaluate(model(constant=1), numbered(4), judge=Planted(worth), probes=0)
    score = found.measures["score"]
    assert (score.value, score.low, score.high) == (1, 1, 1)
    assert found.measures["category:odd"].low == 1


def test_a_model_compared_with_itself_wins_half_and_the_better_one_wins():
    prompts = numbered(12)
    same = evaluate(model(constant=5), prompts, judge=Planted(worth), baseline=model(constant=5, name="n"))
    assert same.measures["win_rate"].value == 0.5
    better = evaluate(model(constant=8), prompts, judge=Planted(worth), baseline=model(constant=5, name="n"))
    assert better.measures["win_rate"].value == 1.0
    worse = evaluate(model(constant=5), prompts, judge=Planted(worth), baseline=model(constant=8, name="n"))
    assert worse.measures["win_rate"].value == 0.0


def test_a_judge_without_habits_has_no_bias_and_swapping_the_answers_changes_nothing():
    prompts = numbered(60)
    one = evaluate(model(), prompts, judge=Planted(worth), baseline=model(name="n"), probes=60)
    for name in ("judge:position", "judge:verbosity", "judge:format", "judge:self", "judge:conflict"):
        assert one.measures[name].value == 0, name
        assert one.measures[name].n == 60
    other = evaluate(model(name="n"), prompts, judge=Planted(worth), baseline=model())
    assert other.measures["win_rate"].value == pytest.approx(1 - one.measures["win_rate"].value)


# ------------------------------------------------------------------------------------------------------------- biases


@pytest.mark.parametrize(
    ("habit", "measure"),
    [
        ("position", "judge:position"),
        ("verbosity", "judge:verbosity"),
        ("format", "judge:format"),
        ("own", "judge:self"),
    ],
)
def test_a_planted_bias_of_verdicts_lies_in_its_interval_and_the_others_hold_none(habit, measure):
    rate = 0.35
    judge = Planted(worth, **{habit: rate})
    found = evaluate(model(constant=5), numbered(150), judge=judge, baseline=model(constant=5, name="n"), probes=150)
    bias = found.measures[measure]
    assert bias.low < rate < bias.high
    assert bias.low > 0
    others = {"judge:position", "judge:verbosity", "judge:format", "judge:self"} - {measure}
    for name in others:
        if (habit, name) != ("verbosity", "judge:format"):  # a list is also longer
            assert abs(found.measures[name].value) < 0.12, name


def test_planted_biases_of_ratings_are_found_to_the_point():
    judge = Planted(lambda q, a: 4.0, verbosity=1 / 9, format=2 / 9, own=3 / 9)
    found = evaluate(model(), numbered(10), judge=judge, probes=10)
    assert found.measures["judge:verbosity"].value == pytest.approx(1 / 9)
    assert found.measures["judge:format"].value == pytest.approx(2 / 9)
    assert found.measures["judge:self"].value == pytest.approx(3 / 9)
    assert found.measures["score"].value == 4  # what was probed is no part of the score
    assert "judge:position" not in found.measures  # one answer has no place


def test_one_order_is_drawn_and_the_position_is_measured_on_the_probed_items_all_the_same():
    judge = Planted(worth, position=1.0)
    found = evaluate(
        model(constant=5), numbered(200), judge=judge, baseline=model(constant=5, name="n"), orders="random", probes=8
    )
    assert found.measures["judge:position"].value == 1
    assert found.measures["judge:position"].n == 8
    assert found.measures["win_rate"].low < 0.5 < found.measures["win_rate"].high  # the order is drawn
    assert found.measures["judge:conflict"].value == 1


def test_both_orders_make_a_tie_of_what_only_the_place_decides():
    judge = Planted(worth, position=1.0)
    prompts, pair = numbered(6), (model(constant=9), model(constant=2, name="n"))
    agree = evaluate(pair[0], prompts, judge=judge, baseline=pair[1], merge="agree")
    assert agree.measures["win_rate"].value == 0.5
    assert agree.measures["judge:conflict"].value == 1


def test_what_is_probed_costs_what_it_says():
    judge = Planted(worth)
    evaluate(model(), numbered(10), judge=judge, probes=0)
    assert judge.asked == 10
    judge = Planted(worth)
    evaluate(model(), numbered(10), judge=judge, probes=3)
    assert judge.asked == 10 + 3 * 4


def test_a_judge_that_is_judged_is_named():
    found = evaluate(model(name="x"), numbered(3), judge=Planted(worth, name="x"), probes=0)
    assert any("no independent one" in note for note in found.notes)


def test_padding_and_layout_change_no_word():
    text = "It is 5. I am sure! 好的。再见"
    assert sentences(text) == ["It is 5.", "I am sure!", "好的。", "再见"]
    assert padded(text).count(text) == 2
    assert all(sentence in marked_up(text) for sentence in sentences(text))
    assert marked_up("Yes.").startswith("**Answer**")


# ------------------------------------------------------------------------------------------------- what can not be read


def test_words_without_a_verdict_are_counted_and_are_no_tie_and_no_zero(tmp_path):
    points = {f"question {at}": 8 for at in range(40)}
    judge = Planted(worth, silent=0.5)
    found = evaluate(model(points), numbered(40), judge=judge, probes=0)
    assert found.measures["score"].value == 8
    assert 5 < found.measures["score"].n < 35
    assert found.measures["judge:parsed"].value == pytest.approx(found.measures["score"].n / 40)
    assert any("hold no verdict (first: 'I would rather not say.')" in note for note in found.notes)
    assert any("left out of the score" in note for note in found.notes)
    pairs = evaluate(model(points), numbered(40), judge=judge, baseline=model(constant=1, name="n"), probes=0)
    assert pairs.measures["win_rate"].value == 1.0  # no tie crept in
    with pytest.raises(KilterError, match="No answer has a verdict"):
        evaluate(model(), numbered(3), judge=Says(lambda *_: "nonsense"), probes=0)


def test_judged_again_from_the_file_without_asking(tmp_path):
    judge = Says(lambda *_: "First [[3]], no: Rating: [[7]]")
    found = evaluate(model(), numbered(5), judge=judge, probes=2)
    assert found.measures["score"].value == 7
    path = tmp_path / "r.json"
    result.write(found, path)
    asked = len(judge.asked)
    again = rescore(data=str(path))
    assert again.measures["score"] == found.measures["score"]
    assert again.measures["judge:self"] == found.measures["judge:self"]
    assert "0 of 13 judgements are read otherwise" in again.notes[0]
    official = rescore(data=str(path), parser="mtbench-score@1")  # takes the first
    assert official.measures["score"].value == 3
    assert len(judge.asked) == asked
    with pytest.raises(KilterError, match="Unknown parser"):
        rescore(data=str(path), parser="mtbench")
    result.write(result.Evaluation("m", {}, [{"id": "a", "outcomes": {}}]), path)
    with pytest.raises(KilterError, match="holds no judgements"):
        rescore(data=str(path))


def test_pairs_are_merged_anew(tmp_path):
    found = evaluate(
        model(constant=9),
        numbered(4),
        judge=Planted(worth, position=1.0),
        baseline=model(constant=2, name="n"),
        probes=0,
    )
    result.write(found, tmp_path / "r.json")
    assert rescore(data=str(tmp_path / "r.json"), merge="mean").measures["win_rate"].value == 0.5
    broken = json.loads((tmp_path / "r.json").read_text())
    broken["samples"][0]["scoring"] = "compard"
    (tmp_path / "r.json").write_text(json.dumps(broken))
    with pytest.raises(KilterError, match="Did you mean 'compared'"):
        rescore(data=str(tmp_path / "r.json"))


# ------------------------------------------------------------------------------------------------------------ the judge


def test_every_slot_of_every_form_is_filled():
    slots = {"history": "HISTORY", "question": "QUESTION", "reference": "REFERENCE", "criterion": "CRITERION"}
    for kind, more in (
        ("rate", {"response": "RESPONSE", "claim": "CLAIM"}),
        ("compare", {"first": "FIRST", "second": "SECOND", "first_claim": "CLAIM1", "second_claim": "CLAIM2"}),
    ):
        for by, reason in (("text", True), ("text", False), ("logprobs", False)):
            asked = PROMPTS(kind, **slots, **more, by=by, reason=reason, shots=SHOTS[kind])
            text = asked[-1].content
            assert all(value in text for value in [*slots.values(), *more.values()])
            assert [m.role for m in asked] == ["user", "assistant"] * 2 + ["user"]
            assert "{{" not in text
        bare = PROMPTS(kind, **dict.fromkeys(slots, ""), **dict.fromkeys(more, "x"), by="text", reason=True, shots=[])[
            -1
        ].content
        assert "Reference" not in bare
        assert "Conversation" not in bare


def test_shots_end_in_verdicts_that_the_judges_parser_reads():
    from kilter.feedback.judge import PARSERS
    from kilter.feedback.parsers import parse

    for kind, wanted in (("rate", [2, 10]), ("compare", [0.0, 0.5])):
        for reason in (True, False):
            more = {"response": "r", "claim": ""} if kind == "rate" else dict.fromkeys(("first", "second"), "r")
            more |= {} if kind == "rate" else {"first_claim": "", "second_claim": ""}
            slots = dict.fromkeys(("history", "reference", "criterion"), "") | {"question": "q"}
            asked = PROMPTS(kind, **slots, **more, by="text", reason=reason, shots=SHOTS[kind])
            said = [parse(PARSERS[kind, "text"], m.content).value for m in asked if m.role == "assistant"]
            assert said == wanted


def test_several_evidences_are_drawn_and_all_count():
    rolls = Says(lambda m, sampling, k: f"Rating: [[{4 + 2 * k}]]")
    found = evaluate(model(), numbered(2), judge=rolls, evidences=3, probes=0)
    assert found.measures["score"].value == 6
    assert len(found.samples[0]["judgements"]) == 3


def test_feedback_of_a_judge_is_a_number_and_words_and_never_a_guess():
    prompt = Prompt([Message("user", "say 7")], meta={"answer": 7})
    feedback = JudgeFeedback(Judge(Planted(worth)))
    good, bad = wait(feedback(prompt, ["10 points", "1 point"]))
    assert (good.score, bad.score) == (1.0, 0.0)
    assert "Rating" in good.critique
    assert wait(feedback.compare(prompt, "3 points", "9 points")) == 1
    assert wait(feedback.compare(prompt, "9 points", "3 points")) == 0
    assert wait(feedback.compare(prompt, "9 points", "9 points")) is None
    sometimes = JudgeFeedback(Judge(Planted(worth, silent=0.5)), tries=20)
    assert [signal.score for signal in wait(sometimes(prompt, ["10 points", "1 point"]))] == [1.0, 0.0]
    mute = JudgeFeedback(Judge(Planted(worth, silent=1.0)))
    with pytest.raises(SetAside, match="gives no rating"):
        wait(mute(prompt, ["a"]))
    with pytest.raises(SetAside, match="gives no verdict"):
        wait(mute.compare(prompt, "a", "b"))


def test_a_judges_probabilities_are_its_own_and_add_up(tiny_model):
    from kilter.models.local import Local

    local = Local(str(tiny_model))
    judge = Judge(local, by="logprobs")
    case = Case("What is blue?")
    both = wait(judge.compare(case, "the sky", "the grass"))
    told = [json.loads(one.text) for one in both]
    assert [one.swapped for one in both] == [False, True]
    for one, share in zip(told, both, strict=True):
        assert sum(one.values()) == pytest.approx(1)
        assert share.value == pytest.approx(one["A"] + one["C"] / 2)
    [rating] = wait(judge.rate(case, "the sky"))
    spread = json.loads(rating.text)
    assert list(spread) == [str(n) for n in range(1, 11)]
    assert rating.value == pytest.approx(sum(int(k) * p for k, p in spread.items()))

    async def by_hand() -> list[float]:
        asked = judge._asked("compare", case, first="the sky", second="the grass", first_claim="", second_claim="")
        return [sum((await local.score(asked, letter))[:-1]) for letter in "ABC"]

    import math

    logs = asyncio.run(by_hand())
    whole = sum(math.exp(x) for x in logs)
    assert told[0]["A"] == pytest.approx(math.exp(logs[0]) / whole, abs=1e-6)


# -------------------------------------------------------------------------------------------------------------- reading


def test_rows_of_benchmarks_become_items(tmp_path):
    rows = [
        {"question_id": 81, "category": "writing", "turns": ["one", "two"], "reference": ["r1", "r2"]},
        {"idx": 7, "Skill": "Math", "Instruction": "add", "input": "1 2"},
        {"question": "你好", "std_answer": "好", "class": "open"},
        {"id": "u", "instruction": "do", "instances": [{"input": "a", "output": "b"}, {"input": "c", "output": "d"}]},
        {"id": "empty", "instruction": "  "},
    ]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    items, notes = from_file(str(path))
    assert [item.id for item in items] == ["81", "7", "3", "u/0", "u/1"]
    assert items[0].references == ("r1", "r2")
    assert items[1].turns == ("add\n\n1 2",)
    assert (items[2].language, items[2].category, items[2].reference(0)) == ("zh", "open", "好")
    assert items[4].turns[0].endswith("c")
    assert any("1 of 5 rows left out: the row asks nothing" in note for note in notes)
    assert len(from_file(str(path), n=2, seed=1)[0]) == 2
    path.write_text(json.dumps(rows[0]) + "\n" + json.dumps(rows[0]))
    with pytest.raises(KilterError, match="more than once"):
        from_file(str(path))
    path.write_text('{"a": 1}')
    with pytest.raises(KilterError, match="asks nothing"):
        from_file(str(path))


def test_records_of_every_kind_become_items():
    user, said = Message("user", "q"), Message("assistant", "a")
    items = from_records([Prompt([user]), Demonstration([user, said]), Group([user], ["x", "y"], scores=[0, 1])])
    assert [item.references for item in items] == [(), ("a",), ("y",)]
    assert len({item.id for item in from_records([Prompt([user]), Prompt([user])])}) == 2


def test_a_baselines_answers_may_be_in_a_file(tmp_path):
    prompts = numbered(3)
    rows = [{"id": prompt.id, "output": "It is 2 points."} for prompt in prompts[:2]]
    path = tmp_path / "b.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(SetAside, match="no answer to item"):
        evaluate(model(constant=7), prompts, judge=Planted(worth), baseline=str(path), probes=0)
    found = evaluate(model(constant=7), prompts[:2], judge=Planted(worth), baseline=str(path), probes=0)
    assert found.measures["win_rate"].value == 1
    path.write_text('{"id": 1}')
    with pytest.raises(KilterError, match="holds no answers"):
        evaluate(model(), prompts, judge=Planted(worth), baseline=str(path))


def test_the_shared_options_are_options_of_the_method():
    found = registry.find("judge", "evaluation")
    assert found.inputs == ("model", "records")
    assert {"judge", "baseline", "probes", "criterion"} <= set(found.options)
    assert all(option.help for option in found.options.values())
    with pytest.raises(KilterError, match="probes"):
        found.check({"judge": "x", "probes": -1})
    with pytest.raises(KilterError, match="judge"):
        found.check({})
    with pytest.raises(KilterError, match="needs the option judge"):
        llm_judge(model(), numbered(1))
    assert inspect.signature(llm_judge).parameters["judge"].default is inspect.Parameter.empty
    assert Path(inspect.getsourcefile(inspect.unwrap(found.function)) or "").name == "llm_judge.py"
