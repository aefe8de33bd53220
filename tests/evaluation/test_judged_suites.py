"""Open-ended suites with a judge, from the benchmark's file to the numbers; the world's teacher judges offline."""

from __future__ import annotations

import json

import pytest
from judges import Planted, Says

from jsonl import write
from kilter.errors import KilterError
from kilter.evaluation import result
from kilter.evaluation.alignbench import CATEGORIES as ALIGNBENCH
from kilter.evaluation.alignbench import COUNTS, KIND, KINDS, MEANING, WHOLE, alignbench
from kilter.evaluation.alpacaeval import alpacaeval
from kilter.evaluation.belle_eval import belle_eval
from kilter.evaluation.flask import RUBRICS, SKILLS, flask
from kilter.evaluation.llm_judge import llm_judge
from kilter.evaluation.mtbench import mtbench
from kilter.evaluation.oa953 import oa953, turns_of
from kilter.evaluation.pandalm import pandalm
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


# ---------------------------------------------------------------------------------------------------------- AlignBench


def of_alignbench(*rows: tuple[str, str]) -> list[dict]:
    return [
        {"question_id": at, "category": category, "subcategory": kind, "question": f"题{at}", "reference": f"标准{at}",
         "evidences": [{"url": "https://example.org", "quote": "出处"}]}
        for at, (category, kind) in enumerate(rows, 1)
    ]  # fmt: skip


def test_alignbench_is_graded_by_kind_and_averaged_by_category_then_by_part(tmp_path):
    assert (sum(COUNTS.values()), [len(names) for names in ALIGNBENCH.values()]) == (683, [6, 2])
    assert {name for names in KINDS.values() for name in names} == MEANING.keys()
    assert set(KIND.values()) == KINDS.keys()
    rows = of_alignbench(
        ("数学计算", "初等数学"), ("数学计算", "高等数学"), ("数学计算", "应用数学"), ("逻辑推理", "推理"),
        ("角色扮演", "功能类"), ("专业能力", "历史"), ("专业能力", "物理"), ("文本写作", "文化理解"),
    )  # fmt: skip
    said = {
        1: "理由。{'事实正确性': 10, '满足用户需求': 10, '逻辑连贯性': 10, '完备性': 10, '综合得分': 9}",
        2: '```json\n{\n"事实正确性": 2,\n"综合得分": 3\n}\n```',
        3: "很难说。",
        4: "{“事实正确性”：4，“综合得分”：4}",
        5: "结果 \\boxed{7}，综合得分：**8**",
        6: '{"事实正确性": 6, "清晰度": "N/A", "综合得分": 6.5}，其中 x^{2}',
        7: '{"事实正确性": 11, "综合得分": 11}',
        8: '{"丰富度": 1, "完备性": 5, "综合得分": 2}',
    }
    judge = Says(lambda m, s, k: said[int(m[-1].content.split("[Question]\n题")[1][0])], "j")
    heats = {}

    def answer(messages, sampling, k):
        heats[messages[0].content] = sampling.temperature
        return "回答"

    path = write(tmp_path / "a.jsonl", rows)
    found = wait(alignbench(Says(answer), questions=path, judge=judge, probes=0))
    measures = {name: measure.value for name, measure in found.measures.items()}
    assert measures["category:数学计算"] == 6  # (9 + 3) / 2, the third having no grade
    assert measures["reasoning"] == pytest.approx((6 + 4) / 2)
    assert measures["language"] == pytest.approx((8 + 6.5 + 2) / 3)
    assert measures["overall"] == pytest.approx((5 + 5.5) / 2)
    assert measures["score"] == pytest.approx((9 + 3 + 4 + 8 + 6.5 + 2) / 6)
    assert measures["judge:parsed"] == 6 / 8
    assert measures["skill:事实正确性"] == pytest.approx((10 + 2 + 4 + 6) / 4)
    assert measures["skill:完备性"] == 7.5
    assert not {"skill:清晰度", "skill:丰富度", f"skill:{WHOLE}"} & measures.keys()  # not graded, or not asked for
    assert (found.measures["overall"].n, found.measures["category:数学计算"].n) == (6, 2)
    assert heats["题1"] == heats["题6"] == 0.1
    assert heats["题5"] == heats["题8"] == 0.7
    math, role = (next(text for text in judge.asked if f"题{at}" in text) for at in (1, 5))
    assert "完备性" in math
    assert "丰富度" not in math
    assert "丰富度" in role
    assert all("标准" in text and "值8分" in text and "出处" not in text for text in judge.asked)
    assert any("683 questions in 8 categories; this file has 8 of them in 5" in note for note in found.notes)
    assert any("2 of 8 judgements hold no verdict" in note for note in found.notes)
    result.write(found, tmp_path / "r.json")
    assert rescore(data=str(tmp_path / "r.json")).measures == found.measures
    script = rescore(data=str(tmp_path / "r.json"), parser="alignbench@1")
    assert script.measures["score"].value == 9  # what the authors' script can read of these


def test_alignbench_as_it_is_stored(tmp_path):
    rows = of_alignbench(("数学计算", "初等数学"), ("数学计算", "高等数学"), ("专业能力", "历史"), ("别的", "别的"))
    grades = [
        {"rating": {"事实正确性": 5, WHOLE: 4}, "score": 4, "judgment": "{'事实正确性': 5, '综合得分': 4}"},
        {"rating": {}, "score": -1, "judgment": '{"综合得分": 10}'},
        {"judgment": "{'综合得分': 7}", "answer": "答"},
        {"rating": {WHOLE: 1}},
    ]
    questions = write(tmp_path / "q.jsonl", rows)
    told = [{"question_id": at, "model_id": "m"} | more for at, more in enumerate(grades, 1)]
    found = alignbench(data=write(tmp_path / "m.jsonl", told), questions=questions)
    assert found.model == "m"
    assert found.measures["reasoning"].value == 4  # -1 is a grade that could not be read
    assert found.measures["overall"].value == 5.5
    assert found.measures["score"].value == 4
    assert found.measures["judge:parsed"].value == 0.75
    assert found.samples[2]["response"] == "答"
    assert any("1 questions are of none" in note and "'别的'" in note for note in found.notes)
    result.write(found, tmp_path / "r.json")
    again = rescore(data=str(tmp_path / "r.json"))
    assert again.measures["reasoning"].value == 7  # the newer parser reads it
    whole = [rows[at] | told[at] for at in range(4)]  # as the authors' script writes them
    assert alignbench(data=write(tmp_path / "w.jsonl", whole)).measures == found.measures
    both = write(tmp_path / "b.jsonl", [*whole, *(row | {"model_id": "other", "score": 1} for row in whole)])
    with pytest.raises(KilterError, match=r"2 models \(m, other\); name one with --candidate"):
        alignbench(data=both)
    assert alignbench(data=both, candidate="other").measures["overall"].value == 1
    with pytest.raises(KilterError, match="no judgement of the model 'x', but of m, other"):
        alignbench(data=both, candidate="x")
    with pytest.raises(KilterError, match="Give a model and --questions"):
        wait(alignbench())
    with pytest.raises(KilterError, match="No answer has a verdict"):
        alignbench(data=write(tmp_path / "n.jsonl", [{"question_id": 1, "score": -1}]))


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


@pytest.mark.parametrize("suite", [user252, alignbench, belle_eval, flask, sun_safety])
def test_a_prompt_of_the_suites_own_is_read_as_text_and_has_no_examples(suite, tmp_path):
    path = write(tmp_path / "q.jsonl", of_the_world(2))
    with pytest.raises(KilterError, match="leave --verdict as it is"):
        wait(suite(constant("x"), questions=path, judge=TEACHER, verdict="logprobs"))
    found = wait(suite(constant("x"), questions=path, judge=TEACHER, shots=True, probes=0))
    assert any("no worked examples" in note for note in found.notes)
    pairs = wait(suite(constant("x"), questions=path, judge=TEACHER, baseline=constant("y"), shots=True, probes=0))
    assert not any("worked examples" in note for note in pairs.notes)


# ------------------------------------------------------------------------------------ suites with stored judgements too


def test_mt_bench_is_answered_turn_by_turn_and_judged_with_what_came_before(tmp_path):
    rows = [
        {"question_id": 81, "category": "writing", "turns": ["w1", "w2"]},
        {"question_id": 111, "category": "math", "turns": ["m1", "m2"]},
    ]
    references = [{"question_id": 111, "choices": [{"index": 0, "turns": ["right 1", "right 2"]}]}]
    heats = {}

    def answer(messages, sampling, k):
        heats[messages[0].content] = sampling.temperature
        return f"answer to {messages[-1].content}"

    judge = Says(lambda m, s, k: "Rating: [[8]]" if "[Conversation so far]" in m[-1].content else "Rating: [[4]]", "j")
    paths = write(tmp_path / "q.jsonl", rows), write(tmp_path / "r.jsonl", references)
    found = wait(mtbench(Says(answer), questions=paths[0], references=paths[1], judge=judge, probes=0))
    assert (found.measures["turn_1"].value, found.measures["turn_2"].value) == (4, 8)
    assert found.measures["score"].value == 6
    assert heats == {"w1": 0.7, "m1": 0.0}
    with_reference = [text for text in judge.asked if "Reference answer" in text]
    assert len(with_reference) == 2
    assert all("right" in text for text in with_reference)  # in math only
    assert "answer to w1" in next(text for text in judge.asked if "[Question]\nw2" in text)
    with pytest.raises(KilterError, match="or --data with stored"):
        wait(mtbench(Says(answer)))


def test_alpaca_eval_with_a_judge(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"instruction": f"do {at}"} for at in range(40)])
    judge = Planted(lambda q, a: 9.0 if a.startswith("good") else 2.0)
    model, base = Says(lambda m, s, k: "good" + "!" * (len(m[0].content) % 3), "m"), constant("poor answer", "b")
    found = wait(alpacaeval(model, questions=path, judge=judge, baseline=base, resamples=5, probes=4))
    assert found.measures["win_rate"].value == 1
    assert found.measures["discrete_win_rate"].value == 1
    assert found.measures["length"].value < 7
    assert len(found.samples[0]["judgements"]) >= 1
    itself = wait(alpacaeval(base, questions=path, judge=judge, baseline=base, length_controlled=False, probes=0))
    assert itself.measures["win_rate"].value == 0.5
    with pytest.raises(KilterError, match="compares with a reference"):
        wait(alpacaeval(model, questions=path, judge=judge))


def test_a_judge_is_asked_for_pandalms_pairs(tmp_path):
    labels = [1, 1, 2, 0]
    rows = [
        {"idx": at, "instruction": f"do {at}", "response1": "9 points", "response2": f"{[3, 3, 10, 9][at]} points",
         "annotator1": label, "annotator2": label, "annotator3": 0}
        for at, label in enumerate(labels)
    ]  # fmt: skip
    path = write(tmp_path / "p.jsonl", rows)
    found = wait(pandalm(Planted(lambda q, a: float(a.split()[0])), data=path, resamples=20))
    assert found.measures["accuracy"].value == 1
    assert found.measures["consistency"].value == 1
    assert found.measures["judge:position"].value == 0
    first = wait(pandalm(Planted(lambda q, a: 1.0, position=1.0), data=path, resamples=20))
    assert first.measures["accuracy"].value == 0.5
    assert first.measures["consistency"].value == 0
    assert first.measures["judge:position"].value == 1


# ------------------------------------------------------------------------------------------- judged by what is the case


@pytest.mark.parametrize("suite", [vicuna80, wizardlm, user252, alignbench, belle_eval, flask, sun_safety])
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
