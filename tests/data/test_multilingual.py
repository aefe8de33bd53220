"""Other languages: two ways to translate, aligned languages, translation as a conversation, COIG's five parts."""

import asyncio

import pytest

from jsonl import write
from kilter.data.bactrian import bactrian, is_code
from kilter.data.bayling import Requirement, bayling, broken, length
from kilter.data.coig import coig
from kilter.data.post_answer import post_answer
from kilter.data.post_translate import post_translate
from kilter.data.translation import LANGUAGES, is_in, languages, mask, unmask
from kilter.errors import KilterError, SetAside
from scripted_model import Scripted, by_kind, made, prompt, shown

CHINESE = "天气很好，我们去公园。"


def translator(name="mt"):
    """Puts a Chinese sentence and the letters of the language before every text, and what it was given behind."""
    return Scripted(lambda m, _: f"{CHINESE}{m.variables['text']}", name)


# ------------------------------------------------------------------------------------------------ translations


def test_code_and_placeholders_come_through_a_translation():
    text = "Run `ls -l` on {name}, see https://a.b/c and write to x@y.org:\n```py\nprint('hi')\n```\n<b>%s</b> ⟦9⟧"
    masked, kept = mask(text)
    assert kept == ["`ls -l`", "{name}", "https://a.b/c", "x@y.org", "```py\nprint('hi')\n```", "<b>", "%s", "</b>"]
    assert unmask(masked, kept) == text.replace("⟦9⟧", "[9]")
    for broken_text in (masked.replace("⟦2⟧", ""), masked + "⟦2⟧", masked + "⟦77⟧"):
        with pytest.raises(SetAside) as why:
            unmask(broken_text, kept)
        assert why.value.rule == "placeholder lost"


def test_post_answer_translates_once_and_answers_the_translation():
    engine = translator()
    teacher = Scripted(lambda m, _: f"{CHINESE}答", "teacher")
    [found], left = made(post_answer(teacher, [prompt("What is `x`?")], to="zh", translator=engine))
    assert left == {}
    assert len(engine.asked) == len(teacher.asked) == 1
    assert teacher.asked[0][-1].content == f"{CHINESE}What is `x`?"
    assert [m.content for m in found.messages] == [f"{CHINESE}What is `x`?", f"{CHINESE}答"]
    told = {"strategy": "post-answer", "src_lang": "en", "tgt_lang": "zh", "mt_engine": "mt", "source": "What is `x`?"}
    assert found.meta == told


def test_post_translate_answers_the_source_and_translates_both():
    engine, teacher = translator(), Scripted(lambda m, _: "It is `y`.", "teacher")
    [found], _ = made(post_translate(teacher, [prompt("What is `x`?")], to="zh", translator=engine))
    assert len(engine.asked) == 2
    assert teacher.asked[0][-1].content == "What is `x`?"
    assert [m.content for m in found.messages] == [f"{CHINESE}What is `x`?", f"{CHINESE}It is `y`."]
    assert found.meta["strategy"] == "post-translate"


@pytest.mark.parametrize("method", [post_answer, post_translate])
def test_what_is_in_the_language_already_is_not_translated(method):
    engine, teacher = translator(), Scripted(lambda m, _: CHINESE)
    assert made(method(teacher, [prompt("今天的天气怎么样？")], to="zh", translator=engine))[0]
    assert engine.asked == []


@pytest.mark.parametrize("method", [post_answer, post_translate])
def test_a_translation_that_is_none_is_left_out(method):
    lost = by_kind(translate=lambda v, _: CHINESE, plain=lambda m, _: CHINESE)
    same = by_kind(translate=lambda v, _: v["text"], plain=lambda m, _: CHINESE)
    assert made(method(lost, [prompt("Explain `code` to me")])) == ([], {"placeholder lost": 1})
    assert made(method(same, [prompt("Tell me about the weather")])) == ([], {"wrong language": 1})
    with pytest.raises(KilterError, match="no language 'klingon'"):
        method(same, [], to="klingon")


def test_an_answer_in_the_wrong_language_is_left_out():
    model = by_kind(translate=lambda v, _: CHINESE, plain=lambda m, _: "It is the same as it was in the past.")
    assert made(post_answer(model, [prompt("Tell me about the weather")])) == ([], {"wrong language": 1})


def test_the_names_of_languages():
    assert len(languages("all")) == 52
    assert languages("zh, German,de") == ["zh", "de"]
    assert is_in("Das ist der Hund und die Katze im Haus", "de")
    assert not is_in("Das ist der Hund und die Katze im Haus", "fr")
    assert is_in("Ja!", "fr"), "too short to tell"
    assert is_in("Isto é a casa", "gl"), "a language that is not told apart is believed"
    assert not is_in("It is a cat", "zh")


# ------------------------------------------------------------------------------------------------ Bactrian-X


def polyglot(bad=None):
    """Answers in the script of the language; in `bad` it breaks the translation of the second instruction."""
    words = {"zh": "天气", "ru": "погода", "ko": "날씨", "ar": "طقس", "ja": "てんき", "el": "καιρός"}

    def translate(variables, sampling):
        language = variables["language"]
        if language == bad and "second" in variables["text"]:
            return ""
        return f"{words.get(language, '')} {variables['text'].count(' ')}"

    return by_kind(translate=translate, plain=lambda m, _: f"{m[-1].content} !")


def test_every_instruction_is_there_in_all_52_languages_and_code_is_not():
    seeds = [
        prompt("the first and the last"),
        prompt("Write a Python function that adds numbers"),
        prompt("the second"),
    ]
    model = polyglot()
    found, left = made(bactrian(model, seeds))
    assert left == {"code": 1}
    ids = {record.meta["id"] for record in found}
    assert ids == {seeds[0].id, seeds[2].id}
    for identity in ids:
        assert {r.meta["lang"] for r in found if r.meta["id"] == identity} == set(LANGUAGES)
    assert len({r.id for r in found}) == len(found) == 104
    found, left = made(bactrian(polyglot(bad="ko"), seeds, to="zh,ko,ru"))
    assert ({r.meta["id"] for r in found}, left) == ({seeds[0].id}, {"code": 1, "empty": 1})
    found, left = made(bactrian(polyglot(bad="ko"), seeds, to="zh,ko,ru", aligned=False))
    assert sorted(r.id for r in found if r.meta["id"] == seeds[2].id) == [f"{seeds[2].id}/ru", f"{seeds[2].id}/zh"]
    assert left == {"code": 3, "empty": 1}


def test_an_input_is_translated_by_itself():
    record = prompt("Sum up.\n\nLong text", input="Long text")
    model = polyglot()
    [found], _ = made(bactrian(model, [record], to="ru"))
    assert [asked.variables["text"] for asked in model.asked[:2]] == ["Sum up.", "Long text"]
    assert found.messages[0].content.endswith(found.meta["input"])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Write a SQL query for this", True), ("def f(x):", True), ("Fix the code below", True), ("x = 1;", True),
        ("Name the code of conduct of a club", False), ("Write a letter", False), ("Which class of bird is it?", False),
    ],
)  # fmt: skip
def test_instructions_about_code(text, code):
    assert is_code(text) is code


# ------------------------------------------------------------------------------------------------ BayLing


@pytest.mark.parametrize(
    ("requirement", "good", "bad"),
    [
        (Requirement("use", "river"), "The River runs", "rivers run"),
        (Requirement("avoid", "river"), "rivers run", "The river runs"),
        (Requirement("use", "河流"), "这条河流很长", "这条河很长"),
        (Requirement("shorter", "3"), "one two three", "one two three four"),
        (Requirement("shorter", "3"), "一二三", "一二三四"),
        (Requirement("question"), "Is it so?”", "It is so."),
        (Requirement("exclaim"), "真好！", "真好。"),
    ],
)
def test_requirements_are_checked(requirement, good, bad):
    assert broken([requirement], good) == []
    assert broken([requirement], bad) == [requirement]


def obedient(keeps=True):
    """Translates, and meets what it is told; without `keeps` it forgets what it was told before."""

    def plain(messages, sampling):
        if len(messages) == 1:
            return "the old river runs on and on through the green valley"
        told = [m.content for m in messages if m.role == "user"][1:]
        words, end = messages[-2].content.rstrip("!?").split(), messages[-2].content[-1:]
        end = end if end in "!?" else ""
        for turn in told if keeps else told[-1:]:
            quoted = (
                turn.split('"')[1].split()
                if '"' in turn
                else turn.split("“")[1].split("”")[0].split()
                if "“" in turn
                else []
            )
            if "without" in turn or "不要用" in turn:
                words = [word for word in words if word not in quoted]
            elif quoted:
                words = quoted + [word for word in words if word not in quoted]
            elif "long" in turn or "缩短" in turn:
                words = words[: int("".join(c for c in turn if c.isdigit()))]
            else:
                end = "?" if "question" in turn or "问句" in turn else "!"
        words = words if keeps else [f"again{len(messages)}", *words]
        return " ".join(words) + end

    terms = iter(["valley", "stream", "old", "meadow", "green"] * 40)
    return by_kind(plain=plain, term=lambda v, _: next(terms))


def test_each_later_turn_adds_a_requirement_and_all_former_ones_still_hold():
    sentences = [prompt(f"第{i}条老河流过绿色的山谷，一直向前。") for i in range(12)]
    found, left = made(bayling(obedient(), sentences, to="en", rounds=4))
    assert len(found) + sum(left.values()) == len(sentences)
    assert len(found) >= 8
    kinds = set()
    for record in found:
        held = [Requirement(**requirement) for requirement in record.meta["requirements"]]
        kinds |= {requirement.kind for requirement in held}
        assert len(record.messages) == 2 + 2 * len(held)
        for i in range(1, len(held) + 1):
            before, after = record.messages[2 * i - 1].content, record.messages[2 * i + 1].content
            assert broken(held[:i], after) == []
            assert broken(held[i - 1 : i], before), "a requirement that held already asks for nothing"
    assert kinds == {"use", "avoid", "shorter", "question", "exclaim"}


def test_what_forgets_its_requirements_ends_early_or_is_left_out():
    sentences = [prompt(f"第{i}条老河流过绿色的山谷，一直向前。", reference="ref") for i in range(12)]
    found, _ = made(bayling(obedient(keeps=False), sentences, to="en", rounds=4, retries=0))
    for record in found:
        held = [Requirement(**requirement) for requirement in record.meta["requirements"]]
        assert broken(held, record.messages[-1].content) == []
        assert record.meta["ref"] == "ref"
    assert sum(len(r.meta["requirements"]) for r in found) < 4 * len(found)
    stubborn = by_kind(plain=lambda m, _: "the river runs", term=lambda v, _: "stream")
    assert made(bayling(stubborn, sentences, to="en"))[1] == {"requirement": 12}
    assert made(bayling(stubborn, [prompt("the river is in the valley")], to="en"))[1] == {"language": 1}
    assert length("两个字 and two") == 5


# ------------------------------------------------------------------------------------------------ COIG


def test_coig_s_translations_go_through_machine_and_people(tmp_path):
    records = [shown(f"say number {i}", f"it is {i}") for i in range(4)]
    engine = Scripted(lambda m, _: f"中文：{m.variables['text']}")
    machine, _ = made(coig(engine, records))
    assert [r.meta["phases"] for r in machine] == [["machine"]] * 4
    assert [r.id for r in machine] == [r.id for r in records]
    reviews = write(
        tmp_path / "reviews.jsonl",
        [
            {"id": records[0].id, "ok": True},
            {"id": records[1].id, "ok": False, "output": "改正"},
            {"id": records[2].id, "ok": False},
        ],
    )
    found, left = made(coig(None, machine, reviews=reviews))
    assert [r.meta["phases"] for r in found] == [["machine", "verified"], ["machine", "verified", "corrected"]]
    assert found[1].messages[-1].content == "改正"
    assert found[1].messages[0].content == "中文：say number 1"
    assert left == {"wrong": 1, "not verified": 1}
    with pytest.raises(KilterError, match="Nothing would be done"):
        asyncio.run(coig(None, records))
    with pytest.raises(KilterError, match="reads records"):
        asyncio.run(coig(engine))


def test_coig_s_exams_have_their_reasoning_before_the_answer_and_no_mathematics(tmp_path):
    source = write(
        tmp_path / "exam.jsonl",
        [
            {
                "textbox_q_instruction": "选择",
                "textbox_question": "天为什么蓝？",
                "textbox_answer": "A",
                "textbox_answer_analysis": "散射",
            },
            {"question": "Who?", "answer": "B"},
            {"question": "1+1?", "answer": "2", "subject": "数学"},
            {"question": "如图，这是什么？", "answer": "C"},
            {"question": "空的", "answer": ""},
        ],
    )  # fmt: skip
    found, left = made(coig(part="exam", rows=source))
    assert found[0].messages[-1].content == "散射\n所以答案是：A"
    assert found[0].messages[0].content == "选择\n天为什么蓝？"
    assert found[1].messages[-1].content == "B"
    assert left == {"mathematics": 1, "picture": 1, "no answer": 1}
    both, _ = made(coig(part="code", rows=write(tmp_path / "c.jsonl", [{"description": "两数之和", "code": "a+b"}])))
    assert [r.messages[-1].content for r in both] == ["a+b", "两数之和"]


def test_coig_s_corrections_alternate_and_name_the_fact(tmp_path):
    facts = [{"subject": f"国{i}", "relation": "首都", "object": f"城{i}"} for i in range(6)]
    facts.append({"subject": "山", "relation": "高度", "object": "千米"})
    source = write(tmp_path / "facts.jsonl", facts)

    def teach(variables, sampling):
        return (
            "嗯。" if variables["subject"] == "国5" else f"不对，{variables['subject']}的首都是{variables['object']}。"
        )

    model = by_kind(
        counterfactual_student=lambda v, _: f"{v['subject']}的首都是{v['wrong']}吧？", counterfactual_teacher=teach
    )
    found, left = made(coig(model, part="counterfactual", rows=source))
    assert len(found) == 5
    assert left == {"not corrected": 1, "no rival": 1}
    for record in found:
        assert [m.role for m in record.messages] == ["user", "assistant"] * (len(record.messages) // 2)
        assert 1 <= len(record.messages) / 2 <= 5
        assert record.meta["wrong"] != record.meta["object"]
        assert record.meta["wrong"] in {fact["object"] for fact in facts[:6]}
    with pytest.raises(KilterError, match="lacks 'object'"):
        made(coig(model, part="counterfactual", rows=write(tmp_path / "x.jsonl", [{"subject": "a", "relation": "b"}])))


def test_coig_s_values_grow_from_seeds_and_do_not_repeat_them():
    seeds = [shown(f"谈谈孝顺{i}", "好") for i in range(4)]
    count = iter(range(1000))

    def items(variables, sampling):
        return "\n".join(f"{i}. 新指令{next(count)}" for i in range(1, variables["n"] + 1)) + "\n9. 谈谈孝顺1"

    model = by_kind(list=items, plain=lambda m, _: f"关于{m[-1].content}")
    found, _ = made(coig(model, seeds, part="values", n=15))
    assert len({r.messages[0].content for r in found}) == 15
    assert not any("孝顺" in r.messages[0].content for r in found)
    assert all(set(r.origin.parents) <= {s.id for s in seeds} for r in found)
