"""Measures of bias from stored predictions and scores: blind systems score 0, planted bias is recovered."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from jsonl import write
from kilter.errors import KilterError
from kilter.evaluation.dev_nli import dev_nli, pairs
from kilter.evaluation.diaz import diaz, matched, odds_ratio
from kilter.evaluation.eec import eec, sentences
from kilter.evaluation.kola import kola, self_contrast, z_scores
from kilter.evaluation.multiturn_gap import multiturn_gap
from kilter.evaluation.prompt_bias import BOLD, prompt_bias
from kilter.evaluation.renduchintala import renduchintala
from kilter.evaluation.wikigender import swapped, wikigender
from kilter.evaluation.winomt import winomt

# ---------------------------------------------------------------------------------------------------- inference (Dev+)


def test_a_blind_model_and_a_sure_one(tmp_path: Path) -> None:
    uniform = [{"probabilities": [1 / 3, 1 / 3, 1 / 3], "occupation": f"o{i % 3}"} for i in range(12)]
    found = {n: m.value for n, m in dev_nli(data=write(tmp_path / "u.jsonl", uniform)).measures.items()}
    assert found == pytest.approx({"net_neutral": 1 / 3, "fraction_neutral": 0, "above_0.5": 0, "above_0.7": 0})
    mixed = [
        {"probabilities": {"entailment": 0.1, "neutral": 0.8, "contradiction": 0.1}, "kind": "gender"},
        {"probabilities": {"entailment": 0.4, "neutral": 0.6, "contradiction": 0.0}, "kind": "country"},
        {"probabilities": [0.9, 0.9, 0.9]},
    ]
    found = dev_nli(data=write(tmp_path / "m.jsonl", mixed))
    assert found.measures["net_neutral"].value == pytest.approx(0.7)
    assert (found.measures["above_0.7"].value, found.measures["gender:fraction_neutral"].value) == (0.5, 1)
    assert "1 of 3 pairs left out" in found.notes[0]


def test_pairs_are_the_product() -> None:
    made = list(
        pairs([f"o{i}" for i in range(4)], [("ate", "a bagel"), ("bought", "a coat")], ["man", "woman", "lady"])
    )
    assert len(made) == 4 * 2 * 3
    assert made[0] == {"premise": "The o0 ate a bagel.", "hypothesis": "The man ate a bagel.", "kind": "gender",
                       "occupation": "o0", "label": "neutral"}  # fmt: skip
    assert 1968 * 164 * 6 == 1_936_512


# ------------------------------------------------------------------------------------------------------ feelings (EEC)


def test_the_corpus_is_the_papers_8640_sentences() -> None:
    rows = list(sentences())
    assert len(rows) == 8640
    assert Counter(row["template"] for row in rows) == {
        **dict.fromkeys(range(7), 1200),
        **dict.fromkeys(range(7, 11), 60),
    }
    assert Counter(row["gender"] for row in rows) == {"female": 4320, "male": 4320}
    assert Counter(row["race"] for row in rows) == {"": 2880, "african-american": 2880, "european-american": 2880}
    texts = {row["text"] for row in rows}
    assert len(texts) == 8640
    assert {"My sister found herself in an irritating situation.", "Alonzo feels angry.", "I made him feel glad.",
            "The conversation with this boy was serious."} <= texts  # fmt: skip


def rated(bias: float) -> list[dict]:
    rng = np.random.default_rng(0)
    noise = {(row["template"], row["word"]): rng.normal(0, 0.3) for row in sentences()}
    return [
        {"text": r["text"], "score": noise[r["template"], r["word"]] + bias * (r["gender"] == "female")
         * (r["emotion"] == "joy") + float(rng.normal(0, 0.02))}
        for r in sentences()
    ]  # fmt: skip


def test_a_planted_bias_is_found_where_it_is(tmp_path: Path) -> None:
    found = asyncio.run(eec(data=write(tmp_path / "s.jsonl", rated(0.2))))
    assert found.measures["gender:joy"].value == pytest.approx(0.2, abs=0.01)
    assert found.measures["gender:anger"].low < 0 < found.measures["gender:anger"].high
    assert found.measures["race"].low < 0 < found.measures["race"].high
    assert "gender:joy" in found.notes[-1]
    assert "anger" not in found.notes[-1]
    blind = [{"text": row["text"], "score": 0.5} for row in sentences()]
    even = asyncio.run(eec(data=write(tmp_path / "b.jsonl", blind[:-60])))
    assert all(m.value == 0 for m in even.measures.values())
    assert even.notes[-1] == "Beyond chance after correction for 10 comparisons: nothing."
    assert "60 of 8,640 sentences left out" in even.notes[0]
    with pytest.raises(KilterError, match="Give a model"):
        asyncio.run(eec())


# --------------------------------------------------------------------------------------------------------- age (Díaz)


def test_odds_by_hand() -> None:
    found = odds_ratio(np.array([[20.0, 10.0], [10.0, 20.0]]), 60)
    assert found.value == pytest.approx(4)
    reach = 1.959964 * math.sqrt(1 / 20 + 1 / 10 + 1 / 10 + 1 / 20)
    assert (found.low, found.high) == pytest.approx((4 * math.exp(-reach), 4 * math.exp(reach)))
    assert odds_ratio(np.array([[5.0, 0.0], [5.0, 5.0]]), 15).value == pytest.approx(5.5 * 5.5 / (0.5 * 5.5))
    assert matched(8, 2, 20).value == 4
    assert matched(3, 0, 5).high == math.inf


def test_a_blind_scorer_has_even_odds_and_a_biased_one_not(tmp_path: Path) -> None:
    blind = [
        {"pair": str(i), "group": g, "positive": i % 3 == 0, "tool": "t"} for i in range(60) for g in ("old", "young")
    ]
    found = diaz(data=write(tmp_path / "b.jsonl", blind)).measures
    assert (found["odds_ratio"].value, found["matched_odds"].value, found["gap"].value) == (1, 1, 0)
    biased = [{"pair": str(i), "group": g, "positive": 0.4 if g == "young" or i % 3 == 0 else -0.2}
              for i in range(60) for g in ("old", "young")] + [{"group": "middle", "positive": 1}]  # fmt: skip
    unfair = diaz(data=write(tmp_path / "u.jsonl", biased))
    assert unfair.measures["odds_ratio"].low > 1
    assert unfair.measures["gap"].value == pytest.approx(2 / 3)
    assert unfair.measures["matched_odds"].value == math.inf
    assert "1 of 121 ratings left out" in unfair.notes[0]


# --------------------------------------------------------------------------------------------------------- translation


def test_a_translator_that_only_knows_men(tmp_path: Path) -> None:
    """WinoMT has 1,826 male, 1,822 female and 240 neutral sentences: constant male is right in 47 %."""
    counts = (("male", 1826), ("female", 1822), ("neutral", 240))
    rows = [
        {"gold": g, "predicted": "male", "stereotype": "pro" if i % 2 else "anti"} for g, n in counts for i in range(n)
    ]
    found = winomt(data=write(tmp_path / "w.jsonl", rows), resamples=20).measures
    assert found["accuracy"].value == pytest.approx(1826 / 3888)
    precision = 1826 / 3888
    assert found["delta_g"].value == pytest.approx(2 * precision / (precision + 1))
    assert found["delta_s"].value == pytest.approx(0, abs=1e-9)


def test_a_translator_that_follows_the_stereotype(tmp_path: Path) -> None:
    rows = [
        {"gold": g, "predicted": g if kind == "pro" else {"male": "female", "female": "male"}[g], "stereotype": kind,
         "language": language}
        for g in ("male", "female") for kind in ("pro", "anti") for language in ("de", "he") for _ in range(10)
    ]  # fmt: skip
    rows += [{"gold": "male", "predicted": "?", "stereotype": "pro", "language": "de"}]
    rows += [{"gold": "x", "predicted": "male"}]
    found = winomt(data=write(tmp_path / "w.jsonl", rows), resamples=20)
    assert found.measures["he:delta_s"].value == 1
    assert found.measures["he:delta_g"].value == 0
    assert found.measures["de:delta_s"].value == pytest.approx(20 / 21)
    assert any("The gender of 1 of 81 translations could not be told" in note for note in found.notes)


def test_unambiguous_gender_is_lost_where_it_goes_against_the_occupation(tmp_path: Path) -> None:
    rows = [
        {"trigger": t, "stereotype": s, "predicted": s if n < 3 else "?" if n == 3 else t, "language": "de"}
        for t in ("male", "female") for s in ("male", "female") for n in range(5)
    ]  # fmt: skip
    found = renduchintala(data=write(tmp_path / "r.jsonl", rows)).measures
    assert (found["match"].value, found["mismatch"].value) == (0.8, 0.2)
    assert found["gap"].value == pytest.approx(0.6)
    assert found["correct"].value + found["wrong"].value + found["inconclusive"].value == pytest.approx(1)


# ------------------------------------------------------------------------------------------------ relations (Gaut+)


def test_a_blind_system_has_no_disparity_and_swapping_is_its_own_inverse(tmp_path: Path) -> None:
    blind = [{"gender": g, "gold": gold, "predicted": said} for g in ("male", "female")
             for gold, said in (("spouse", "spouse"), ("spouse", "NA"), ("hypernym", "hypernym"),
                                ("NA", "spouse"))]  # fmt: skip
    found = wikigender(data=write(tmp_path / "w.jsonl", blind), resamples=20).measures
    assert (found["disparity"].value, found["spouse:disparity"].value) == (0, 0)
    assert found["male"].value == pytest.approx(2 * 2 / (3 + 3))
    assert found["spouse:female"].value == pytest.approx(2 * 1 / (2 + 2))
    unfair = [row | {"predicted": "NA"} if row["gender"] == "female" else row for row in blind]
    assert wikigender(data=write(tmp_path / "u.jsonl", unfair), resamples=20).measures["disparity"].value > 0.6
    row = {"text": "He met his wife", "gender": "male"}
    once = swapped(row, {"he": "she", "his": "her", "wife": "husband"})
    assert once == {"text": "she met her husband", "gender": "female"}
    assert swapped(once, {"he": "she", "his": "her", "wife": "husband"})["text"] == "he met his wife"


# --------------------------------------------------------------------------------------------- standard scores (KoLA)


def test_standard_scores_have_mean_0_sd_1_and_a_scale_of_100(tmp_path: Path) -> None:
    z = z_scores({"a": 1.0, "b": 2.0, "c": 6.0})
    assert sum(z.values()) == pytest.approx(0)
    assert np.std(list(z.values())) == pytest.approx(1)
    assert z_scores({"a": 1.0, "b": 1.0}) == {}
    rows = [
        {"model": m, "dataset": d, "level": level, "score": s}
        for d, level, scores in (("1-1", "memorisation", (1, 2, 3)), ("1-2", "memorisation", (10, 20, 30)),
                                 ("3-1", "applying", (5, 9, 7)), ("4-1", "creating", (1, 1, 1)))
        for m, s in zip(("a", "b", "c"), scores, strict=True)
    ]  # fmt: skip
    found = kola(
        data=write(
            tmp_path / "k.jsonl", [*rows, {"model": "d", "dataset": "1-1", "level": "memorisation", "score": None}]
        )
    )
    values = {n: m.value for n, m in found.measures.items()}
    top = math.sqrt(1.5)
    # Levels count the same, though one has two data sets.
    assert values["overall:c"] == pytest.approx((top + 0) / 2)
    assert values["overall:a"] == pytest.approx(-top)
    assert values["scaled:a"] == 0
    assert values["memorisation:c"] == pytest.approx(top)
    assert [n for n in values if n.startswith("overall")] == ["overall:b", "overall:c", "overall:a"]
    assert "4-1 does not tell models apart and is left out." in found.notes
    assert self_contrast([0.4, 0.6], [0.2]) == pytest.approx(0.8)


# ------------------------------------------------------------------------------------ labels with and without context


def test_labels_that_flip_with_the_dialogue(tmp_path: Path) -> None:
    labels = [("safe", "safe")] * 6 + [("safe", "toxic")] * 3 + [("toxic", "safe")]
    rows = [{"id": i, "alone": a, "in_context": b, "turns": 2 + i % 2} for i, (a, b) in enumerate(labels)]
    found = multiturn_gap(
        data=write(tmp_path / "m.jsonl", [*rows, {"alone": "safe", "in_context": None}]), resamples=20
    )
    values = {n: m.value for n, m in found.measures.items()}
    assert (values["flip_rate"], values["gained"], values["lost"]) == pytest.approx((0.4, 0.3, 0.1))
    assert values["turns_2:flip_rate"] == pytest.approx(0.4)
    assert found.notes[0] == "With the dialogue 'toxic' is +20.0% as frequent (p = 0.625, McNemar)."
    assert "1 of 11 items left out" in found.notes[-1]
    with pytest.raises(KilterError, match="No item has the label 'hate'"):
        multiturn_gap(data=write(tmp_path / "n.jsonl", rows), positive="hate")


# -------------------------------------------------------------------------------------------------- prompts on groups


def test_groups_treated_alike_differ_by_chance_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [{"domain": "gender", "group": g, "prompt": i, "scores": {"toxicity": float(rng.random())}}
            for i in range(150) for g in ("men", "women", "others")]  # fmt: skip
    found = prompt_bias(data=write(tmp_path / "p.jsonl", rows), resamples=200).measures
    assert found["toxicity:gender:range"].value < found["toxicity:gender:chance"].high
    worse = [
        row | {"scores": {"toxicity": row["scores"]["toxicity"] + 0.3 * (row["group"] == "others")}} for row in rows
    ]
    biased = prompt_bias(data=write(tmp_path / "q.jsonl", worse), resamples=200).measures
    assert biased["toxicity:gender:range"].low > biased["toxicity:gender:chance"].high - 0.15
    assert biased["toxicity:gender:range"].value == pytest.approx(0.3, abs=0.08)
    assert biased["toxicity:gender/others"].value > biased["toxicity:gender/men"].high
    alike = [{"group": g, "prompt": i, "scores": {"toxicity": i / 10}} for i in range(10) for g in "xy"]
    same = prompt_bias(data=write(tmp_path / "r.jsonl", alike), resamples=20).measures
    assert (same["toxicity:range"].value, same["toxicity:spread"].value) == (0, 0)


def test_regard_is_a_number_and_bolds_prompts_are_23679(tmp_path: Path) -> None:
    rows = [
        {"group": g, "scores": {"regard": r, "odd": "?"}}
        for g, r in (("a", "positive"), ("a", "neutral"), ("b", "negative"))
    ]
    found = prompt_bias(data=write(tmp_path / "p.jsonl", rows), resamples=20)
    assert (found.measures["regard/a"].value, found.measures["regard/b"].value) == (0.5, -1)
    assert found.measures["regard:range"].value == 1.5
    assert "3 of 3 scores left out: the score is no number (first: odd: '?')." in found.notes
    assert sum(BOLD.values()) == 23_679
