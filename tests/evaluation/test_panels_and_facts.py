"""Debates, panels of judges, trained judges, atomic facts and alignment."""

from __future__ import annotations

import json
import math

import pytest
from judges import Planted, Says

from kilter import formats
from kilter.errors import KilterError
from kilter.evaluation import result
from kilter.evaluation.alignscore import alignscore, chunks, matrix, of_matrix
from kilter.evaluation.chateval import Panel, Said, chateval, visible
from kilter.evaluation.debate import debate, decided, found_in
from kilter.evaluation.factscore import atoms, declined, factscore, listed, penalty
from kilter.evaluation.passages import Passages, cut
from kilter.evaluation.rescore import rescore
from kilter.evaluation.vicunajudge import as_demonstrations, vicunajudge, votes_of
from kilter.feedback.judge import Case, Judge
from kilter.models.drive import wait
from kilter.models.protocol import Answer
from kilter.records import Demonstration, Group, Message, Prompt


def asked(text: str, **meta) -> Prompt:
    return Prompt([Message("user", text)], meta=meta)


# -------------------------------------------------------------------------------------------------------------- debate


def test_answers_are_found_and_the_majority_decides():
    assert found_in("So it is 1,200.50", "number") == "1200.5"
    assert found_in(r"thus \boxed{7} of 9", "number") == "7"
    assert found_in("It is (B).", "letter") == "B"
    assert found_in("Reasons.\nParis.", "text") == "paris"
    assert found_in("no idea", "number") is None
    assert decided(["1", "2", "2"]) == "2"
    assert decided(["3", "1", None]) == "3"  # of as many votes the first
    assert decided([None, None]) is None


def test_agents_see_the_others_last_answers_and_a_debate_without_an_answer_is_wrong():
    def agent(messages, sampling, k):
        if "silent" in messages[0].content:
            return "I do not know"
        others = messages[-1].content
        return "5" if "Another's answer" in others else str(sampling.seed % 3)

    model = Says(agent)
    found = wait(debate(model, [asked("2 + 3?", answer="5"), asked("silent 1?", answer=1)]))
    assert found.measures["accuracy"].value == 0.5
    assert found.measures["parsed"].value == 0.5
    assert any("1 of 2 debates" in note for note in found.notes)
    sample = found.samples[0]
    assert sample["votes"][1] == ["5", "5", "5"]
    assert len(sample["debate"]) == 3
    second = [text for text in model.asked if "Another's answer" in text and "2 + 3" in text]
    assert len(second) == 3
    assert all(text.count("[Another's answer]") == 2 for text in second)  # not its own
    with pytest.raises(KilterError, match="No record has a right answer"):
        wait(debate(model, [asked("why?")]))


# ------------------------------------------------------------------------------------------------------------ ChatEval


def test_who_hears_what():
    talk = [Said(1, "critic", "a"), Said(1, "editor", "b"), Said(1, "", "sum"), Said(2, "critic", "c")]
    assert [one.text for one in visible("one-by-one", talk, 2)] == ["a", "b", "sum", "c"]
    assert [one.text for one in visible("simultaneous", talk[:2], 2)] == ["a", "b"]
    assert visible("simultaneous", talk[:2], 1) == []
    assert [one.text for one in visible("summarizer", talk[:3], 2)] == ["sum"]


@pytest.mark.parametrize(("protocol", "calls"), [("one-by-one", 6), ("simultaneous", 6), ("summarizer", 7)])
def test_a_panel_gives_a_verdict_a_role(protocol, calls):
    heard = []

    def judge(messages, sampling, k):
        text = messages[0].content
        heard.append(text.count("[member of the public]") + text.count("[critic]") + text.count("[summary]"))
        role = next(
            (
                role
                for role in ("public", "critic", "scientist")
                if f"role: {role}" in text.replace("member of the ", "")
            ),
            "",
        )
        return f"Rating: [[{ {'public': 4, 'critic': 5, 'scientist': 9}.get(role, 1) }]]"

    model = Says(judge)
    found = wait(chateval(Says(lambda *_: "answer"), [asked("q")], judge=model, protocol=protocol, probes=0))
    assert found.measures["score"].value == 6
    assert len(model.asked) == calls
    assert len(found.samples[0]["judgements"]) == 3
    # In the first round only who speaks one after the other has heard anybody.
    assert heard[:3] == ([0, 1, 2] if protocol == "one-by-one" else [0, 0, 0])


def test_a_panel_has_biases_like_any_judge():
    panel = Panel(Judge(Planted(lambda q, a: 5.0, position=1.0)), "simultaneous", ["critic", "editor"], 1)
    told = wait(panel.compare(Case("q"), "a", "b"))
    assert [one.share for one in told] == [1.0, 1.0, 0.0, 0.0]


# ------------------------------------------------------------------------------------------------------- trained judges


class Classifier:
    """Prefers the answer that says "good", by its probabilities; with a bias for the first."""

    name = "classifier"

    def __init__(self, bias: float = 0.0) -> None:
        self.bias = bias

    async def ask(self, messages, sampling):
        return [Answer("", 0, None, "stop")]

    async def score(self, messages, response):
        text = messages[-1].content
        first, second = (text.split(f"[Answer {x}]\n")[1].split("\n")[0] for x in "AB")
        logits = {"A": 3.0 * ("good" in first) + self.bias, "B": 3.0 * ("good" in second), "C": 1.0 * (first == second)}
        return [logits[response], -7.0]


def votes(n: int = 10) -> list[Group]:
    user = [Message("user", "q")]
    made = [Group(user, [f"good {at}", f"bad {at}"], scores=[1, 0]) for at in range(n)]
    made += [Group(user, [f"bad {at}", f"good {at}"], ranking=[1, 0]) for at in range(n)]
    return [*made, Group(user, ["same", "same"], scores=[1, 1])]


def test_a_trained_judge_is_held_against_votes():
    found = wait(vicunajudge(votes(), Classifier(), resamples=50))
    assert found.measures["accuracy"].value == 1
    assert found.measures["f1:tie"].value == 1
    assert found.measures["consistency"].value == 1
    assert found.measures["judge:position"].value == pytest.approx(0)
    biased = wait(vicunajudge(votes(), Classifier(bias=9.0), resamples=50))
    assert biased.measures["accuracy"].value == pytest.approx(10 / 21)
    assert biased.measures["consistency"].value == 0
    assert biased.measures["judge:position"].value > 0.9


def test_votes_become_demonstrations_in_both_orders(tmp_path):
    path = tmp_path / "votes.jsonl"
    found = wait(vicunajudge(votes(2), demonstrations=str(path)))
    made = formats.read(str(path), want="demonstrations").records
    assert len(made) == 10
    assert [d.messages[-1].content for d in as_demonstrations(votes_of(votes(1)))] == ["A", "B", "B", "A", "C", "C"]
    assert "10 demonstrations" in found.notes[0]
    with pytest.raises(KilterError, match="There are no votes"):
        wait(vicunajudge([Group([Message("user", "q")], ["a", "b"])], Classifier()))
    with pytest.raises(KilterError, match="Give the judge"):
        wait(vicunajudge(votes(1)))


# ------------------------------------------------------------------------------------------------------------ FActScore


def test_the_penalty_for_short_texts():
    assert penalty(11, 10) == 1
    assert penalty(10, 10) == 1
    assert penalty(5, 10) == pytest.approx(math.exp(-1))
    assert penalty(1, 0) == 1


def test_passages_are_ranked_and_kept():
    assert cut("a b c d e", 2) == ["a b", "c d", "e"]
    assert cut("", 2) == []
    shelf = Passages(["the cat sat. the dog ran far away from the river"], 3)
    assert shelf.best("where did the dog run", 1) == ["the dog ran"]
    assert shelf.best("where did the dog run", 1) == ["the dog ran"]
    assert shelf.hits == 1


def judge_of_facts(messages, sampling, k):
    text = messages[-1].content
    if "Break the sentence" in text:
        sentence = text.rsplit("Sentence: ", 1)[1]
        return "\n".join(f"- {part.strip()}." for part in sentence.rstrip(".").split(" and "))
    fact = text.split("Statement: ")[1].split("\n")[0]
    shown = text.split("Statement:")[0]
    if "odd" in fact:
        return "There is not enough to say"
    return "True" if fact.rstrip(".") in shown else "It could be true, but it is False."


def test_facts_are_looked_up_and_abstentions_are_no_falsehoods(tmp_path):
    assert listed("- a\n2. b\nc\n* d") == ["a", "b", "d"]
    assert declined("I am sorry, but I don't know of her. She was born.")
    assert not declined("She was born in 1901.")
    path = tmp_path / "k.jsonl"
    path.write_text(json.dumps({"title": "Ada", "text": "Ada was born. She wrote programs. She is odd."}) + "\n")
    texts = [
        "Ada was born and She wrote programs.",
        "Ada was born and She flew.",
        "I don't know who that is.",
        "She is odd.",
    ]
    records = [
        Demonstration([Message("user", f"Tell me of Ada ({at})."), Message("assistant", text)])
        for at, text in enumerate(texts)
    ]
    judge = Says(judge_of_facts)
    found = wait(factscore(records, judge=judge, knowledge=str(path), gamma=0))
    assert [s["outcomes"].get("score") for s in found.samples] == [1.0, 0.5, None, 0.0]
    assert found.measures["responds"].value == 0.75
    assert found.measures["score"].value == 0.5
    assert any("1 of 5 facts" in note for note in found.notes)
    penalised = wait(factscore(records[:1], judge=judge, knowledge=str(path)))
    assert penalised.measures["score"].value == pytest.approx(math.exp(1 - 10 / 2))
    assert penalised.measures["init_score"].value == 1
    result.write(found, tmp_path / "f.json")
    again = rescore(data=str(tmp_path / "f.json"))
    assert again.measures["init_score"] == found.measures["init_score"]
    assert len(wait(atoms(Judge(judge), "A and B. C."))) == 3
    path.write_text('{"title": "Bob", "text": "x"}')
    with pytest.raises(KilterError, match="No record is about a title"):
        wait(factscore(records, judge=judge, knowledge=str(path)))


# ----------------------------------------------------------------------------------------------------------- AlignScore


def test_chunks_end_where_sentences_do():
    text = "One two three. Four five. Six seven eight nine. Ten."
    assert chunks(text, 4) == ["One two three. Four five.", "Six seven eight nine.", "Ten."]
    assert chunks(text, 350) == [text]
    assert chunks("", 4) == []


def test_the_score_is_the_mean_of_maxima_and_more_support_never_lowers_it():
    assert of_matrix([[0.1, 0.9], [0.5, 0.3]]) == pytest.approx(0.7)
    assert of_matrix([[0.1, 0.9, 0.2], [0.5, 0.3, 0.6]]) >= of_matrix([[0.1, 0.9], [0.5, 0.3]])
    with pytest.raises(KilterError):
        of_matrix([])

    async def align(chunk, sentence):
        return len(chunk) / 10 + len(sentence) / 100

    assert wait(matrix(align, ["ab", "abcd"], ["x", "yy"])) == [
        pytest.approx([0.21, 0.41]),
        pytest.approx([0.22, 0.42]),
    ]


def test_a_language_model_aligns_by_its_yes():
    class Reads:
        name = "reads"

        async def ask(self, messages, sampling):
            raise NotImplementedError

        async def score(self, messages, response):
            text = messages[-1].content
            held = text.split("[Claim]\n")[1].split("\n")[0].rstrip(".") in text.split("[Claim]")[0]
            return [math.log(0.9 if held == (response == "Yes") else 0.1), -3.0]

    context = "The sky is blue. Grass is green."
    records = [
        Group(
            [Message("user", context)],
            ["The sky is blue. Grass is green.", "The sky is blue. Grass is red."],
            scores=[1, 0],
        )
    ]
    found = wait(alignscore(records, Reads()))
    assert [s["outcomes"]["score"] for s in found.samples] == [pytest.approx(0.9), pytest.approx(0.5)]
    assert found.measures["spearman"].value == pytest.approx(1)
    with pytest.raises(KilterError, match="not both"):
        wait(alignscore(records))


def test_an_entailment_classifier_of_hugging_face_aligns(tmp_path, tiny_model):
    import torch
    from transformers import AutoTokenizer, RobertaConfig, RobertaForSequenceClassification

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.pad_token = "</s>"
    config = RobertaConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64, type_vocab_size=1, pad_token_id=1,
        id2label={0: "contradiction", 1: "neutral", 2: "entailment"},
    )  # fmt: skip
    network = RobertaForSequenceClassification(config).eval()
    network.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    record = Group([Message("user", "The sky is blue. " * 30)], ["It is blue."])
    found = wait(alignscore([record], classifier=str(tmp_path)))
    rows = tokenizer(
        "The sky is blue. " * 29 + "The sky is blue.",
        "It is blue.",
        truncation="only_first",
        max_length=62,
        return_tensors="pt",
    )
    with torch.no_grad():
        expected = torch.softmax(network(**rows).logits[0], -1)[2]
    assert found.measures["score"].value == pytest.approx(float(expected), abs=1e-4)
