"""Chain of Hindsight: how much of the worse answer is copied into the better one, exactly, hidden or not."""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM

from kilter.records import Group, Message
from kilter.training.run import train
from worlds.tokens import TokenWorld

WORLD = TokenWorld(words=4, length=3)
WORDS, GOOD, BAD = "abcd", "x", "y"  # what answers are made of, and the words for a better and a worse one
ID = {word: WORLD.vocabulary.index(word) for word in (*WORDS, GOOD, BAD)}
ANSWERS = WORLD.ids[[not {*row} - {ID[word] for word in WORDS} for row in WORLD.ids.tolist()]]  # [64, 3]
SEEDS = (0, 1, 2)
STEPS = {"steps": 220, "batch_size": 32, "learning_rate": 5e-3, "precision": "fp32", "max_length": 32}
QUIET = {"log_every": 100, "checkpoint_every": 0, "say": lambda notes: None}


def pairs(seed, count=300):
    """Return pairs of an answer of three words and one in which a word is another: two thirds of it are copies."""
    draw, found = random.Random(seed), []
    for i in range(count):
        worse = [draw.choice(WORDS) for _ in range(3)]
        better, at = list(worse), draw.randrange(3)
        better[at] = draw.choice([word for word in WORDS if word != worse[at]])
        asked = [Message("user", draw.choice(WORDS))]
        found.append(Group(asked, [" ".join(better), " ".join(worse)], ranking=[0, 1], id=str(i)))
    return found


def copied(folder):
    """Return the share of a good answer's words that stand at the same place of the worse one before it, exactly.

    An expectation over all good answers of three words, the mean over prompts and a third of the worse answers.
    """
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    worse = ANSWERS[::3]
    heads = [[ID[asked], ID[BAD], 1, *row, 0, ID[GOOD], 1] for asked in WORDS for row in worse.tolist()]
    heads = torch.tensor(heads)
    rows = torch.cat((heads.repeat_interleave(len(ANSWERS), 0), ANSWERS[:, :-1].repeat(len(heads), 1)), 1)
    with torch.no_grad():
        logs = torch.log_softmax(model(rows).logits[:, heads.shape[1] - 1 :].double(), -1)
    logs = logs.gather(2, ANSWERS.repeat(len(heads), 1)[..., None])[..., 0].sum(1).view(len(heads), -1)
    same = (ANSWERS[None] == worse.repeat(len(WORDS), 1)[:, None]).double().mean(2)
    return float((logs.softmax(1) * same).sum(1).mean())


@pytest.fixture(scope="module")
def rates(tmp_path_factory):
    """Copy rates [seeds, 2]: with nothing hidden, and with the method's own share."""
    found = []
    for seed in SEEDS:
        folder = tmp_path_factory.mktemp(f"copying-{seed}")
        found.append(compared(folder, seed))
    return torch.tensor(found)


def compared(folder, seed):
    start = WORLD.save(folder / "start", WORLD.model(seed, scale=2.0))
    told = {"kinds": "np", "good": GOOD, "bad": BAD, "paraphrases": False, "seed": seed} | STEPS | QUIET
    for name, hidden in (("seen", {"hidden": 0.0}), ("hidden", {})):
        train("coh", model=start, data=pairs(seed), out=folder / name, **hidden, **told)
    return copied(folder / "seen"), copied(folder / "hidden")


def test_without_hiding_more_of_the_worse_answer_is_copied(rates):
    """The paper's claim, at the same steps and data.

    Tried by hand on the seeds 0 to 7: on 7 of them more is copied where nothing is hidden, 0.14 of the words more on
    average (95 % interval 0.02 to 0.27); one word in four would be the same by chance, two in three are in the data.
    """
    leads = rates[:, 0] - rates[:, 1]
    assert leads.mean() > 0.05, rates
    assert (leads > 0).sum() >= 2, rates
    assert rates[:, 0].mean() > 0.35, rates
