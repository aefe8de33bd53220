"""Quality and language filters: each rule on a record made for it, and books that balance."""

import pytest

from kilter.data.language import language
from kilter.data.languages import language_of
from kilter.data.quality import quality
from kilter.errors import KilterError
from kilter.records import Demonstration, Group, Message, Prompt
from kilter.store.rejects import Rejects

SENTENCES = {
    "en": "How do I find out which of these books was written by her?",
    "de": "Wie finde ich heraus, welches von diesen Büchern sie geschrieben hat?",
    "fr": "Comment savoir lequel de ces livres a été écrit par elle ?",
    "es": "¿Cómo puedo saber cuál de estos libros fue escrito por ella?",
    "pt": "Como posso saber qual destes livros não foi escrito por ela?",
    "it": "Come posso sapere quale di questi libri è stato scritto da lei?",
    "nl": "Hoe kom ik te weten welk van deze boeken zij heeft geschreven?",
    "sv": "Hur får jag reda på vilken av de här böckerna som hon har skrivit?",
    "da": "Hvordan finder jeg ud af, hvilken af disse bøger hun ikke har skrevet?",
    "pl": "Jak mogę się dowiedzieć, która z tych książek nie jest napisana przez nią?",
    "cs": "Jak zjistím, která z těchto knih není napsána od ní a kdo ji má?",
    "ro": "Cum pot să aflu care dintre aceste cărți a fost scrisă de ea?",
    "hu": "Hogyan tudhatom meg, hogy ezek közül melyik könyvet írta ő, és mi van benne?",
    "fi": "Miten saan tietää, mikä näistä kirjoista on hänen kirjoittamansa?",
    "tr": "Bu kitaplardan hangisinin onun tarafından yazıldığını nasıl öğrenebilirim?",
    "vi": "Làm thế nào để tôi biết cuốn sách nào trong số này được viết bởi cô ấy?",
    "id": "Bagaimana saya bisa tahu buku mana yang ditulis oleh dia?",
    "zh": "我怎样才能知道这些书中哪一本是她写的？",
    "ja": "これらの本のうち、どれが彼女によって書かれたかを知るには？",
    "ko": "이 책들 중에서 그녀가 쓴 책이 어느 것인지 어떻게 알 수 있나요?",
    "ru": "Как мне узнать, какая из этих книг написана ею?",
    "uk": "Як мені дізнатися, яку з цих книжок її рука написала, і коли?",
    "ar": "كيف أعرف أيًا من هذه الكتب كتبته هي؟",
    "fa": "چگونه بفهمم کدام یک از این کتاب‌ها را او نوشته است؟",
    "th": "ฉันจะรู้ได้อย่างไรว่าหนังสือเล่มไหนเขียนโดยเธอ",
    "hi": "मुझे कैसे पता चलेगा कि इनमें से कौन सी किताब उसने लिखी है?",
    "el": "Πώς μπορώ να μάθω ποιο από αυτά τα βιβλία γράφτηκε από αυτήν;",
    "he": "איך אוכל לדעת איזה מהספרים האלה נכתב על ידה?",
}


def demonstration(asked, answer):
    return Demonstration([Message("user", asked), Message("assistant", answer)])


@pytest.mark.parametrize("name", SENTENCES)
def test_a_sentence_of_each_language(name):
    assert language_of(SENTENCES[name]) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("用 Python 写一个排序函数", "zh"),
        ("Translate 你好 to English", "en"),
        ("Translate the word 你好 to English for me", "en"),
        ("東京駅はどこですか", "ja"),
        ("s = a * (b + c); i, o = s, z", ""),
        ("3 + 4 = 7 🙂", ""),
        ("", ""),
    ],
)
def test_mixed_text_is_of_the_language_that_most_of_it_is_in(text, name):
    assert language_of(text) == name


def test_language_filter():
    records = [demonstration(SENTENCES[name], SENTENCES[name]) for name in ("en", "zh", "fr")]
    records.append(demonstration("2 + 2", "4"))
    with Rejects() as rejects:
        assert list(language(records, keep="en, zh")) == [records[0], records[1], records[3]]
    assert rejects.counts == {"language fr": 1}
    assert list(language(records, keep="fr", unknown=False)) == [records[2]]
    mixed = demonstration(SENTENCES["en"], SENTENCES["zh"])
    assert list(language([mixed], keep="zh", part="response")) == [mixed]
    assert list(language([mixed], keep="zh", part="prompt")) == []
    with pytest.raises(KilterError, match="name at least one"):
        list(language(records, keep=" , "))


LOOP = "I do not know what to say about it. " * 9
CHINESE_LOOP = "我不知道该说什么才好。" * 9
FAULTS = {
    "no prompt": demonstration("  ", "Yes."),
    "empty": demonstration("Why?", " \n"),
    "echo": demonstration("What is the capital of France?", "what is the capital of france"),
    "broken text": demonstration("Say it.", "It\ufffds here"),
    "repetition": demonstration("Say it.", LOOP),
    "symbols": demonstration("Draw it.", "a ###### ---- ****"),
}


@pytest.mark.parametrize("rule", FAULTS)
def test_each_rule_finds_its_fault(rule):
    good = demonstration("What is 2 + 2?", "It is 4.")
    with Rejects() as rejects:
        assert list(quality([good, FAULTS[rule], good])) == [good, good]
    assert rejects.counts == {rule: 1}


@pytest.mark.parametrize("text", [CHINESE_LOOP, "すみません、よくわかりません。" * 8, "我喜欢 apples。" * 20])
def test_repetition_is_seen_in_chinese_and_japanese(text):
    assert list(quality([demonstration("问题", text)])) == []


def test_thresholds_are_options():
    records = [demonstration("Count.", " ".join(map(str, range(size)))) for size in (1, 5, 30)]
    with Rejects() as rejects:
        assert list(quality(records, min_tokens=2, max_tokens=20)) == [records[1]]
    assert rejects.counts == {"too short": 1, "too long": 1}
    assert len(records) == 1 + rejects.total
    assert list(quality([FAULTS["repetition"]], repetition=1.0)) == [FAULTS["repetition"]]
    speaks = demonstration("Who are you?", "As an AI language model, I cannot say.")
    assert list(quality([speaks])) == [speaks]
    assert list(quality([speaks], boilerplate=True)) == []
    assert list(quality([demonstration("你是谁？", "作为一个人工智能语言模型，我没有名字。")], boilerplate=True)) == []


def test_prompts_and_groups():
    prompt = Prompt([Message("user", "Why?")])
    group = Group([Message("user", "Why?")], ["Because.", "So."])
    assert list(quality([prompt, group])) == [prompt, group]
    assert list(quality([Group([Message("user", "Why?")], ["", " "])])) == []
