"""Answers that are rated, compared and corrected: UltraFeedback to IterAlign, by the checks of the catalogue."""

import asyncio
import random
from collections import Counter
from itertools import combinations

import pytest

from kilter.data.aligner import aligner
from kilter.data.almost import BAD, almost, pairs, parse
from kilter.data.cyclealign import agreement, cyclealign, ranking
from kilter.data.iteralign import iteralign, nearest_rule
from kilter.data.metaaligner import metaaligner
from kilter.data.openchat import openchat
from kilter.data.safer_instruct import safer_instruct
from kilter.data.ultrafeedback import ASPECTS, PRINCIPLES, mend, ratings, ultrafeedback
from kilter.data.zephyr import cased, zephyr
from kilter.errors import KilterError, SetAside
from kilter.models.mixed import Mixed
from kilter.records import Demonstration, Group, Message, Origin
from scripted_model import Scripted, by_kind, made, prompt, shown


def group(asked, *responses, **known):
    return Group([Message("user", asked)], list(responses), **known)


# ------------------------------------------------------------------------------------------------ UltraFeedback


@pytest.mark.parametrize(
    ("overall", "mean", "mended"),
    [(10, 1.0, 1.0), (10, 2.0, 1.0), (10, 2.01, None), (10, 4.0, None), (10, 4.01, 10.0), (9, 1.0, 9), (1, 5.0, 1)],
)
def test_a_ten_that_may_be_a_one_is_mended(overall, mean, mended):
    assert mend(overall, mean) == mended


def test_ratings_are_read_a_line_each_or_not_at_all():
    text = "Ratings:\n1: 4 - fine\n**2**: 1/5 – wrong\nAnswer 3: Rating: 5 good"
    assert [r["rating"] for r in ratings(text, 3)] == [4, 1, 5]
    assert ratings(text, 3)[0]["rationale"] == "fine"
    for bad in ("1: 4", "1: 4\n2: 9\n3: 1", "1: 4\n1: 3\n2: 2", "", "1: 4.5\n2: 3\n3: 3"):
        with pytest.raises(SetAside):
            ratings(bad, 3)


def rater(grades):
    """Rates an answer "N of NAME" by N, in every aspect; overall it says what `grades` has for N."""
    calls = Counter()

    def each_(variables, sampling):
        return "\n".join(f"{i}: {text.split()[0]} - so" for i, text in enumerate(variables["responses"], 1))

    def overall(variables, sampling):
        n = int(variables["response"].split()[0])
        calls[n] += 1
        return f"Good.\nRating: {grades[n][min(calls[n], len(grades[n])) - 1]}"

    return by_kind(rate_each=each_, rate=overall)


def test_ultrafeedback_has_four_answers_a_prompt_of_models_and_principles_that_are_drawn():
    pool = [Scripted(lambda m, s, n=n: f"{n} of m{n}", f"m{n}") for n in range(1, 6)]
    prompts = [prompt(f"question {i}") for i in range(60)]
    judge = rater({1: [10], 2: [4], 3: [10, 6], 4: [10, 7], 5: [10]})
    found, left = made(ultrafeedback(Mixed([(m, 1.0) for m in pool]), prompts, judge=judge))
    assert left == {}
    assert sum(len(g.responses) for g in found) == 60 * 4
    seen = Counter(c["model"] for g in found for c in g.meta["completions"])
    assert set(seen) == {m.name for m in pool}
    assert all(len({c["model"] for c in g.meta["completions"]}) == 4 for g in found)
    assert {c["principle"] for g in found for c in g.meta["completions"]} == set(PRINCIPLES)
    for g in found:
        for completion, response, score in zip(g.meta["completions"], g.responses, g.scores, strict=True):
            n = int(response.split()[0])
            assert completion["custom_system_prompt"] in PRINCIPLES[completion["principle"]]
            assert set(completion["annotations"]) == set(ASPECTS)
            assert score == completion["fine_grained_score"] == n
            assert completion["overall_score"] == {1: 1, 2: 4, 3: 6, 4: 7, 5: 10}[n]
        expected = sum(a != b for a, b in combinations(g.scores, 2))
        assert len(g.pairs()) == expected
    asked = next(a for m in pool for a in m.asked)
    assert asked[0].role == "system"
    overall, _ = made(ultrafeedback(pool[1], prompts[:3], judge=rater({2: [4]}), score="overall", completions=2))
    assert [g.scores for g in overall] == [[4.0, 4.0]] * 3


def test_a_judge_that_cannot_be_read_costs_the_prompt_and_nothing_else():
    judge = by_kind(rate_each=lambda v, _: "all fine", rate=lambda v, _: "Rating: 4")
    found, left = made(ultrafeedback(Scripted(lambda m, _: "2 x"), [prompt("a"), prompt("b")], judge=judge))
    assert (found, left) == ([], {"no rating": 2})
    judge = by_kind(rate_each=lambda v, _: "1: 2\n2: 2\n3: 2\n4: 2", rate=lambda v, _: "Rating: 40")
    assert made(ultrafeedback(Scripted(lambda m, _: "2 x"), [prompt("a")], judge=judge))[1] == {"no grade": 1}


# ------------------------------------------------------------------------------------------------ Zephyr, OpenChat


def test_zephyr_chooses_the_best_and_rejects_one_of_the_three_others_by_chance():
    draw = random.Random(0)
    groups = []
    for i in range(1200):
        scores = draw.sample([1.0, 2.0, 3.0, 4.0], 4)
        groups.append(group(f"q{i}", *[f"{int(s)}" for s in scores], scores=scores))
    found, left = made(zephyr(groups))
    assert left == {}
    assert all(g.scores[0] >= g.scores[1] and g.responses[0] == "4" for g in found)
    rejected = Counter(g.responses[1] for g in found)
    assert set(rejected) == {"1", "2", "3"}
    assert sum((n - 400) ** 2 / 400 for n in rejected.values()) < 13.8  # chi-squared with 2 degrees, p = 0.001
    assert [g.responses[1] for g in made(zephyr(groups, rejected="worst"))[0]] == ["1"] * 1200
    assert made(zephyr([group("q", "a", "b", scores=[2, 2]), group("q", "a")])) == ([], {"no preference": 2})
    [ranked], _ = made(zephyr([group("q", "a", "b", "c", ranking=[1, 0, 0])]))
    assert ranked.responses == ["b", "a"]
    assert ranked.pairs() == [(0, 1)]


def test_zephyr_s_conversations_are_cleaned():
    found, left = made(
        zephyr([shown("hello. how are you? i am", "fine. `run it. now`"), shown("a", "I do not have emotions.")])
    )
    assert [m.content for m in found[0].messages] == ["Hello. How are you? I am", "Fine. `run it. now`"]
    assert left == {"boilerplate": 1}
    assert cased("```x = 1. y```\nhello") == "```x = 1. y```\nHello"
    assert cased("i'd say. 好. ok") == "I'd say. 好. Ok"


def test_openchat_s_classes_have_their_prefix_and_weight():
    records = [shown("q", "a", source="GPT-4-0314"), shown("q", "b", source="gpt-3.5"), shown("q", "c")]
    records.append(Demonstration(records[0].messages, origin=Origin("x", model="gpt-4")))
    found, left = made(openchat(records))
    assert [r.meta["weight"] for r in found] == [1.0, 0.1, 1.0]
    assert [r.messages[0].content for r in found] == [
        "GPT4 Correct User: q",
        "GPT3 Correct User: q",
        "GPT4 Correct User: q",
    ]
    assert [r.messages[1].content for r in found] == ["a", "b", "a"]
    assert left == {"no source": 1}
    assert made(openchat(records, keep_unknown=True))[0][2].meta["weight"] == 0.1
    plain, _ = made(openchat(records[:2], good_prefix="", other_prefix="", other_weight=1.0))
    assert [(r.id, r.messages) for r in plain] == [(r.id, r.messages) for r in records[:2]]
    assert {r.meta["weight"] for r in plain} == {1.0}
    with pytest.raises(KilterError, match="No source is good"):
        list(openchat(records, good=" "))


# ------------------------------------------------------------------------------------------------ ALMoST


def test_four_configurations_give_just_these_pairs():
    a, b, c, d = parse("big:3 > big:1 = small:3 > small:0")
    assert [x.level for x in (a, b, c, d)] == [0, 1, 1, 2]

    def names(*texts):
        return [(x[0].name, y[0].name) for x, y in pairs(list(zip((a, b, c, d), texts[::-1], strict=True)))]

    same = "x" * 10
    assert names(same + "1", same + "2", same + "3", same + "4") == [("big:3", "big:1"), ("big:1", "small:0")]
    # The best is dropped, then one of a level whose two say nothing of each other.
    assert names("dd", "cc", "bb", BAD) == [("big:1", "small:0")]
    assert names("dd", " ", BAD, BAD) == []
    # Much shorter than what it would beat and than the group: not chosen. Shorter, but not than the group: chosen.
    assert names("d" * 40, "c" * 40, "b" * 40, "a") == [("big:1", "small:0")]
    assert names("d" * 10, "c" * 10, "b" * 12, "a" * 11) == [("big:3", "big:1"), ("big:1", "small:0")]
    # A reply is chosen once, also where two configurations wrote it.
    assert names("d" * 9, "c" * 9, "same text", "same text") == [("big:3", "big:1"), ("small:3", "small:0")]


def test_almost_asks_every_configuration_after_its_examples(tmp_path):
    demonstrations = tmp_path / "d.jsonl"
    demonstrations.write_text("".join(f'{{"instruction": "q{i}", "output": "a{i}"}}\n' for i in range(5)))
    model = Scripted(lambda m, _: f"after {len(m.variables['examples'])} examples, {m[-1].content}")
    found, left = made(almost([prompt("one"), prompt("two")], model, demonstrations=str(demonstrations)))
    assert left == {}
    assert [g.meta["pair"] for g in found] == ["model:3-vs-model:1", "model:1-vs-model:0"] * 2
    assert [len(asked) for asked in model.asked[:3]] == [7, 3, 1]
    assert found[0].responses == ["after 3 examples, one", "after 1 examples, one"]
    with pytest.raises(KilterError, match="there are 0"):
        made(almost([prompt("one")], model))
    with pytest.raises(KilterError, match="give a model"):
        made(almost([prompt("one")], levels="model:0 > big:0"))


def test_almost_reads_groups_that_name_their_configurations():
    good = group("q", "long answer", "short one", meta={"configs": ["a:1", "b:0"]})
    bad = group("q", "x", "y", meta={"configs": ["a:1", "z:0"]})
    found, left = made(almost([good, bad, group("q", "x")], levels="a:1 > b:0"))
    assert [g.responses for g in found] == [["long answer", "short one"]]
    assert left == {"no configs": 2}


@pytest.mark.parametrize("levels", ["a:1", "a:1 = b:1", "a > b", "a:1 > a:1", "", "a:x > b:1"])
def test_levels_that_are_none(levels):
    with pytest.raises(KilterError):
        parse(levels)


# ------------------------------------------------------------------------------------------------ CycleAlign


def test_the_agreement_is_a_part_of_both_rankings():
    draw = random.Random(0)
    for _ in range(300):
        n = draw.randint(1, 6)
        first, second = draw.sample(range(n), n), draw.sample(range(n), n)
        found = agreement(first, second)
        assert found == [k for k in first if k in found] == [k for k in second if k in found]
        longest = max(
            len(c)
            for size in range(1, n + 1)
            for c in combinations(first, size)
            if list(c) == [k for k in second if k in c]
        )
        assert len(found) == longest
    assert agreement([2, 0, 1], [2, 0, 1]) == [2, 0, 1]


def test_rankings_are_read_whole_or_not_at_all():
    assert ranking("2 > 1 > 3", 3) == [1, 0, 2]
    assert ranking("I think:\nRanking: 3 > 1 > 2", 3) == [2, 0, 1]
    for bad in ("2 > 1", "1 > 1 > 2", "none", "1 > 2 > 4"):
        with pytest.raises(SetAside):
            ranking(bad, 3)


class White(Scripted):
    """Likes long answers."""

    async def score(self, messages, response):
        return [-1.0 / len(response)]


def test_cyclealign_s_demonstrations_are_its_latest_agreements():
    white = White(lambda m, _: "")
    black = by_kind(
        rank=lambda v, _: " > ".join(
            str(k + 1) for k in sorted(range(len(v["responses"])), key=lambda k: v["responses"][k])
        )
    )
    records = [group(f"q{i}", "a" * 5, "b" * 9, "c" * 2) for i in range(6)] + [group("one", "a")]
    records.append(group("against", "a", "bb", "ccc"))
    found, left = made(cyclealign(black, records, student=white, examples=2, batch=3))
    assert left == {"one answer": 1, "no agreement": 1}
    assert len(found) == 6
    for g in found:
        assert (g.meta["black_box"], g.meta["white_box"]) == ([0, 1, 2], [1, 0, 2])
        assert g.meta["agreed"] in ([0, 2], [1, 2])
        assert g.ranking == [0, 1]
    assert [len(asked.variables["examples"]) for asked in black.asked] == [0, 0, 0, 2, 2, 2, 2]
    assert [example["question"] for example in black.asked[-1].variables["examples"]] == ["q4", "q5"]
    example = black.asked[-1].variables["examples"][0]
    order = [example["responses"][int(n) - 1] for n in example["ranking"].split(" > ")]
    assert order == found[4].responses


def test_cyclealign_without_likelihoods_or_agreement():
    black = by_kind(rank=lambda v, _: "1 > 2")

    class Blind(Scripted):
        async def score(self, messages, response):
            raise KilterError("It tells no log-probs; ask another.")

    records = [group("q", "short", "longer answer")]
    assert made(cyclealign(black, records, student=Blind(lambda m, _: "")))[1] == {"not scored": 1}
    assert made(cyclealign(black, records, student=White(lambda m, _: "")))[1] == {"no agreement": 1}
    assert made(cyclealign(black, [group("q", "longer answer", "short")], student=White(lambda m, _: "")))[0]


# ------------------------------------------------------------------------------------------------ correctors


def test_metaaligner_s_steps():
    ranked = group(
        "q", "bad", "good", "fair", scores=[0, 2, 1], meta={"objectives": {"helpful": [0, 2, 1], "humour": [1, 0, 0]}}
    )
    equal = group("q", "one", "two", scores=[1, 1])
    [found], _ = made(metaaligner([ranked]))
    assert found.messages[-1].content == "good"
    assert found.meta["objectives"] == ["helpful"]
    assert "helpfulness" in found.messages[0].content
    assert "humour" not in found.messages[0].content
    [found], left = made(metaaligner([equal, ranked, shown("q", "a")], step="equal"))
    assert {found.messages[-1].content} < {"one", "two"}
    assert left == {"no pair": 1, "no preference": 1}
    many = [shown(f"q{i}", f"answer {i}") for i in range(40)]
    warm, _ = made(metaaligner(many, step="warm-up"))
    assert all(f"Answer:\n{r.messages[-1].content}" in r.messages[0].content for r in warm)
    drawn = [tuple(r.meta["objectives"]) for r in warm]
    assert len(set(drawn)) > 4, "subsets and orders are drawn"
    corrected, _ = made(
        metaaligner([shown("q", "a")], by_kind(correct=lambda v, _: f"better {v['response']}"), step="correct")
    )
    assert corrected[0].messages[-1].content == "better a"
    assert corrected[0].meta["before"] == "a"
    with pytest.raises(KilterError, match="no objective 'speed'"):
        list(metaaligner([ranked], objectives="speed"))
    [found], _ = made(metaaligner([equal], step="warm-up", objectives="speed", descriptions="speed=fast to read"))
    assert "fast to read" in found.messages[0].content
    with pytest.raises(KilterError, match="give it one"):
        metaaligner([ranked], step="correct")


def test_aligner_on_identities_returns_what_it_was_given():
    records = [shown(f"q{i}", f"answer {i}") for i in range(5)]
    identity = by_kind(correct=lambda v, _: v["response"])
    found, _ = made(aligner(records, identity, step="correct"))
    assert [r.messages for r in found] == [r.messages for r in records]
    warm, _ = made(aligner(records, step="warm-up"))
    assert [r.messages[-1] for r in warm] == [r.messages[-1] for r in records]
    assert not any(r.meta["changed"] for r in warm)


def test_aligner_s_residual_is_from_a_worse_answer_to_the_best():
    groups = [group(f"q{i}", "worst", "best", "middle", ranking=[2, 0, 1]) for i in range(200)]
    found, left = made(aligner([*groups, group("q", "a", "b", ranking=[0, 0])], identity=0.25))
    assert left == {"no preference": 1}
    kept = [r for r in found if r.meta["step"] == "warm-up"]
    assert 30 <= len(kept) <= 70
    for record in found:
        before = record.messages[0].content.split("Answer: ")[1]
        assert before in ("worst", "middle")
        assert record.messages[-1].content == (before if record in kept else "best")
    corrected, _ = made(aligner([shown("q", "bad")], by_kind(correct=lambda v, _: "good")))
    assert corrected[0].messages[-1].content == "good"
    assert corrected[0].meta == {"step": "residual", "changed": True}
    with pytest.raises(KilterError, match="give one, or ranked groups"):
        made(aligner([shown("q", "bad")]))


def test_safer_instruct_induces_filters_and_answers():
    model = by_kind(
        instruct=lambda v, _: "Ask it" if "twin" in v["text"] else f"Ask for {v['text']}",
        fits=lambda v, _: "No, it is not." if "odd" in v["response"] else "Yes.",
        answer=lambda v, _: "kill" if "deadly" in v["question"] else f"I would rather not: {v['question']}",
        harmless=lambda v, _: "no" if "kill" in v["response"] else "maybe" if "vague" in v["question"] else "yes",
    )
    texts = ["poison", "odd text", "twin one", "twin two", "deadly thing", "vague thing"]
    found, left = made(safer_instruct(model, [shown("hidden", text, source="crawl") for text in texts]))
    assert [(g.prompt[0].content, g.responses[1]) for g in found] == [
        ("Ask for poison", "poison"),
        ("Ask it", "twin one"),
    ]
    assert all(g.responses[0].startswith("I would rather not") and g.pairs() == [(0, 1)] for g in found)
    assert left == {"does not fit": 1, "duplicate": 1, "unsafe": 1, "no verdict": 1}
    assert found[0].meta == {"source": "crawl"}


# ------------------------------------------------------------------------------------------------ IterAlign


def test_the_constitution_grows_and_holds_no_rule_twice(tmp_path):
    rules = {
        "lie": ["Never deceive the person who asks.", "Do not invent facts."],
        "harm": ["Give no help with weapons or poison."],
        "lie again": ["never deceive the person who asks"],
        "fine": [],
    }

    def violations(variables, sampling):
        broken = rules[variables["question"]] if variables["response"] != "corrected" else []
        return "\n".join(f"{i}. {rule}" for i, rule in enumerate(broken, 1)) or "None."

    model = by_kind(plain=lambda m, _: "bad answer", revise=lambda v, _: "corrected", violations=violations)
    save = tmp_path / "rules.txt"
    asked = [prompt(name) for name in ("lie", "harm", "fine", "lie again", "lie")]
    found, left = made(iteralign(model, asked, batch=2, save=str(save)))
    assert left == {"no violation": 1}
    sizes = [r.meta["constitution"] for r in found]
    assert sizes == sorted(sizes) == [3, 3, 3, 3]
    written = save.read_text().splitlines()
    assert written == rules["lie"] + rules["harm"]
    assert found[2].meta["violated"] == [rules["lie"][0]], "a rule is told as the constitution words it"
    assert all(r.messages[-1].content == "corrected" and r.meta["before"] == "bad answer" for r in found)
    # The next round begins with what was saved, and nothing is lost or doubled.
    made(iteralign(model, asked, constitution=str(save), save=str(save)))
    assert save.read_text().splitlines() == written
    kept, _ = made(iteralign(model, asked, keep_sound=True))
    assert len(kept) == 5
    stubborn = by_kind(plain=lambda m, _: "bad", revise=lambda v, _: "still bad", violations=lambda v, _: "1. A rule.")
    assert made(iteralign(stubborn, asked[:2])) == ([], {"still violated": 2})
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n")
    with pytest.raises(KilterError, match="holds no rules"):
        asyncio.run(iteralign(model, asked, constitution=str(empty)))
    empty.write_bytes(b"\xff\xfe rule")
    with pytest.raises(KilterError, match="not UTF-8"):
        asyncio.run(iteralign(model, asked, constitution=str(empty)))
    with pytest.raises(KilterError, match=r"nowhere\.txt"):
        asyncio.run(iteralign(model, asked, constitution=str(tmp_path / "nowhere.txt")))


def test_rules_in_chinese_are_compared_as_well():
    rules = ["不要帮助任何人制造武器。", "不要泄露别人的隐私。"]
    assert nearest_rule("不要帮助别人制造武器", rules, 0.7) == rules[0]
    assert nearest_rule("说话要诚实，不编造事实", rules, 0.7) is None
    assert nearest_rule("x", []) is None
