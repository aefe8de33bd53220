"""Second Thoughts' third stage: a model that edits is rewarded by a discriminator of human and machine edits.

In the edit world (tests/worlds/edits.py) people's chains are those of least cost; the machine's are what the model of
the supervised stage samples. The discriminator learns to tell them apart, and reinforcement learns to please it.
"""

import asyncio

import pytest
import torch
from transformers import AutoModelForCausalLM

from kilter.engine.sampler import sample
from kilter.engine.template import prompt_ids
from kilter.feedback.edits import is_valid, outcome
from kilter.feedback.reward_model import RewardModel
from kilter.records import Group
from kilter.training.run import train
from kilter.training.second_thoughts import edits_of
from worlds.edits import EditWorld

WORLD = EditWorld(length=2, most=1, words=6)
SEEDS = (0, 1, 2)
TEST = WORLD.asked(WORLD.groups(60, seed=999))
LONGEST = 16
FAST = {"precision": "fp32", "warmup": 0, "log_every": 100, "checkpoint_every": 0, "max_length": 64}
QUIET = {"say": lambda notes: None} | FAST


def edited(folder, prompts, n, seed):
    """Return n chains of edits that a model samples for each prompt."""
    tokenizer, model = WORLD.tokenizer(), AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = prompt_ids(tokenizer, [prompt.messages for prompt in prompts])
    found = sample(model, ids, n=n, max_tokens=LONGEST, stop_ids={0}, seed=seed, batch_size=256)
    return [[tokenizer.decode(made.tokens, skip_special_tokens=True) for made in some] for some in found]


def supervised(folder, seed=0):
    """Train the model of edits, and the discriminator of its chains and people's."""
    groups = WORLD.groups(400, seed=seed)
    start = WORLD.save(folder / "start", seed=seed)
    told = {"batch_size": 32, "seed": seed} | QUIET
    how = {"steps": 160, "learning_rate": 1e-2, "schedule": "linear"}
    train("second-thoughts", model=start, data=groups, out=folder / "edits", **how, **told)
    people, _ = edits_of(groups[:150])
    machine = edited(folder / "edits", WORLD.asked(groups[:150]), 2, seed)
    judged = []
    for human, texts in zip(people, machine, strict=True):
        chains = [human.responses[0], *(text for text in texts if text.strip())]
        labels = [text == human.responses[0] for text in chains]
        judged.append(Group(human.prompt, chains, labels=labels, id=human.id))
    how = {"steps": 60, "learning_rate": 3e-3, "schedule": "constant"}
    train("reward-outcome", model=folder / "edits", data=judged, out=folder / "discriminator", **how, **told)
    return groups[150:]


def reinforced(folder, groups, seed):
    """Train the model of edits on, and return its folder."""
    feedback = {str(folder / "discriminator"): 0.5, "edits": 2.0}
    how = {"steps": 30, "batch_size": 12, "samples": 8, "max_tokens": LONGEST, "learning_rate": 1e-3, "beta": 0.05}
    how |= {"schedule": "constant", "seed": seed} | QUIET
    out = folder / f"reinforced-{seed}"
    train("rloo", model=folder / "edits", data=WORLD.asked(groups), out=out, feedback=feedback, **how)
    return out


def measured(folder, judge, seed=7):
    """Return means over chains sampled for prompts never seen: P(human), valid chains, right answers at the end."""
    texts = edited(folder, TEST, 4, seed)

    async def told():
        return await asyncio.gather(*(judge(prompt, some) for prompt, some in zip(TEST, texts, strict=True)))

    human, valid, right = [], [], []
    for prompt, some, signals in zip(TEST, texts, asyncio.run(told()), strict=True):
        human += [torch.tensor(signal.score).sigmoid().item() for signal in signals]
        valid += [is_valid(text.strip(), prompt.meta["source"]) for text in some]
        right += [outcome(text.strip(), prompt.meta["source"]) == prompt.meta["target"] for text in some]
    return [sum(part) / len(part) for part in (human, valid, right)]


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """What is measured of the supervised stage [3], and of the reinforced one on each seed [seeds, 3]."""
    folder = tmp_path_factory.mktemp("edits")
    groups = supervised(folder)
    judge = RewardModel(str(folder / "discriminator"))
    after = [measured(reinforced(folder, groups, seed), judge) for seed in SEEDS]
    return torch.tensor(measured(folder / "edits", judge)), torch.tensor(after)


def test_reinforcement_pleases_the_discriminator_more_and_edits_fit_no_less(stages):
    """From one supervised model; 240 chains for prompts that no stage has seen.

    By hand, seeds 0 to 2: P(human) 0.881 before and 0.887, 0.883, 0.886 after; chains that fit 0.787 before and 0.867,
    0.858, 0.904 after (0.09 more, standard error 0.014); right answers 0.979 before and 0.968 after. It depends on the
    weights and the start: from a model of which 0.65 fit, with the discriminator's number at half the weight of the
    rule, P(human) rose by 0.10 and what fits fell by 0.12; at a sixth it rose by 0.07, and what fits stayed.
    """
    before, after = stages
    human, valid, right = (after - before).T
    assert human.mean() > 0, stages
    assert valid.mean() > 0.02, stages
    assert right.mean() > -0.05, stages
