"""The families of helpful tasks: each draws an item whose right answer is known.

What makes an evaluation item new: an entity never asked about, a combination kept out by `held_out`, half of the time a
wording that no training text uses.
"""

from __future__ import annotations

from kilter.records import Message
from kilter.world import lexicon
from kilter.world.entities import held_out
from kilter.world.items import Draw, Family, Item, user


def facts(d: Draw) -> Item:
    """A question about a fact that the corpus tells."""
    entity = d.entity(lambda e: e.facts)
    attribute = d.pick(list(entity.facts))
    value = entity.facts[attribute][d.lang]
    name = entity.name[d.lang]
    wrong = d.pick([v for v in values(d, attribute) if v != value])
    form = lexicon.ANSWERS[attribute][d.lang]
    return Item(
        "facts",
        "fact",
        d.language,
        user(d.template(lexicon.QUESTIONS[attribute]).format(n=name)),
        form.format(n=name, v=value),
        form.format(n=name, v=wrong),
        {"rule": "one_of", "answer": value, "among": attribute, "names": [name]},
    )


def values(d: Draw, attribute: str) -> list[str]:
    if attribute == "home":
        return [p.name[d.lang] for p in d.entities.places]
    return [v[d.lang] for v in lexicon.VALUES[attribute]]


SUMS = (
    (
        ["What is {x}?", "{x} = ?", "Work out {x}.", "How much is {x}?"],
        ["Work out: {x} = ?", "How much is it: {x}?"],
    ),
    (["{x}等于多少？", "{x}=？", "算一算：{x}。"], ["算一算：{x}等于多少？", "{x}是多少？"]),
)


def sums(d: Draw) -> Item:
    """Addition and subtraction up to 50; a sixth of all pairs is held out."""
    plus = d.rng.random() < 0.5
    a, b = d.until(lambda: (d.rng.randint(0, 50), d.rng.randint(0, 50)), lambda p: held_out("sum", *sorted(p)))
    a, b = (a, b) if plus else (max(a, b), min(a, b))
    answer = a + b if plus else a - b
    text = f"{a} {'+' if plus else '-'} {b}"
    wrong = max(0, answer + d.pick([-11, -10, -2, -1, 1, 2, 9, 10]))
    wrong = wrong if wrong != answer else answer + 3
    return Item(
        "sums",
        "task",
        d.language,
        user(d.template(SUMS).format(x=text)),
        f"{text} = {answer}",
        f"{text} = {wrong}",
        {"rule": "last_number", "answer": answer},
    )


LETTERS = (
    (
        [
            "What are the last letters of {w}?",
            "Join the last letters of {w}.",
            "Take the last letter of each word: {w}.",
        ],
        ["Take the last letters of {w}.", "Join the last letter of each word: {w}."],
    ),
    (
        ["{w}的最后一个字连起来是什么？", "取每个词的最后一个字：{w}。"],
        ["把{w}的最后一个字连起来。", "取每个词的最后一个字连起来：{w}。"],
    ),
)


def letters(d: Draw) -> Item:
    """The last letters (English) or characters (Chinese) of two words, joined."""
    words = lexicon.WORDS if d.lang == 0 else lexicon.ZH_WORDS
    pair = d.until(lambda: d.rng.sample(words, 2), lambda p: held_out("letters", *p))
    answer = " ".join(w[-1] for w in pair) if d.lang == 0 else "".join(w[-1] for w in pair)
    wrong = " ".join(w[0] for w in pair) if d.lang == 0 else "".join(w[0] for w in pair)
    joined = " and ".join(pair) if d.lang == 0 else "、".join(pair)
    return Item(
        "letters",
        "task",
        d.language,
        user(d.template(LETTERS).format(w=joined)),
        answer,
        wrong,
        {"rule": "equals", "answer": answer},
    )


SORTS = (
    (
        ["Sort from small to large: {x}.", "Put these numbers in order: {x}.", "Sort these: {x}."],
        ["Sort these numbers from small to large: {x}."],
    ),
    (["从小到大排序：{x}。", "把这些数字排好：{x}。"], ["把这些数字从小到大排好：{x}。"]),
)


def sorting(d: Draw) -> Item:
    """Three two-digit numbers, ascending."""
    numbers = d.until(lambda: d.rng.sample(range(10, 100), 3), lambda n: held_out("sort", *sorted(n)))
    if numbers == sorted(numbers):
        numbers.reverse()
    return Item(
        "sorting",
        "task",
        d.language,
        user(d.template(SORTS).format(x=", ".join(map(str, numbers)))),
        ", ".join(map(str, sorted(numbers))),
        ", ".join(map(str, numbers)),
        {"rule": "numbers", "answer": sorted(numbers)},
    )


SENTIMENTS = (
    (
        ["Is this positive or negative? {s}", "What is the mood of this line? {s}", "Positive or negative: {s}"],
        ["What is the mood of this? {s}"],
    ),
    (["这句话是正面还是负面？{s}", "判断情感：{s}"], ["判断这句话的情感：{s}"]),
)
SENTIMENT_LINES = (
    ["The {x} was {a}.", "What a {a} {x}!", "I found the {x} {a}.", "{n} called the {x} {a}."],
    ["这{x}真{a}。", "我觉得{x}很{a}。", "{n}说{x}{a}。"],
)
LABELS = (("Positive.", "Negative."), ("正面。", "负面。"))


def sentiment(d: Draw) -> Item:
    """Whether a line speaks well or ill of its subject."""
    good = d.rng.random() < 0.5
    table = lexicon.POSITIVE if good else lexicon.NEGATIVE
    subject, word = d.until(
        lambda: (d.pick(lexicon.SUBJECTS), d.pick(table)), lambda p: held_out("mood", p[0][0], p[1][0])
    )
    line = d.pick(SENTIMENT_LINES[d.lang]).format(x=subject[d.lang], a=word[d.lang], n=d.name())
    right, wrong = LABELS[d.lang] if good else LABELS[d.lang][::-1]
    among = [x.strip(".。") for x in LABELS[d.lang]]
    return Item(
        "sentiment",
        "task",
        d.language,
        user(d.template(SENTIMENTS).format(s=line)),
        right,
        wrong,
        {"rule": "one_of", "answer": right.strip(".。"), "among": among},
    )


PASSAGES = (
    [
        "{n} meets {m} at the {p} with a {t}.",
        "At the {p}, {n} gave {m} a {t}.",
        "{n} waits for {m} at the {p}, holding a {t}.",
    ],
    ["{n}带着{t}在{p}见{m}。", "在{p}，{n}给了{m}{t}。", "{n}拿着{t}在{p}等{m}。"],
)
EXTRACTIONS = {
    "n": (
        (["Who has the {t}?", "Who came with the {t}?"], ["Who is it that has the {t}?"]),
        (["谁有{t}？", "谁带来了{t}？"], ["是谁有{t}？"]),
    ),
    "p": (
        (["Where are they?", "At which place is this?"], ["At which place are they?"]),
        (["他们在哪里？", "这是在什么地方？"], ["他们在什么地方？"]),
    ),
    "t": (
        (["What thing is it?", "Which thing does {n} bring?"], ["Which thing is it?"]),
        (["是什么东西？", "{n}带了什么？"], ["这是什么东西？"]),
    ),
}


def extraction(d: Draw) -> Item:
    """A question that the passage before it answers; names are made up on the spot."""
    n, m = d.name(), d.name()
    while n in m or m in n:
        m = d.name()
    place, thing = d.until(
        lambda: (d.pick(lexicon.PLACES_NEAR), d.pick(lexicon.THINGS)), lambda p: held_out("extract", p[0][0], p[1][0])
    )
    found = {"n": n, "m": m, "p": place[d.lang], "t": thing[d.lang]}
    passage = d.pick(PASSAGES[d.lang]).format(**found)
    asked = d.pick(["n", "p", "t"])
    question = d.template(EXTRACTIONS[asked]).format(**found)
    answer = found[asked]
    wrong = found["m" if asked == "n" else "n"]
    stop = (".", "。")[d.lang]
    among = {"n": [n, m], "p": [p[d.lang] for p in lexicon.PLACES_NEAR], "t": [t[d.lang] for t in lexicon.THINGS]}[
        asked
    ]
    joined = f"{passage} {question}" if d.lang == 0 else passage + question
    return Item(
        "extraction",
        "task",
        d.language,
        user(joined),
        answer + stop,
        wrong + stop,
        {"rule": "one_of", "answer": answer, "among": among},
    )


REWRITES = {
    "replace": (
        (["Write {a} in place of {b}: {s}", "Replace {b} with {a}: {s}"], ["In place of {b} write {a}: {s}"]),
        (["把{b}换成{a}：{s}", "用{a}代替{b}：{s}"], ["{b}换成{a}：{s}"]),
    ),
    "reverse": (
        (["Reverse the words: {s}", "Write the words backwards: {s}"], ["Reverse these words: {s}"]),
        (["把词倒过来：{s}", "倒序写出：{s}"], ["把词倒序写出：{s}"]),
    ),
    "twice": (
        (["Write this twice: {s}", "Repeat this two times: {s}"], ["Write this two times: {s}"]),
        (["写两遍：{s}", "重复两次：{s}"], ["重复写两遍：{s}"]),
    ),
}


def rewriting(d: Draw) -> Item:
    """Rewriting under a constraint that can be checked: replace a word, reverse the words, write it twice."""
    words = lexicon.WORDS if d.lang == 0 else lexicon.ZH_WORDS
    line = d.until(lambda: d.rng.sample(words, 3), lambda w: held_out("rewrite", *sorted(w)))
    other = d.pick([w for w in words if w not in line])
    how = d.pick(list(REWRITES))
    out = {"replace": [other if w == line[1] else w for w in line], "reverse": line[::-1], "twice": line + line}[how]
    text = d.template(REWRITES[how]).format(a=other, b=line[1], s=" ".join(line))
    return Item(
        "rewriting",
        "task",
        d.language,
        user(text),
        " ".join(out),
        " ".join(line),
        {"rule": "equals", "answer": " ".join(out)},
    )


TOOLS = (
    (
        ["Use the calculator: {x}", "Compute with the calculator: {x}", "Call the calculator for {x}"],
        ["Use the calculator for {x}"],
    ),
    (["用计算器算：{x}", "请计算器算{x}"], ["请用计算器算：{x}"]),
)


def tools(d: Draw) -> Item:
    """Call the calculator with the right expression, or read out what it returned."""
    a, b = d.until(lambda: (d.rng.randint(100, 999), d.rng.randint(10, 99)), lambda p: held_out("tool", *p))
    sign = d.pick(["*", "+", "-"])
    call = f"calc({a} {sign} {b})"
    asked = user(d.template(TOOLS).format(x=f"{a} {sign} {b}"))
    if d.rng.random() < 0.5:
        bad = f"calc({b} {sign} {a})"
        return Item("tools", "task", d.language, asked, call, bad, {"rule": "equals", "answer": call})
    result = {"*": a * b, "+": a + b, "-": a - b}[sign]
    talk = [*asked, Message("assistant", call), Message("tool", str(result))]
    form = ("The result is {v}.", "结果是{v}。")[d.lang]
    return Item(
        "tools",
        "task",
        d.language,
        talk,
        form.format(v=result),
        form.format(v=a),
        {"rule": "last_number", "answer": result},
    )


NAMINGS = (
    ("My name is {n}.", "Call me {n}.", "I am {n}."),
    ("我叫{n}。", "我的名字是{n}。", "叫我{n}。"),
)
GREETINGS = ("Good day, {n}.", "你好，{n}。")
RECALLS = (
    (["What is my name?", "Who am I?", "Do you remember my name?"], ["Do you know my name?"]),
    (["我叫什么？", "我的名字是什么？", "你记得我的名字吗？"], ["你记得我叫什么吗？"]),
)
RECALLED = ("Your name is {n}.", "你叫{n}。")
FOLLOW_UPS = (
    (["And the {t}: where is it?", "Where is my {t} now?"], ["Where is the {t} now?"]),
    (["那{t}在哪里？", "我的{t}现在在哪里？"], ["我的{t}在哪里？"]),
)


def dialogue(d: Draw) -> Item:
    """Two turns: the second needs what the first said."""
    if d.rng.random() < 0.5:
        n = d.until(lambda: d.entities.fresh_name(d.rng), lambda name: held_out("name", name[1]))[d.lang]
        talk = [
            Message("user", d.pick(list(NAMINGS[d.lang])).format(n=n)),
            Message("assistant", GREETINGS[d.lang].format(n=n)),
            Message("user", d.template(RECALLS)),
        ]
        good, bad = RECALLED[d.lang].format(n=n), RECALLED[d.lang].format(n=d.name())
        return Item("dialogue", "task", d.language, talk, good, bad, {"rule": "one_of", "answer": n, "among": [n]})
    place, thing = d.until(
        lambda: (d.pick(lexicon.PLACES_NEAR), d.pick(lexicon.THINGS)), lambda p: held_out("talk", p[0][0], p[1][0])
    )
    left = ("I left my {t} at the {p}.", "我把{t}放在{p}了。")[d.lang].format(t=thing[d.lang], p=place[d.lang])
    noted = ("I will keep that in mind.", "我记住了。")[d.lang]
    form = ("It is at the {p}.", "在{p}。")[d.lang]
    wrong = d.pick([p for p in lexicon.PLACES_NEAR if p != place])
    talk = [
        Message("user", left),
        Message("assistant", noted),
        Message("user", d.template(FOLLOW_UPS).format(t=thing[d.lang])),
    ]
    return Item(
        "dialogue",
        "task",
        d.language,
        talk,
        form.format(p=place[d.lang]),
        form.format(p=wrong[d.lang]),
        {"rule": "one_of", "answer": place[d.lang], "among": [p[d.lang] for p in lexicon.PLACES_NEAR]},
    )


HELPFUL: dict[str, Family] = {
    f.__name__: f for f in (facts, sums, letters, sorting, sentiment, extraction, rewriting, tools, dialogue)
}
