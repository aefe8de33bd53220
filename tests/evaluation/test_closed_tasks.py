"""Closed-set suites: the YAML form, what is asked, how it is scored, and what is left out; on a tiny real model."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from jsonl import write
from kilter.errors import KilterError
from kilter.evaluation import (
    bbh,
    ceval,
    cmmlu,
    csqa,
    gsm8k,
    m3ke,
    math_problems,
    mathematics,
    mmlu,
    strategyqa,
    symbolic,
)
from kilter.evaluation.agieval import agieval
from kilter.evaluation.ethics import ethics, scenes
from kilter.evaluation.ethics_more import agreement, ethics_more
from kilter.evaluation.lm_eval_tasks import lm_eval, shipped
from kilter.evaluation.result import Evaluation
from kilter.evaluation.tasks import form, scoring
from kilter.evaluation.tasks.documents import documents
from kilter.evaluation.tasks.suite import items_of
from kilter.models.local import Local
from kilter.models.protocol import Answer, Sampling
from kilter.records import Message


@pytest.fixture(scope="module")
def local(tiny_model: Path) -> Local:
    return Local(str(tiny_model))


class Says:
    """A model of chat alone, which says what it was given to say, one answer after the other."""

    name = "says"

    def __init__(self, *answers: str) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def ask(self, messages: list[Message], sampling: Sampling) -> list[Answer]:
        self.asked.append(messages[-1].content)
        return [Answer(self.answers[(len(self.asked) - 1) % len(self.answers)], 1, None, "stop")]

    async def score(self, messages: list[Message], response: str) -> list[float]:
        raise KilterError("says tells no log-probs")


def lines(path: Path, rows: list[dict]) -> Path:
    return Path(write(path, rows))


def questions(folder: Path, subjects: tuple[str, ...] = ("anatomy", "law"), count: int = 3) -> Path:
    for subject in subjects:
        for split, some in (("dev", 5), ("test", count)):
            rows = [
                {
                    "question": f"{subject} {split} {i}?",
                    **{c: f"{c.lower()}{i}" for c in "ABCD"},
                    "answer": "ABCD"[i % 4],
                }
                for i in range(some)
            ]
            lines(folder / f"{subject}_{split}.jsonl", rows)
    return folder


def run(coroutine) -> Evaluation:
    return asyncio.run(coroutine)


# --- The form -----------------------------------------------------------------------------------------------------


def test_every_task_that_ships_can_be_read_and_names_where_it_comes_from() -> None:
    names = list(shipped())
    assert len(names) > 20
    for name in names:
        task = form.shipped(name)
        assert task.task == name
        assert task.dataset_path or task.files


def test_tables_of_subjects_are_the_benchmarks() -> None:
    sizes = {name: len(form.shipped(name).subjects or {}) for name in ("mmlu", "cmmlu", "ceval", "bbh")}
    assert sizes == {"mmlu": 57, "cmmlu": 67, "ceval": 52, "bbh": 27}
    task = form.shipped("mmlu")
    counts = {name: len(some) for name, some in task.categories.items()}
    assert counts == {"stem": 18, "humanities": 13, "social_sciences": 12, "other": 14}
    assert sorted(name for some in task.categories.values() for name in some) == sorted(task.subjects or {})
    assert len(form.shipped("ceval").categories["hard"]) == 8
    assert len({form.shipped("bbh").category(name) for name in form.shipped("bbh").subjects or {}}) == 23
    files = [
        name for part in ("agieval", "agieval-many", "agieval-cloze") for name in form.shipped(part).subjects or {}
    ]
    assert len(files) == 21  # 20 tasks, and sat-en once more without its passages


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "task: t\ndoc_to_text: a\ndoc_to_target: b\ndoc_to_txt: c",
            "unknown field 'doc_to_txt'. Did you mean 'doc_to_text'",
        ),
        ("task: t\ndoc_to_target: b", "lacks the field 'doc_to_text'"),
        ("task: t\ndoc_to_text: !function utils.text\ndoc_to_target: b", "runs Python code"),
        ("task: [", "cannot be read (line"),
        ("- a", "holds no fields"),
        ("include: t.yaml\ntask: t", "includes itself"),
        ("task: t\ndoc_to_text: a\ndoc_to_target: b\nnum_fewshot: many", "'num_fewshot'"),
    ],
)
def test_a_wrong_task_file_gets_its_sentence(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(KilterError) as caught:
        form.read(path)
    assert says in str(caught.value)


def test_a_task_of_ones_own_includes_another_and_runs(tmp_path: Path, local: Local) -> None:
    (tmp_path / "base.yaml").write_text(
        "output_type: multiple_choice\ntest_split: test\ndoc_to_choice: [red, blue]\nmetric_list: [{metric: acc}]\n"
    )
    (tmp_path / "mine.yaml").write_text(
        'include: base.yaml\ntask: mine\ndoc_to_text: "{{ question | upper }}"\ndoc_to_target: answer\n'
    )
    rows = [
        {"question": "sky", "answer": "blue"},
        {"question": "blood", "answer": 0},
        {"question": "?", "answer": None},
    ]
    lines(tmp_path / "mine_test.jsonl", [*rows, {"text": "no question"}, {"question": "x", "answer": "green"}])
    found = run(lm_eval(local, task=str(tmp_path / "mine.yaml"), data=str(tmp_path)))
    assert [sample["prompt"][0]["content"] for sample in found.samples] == ["SKY", "BLOOD"]
    assert [sample["expected"] for sample in found.samples] == ["blue", "red"]
    assert any("2 of 5 documents of mine left out: it has no right answer" in note for note in found.notes)
    assert any("1 of 5 documents of mine left out: it lacks what the task reads" in note for note in found.notes)


# --- What is asked ------------------------------------------------------------------------------------------------


def test_mmlu_asks_as_the_authors_do(tmp_path: Path, local: Local) -> None:
    task = form.shipped("mmlu")
    task.subjects = {"anatomy": "anatomy", "law": "law"}
    items, _ = items_of(task, str(questions(tmp_path)), shots=2)
    assert items[0].context == (
        "The following are multiple choice questions (with answers) about anatomy.\n\n"
        "anatomy dev 0?\nA. a0\nB. b0\nC. c0\nD. d0\nAnswer: A\n\n"
        "anatomy dev 1?\nA. a1\nB. b1\nC. c1\nD. d1\nAnswer: B\n\n"
        "anatomy test 0?\nA. a0\nB. b0\nC. c0\nD. d0\nAnswer:"
    )
    assert [item.answers for item in items[:3]] == [["A"], ["B"], ["C"]]


def test_mmlu_pools_over_questions_and_tells_categories(tmp_path: Path, local: Local) -> None:
    data = questions(tmp_path, ("anatomy", "virology", "abstract_algebra"))
    lines(data / "virology_test.jsonl", [{"question": "v?", **dict.fromkeys("ABCD", "x"), "answer": "A"}])
    found = run(mmlu.mmlu(local, data=str(data), shots=1))
    outcomes = [sample["outcomes"]["acc"] for sample in found.samples]
    assert found.measures["acc"].value == pytest.approx(sum(outcomes) / 7)
    assert found.measures["other:acc"].n == 4  # anatomy and virology
    assert found.measures["stem:acc"].n == 3
    assert any("54 of 57 subjects are not in" in note for note in found.notes)
    for sample in found.samples:
        assert sample["response"] == "ABCD"[max(range(4), key=lambda i, s=sample: s["logprobs"][i])]


def test_shots_shrink_from_the_end_until_they_fit(tmp_path: Path, local: Local) -> None:
    data = str(questions(tmp_path, ("anatomy",)))
    cut = run(mmlu.mmlu(local, data=data, fit="shots"))
    assert any("3 of 3 items lost shots" in note for note in cut.notes)
    for sample in cut.samples:
        text = sample["prompt"][0]["content"]
        assert text.startswith("The following are")
        assert "dev 0?" in text
        assert "dev 4?" not in text
        assert len(local.tokenizer(text)["input_ids"]) <= 256


def test_original_csv_without_a_header_and_hub_rows_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "csv/test").mkdir(parents=True)
    (tmp_path / "csv/test/anatomy_test.csv").write_text('"What, then?",a,b,c,d,C\n')
    lines(
        tmp_path / "hub/anatomy/test.jsonl",
        [{"question": "What, then?", "choices": [*"abcd"], "answer": 2, "subject": "x"}],
    )
    task = form.shipped("mmlu")
    asked = [documents(task, str(tmp_path / kind), subjects=["anatomy"])[0].asked[0] for kind in ("csv", "hub")]
    assert [
        items_of(task, str(tmp_path / kind), subjects=["anatomy"], shots=0)[0][0].context for kind in ("csv", "hub")
    ] == [
        "The following are multiple choice questions (with answers) about anatomy.\n\n"
        "What, then?\nA. a\nB. b\nC. c\nD. d\nAnswer:"
    ] * 2
    assert [row["gold"] for row in asked] == [2, 2]


def test_chinese_subjects_are_named_in_chinese(tmp_path: Path, local: Local) -> None:
    row = {"Question": "骨头？", **{c: c for c in "ABCD"}, "Answer": "B"}
    lines(tmp_path / "anatomy_test.jsonl", [row])
    lines(tmp_path / "anatomy_dev.jsonl", [row])
    found = run(cmmlu.cmmlu(local, data=str(tmp_path), shots=1))
    assert found.samples[0]["prompt"][0]["content"] == (
        "以下是关于解剖学的单项选择题，请直接给出正确答案的选项。\n\n"
        "骨头？\nA. A\nB. B\nC. C\nD. D\n答案： B\n\n骨头？\nA. A\nB. B\nC. C\nD. D\n答案："
    )
    assert found.samples[0]["language"] == "zh"


def test_by_generation_an_answer_without_a_letter_is_wrong_but_not_valid(tmp_path: Path) -> None:
    row = {"Question": "骨头？", **{c: c for c in "ABCD"}, "Answer": "B"}
    lines(tmp_path / "anatomy_test.jsonl", [row] * 4)
    model = Says("答案是B。", "A", "不知道", "(B)")
    found = run(cmmlu.cmmlu(model, data=str(tmp_path), shots=0, way="generation"))
    assert found.measures["acc"].value == 0.5
    assert found.measures["acc_valid"].value == pytest.approx(2 / 3)
    assert any("1 of 4 answers name no choice" in note for note in found.notes)
    assert any("asked through its chat template" in note for note in found.notes)
    with pytest.raises(KilterError, match="--way generation"):
        run(cmmlu.cmmlu(model, data=str(tmp_path), shots=0))


def test_ceval_writes_the_submission_that_is_wanted(tmp_path: Path, local: Local) -> None:
    rows = [{"id": i, "question": f"{i}?", **{c: c for c in "ABCD"}, "answer": "B"} for i in range(3)]
    for subject in ("accountant", "college_physics"):
        for split in ("dev", "val"):
            lines(tmp_path / f"{subject}_{split}.jsonl", rows)
        lines(tmp_path / f"{subject}_test.jsonl", [{k: v for k, v in row.items() if k != "answer"} for row in rows])
    found = run(ceval.ceval(local, data=str(tmp_path), shots=1))
    assert found.measures["hard:acc"].n == 3
    out = tmp_path / "submission.json"
    asked = run(ceval.ceval(local, data=str(tmp_path), shots=1, submission=str(out)))
    letters = json.loads(out.read_text())
    assert list(letters) == ["accountant", "college_physics"]
    assert list(letters["accountant"]) == ["0", "1", "2"]
    assert set(letters["accountant"].values()) <= set("ABCD")
    assert "acc" not in asked.measures
    assert sum(asked.measures[f"share_{c}"].value for c in "ABCD") == pytest.approx(1)


def test_m3ke_finds_its_subjects_by_their_files(tmp_path: Path, local: Local) -> None:
    rows = [{"question": "？", **{c: c for c in "ABCD"}, "answer": "C"}] * 2
    for subject in ("初中物理", "儿科学"):
        lines(tmp_path / f"test/{subject}.jsonl", rows)
        lines(tmp_path / f"dev/{subject}.jsonl", rows)
    found = run(m3ke.m3ke(local, data=str(tmp_path), shots=1))
    assert found.measures["acc"].n == 4
    assert "初中物理:acc" in found.measures


def test_the_harness_draws_shots_anew_for_each_document(tmp_path: Path) -> None:
    pool = [{"question": f"train {i}", "answer": f"#### {i}"} for i in range(20)]
    lines(tmp_path / "gsm8k_train.jsonl", pool)
    lines(tmp_path / "gsm8k_test.jsonl", [{"question": f"test {i}", "answer": f"#### {i}"} for i in range(3)])
    items, _ = items_of(form.shipped("gsm8k"), str(tmp_path))
    draw = random.Random(1234)
    for item in items:
        wanted = [row["question"] for row in draw.sample(pool, 5)]
        assert [shot.split("\n")[0] for shot in item.shots] == [f"Question: {name}" for name in wanted]


# --- How it is scored ---------------------------------------------------------------------------------------------


def test_gsm8k_takes_the_number_and_nothing_equals_nothing(tmp_path: Path) -> None:
    rows = [{"question": f"{i}?", "answer": "so\n#### 1,234"} for i in range(4)]
    lines(tmp_path / "gsm8k_test.jsonl", [*rows, {"question": "no number", "answer": ""}])
    model = Says("#### 1234", "It is $1,234.", "no idea", "#### 12 or 1,234")
    found = run(gsm8k.gsm8k(model, data=str(tmp_path), shots=0))
    assert [sample["outcomes"]["exact_match"] for sample in found.samples] == [1, 0, 0, 0]
    assert [sample["outcomes"]["exact_match_flexible_extract"] for sample in found.samples] == [1, 1, 0, 1]
    assert any("it has no right answer" in note for note in found.notes)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (r"\frac12", r"\frac{1}{2}", True),
        (r"\dfrac{1}{2}", "1/2", True),
        ("0.5", r"\frac{1}{2}", True),
        (r"\frac1{72}", r"\frac{1}{72}", True),
        (r"\sqrt3", r"\sqrt{3}", True),
        ("x = 5", "5", True),
        (r"10\%", "10", True),
        (r"45^\circ", "45", True),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})", True),
        (r"5 \text{ feet}", "5", True),
        (r"\text{east}", "east", True),
        (".75", "0.75", True),
        ("2/4", "1/2", False),
        ("12", "21", False),
        (None, None, False),
        ("", "", False),
    ],
)
def test_answers_in_mathematics(one: str | None, other: str | None, alike: bool) -> None:
    assert mathematics.same(one, other) is alike


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"so \boxed{1} and then \boxed{\frac{\sqrt{2}}{3}}.", r"\frac{\sqrt{2}}{3}"),
        (r"\fbox{7}", "7"),
        (r"it is $\boxed 3$", "3"),
        (r"\boxed{unclosed", None),
        ("nothing", None),
    ],
)
def test_the_last_boxed_answer(text: str, found: str | None) -> None:
    assert mathematics.boxed(text) == found


def test_math_compares_boxed_answers(tmp_path: Path) -> None:
    rows = [{"problem": "half?", "solution": r"It is $\boxed{\frac{1}{2}}$.", "level": "Level 1"}] * 3
    lines(tmp_path / "algebra_test.jsonl", rows)
    model = Says(r"We get \boxed{\frac12}", "so $0.5$", "two")
    found = run(math_problems.math(model, data=str(tmp_path), shots=0))
    assert [sample["outcomes"]["exact_match"] for sample in found.samples] == [1, 1, 0]


@pytest.mark.parametrize(
    ("text", "found"),
    [("AC", "AC"), ("答案是 A、C", "AC"), ("(A)(B)(D)", "ABD"), ("A man", "A"), ("none", ""), ("CA", "AC")],
)
def test_sets_of_letters(text: str, found: str) -> None:
    assert "".join(sorted(scoring.letters(text))) == found


def test_agieval_has_its_three_kinds(tmp_path: Path, local: Local) -> None:
    one = {"passage": "P. ", "question": "which?", "options": ["(A)x", "(B)y"], "label": "B", "answer": None}
    many = {
        "passage": None,
        "question": "哪些？",
        "options": ["(A)x", "(B)y", "(C)z"],
        "label": ["A", "C"],
        "answer": None,
    }
    cloze = {"passage": None, "question": "1/2?", "options": None, "label": None, "answer": "\\frac{1}{2}"}
    lines(tmp_path / "sat-math.jsonl", [one] * 2)
    lines(tmp_path / "jec-qa-kd.jsonl", [many])
    lines(tmp_path / "math.jsonl", [cloze])
    found = run(agieval(local, data=str(tmp_path)))
    prompts = {sample["family"]: sample["prompt"][0]["content"] for sample in found.samples}
    assert prompts["sat-math"] == "P. Q: which? Answer Choices: (A)x (B)y\nA: Among A through B, the answer is"
    assert prompts["jec-qa-kd"] == "问题：哪些？ 选项：(A)x (B)y (C)z\n答案：从A到C, 我们应选择"
    assert found.measures["acc"].n == 4
    values = [found.measures[f"{name}:acc"].value for name in ("sat-math", "jec-qa-kd", "math")]
    assert found.measures["acc"].value == pytest.approx(sum(values) / 3)  # each file counts the same
    with pytest.raises(KilterError, match="Did you mean 'sat-math'"):
        run(agieval(local, data=str(tmp_path), subjects="sat-maths"))


def test_commonsense_and_strategy(tmp_path: Path, local: Local) -> None:
    choices = [{"label": c, "text": f"thing {c}"} for c in "ABCDE"]
    lines(
        tmp_path / "commonsense_qa_dev.jsonl",
        [{"answerKey": "D", "id": "1", "question": {"stem": "what?", "choices": choices}}],
    )
    found = run(csqa.csqa(local, data=str(tmp_path)))
    assert found.samples[0]["prompt"][0]["content"].startswith("Question: what?\nA. thing A\n")
    assert found.samples[0]["expected"] == "D"
    rows = [{"input": "is it?", "target_scores": {"Yes": 1, "No": 0}}, {"question": "and that?", "answer": False}]
    lines(tmp_path / "strategy_qa.jsonl", [*rows, *rows])
    said = run(
        strategyqa.strategyqa(
            Says("Yes, it is.", "no", "Maybe. No? yes", "I know nothing"), data=str(tmp_path), way="generation"
        )
    )
    assert [sample["outcomes"]["exact_match"] for sample in said.samples] == [1, 1, 0, 0]
    weighed = run(strategyqa.strategyqa(local, data=str(tmp_path)))
    assert [sample["expected"] for sample in weighed.samples] == ["yes", "no", "yes", "no"]


def test_bbh_with_and_without_a_chain_of_thought(tmp_path: Path, local: Local) -> None:
    lines(tmp_path / "navigate.jsonl", [{"input": "Go?\nOptions:\n- Yes\n- No", "target": "Yes"}] * 3)
    lines(tmp_path / "snarks.jsonl", [{"input": "Which?\nOptions:\n(A) one\n(B) two", "target": "(B)"}])
    step = "A: Let's think step by step.\n"
    prompt = (
        "canary\n-----\nNavigate.\n\n"
        f"Q: Left?\nOptions:\n- Yes\n- No\n{step}Left it is. So the answer is No.\n\n"
        f"Q: Back?\n{step}So the answer is Yes."
    )
    (tmp_path / "navigate.cot.txt").write_text(prompt)
    direct = Says("Yes", " Yes ", "yes", "(B)")
    found = run(bbh.bbh(direct, data=str(tmp_path)))
    assert [sample["outcomes"]["exact_match"] for sample in found.samples] == [1, 1, 0, 1]
    assert found.measures["exact_match"].value == pytest.approx((2 / 3 + 1) / 2)  # tasks count the same
    assert direct.asked[0].endswith(
        "Q: Left?\nOptions:\n- Yes\n- No\nA: No\n\nQ: Back?\nA: Yes\n\nQ: Go?\nOptions:\n- Yes\n- No\nA:"
    )
    chained = Says("I go.\nSo the answer is Yes.", "the answer is No.", "no answer", "the answer is (B).")
    found = run(bbh.bbh(chained, data=str(tmp_path), cot=True))
    assert [sample["outcomes"]["exact_match"] for sample in found.samples] == [1, 0, 0, 1]
    assert "Left it is. So the answer is No.\n\nQ: Back?" in chained.asked[0]
    weighed = run(bbh.bbh(local, data=str(tmp_path), way="likelihood"))
    assert [len(sample["logprobs"]) for sample in weighed.samples] == [2, 2, 2, 2]


def test_symbols_are_made_by_rule_and_checked_by_it(tmp_path: Path) -> None:
    assert symbolic.heads("A coin is heads up. A flips the coin. B does not flip the coin. C flips the coin.") == "yes"
    assert symbolic.letters('Take the last letters of each words in "Whitney Erika Tj Benito" and') == "yajo"
    found = run(symbolic.symbolic(Says("no", "yes"), n=40, names=3, seed=1))
    assert found.measures["exact_match"].n == 80
    assert not found.notes[1:]
    again = run(symbolic.symbolic(Says("no"), n=40, names=3, seed=1))
    assert [s["prompt"] for s in again.samples] == [s["prompt"] for s in found.samples]
    flips = [s["expected"] for s in found.samples if s["family"] == "coin_flip"]
    assert 8 < flips.count("yes") < 32
    question = 'Take the last letters of each words in "Ann Mary Jo" and concatenate them.'
    lines(
        tmp_path / "last_letters.jsonl",
        [{"question": question, "answer": "nyo"}, {"question": question, "answer": "no"}],
    )
    read = run(symbolic.symbolic(Says('The answer is "nyo".'), data=str(tmp_path), subjects="last_letters"))
    assert [s["outcomes"]["exact_match"] for s in read.samples] == [1, 0]
    assert any("1 of 2 labels are not what the rule says" in note for note in read.notes)


def test_filters() -> None:
    strict, flexible = form.shipped("gsm8k").filter_list
    assert scoring.filtered("#### -1,2.5 then", strict) == "-1,2.5"
    assert scoring.filtered("none", strict) == "[invalid]"
    assert scoring.filtered("3 then $4.50", flexible) == "$4.50"
    with pytest.raises(KilterError, match="Did you mean 'lowercase'"):
        scoring.filtered("x", form.Filters(filter=[{"function": "lower_case"}]))


def test_ties_go_to_the_first_choice_and_lengths_count() -> None:
    task = form.shipped("agieval")
    assert scoring.of_choices(task, ["a", "bb"], [-1.0, -1.0], [0]) == {"acc": 1.0, "acc_norm": 0.0}
    task.metric_list.append(form.Metric(metric="acc_bytes"))
    assert scoring.of_choices(task, ["ab", "你"], [-2.0, -2.4], [1])["acc_bytes"] == 1.0


# --- Ethics -------------------------------------------------------------------------------------------------------


def test_ethics_counts_items_and_whole_scenes(tmp_path: Path, local: Local) -> None:
    lines(tmp_path / "ethics_justice.jsonl", [{"label": str(i % 2), "scenario": f"because {i}"} for i in range(9)])
    (tmp_path / "virtue_test.csv").write_text(
        "label,scenario\n" + "".join(f"0,She waits {i}. [SEP] kind\n" for i in range(5))
    )
    (tmp_path / "util_test.csv").write_text("I ate well.,I ate nothing.\nI won.,I lost.\nI slept.,I fell.\n")
    found = run(ethics(local, data=str(tmp_path)))
    assert found.measures["em"].n == 8 + 5
    assert found.measures["em"].value <= found.measures["acc"].value
    assert found.measures["justice:em"].n == 8  # the ninth item is of a scene that is cut off
    assert any("commonsense is not in" in note for note in found.notes)
    util = [sample for sample in found.samples if sample["family"] == "utilitarianism"]
    for sample, (first, second) in zip(
        util, [("I ate well.", "I ate nothing."), ("I won.", "I lost."), ("I slept.", "I fell.")], strict=True
    ):
        order = [0, 1]
        random.Random(first).shuffle(order)
        shown = [first, second] if order == [0, 1] else [second, first]
        assert sample["prompt"][0]["content"].startswith(f"Scenario 1: {shown[0]}\nScenario 2: {shown[1]}\n")
        assert sample["expected"] == ("yes" if shown[0] == first else "no")


def test_a_scene_is_right_only_as_a_whole() -> None:
    made = [{"id": str(i), "outcomes": {"acc": float(i != 5)}} for i in range(9)]
    assert [s["outcomes"].get("em") for s in scenes(made, 4)] == [1, 1, 1, 1, 0, 0, 0, 0, None]


def test_agreement_with_people_is_exact(tmp_path: Path, local: Local) -> None:
    import math

    certain = agreement([1.0, 0.0], [0.0, -1e9], 1.0)
    assert certain["agreement"] == certain["agreement_unanimous"] == 1
    assert certain["cross_entropy"] == pytest.approx(0)
    even = agreement([0.75, 0.25], [-3.0, -3.0])
    assert even["cross_entropy"] == pytest.approx(math.log(2))
    assert even["entropy"] == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert "agreement_unanimous" not in even
    own = [math.log(0.75), math.log(0.25)]
    assert agreement([0.75, 0.25], own)["cross_entropy"] == pytest.approx(even["entropy"])
    rows = [
        {"question": "a?", "choices": ["x", "y"], "shares": [3, 1], "logprobs": [-1.0, -2.0]},
        {"question": "b?", "choices": ["x", "y"], "shares": [0, 2], "logprobs": [-1.0, -2.0]},
        {"question": "c?", "choices": ["x", "y"], "shares": [0, 0], "logprobs": [-1.0, -2.0]},
        {"question": "d?", "choices": ["x", "y"], "shares": [0, 1], "logprobs": ["nan", -2.0]},
    ]
    found = run(ethics_more(None, data=str(lines(tmp_path / "stored.jsonl", rows))))
    assert found.measures["agreement"].value == 0.5
    assert found.measures["agreement_unanimous"].value == 0
    assert len(found.notes) == 2


@pytest.mark.parametrize(
    ("row", "choices", "expected"),
    [
        ({"action": "lying", "action-moral-judgment": -1.0}, 5, "bad"),
        (
            {
                "norm": "Be kind.",
                "situation": "S.",
                "intention": "I.",
                "moral_action": "help",
                "immoral_action": "hurt",
            },
            2,
            "help",
        ),
        (
            {
                "text": "I left.",
                "title": "AITA",
                "label_scores": {"AUTHOR": 3, "OTHER": 1, "EVERYBODY": 0, "NOBODY": 0, "INFO": 0},
            },
            5,
            "the author",
        ),
        ({"actions": [{"description": "lie"}, {"description": "steal"}], "gold_annotations": [1, 4]}, 2, "steal"),
        ({"scenario": "He cuts in line.", "human.response": 0.2}, 2, "no"),
        ({"question": "ok?", "shares": {"yes": 9, "no": 1}}, 2, "yes"),
    ],
)
def test_each_form_of_moral_judgements(tmp_path: Path, local: Local, row: dict, choices: int, expected: str) -> None:
    found = run(ethics_more(local, data=str(lines(tmp_path / "rows.jsonl", [row]))))
    [sample] = found.samples
    assert sample["expected"] == expected
    assert len(sample["logprobs"]) == choices
    assert sum(sample["shares"]) == pytest.approx(1)


# --- Wrong input --------------------------------------------------------------------------------------------------


def test_data_that_is_not_there_is_named_with_where_it_was_looked_for(tmp_path: Path, local: Local) -> None:
    with pytest.raises(KilterError, match=r"holds nothing of the task 'gsm8k'.*gsm8k_test"):
        run(gsm8k.gsm8k(local, data=str(tmp_path)))
    with pytest.raises(KilterError, match="There is no folder or file"):
        run(gsm8k.gsm8k(local, data=str(tmp_path / "nowhere")))
    with pytest.raises(KilterError, match="Did you mean 'anatomy'"):
        run(mmlu.mmlu(local, data=str(questions(tmp_path)), subjects="anatomi"))
    lines(tmp_path / "gsm8k_test.jsonl", [{"text": "no question"}])
    with pytest.raises(KilterError, match=r"no item of 'gsm8k' to ask.*it lacks what the task reads"):
        run(gsm8k.gsm8k(local, data=str(tmp_path), shots=0))


def test_without_data_and_network_the_hub_is_named(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(KilterError, match="--data DIR"):
        run(gsm8k.gsm8k(local))
