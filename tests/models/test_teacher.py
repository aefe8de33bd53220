"""The world's scripted teacher: what it knows is what the world says, and its noise is as it is named."""

import asyncio

import pytest

from kilter.errors import KilterError
from kilter.models.load import admit, checkpoint, load
from kilter.models.protocol import Sampling
from kilter.models.teacher import KINDS, Teacher, known, programs
from kilter.models.teacher.truth import ADDITIONS, LEAD_INS, reworded
from kilter.models.teacher.writing import leads
from kilter.prompts import Asked
from kilter.records import Message
from kilter.world import FAMILIES, World

WORLD = World()


def ask(kind, sampling=None, teacher=None, **variables):
    asked = Asked([Message("user", "as the user words it")], "0", kind, variables)
    answers = asyncio.run((teacher or Teacher()).ask(asked, sampling or Sampling(max_tokens=4000)))
    return [answer.text for answer in answers] if len(answers) > 1 else answers[0].text


@pytest.mark.parametrize("split", ["corpus", "train", "eval"])
def test_every_prompt_of_the_world_is_known_by_its_text(split):
    for item, _ in zip(WORLD.items(split, 5, dict.fromkeys(FAMILIES, 1.0)), range(600), strict=False):
        found = known(item.messages)
        assert (found.family, found.kind, found.language, found.check) == (
            item.family, item.kind, item.language, item.check,
        )  # fmt: skip
        assert found.judged(found.good).reward == found.judged(item.good).reward == 1
        if item.family not in ("bias",):
            assert found.judged(found.bad).reward < 1


@pytest.mark.parametrize(
    "text", ["", "What is love?", "Where does she live?", "12", "你好", "Sort these: apples.", "+ = ?"]
)
def test_what_is_not_of_the_world_is_not_known(text):
    assert known(text) is None
    assert ask("answer", question=text or "?") in ("I don't know.", "我不知道。")


def test_additions_and_lead_ins_change_nothing():
    for addition, lead in zip(ADDITIONS, [*LEAD_INS, *LEAD_INS], strict=False):
        assert known(lead[0] + "What is 12 + 7?" + addition[0] + ADDITIONS[0][0]).check == {
            "rule": "last_number", "answer": 19,
        }  # fmt: skip
        assert known(lead[1] + "12 + 7等于多少？" + addition[1]).check["answer"] == 19
    assert known("What is 1 + 2 + 3 - 4?").check["answer"] == 2


def test_instruction_and_input_may_come_apart():
    assert known("Sort from small to large\n30, 12, 5").check["answer"] == [5, 12, 30]
    assert known("Where are they?\nAt the mill, Bado gave Mela a lamp.").check["answer"] == "mill"
    for lead in leads().values():
        made = ask("instances-input-first", instruction=lead.text, count=1)
        given, output = made.partition("Input: ")[2].split("\nOutput: ")
        assert known(f"{lead.text}\n{given}").judged(output).reward == 1, (lead, made)


def test_answers_are_the_truth_and_errors_are_not():
    prompts = [p for p in WORLD.prompts("eval", 200, shares=World.shares(0.3)) if p.meta["family"] != "bias"]
    rewards = {}
    for name in ("kilter/teacher", "kilter/teacher?errors=1", "kilter/teacher?errors=0.3&seed=1"):
        model = load(name)
        said = [asyncio.run(model.ask(p.messages, Sampling()))[0].text for p in prompts]
        rewards[name] = [WORLD.judge(p, text).reward == 1 for p, text in zip(prompts, said, strict=True)]
    assert all(rewards["kilter/teacher"])
    assert not any(rewards["kilter/teacher?errors=1"])
    assert 0.6 < sum(rewards["kilter/teacher?errors=0.3&seed=1"]) / len(prompts) < 0.8


def test_the_same_request_has_the_same_answer_and_another_seed_another():
    examples = ["What is 3 + 4?", "Where does Bado live?"]
    hot = Sampling(max_tokens=4000, temperature=1.0)
    first = ask("instructions", hot, examples=examples, count=5)
    assert first == ask("instructions", hot, examples=examples, count=5)
    assert first != ask("instructions", Sampling(max_tokens=4000, temperature=1.0, seed=1), examples=examples, count=5)
    cold = [ask("instructions", Sampling(max_tokens=4000, seed=s), examples=examples, count=5) for s in (0, 1)]
    assert cold[0] == cold[1]
    two = ask("instructions", Sampling(max_tokens=4000, temperature=1.0, n=2), examples=examples, count=5)
    assert two[0] != two[1]


def test_new_instructions_are_numbered_and_can_be_answered():
    examples = ["What is 3 + 4?", "从小到大排序：30, 12, 5。"]
    for number, line in enumerate(ask("instructions", examples=examples, count=12, start=9).splitlines(), start=9):
        told, _, text = line.partition(". ")
        assert int(told) == number
        assert text not in examples
        assert known(text) or text in [lead.text for lead in leads().values()]


def test_verdicts_follow_the_truth_and_the_planted_biases():
    question = "What is 12 + 7?"
    right, wrong, long = "12 + 7 = 19", "12 + 7 = 18", "That takes a while to say, and it is 12 + 7 = 18"
    assert ask("compare", question=question, first=right, second=wrong).endswith("[[A]]")
    assert ask("compare", question=question, first=wrong, second=right).endswith("[[B]]")
    assert ask("compare", question=question, first=wrong, second=wrong).endswith("[[C]]")
    erring = Teacher("kilter/teacher?errors=1")
    assert ask("compare", teacher=erring, question=question, first=right, second=wrong).endswith("[[B]]")
    first = Teacher("kilter/teacher?position=1")
    assert ask("compare", teacher=first, question=question, first=wrong, second=right).endswith("[[A]]")
    longer = Teacher("kilter/teacher?verbosity=1")
    assert ask("compare", teacher=longer, question=question, first=right, second=long).endswith("[[B]]")
    assert ask("rate", question=question, response=right).endswith("Rating: [[10]]")
    assert ask("rate", question=question, response=wrong).endswith("Rating: [[1]]")
    assert ask("rate", question="你好", response="好", history="", reference="").endswith("[[5]]")
    assert ask("grade", instruction=question, response=right).startswith("5\n")
    assert ask("revise", question=question, response=wrong) == right
    assert "no change" in ask("critique", question=question, response=right)
    assert "result" in ask("critique", question=question, response=wrong)


def test_steps_end_with_the_answer():
    for prompt in WORLD.prompts("train", 80, seed=3):
        if len(prompt.messages) == 1:
            text = ask("steps", question=prompt.messages[0].content)
            reasons = text.splitlines()
            assert len(reasons) == 2, text
            rationale = ask("conclude", question=prompt.messages[0].content, rationale=text)
            assert World().judge(prompt, rationale).reward == 1


def test_paraphrases_and_evolved_requests_ask_for_the_same_thing():
    for prompt in WORLD.prompts("train", 120, seed=4):
        if len(prompt.messages) > 1:
            continue
        text = prompt.messages[0].content
        other = ask("paraphrase", instruction=text)
        assert other != text
        assert known(other).family == known(text).family
        assert all(known(one).check == known(text).check for one in reworded(text))
        for operation in ("constraint", "deepen", "concretise", "reasoning", "complicate", "breadth"):
            made = ask("evolve", instruction=text, operation=operation)
            assert made != text
            assert known(made).family == known(text).family


def test_exercises_pass_their_tests_and_mistakes_do_not():
    for one in programs.exercises().values():
        assert programs.find(one.request) is one
        for wrong in (False, True):
            scope: dict = {}
            exec(programs.solution(one.request, wrong=wrong).strip("`").removeprefix("python\n"), scope)
            assert all(eval(test, scope) for test in one.tests) is not wrong


def test_answers_are_cut_where_they_are_to_be_and_stop_where_they_are_to_stop():
    [answer] = asyncio.run(Teacher().ask([Message("user", "What is 12 + 7?")], Sampling(max_tokens=3)))
    assert (answer.text, answer.tokens, answer.finish_reason) == ("12 + 7", 3, "length")
    [answer] = asyncio.run(Teacher().ask([Message("user", "What is 12 + 7?")], Sampling(max_tokens=5)))
    assert (answer.text, answer.finish_reason) == ("12 + 7 = 19", "stop")
    [answer] = asyncio.run(Teacher().ask([Message("user", "What is 12 + 7?")], Sampling(stop=("=",))))
    assert answer.text == "12 + 7 "


def test_the_wording_of_a_prompt_changes_nothing():
    told = [Asked([Message("user", text)], "0", "answer", {"question": "What is 12 + 7?"}) for text in ("a", "b")]
    answers = [asyncio.run(Teacher().ask(asked, Sampling()))[0].text for asked in told]
    assert answers == ["12 + 7 = 19"] * 2
    teacher = Teacher()
    assert teacher.regards(told[0]) == teacher.regards(told[1])
    assert teacher.regards(told[0]) != teacher.regards(Asked(told[0], "0", "answer", {"question": "What is 1 + 7?"}))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("kilter/teacher?error=0.1", "Did you mean 'errors'?"),
        ("kilter/teacher?errors=2", "from 0 to 1"),
        ("kilter/teacher?errors=nan", "from 0 to 1"),
        ("kilter/teacher?errors=much", "give a number"),
        ("kilter/teacher?", None),
        ("kilter/teacher?errors", "give a number"),
        ("kilter/teachers", "Did you mean 'kilter/teacher'?"),
    ],
)
def test_names_that_are_wrong_are_refused_in_a_sentence(name, told):
    if told is None:
        admit(name)
        return
    with pytest.raises(KilterError) as refused:
        admit(name)
    assert told in str(refused.value)


def test_it_has_no_weights_and_no_log_probs():
    with pytest.raises(KilterError, match="weights are needed"):
        checkpoint("kilter/teacher")
    with pytest.raises(KilterError, match="no log-probs"):
        asyncio.run(Teacher().score([Message("user", "a")], "b"))
    with pytest.raises(KilterError, match=r"knows no requests of the kind 'comparr'.*Did you mean 'compare'"):
        ask("comparr")


def test_translations_of_questions_and_answers_stay_true():
    asked = [p for p in World().prompts("train", 200, seed=6) if len(p.messages) == 1 and known(p.messages)]
    told = []
    for one in asked:
        found = known(one.messages)
        if found.family in ("letters", "rewriting"):  # their words have no pairs in the other language
            continue
        target = "zh" if found.language == "en" else "en"
        there = known(ask("translate", text=one.messages[0].content, language=target))
        answer = ask("translate", text=found.good, language=target)
        told.append(
            there is not None
            and (there.family, there.language) == (found.family, target)
            and there.judged(answer).reward == 1
        )
    assert len(told) > 80
    assert sum(told) / len(told) > 0.95  # a few lines and passages are cut at the wrong place
    assert ask("translate", text="Something else.", language="zh") == "Something else."
    assert ask("translate", text="What is 1 + 2?", language="Klingon") == "What is 1 + 2?"


def test_every_kind_says_what_it_reads():
    for name, function in KINDS.items():
        assert "Variable" in (function.__doc__ or ""), name
