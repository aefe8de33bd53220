"""Sparrow: a rule model that understands another wording, the score that samples are chosen by, and probes."""

import asyncio
import json
import math
import random

import pytest
import torch

import kilter
from kilter.errors import KilterError
from kilter.feedback.named import admit, named
from kilter.feedback.rule_model import RuleModel, rules_in, with_rule
from kilter.models.protocol import Answer
from kilter.records import Group, Message, Prompt
from kilter.training.run import train
from kilter.training.sparrow import best_by_rules, probes, rerank, ruled
from worlds.tokens import TokenWorld

WORDS = "abcd"
# A rule is a wording of e, f and g, and the word that must not be said.
SEEN = ["e c", "e d", "g c", "g d", "e g c", "g e d", "f c", "f e d"]
UNSEEN = ["f g c", "f d"]


def sample(draw):
    """Return a neutral word and one that breaks one of two rules, in either order."""
    return " ".join(draw.sample([draw.choice("ab"), draw.choice("cd")], 2))


def labelled(count, rules, seed):
    draw = random.Random(seed)
    found = []
    for i in range(count):
        rule, said = draw.choice(rules), sample(draw)
        kept = rule[-1] not in said.split()
        found.append(Group([Message("user", "x")], [said], labels=[kept], id=str(i), meta={"rule": rule}))
    return found


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with an untrained model, a rule model and a preference model, and a file of the unseen rules."""
    folder = tmp_path_factory.mktemp("sparrow")
    world = TokenWorld(words=8, length=3)
    start = world.save(folder / "start", world.model(0, scale=5.0))
    fast = {"batch_size": 32, "learning_rate": 5e-3, "precision": "fp32", "log_every": 50, "checkpoint_every": 0}
    train("sparrow", model=start, data=labelled(1000, SEEN, 0), out=folder / "rules", steps=35, max_length=32, **fast)
    draw = torch.randint(0, len(world), (200, 2), generator=torch.Generator().manual_seed(0))
    pairs = [world.group(pair, "x") for pair in draw]
    train("reward", model=start, data=pairs, out=folder / "liked", steps=8, max_length=32, **fast)
    (folder / "rules.txt").write_text("# two of them\nf g c\n\nf d\nf d\n", encoding="utf-8")
    return folder


def area(scores, labels):
    """Return the area under the ROC curve: how often a kept rule scores above a broken one, ties by half."""
    kept, broken = ([s for s, label in zip(scores, labels, strict=True) if label == which] for which in (True, False))
    wins = sum((a > b) + 0.5 * (a == b) for a in kept for b in broken)
    return wins / (len(kept) * len(broken))


def test_another_wording_is_understood_and_without_the_rule_nothing_is(models):
    draw = random.Random(5)
    found = RuleModel(str(models / "rules"), UNSEEN)
    # Every response breaks one of the two rules and keeps the other.
    texts = [sample(draw) for _ in range(60)]
    kept = asyncio.run(found.kept(Prompt([Message("user", "x")]), texts))
    labels = [[rule[-1] not in text for rule in UNSEEN] for text in texts]
    assert all(sum(row) == 1 for row in labels)
    flat = [label for row in labels for label in row]
    assert area([chance for row in kept for chance in row], flat) > 0.8
    # A classifier of the response alone says the same under both rules: it cannot tell one from the other.
    assert area([max(row) for row in kept for _ in row], flat) == 0.5


def test_feedback_by_name_is_the_mean_over_the_rules(models):
    name = f"rules:{models / 'rules'}@{models / 'rules.txt'}"
    admit(name)
    feedback = named(name)
    assert feedback.rules == UNSEEN
    prompt = Prompt([Message("user", "x")])
    [one, other] = asyncio.run(feedback(prompt, ["a c", "d b"]))
    kept = asyncio.run(feedback.kept(prompt, ["a c"]))[0]
    assert one.score == pytest.approx(sum(kept) / 2)
    assert (one.critique, other.critique) == ("f g c", "f d")
    assert not one.verdict
    for wrong, says in (
        (f"rules:{models / 'rules'}", "names no rules"),
        (f"rules:{models / 'rules'}@none.txt", "none.txt"),
        (f"rules:{models / 'start'}@{models / 'rules.txt'}", "reward model"),
    ):
        with pytest.raises(KilterError, match=says):
            admit(wrong)


def test_the_score_that_samples_are_chosen_by():
    assert rerank([2.0, 0.0], [[1.0, 1.0], [1.0, 1.0]]) == pytest.approx(
        [math.exp(2) / (math.exp(2) + math.exp(1)), 1 / (1 + math.exp(1))]
    )
    [one] = rerank([3.0], [[0.9, 0.4]])
    assert one == pytest.approx(0.5 * math.sqrt(0.36))
    assert rerank([800.0, -800.0], [[0.5], [0.5]]) == pytest.approx([0.5, 0.0])
    for lower in (0.0, 0.3, 0.6):
        less, more = rerank([1.0, 1.0], [[lower, 0.8], [lower + 0.2, 0.8]])
        assert less < more
    before, after = (rerank([reward, 0.0], [[0.7], [0.7]])[0] for reward in (0.5, 1.5))
    assert before < after


class Scripted:
    """Draws three words; as an attacker it names one."""

    name = "scripted"

    async def ask(self, messages, sampling):
        draw = random.Random(f"{sampling.seed} {messages[-1].content}")
        if "would tempt it" in messages[-1].content:
            return [Answer("x", 1, None, "stop", self.name)]
        texts = [" ".join(draw.choice(WORDS) for _ in range(3)) for _ in range(sampling.n)]
        return [Answer(text, 3, None, "stop", self.name) for text in texts]


def test_samples_come_best_first(models):
    async def made():
        prompts = [Prompt([Message("user", "x")]), Prompt([Message("user", "y")])]
        asked = {"preference": str(models / "liked"), "rule_model": str(models / "rules")}
        return await best_by_rules(Scripted(), prompts, rules=str(models / "rules.txt"), n=6, **asked)

    for group in asyncio.run(made()):
        assert group.scores == sorted(group.scores, reverse=True)
        told = group.meta["judged"]
        assert group.scores == pytest.approx(
            rerank([row["preference"] for row in told], [list(row["kept"].values()) for row in told])
        )


def test_probes_are_labelled_by_the_rule_they_aim_at_and_teach(models, tmp_path):
    async def made():
        return await probes(Scripted(), rule_model=str(models / "rules"), rules=str(models / "rules.txt"), n=8)

    found = asyncio.run(made())
    assert [group.meta["rule"] for group in found] == UNSEEN * 4
    assert all(group.labels == [group.meta["kept"] >= 0.5] for group in found)
    assert all(group.meta["adversarial"] for group in found)
    fast = {"steps": 1, "batch_size": 4, "max_length": 32, "precision": "fp32", "log_every": 1, "checkpoint_every": 0}
    assert train("sparrow", model=models / "rules", data=found, out=tmp_path / "again", **fast).steps == 1


def test_the_rule_is_a_column_of_the_rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [{"prompt": "hi", "completion": "yes", "label": True, "rule": "Be kind."}]
    rows.append({"prompt": "hi", "completion": "no", "label": False})
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    made, notes = ruled(list(kilter.read(file)))
    assert [m.content for m in made[0].prompt] == ["Rule: Be kind.\n\nhi"]
    assert notes == ["1 of 2 records left out: no column 'rule' with the rule in words."]
    with pytest.raises(KilterError, match="No record says by which rule"):
        ruled([Group([Message("user", "hi")], ["no"], labels=[False])])
    system = [Message("system", "s"), Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
    assert [m.content for m in with_rule(system, "R")] == ["s", "Rule: R\n\na", "b", "c"]
    (tmp_path / "none.txt").write_text("# nothing\n")
    with pytest.raises(KilterError, match="holds no rule"):
        rules_in(tmp_path / "none.txt")
