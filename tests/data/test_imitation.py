"""Instructions out of texts, tables and failures: Dynosaur, LongForm, Humpback, GPT-4-LLM, LLM2LLM, Parrot, classes."""

import asyncio
import json
from collections import Counter

import pytest

from jsonl import write
from kilter.data.answers import equal, final, right
from kilter.data.dynosaur import checked, dynosaur
from kilter.data.gpt4llm import gpt4llm, grades
from kilter.data.humpback import SEED_SENTENCE, WEB_SENTENCE, humpback
from kilter.data.llm2llm import exercises, llm2llm
from kilter.data.longform import longform, sentences
from kilter.data.parrot import CAUSES, parrot
from kilter.data.zeroshotaug import zeroshotaug
from kilter.errors import KilterError, SetAside
from kilter.models.mixed import Mixed
from kilter.records import Demonstration, Message
from scripted_model import Scripted, by_kind, made, prompt, shown


def talk(*turns):
    roles = ("user", "assistant")
    return Demonstration([Message(roles[i % 2], text) for i, text in enumerate(turns)])


# ------------------------------------------------------------------------------------------------ answers


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("so \\boxed{3/4} it is", "3/4"), ("1+1\n#### 1,200", "1,200"), ("Think. So the answer is: 12.", "12"),
        ("想一想。答案是：十二", "十二"), ("first\nlast line", "last line"), ("", ""), ("\\boxed{a{b}c}", "a{b}c"),
    ],
)  # fmt: skip
def test_the_answer_of_a_solution(solution, answer):
    assert final(solution) == answer


@pytest.mark.parametrize(
    ("due", "given", "same"),
    [
        ("1200", "$1,200", True), ("0.5", "1/2", True), ("-3", "it is -3.", True), ("7", "7 of 9", False),
        ("Blue", "blue.", True), ("blue", "light blue", False), ("12", "twelve", False), ("?", "?", False),
    ],
)  # fmt: skip
def test_answers_are_compared_by_value_or_word(due, given, same):
    assert equal(due, given) is same


# ------------------------------------------------------------------------------------------------ Dynosaur


FIELDS = {"text", "stars", "author"}


@pytest.mark.parametrize(
    ("proposal", "rule"),
    [
        ({"instruction": "Rate it.", "input_fields": ["text", "price"], "output_field": "stars"}, "unknown field"),
        ({"instruction": "Rate it.", "input_fields": ["text"], "output_field": "price"}, "unknown field"),
        ({"instruction": "Rate it.", "input_fields": ["text", "stars"], "output_field": "stars"}, "overlap"),
        ({"instruction": " ", "input_fields": ["text"], "output_field": "stars"}, "form"),
        ({"instruction": "Rate it.", "input_fields": [1], "output_field": "stars"}, "form"),
        ({"instruction": "Rate it.", "input_fields": ["text"], "output_field": ["stars"]}, "form"),
        ("Rate it.", "form"),
    ],
)
def test_fields_have_to_be_the_data_set_s_and_apart(proposal, rule):
    with pytest.raises(SetAside) as why:
        checked(proposal, FIELDS)
    assert why.value.rule == rule


def test_dynosaur_fills_its_tasks_from_rows_with_two_requests(tmp_path):
    reviews = [{"text": f"text {i}", "stars": i % 5 + 1, "author": f"name {i}" if i else ""} for i in range(30)]
    source = write(tmp_path / "reviews.jsonl", reviews)
    proposals = [
        {"instruction": "Rate the review.", "input_fields": ["text"], "output_field": "stars"},
        {"instruction": "Guess the author.", "input_fields": "text", "output_field": "author"},
        {"instruction": "Guess the price.", "input_fields": ["text"], "output_field": "price"},
    ]
    model = by_kind(fields=lambda v, _: f"Here:\n```json\n{json.dumps(proposals)}\n```")
    found, left = made(dynosaur(model, rows=source, description="reviews of a shop"))
    assert len(model.asked) == 2
    assert left == {"unknown field": 2, "duplicate": 2, "empty field": 1}
    assert len(found) == 30 + 29
    for record in found:
        assert set(record.meta["input_fields"]) <= set(reviews[0])
        assert record.meta["output_field"] not in record.meta["input_fields"]
    assert found[0].messages[0].content == "Rate the review.\n\ntext: text 0"
    assert found[0].messages[1].content == "1"
    few, _ = made(dynosaur(model, rows=source, a_task=4))
    assert Counter(r.meta["instruction"] for r in few) == {"Rate the review.": 4, "Guess the author.": 4}
    with pytest.raises(KilterError, match="No task of the model fits"):
        made(dynosaur(by_kind(fields=lambda v, _: json.dumps(proposals[2:])), rows=source))
    with pytest.raises(SetAside, match="no JSON"):
        asyncio.run(dynosaur(by_kind(fields=lambda v, _: '[{"instruction": "Rat'), rows=source))


# ------------------------------------------------------------------------------------------------ LongForm, Humpback


def test_longform_s_texts_stay_and_its_styles_mix():
    texts = [f"The  river {i} runs.\n It is long!  " for i in range(300)]
    model = by_kind(instruct=lambda v, _: f"{v['style']} for {v['text'].split()[2]}")
    found, left = made(longform(model, [prompt(text) for text in [*texts, "short"]], styles="2,1,1"))
    assert left == {"length": 1}
    assert [record.messages[1].content for record in found] == texts
    styles = Counter(record.meta["style"] for record in found)
    assert abs(styles["instruction"] - 150) < 35
    assert abs(styles["query"] - 75) < 30
    told = [record for record in found if record.meta["length"]]
    assert abs(len(told) - 150) < 35
    assert all(record.messages[0].content.endswith("Respond in 2 sentences.") for record in told)
    only, _ = made(longform(model, [prompt(texts[0])], styles="0,0,1", length=0))
    assert only[0].meta["style"] == "query"
    echo = by_kind(instruct=lambda v, _: "The  river")
    assert made(longform(echo, [prompt(texts[0])]))[1] == {"echo": 1}
    with pytest.raises(KilterError, match="no 3 weights"):
        longform(model, [], styles="1,1")
    assert sentences("一句。两句！") == 2


def test_humpback_s_steps():
    seeds = [shown(f"ask {i}", f"reply {i}") for i in range(3)]
    flipped, left = made(humpback([*seeds, prompt("x")], step="flip"))
    assert [[m.content for m in r.messages] for r in flipped] == [[f"reply {i}", f"ask {i}"] for i in range(3)]
    assert left == {"no answer": 1}
    backward = Scripted(lambda m, _: f"What of {m[-1].content.split()[-1]}?", "backward")
    candidates, _ = made(
        humpback([prompt(f"text about {w}") for w in ("a", "b", "c", "d")], backward, step="augment", trained=True)
    )
    assert [m.content for m in backward.asked[0]] == ["text about a"]
    assert [r.messages[0].content for r in candidates] == ["What of a?", "What of b?", "What of c?", "What of d?"]
    first = by_kind(
        grade=lambda v, _: {"a": "Fine.\nScore: 5", "b": "Score: 4", "c": "no idea"}.get(v["response"][-1], "Score: 5")
    )
    first.name = "M0"
    kept, left = made(humpback(candidates, first, step="curate", iteration=1))
    assert [r.messages[1].content for r in kept] == ["text about a", "text about d"]
    assert left == {"grade under 5": 1, "no grade": 1}
    assert all(r.meta["score_iter"] == [5] and r.meta["kept_iter"] == 1 and r.meta["rated_by"] == "M0" for r in kept)
    second = by_kind(grade=lambda v, _: "Score: 5" if v["response"].endswith("a") else "Score: 3")
    again, _ = made(humpback(kept, second, step="curate", iteration=2))
    assert [(r.meta["score_iter"], r.meta["kept_iter"]) for r in again] == [([5, 5], 2)]
    mixed, _ = made(humpback([*seeds, *again], step="mix"))
    assert [r.messages[0].content for r in mixed] == [SEED_SENTENCE] * 3 + [WEB_SENTENCE]
    with pytest.raises(KilterError, match="give it one"):
        humpback(seeds, step="augment")


# ------------------------------------------------------------------------------------------------ GPT-4-LLM, LLM2LLM


def test_gpt4llm_keeps_the_prompts_and_reads_pairs_from_grades():
    prompts = [prompt(f"tell {i}\n\nmore", input="more") for i in range(20)]
    found, _ = made(gpt4llm(Scripted(lambda m, _: f"of {m[-1].content}"), prompts))
    assert [r.messages[:1] for r in found] == [p.messages for p in prompts]
    assert all(r.meta["input"] == "more" for r in found)
    model = Mixed([(Scripted(lambda m, _, n=n: f"{n} stars", f"m{n}"), 1.0) for n in (2, 9, 2)])
    judge = by_kind(rate_each=lambda v, _: "\n".join(f"{i}: {r.split()[0]}" for i, r in enumerate(v["responses"], 1)))
    [group], _ = made(gpt4llm(model, prompts[:1], what="comparisons", judge=judge))
    assert (group.scores, group.meta["models"], group.pairs()) == (
        [2.0, 9.0, 2.0],
        ["m2", "m9", "m2"],
        [(1, 0), (1, 2)],
    )
    with pytest.raises(KilterError, match="One model alone"):
        gpt4llm(judge, prompts, what="comparisons")
    zh = by_kind(translate=lambda v, _: f"说说{v['text'].split()[1]}吧，谢谢。", plain=lambda m, _: "好的，这就说。")
    found, _ = made(gpt4llm(zh, prompts[:2], what="chinese"))
    assert [r.messages[0].content for r in found] == ["说说0吧，谢谢。", "说说1吧，谢谢。"]
    assert grades("1: 10\n2: 3/10", 2) == [10.0, 3.0]
    with pytest.raises(SetAside):
        grades("1: 10", 2)


def test_llm2llm_makes_more_of_the_seeds_that_failed_and_of_nothing_else():
    seeds = [shown(f"{i} + {i}?", f"Add them.\n#### {2 * i}") for i in range(10)]
    older = [
        Demonstration([Message("user", "x?"), Message("assistant", "#### 1")], meta={"seed": seeds[1].id, "round": 1})
    ]
    student = Scripted(
        lambda m, _: f"It is {2 * int(m[-1].content.split()[0]) + (int(m[-1].content[0]) in (3, 4, 7))}.", "student"
    )
    reply = (
        "Question: {q} again\nAnswer: #### 1\n\nQuestion: {q} once more\nAnswer: #### 2\nQuestion: {q}\nAnswer: #### 3"
    )
    teacher = by_kind(more_like=lambda v, _: reply.format(q=v["question"]))
    found, left = made(llm2llm(teacher, [*seeds, *older], student=student, n=2, round=2))
    failed = [seeds[i].id for i in (3, 4, 7)]
    assert Counter(r.meta["seed"] for r in found) == dict.fromkeys(failed, 2)
    assert all(r.origin.parents == (r.meta["seed"],) and r.meta["round"] == 2 for r in found)
    assert left == {"right": 7}
    assert len(student.asked) == 10, "what was made before is not examined"
    with pytest.raises(KilterError, match="give the seeds"):
        asyncio.run(llm2llm(teacher, older, student=student))
    assert exercises("Question: a\nAnswer: b\nQuestion: c", 5) == [("a", "b")]
    with pytest.raises(SetAside):
        exercises("nothing", 5)
    assert right("14", "It is 14.")


# ------------------------------------------------------------------------------------------------ Parrot


def test_parrot_s_asking_data_learn_the_person_s_turns():
    conversation = talk("Hi, who was he?", "A king.", "And when?", "Long ago.")
    [found], left = made(parrot([conversation, Demonstration([Message("assistant", "x")])], step="ask"))
    assert [m.content for m in found.messages if m.role == "assistant"] == ["Hi, who was he?", "And when?"]
    assert [m.content for m in found.messages if m.role == "user"][1:] == ["A king."]
    assert found.messages[-1].role == "assistant"
    assert left == {"no prompt": 1}


def test_parrot_s_dialogues_and_negatives_by_cause():
    model = by_kind(
        plain=lambda m, _: f"answer to {len(m)} turns",
        user_turn=lambda v, _: f"and then {len(v['history'])}?",
        depends=lambda v, _: "No." if "alone" in v["question"] else "Yes, it does.",
        negative=lambda v, _: v["cause"],
    )
    found, _ = made(parrot([prompt("begin")], model, step="dialogues", rounds=3))
    assert [m.role for m in found[0].messages] == ["user", "assistant"] * 3
    conversations = [talk("Who?", "He.", "When did he?", "Then."), talk("a", "b", "alone", "c"), talk("a", "b")]
    groups, left = made(parrot(conversations, model, step="negatives"))
    assert left == {"no context": 2}
    assert {g.meta["cause"] for g in groups} == set(CAUSES)
    for group in groups:
        assert group.responses[0] == "Then."
        assert group.pairs() == [(0, 1)]
        assert group.responses[1] == ("answer to 1 turns" if group.meta["cause"] == "neglect" else group.meta["cause"])
        assert group.prompt == conversations[0].messages[:3]
    with pytest.raises(KilterError, match="no cause 'boredom'"):
        parrot([], model, step="negatives", causes="boredom")


# ------------------------------------------------------------------------------------------------ classes


def test_the_label_of_a_text_is_fixed_by_its_prompt():
    def texts(variables, sampling):
        return "\n".join(f"{i}. {variables['label']} {sampling.seed} {i}" for i in range(1, variables["n"] + 1))

    model = by_kind(labelled=texts)
    found, left = made(zeroshotaug(model, task="How does the writer feel?", labels="good,bad", n=25))
    assert Counter(r.meta["label"] for r in found) == {"good": 25, "bad": 25}
    assert all(r.messages[0].content.split()[0] == r.meta["label"] == r.messages[1].content for r in found)
    assert left == {}
    known = shown("good 0 1", "good")
    assert made(zeroshotaug(model, [known], task="Feel?", labels="good,bad", n=5))[1] == {"duplicate": 1}
    with pytest.raises(KilterError, match="two labels or more"):
        asyncio.run(zeroshotaug(model, task="x", labels="one"))


def test_the_ways_that_it_is_compared_with(tmp_path):
    record = shown("the quick brown fox jumps over the lazy dog again", "animal")
    words = write(tmp_path / "s.jsonl", [{"word": "quick", "synonyms": "fast, rapid"}, {"word": "x", "synonyms": []}])
    found, _ = made(zeroshotaug(None, [record, shown("敏捷的狐狸", "动物")], way="eda", n=8, synonyms=words))
    assert {r.messages[1].content for r in found} == {"animal", "动物"}
    english = [r.messages[0].content for r in found if r.meta["label"] == "animal"]
    original = set(record.messages[0].content.split()) | {"fast", "rapid"}
    assert all(set(text.split()) <= original and text != record.messages[0].content for text in english)
    back = by_kind(translate=lambda v, _: f"{v['text']} {v['language']}")
    found, _ = made(zeroshotaug(back, [record], way="back-translation", n=1))
    assert found[0].messages[0].content.endswith("de en")
    with pytest.raises(KilterError, match="give labelled records"):
        asyncio.run(zeroshotaug(back, way="eda"))
