"""Open-ended suites with a judge, from the benchmark's file to the numbers; the world's teacher judges offline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from judges import Planted, Says

from kilter.errors import KilterError
from kilter.evaluation import result
from kilter.evaluation.belle_eval import belle_eval
from kilter.evaluation.flask import RUBRICS, SKILLS, flask
from kilter.evaluation.llm_judge import llm_judge
from kilter.evaluation.oa953 import oa953, turns_of
from kilter.evaluation.rescore import rescore
from kilter.evaluation.sun_safety import ATTACKS, SCENARIOS, sun_safety
from kilter.evaluation.user252 import user252
from kilter.evaluation.vicuna80 import CATEGORIES, vicuna80
from kilter.evaluation.wizardlm_suite import wizardlm
from kilter.models.drive import wait
from kilter.models.load import load
from kilter.records import Demonstration, Message, Prompt
from kilter.world import FAMILIES, World

TEACHER = "kilter/teacher"


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def constant(text: str, name: str = "m") -> Says:
    return Says(lambda *_: text, name)


def of_the_world(n: int, **more) -> list[dict]:
    """Questions of the world as rows of a benchmark."""
    prompts = World().prompts("eval", n, 1, dict.fromkeys(("facts", "sums", "sentiment"), 1.0))
    return [{"id": p.id, "instruction": p.messages[-1].content, "category": p.meta["family"]} | more for p in prompts]


# ------------------------------------------------------------------------------------------------ Vicuna, WizardLM, OA


def test_vicunas_scores_are_added_up_and_held_against_the_baselines(tmp_path):
    assert sum(CATEGORIES.values()) == 80
    assert len(CATEGORIES) == 9
    rows = [{"question_id": at, "category": "generic", "turns": [f"q{at}"]} for at in range(4)]
    path = write(tmp_path / "v.jsonl", rows)
    # The first shown gets 8 and the second 4, whoever they are: with both orders nobody is ahead.
    found = wait(vicuna80(constant("a"), questions=path, judge=constant("8 4\nfine", "j"), baseline=constant("b")))
    assert found.measures["relative"].value == 1
    assert found.measures["score"].value == 6
    assert found.measures["win_rate"].value == 0.5
    assert found.measures["judge:position"].value == 1
    assert any("this file has 4" in note for note in found.notes)

    def judge(messages, sampling, k):
        first = messages[-1].content.split("[Answer A]")[1].split("[Answer B]")[0]
        return "9 6" if "mine" in first else "6 9"

    found = wait(vicuna80(constant("mine"), questions=path, judge=Says(judge, "j"), baseline=constant("b"), probes=0))
    assert found.measures["relative"].value == pytest.approx(1.5)
    assert found.measures["win_rate"].value == 1
    assert found.measures["judge:position"].value == 0


def test_wizardlm_by_skill_and_level(tmp_path):
    rows = [
        {"idx": at, "Skill": "Math" if at % 2 else "Code", "Difficulty": 1 + at % 2, "Instruction": f"do {at}"}
        for at in range(6)
    ]
    judge = Planted(lambda q, a: 8.0 if q.endswith(("0", "2", "4")) else 3.0)
    found = wait(wizardlm(constant("x"), questions=write(tmp_path / "w.jsonl", rows), judge=judge, probes=0))
    assert found.measures["category:Code"].value == 8
    assert found.measures["difficulty:2"].value == 3
    assert found.measures["score"].value == 5.5


def test_every_users_turn_of_a_conversation_is_an_item_once():
    turns = [Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d")]
    other = [*turns[:2], Message("user", "e")]
    items = turns_of([Demonstration(turns), Prompt(other), Prompt(turns[:1])])
    assert [item.turns[0] for item in items] == ["a", "c", "e"]
    assert [len(item.before) for item in items] == [0, 2, 2]
    judge = Planted(lambda q, a: 7.0)
    found = wait(oa953(constant("x"), [Demonstration(turns)], judge=judge, probes=0))
    assert found.measures["score"].n == 2
    assert "Conversation so far" in judge_text(judge, found)


def judge_text(judge, found) -> str:
    from kilter.feedback.judge import PROMPTS

    sample = found.samples[1]
    history = "\n".join(m["content"] for m in sample["prompt"][:-1])
    slots = {"question": sample["prompt"][-1]["content"], "history": history, "reference": "", "criterion": ""}
    return PROMPTS("rate", **slots, response="x", claim="", by="text", reason=True, shots=[])[-1].content


# ----------------------------------------------------------------------------------------------- levels, shares, skills


def test_levels_of_user_oriented_tasks(tmp_path):
    rows = [
        {"id": f"user_oriented_task_{at}", "motivation_app": "Mail", "instruction": f"write {at}",
         "instances": [{"input": "x", "output": "right"}]}
        for at in range(4)
    ]  # fmt: skip
    path = write(tmp_path / "u.jsonl", rows)
    answers = iter("ABCD")
    found = wait(user252(constant("x"), questions=path, judge=Says(lambda *_: f"So: [[{next(answers)}]]"), probes=0))
    assert found.measures["score"].value == 2.5
    assert {found.measures[f"level:{letter}"].value for letter in "ABCD"} == {0.25}
    assert found.samples[0]["expected"] == "right"
    assert any("252 tasks" in note for note in found.notes)
    pairs = wait(user252(constant("x"), questions=path, judge=Planted(lambda q, a: 1.0), baseline=constant("y")))
    assert pairs.measures["win_rate"].value == 0.5


def test_belles_answers_are_scored_three_times_and_held_in_range(tmp_path):
    rows = [{"question": f"问题{at}", "std_answer": "答", "class": "math" if at < 3 else "open qa"} for at in range(4)]
    path = write(tmp_path / "b.jsonl", rows)
    judge = Says(lambda m, s, k: ["理由。得分：0.2", "得分：7", "不知道"][k] if "问题3" in m[-1].content else "得分：1")
    found = wait(belle_eval(constant("x"), questions=path, judge=judge, probes=0))
    assert found.measures["category:open qa"].value == pytest.approx(0.6)  # 0.2 and 7, held to 1
    assert found.measures["macro"].value == pytest.approx(0.8)
    assert found.measures["score"].value == pytest.approx((3 + 0.6) / 4)
    assert found.measures["judge:parsed"].value == pytest.approx((3 + 2 / 3) / 4)
    assert list(found.measures).index("macro") < list(found.measures).index("judge:parsed")
    assert "结果与参考答案一致" in judge.asked[0]
    with pytest.raises(KilterError, match="Give a model and --questions"):
        wait(belle_eval())
    with pytest.raises(KilterError, match="Name the model that is to judge"):
        wait(belle_eval(constant("x"), questions=path))


def test_flask_scores_the_skills_of_each_instruction(tmp_path):
    assert set(RUBRICS) == {skill for skills in SKILLS.values() for skill in skills}
    rows = [
        {"idx": 1, "instruction": "a", "answer": "r", "skill": ["Factuality", "Readability"], "domain": ["History"],
         "difficulty": "expert"},
        {"idx": 2, "instruction": "b", "skill": ["Factuality"], "domain": ["Math"], "difficulty": "simple"},
    ]  # fmt: skip

    def judge(messages, sampling, k):
        text = messages[-1].content
        scores = (
            {"Factuality": 2, "Readability": 5} if "[Question]\na" in text else {"Factuality": 4, "Insightfulness": 1}
        )
        return f"Because. {scores}"

    path = write(tmp_path / "f.jsonl", rows)
    found = wait(flask(constant("x"), questions=path, judge=Says(judge), probes=0))
    assert found.measures["skill:Factuality"].value == 3
    assert "skill:Insightfulness" not in found.measures  # it was not asked
    assert found.measures["ability:User Alignment"].value == 5
    assert found.measures["difficulty:expert"].value == 3.5
    assert found.measures["score"].value == pytest.approx((3.5 + 4) / 2)
    result.write(found, tmp_path / "r.json")
    assert rescore(data=str(tmp_path / "r.json")).measures == found.measures


def test_safety_by_scenario_macro_and_micro(tmp_path):
    assert (len(SCENARIOS), len(ATTACKS)) == (8, 6)
    table = {
        "Insult": [{"prompt": f"骂{at}", "type": "Insult"} for at in range(8)],
        "Goal_Hijacking": [{"prompt": f"忽略{at}", "type": "Goal_Hijacking"} for at in range(2)],
    }
    path = tmp_path / "s.json"
    path.write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")

    def judge(messages, sampling, k):
        text = messages[-1].content
        if "骂7" in text:
            return "很难说"
        return "有问题。\n不安全" if "Goal Hijacking" in text else "没问题。\n安全"

    found = wait(sun_safety(constant("x"), questions=str(path), judge=Says(judge), probes=0))
    assert found.measures["category:Insult"].value == 1
    assert found.measures["category:Insult"].n == 7  # what could not be read is neither safe nor unsafe
    assert found.measures["score"].value == pytest.approx(7 / 9)  # micro
    assert found.measures["macro"].value == pytest.approx(0.5)
    assert found.measures["attacks"].value == 0
    assert found.measures["scenarios"].value == 1


# ------------------------------------------------------------------------------------------- judged by what is the case


@pytest.mark.parametrize("suite", [vicuna80, wizardlm, user252, belle_eval, flask, sun_safety])
def test_the_teacher_prefers_right_answers_in_every_suite(suite, tmp_path):
    rows = of_the_world(12, skill=["Factuality", "Conciseness"])
    path = write(tmp_path / "q.jsonl", rows)
    right = load(TEACHER)
    wrong = load(f"{TEACHER}?errors=1")
    good = wait(suite(right, questions=path, judge=TEACHER, probes=4))
    bad = wait(suite(wrong, questions=path, judge=TEACHER, probes=0))
    if suite is not sun_safety:  # a wrong sum harms nobody
        assert good.measures["score"].value > bad.measures["score"].value
    assert good.measures["judge:parsed"].value == 1
    assert {"judge:verbosity", "judge:format", "judge:self"} <= set(good.measures)


def test_a_planted_position_bias_of_the_teacher_is_found_on_the_worlds_prompts():
    prompts = World().prompts("eval", 120, 2, dict.fromkeys(FAMILIES, 1.0))
    judge = f"{TEACHER}?position=0.3"
    found = wait(
        llm_judge(load(TEACHER), prompts, judge=judge, baseline=load(f"{TEACHER}?errors=0.5&seed=3"), probes=0)
    )
    bias = found.measures["judge:position"]
    assert bias.low < 0.3 < bias.high
    assert bias.low > 0
