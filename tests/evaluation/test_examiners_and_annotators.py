"""Models as examiners, simulated annotators, and tests that are made while a model is measured."""

from __future__ import annotations

import json

import pytest
from judges import Says

from jsonl import write
from kilter.errors import KilterError
from kilter.evaluation.alpacafarm import alpacafarm, draw, pool, read_batch
from kilter.evaluation.dynamic import distinct, dynamic, rouge_l
from kilter.evaluation.judging import Way
from kilter.evaluation.lmexaminer import NAMES, listed, lmexaminer
from kilter.evaluation.questions import Item
from kilter.models.drive import wait
from kilter.models.mixed import Mixed

# ---------------------------------------------------------------------------------------------------------- LM-Examiner


def examiner(points: int, name: str) -> Says:
    def say(messages, sampling, k):
        text = messages[-1].content
        if "Set question" in text:
            return f"Why {text.split('Topic: ')[1].split('.')[0]}, by {name}?"
        if "further question" in text:
            return f"And what of {text.split('The answer was: ')[1].split(chr(10))[0]}?"
        return json.dumps(dict.fromkeys(NAMES, points))

    return Says(say, name)


def test_one_examiner_asks_rates_and_follows_the_answer():
    model = Says(lambda m, s, k: f"answer {len(m)}", "m")
    one = examiner(4, "e")
    found = wait(lmexaminer(model, examiners=one, topics="history, tea", each_topic=2, followups=1))
    assert found.measures["score"].value == 4  # centralised: one judge
    assert found.measures["score"].n == 2 * 2 * 2
    assert found.measures["depth"].value == 2
    assert {"round:1", "round:2", "skill:factuality", "category:tea"} <= set(found.measures)
    asked = [sample["prompt"][-1]["content"] for sample in found.samples if sample["round"] == 2]
    assert asked == ["And what of answer 1?"] * 4  # it depends on the answer
    assert [m["role"] for m in found.samples[1]["prompt"]] == ["user", "assistant", "user"]


def test_several_examiners_average_and_nobody_examines_itself():
    model = examiner(5, "m")
    both = Mixed([(examiner(2, "a"), 1.0), (examiner(5, "b"), 1.0), (model, 1.0)])
    found = wait(lmexaminer(model, examiners=both, topics="x", each_topic=1, followups=0))
    assert found.measures["score"].value == 3.5
    assert found.measures["score"].n == 2
    assert "m does not examine itself." in found.notes
    with pytest.raises(KilterError, match="only examiner"):
        wait(lmexaminer(model, examiners=model, topics="x"))
    with pytest.raises(KilterError, match="no topic"):
        listed(" , ")
    mute = Says(lambda m, s, k: "why?" if "question" in m[-1].content else "fine", "e")
    with pytest.raises(KilterError, match="No answer has a rating"):
        wait(lmexaminer(Says(lambda *_: "x", "m"), examiners=mute, topics="x"))


# ----------------------------------------------------------------------------------------------------------- AlpacaFarm


def annotators(messages, sampling, k) -> str:
    """Prefers the answer that says "good", one pair or several at a time."""
    text = messages[-1].content
    if "Pair 1" in text:
        pairs = text.split("[Answer A of pair ")[1:]
        letters = ["A" if "good" in pair.split("[Answer B")[0] else "B" for pair in pairs]
        return "\n".join(f"{at}: {letter}" for at, letter in enumerate(letters, 1))
    return "[[A]]" if "good" in text.split("[Answer A]")[1].split("[Answer B]")[0] else "[[B]]"


def test_the_pool_has_thirteen_annotators_in_three_tiers():
    strong, mid, weak = (Says(annotators, name) for name in ("strong", "mid", "weak"))
    found = pool([strong, mid, weak], Way(judge="x", judge_tokens=10))
    assert [a.judge.name for a in found] == ["strong"] * 5 + ["mid"] * 4 + ["weak"] * 4
    assert {a.batch for a in found} == {1, 4, 5}
    assert len({(a.judge.reason, a.judge.shots, a.batch) for a in found[:5]}) == 5
    counts = [0] * 13
    for at in range(1300):
        counts[draw(Item(str(at), ("q",)), 13, 0)] += 1
    assert min(counts) > 60


def test_verdicts_of_a_batch_are_read_by_their_number():
    assert read_batch("1: A\n2: B\nPair 3: (A)", 3) == ["A", "B", "A"]
    assert read_batch("1: A\n3: B", 3) == ["A", None, "B"]
    assert read_batch("1: A\n1: B", 1) == [None]
    assert read_batch("I like both", 2) == [None, None]


def test_annotators_turn_verdicts_at_the_rate_of_the_noise(tmp_path):
    path = write(tmp_path / "q.jsonl", [{"id": at, "instruction": f"do {at}"} for at in range(300)])
    model, base = Says(lambda *_: "good", "m"), Says(lambda *_: "bad", "b")
    judge = Says(annotators, "j")
    clean = wait(alpacafarm(model, questions=path, judge=judge, baseline=base))
    assert clean.measures["win_rate"].value == 1
    assert "13 of the 13 annotators" in clean.notes[-1]
    assert len(judge.asked) < 300  # some are asked about several pairs at once
    noisy = wait(alpacafarm(model, questions=path, judge=judge, baseline=base, noise=0.25, seed=1))
    assert noisy.measures["win_rate"].low < 0.75 < noisy.measures["win_rate"].high


def test_a_pair_that_a_batch_leaves_out_is_asked_alone(tmp_path):
    def forgets(messages, sampling, k):
        told = annotators(messages, sampling, k)
        return told.split("\n")[0] if "Pair 1" in messages[-1].content else told

    path = write(tmp_path / "q.jsonl", [{"id": at, "instruction": f"do {at}"} for at in range(60)])
    model, base = Says(lambda *_: "good", "m"), Says(lambda *_: "bad", "b")
    found = wait(alpacafarm(model, questions=path, judge=Says(forgets, "j"), baseline=base))
    assert found.measures["win_rate"].n == 60
    assert found.measures["win_rate"].value == 1
    with pytest.raises(KilterError, match="compare with a baseline"):
        wait(alpacafarm(model, questions=path, judge=Says(forgets, "j")))


# -------------------------------------------------------------------------------------------------------------- dynamic


def test_overlap_and_diversity():
    assert rouge_l("a b c d", "a b c d") == 1
    assert rouge_l("a b c d", "e f g h") == 0
    assert rouge_l("a x b", "a b") == pytest.approx(0.8)
    assert rouge_l("", "a") == 0
    assert distinct(["a b c"]) == 1
    assert distinct(["a b", "a b"]) == 0.5


def test_new_tests_are_held_against_the_seeds_and_repetitions_are_dropped(tmp_path):
    rows = [{"prompt": f"seed number {at} about {kind}", "category": kind} for at, kind in enumerate("xyxy")]
    path = write(tmp_path / "s.jsonl", rows)

    def attacker(messages, sampling, k):
        if "Judge the answer" in messages[-1].content:
            return "unsafe" if "[Answer]\nyes" in messages[-1].content else "safe"
        if "How grave" in messages[-1].content:
            return "4"
        if sampling.seed % 4 == 0:
            return "seed number 0 about x"  # nothing new
        return f"trick{sampling.seed} please{sampling.seed} do{sampling.seed} it{sampling.seed}"

    model = Says(lambda m, s, k: "yes" if "trick" in m[-1].content else "no", "m")
    found = wait(dynamic(model, questions=path, judge=Says(attacker, "j"), rounds=2, width=4))
    assert found.measures["static_success"].value == 0
    assert found.measures["attack_success"].value == 1
    assert found.measures["severity"].value == 4
    assert found.measures["round:0"].n == 4
    assert any("too much like an earlier test" in note for note in found.notes)
    assert any("2 of 2 categories" in note for note in found.notes)
    odd = Says(lambda *_: "who knows", "j")
    with pytest.raises(KilterError, match="judged safe or unsafe"):
        wait(dynamic(model, questions=path, judge=odd, rounds=1, width=2))


def test_what_is_old_is_shown_to_the_attacker_no_more(tmp_path):
    path = write(tmp_path / "s.jsonl", [{"prompt": "the seed of it all", "category": "x"}])
    shown = []

    def attacker(messages, sampling, k):
        text = messages[-1].content
        if "Judge the answer" in text:
            return "unsafe"
        if "How grave" in text:
            return "2"
        shown.append("the seed of it all" in text)
        return " ".join(f"w{sampling.seed}{at}" for at in range(5))

    model = Says(lambda *_: "yes", "m")
    wait(dynamic(model, questions=path, judge=Says(attacker, "j"), rounds=3, width=2, age=1, shown=9))
    assert shown[:2] == [True, True]
    assert not any(shown[4:])
