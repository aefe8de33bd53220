"""Iterated online RLHF: rounds of comparisons, preference model and policy; what it keeps and what it warns of."""

import json

import pytest
from token_runs import OPTIONS, Tokens

from kilter import formats
from kilter.errors import KilterError
from kilter.training import rlhf_online
from kilter.training.run import train
from worlds.tokens import Gold

ROUNDS = {name: OPTIONS[name] for name in ("warmup", "schedule", "precision", "max_length", "log_every")} | {
    "rounds": 2,
    "samples": 4,
    "responses": 16,
    "max_tokens": 3,
    "steps": 16,
    "batch_size": 4,
    "learning_rate": 3e-3,
    "judge_epochs": 5,
    "checkpoint_every": 0,
    "feedback": "gold",
}


@pytest.fixture
def tokens(tmp_path, monkeypatch):
    tokens = Tokens(tmp_path, monkeypatch, words=3, length=3)
    plain = rlhf_online.named
    monkeypatch.setattr(rlhf_online, "named", lambda name: Gold(tokens.world) if name == "gold" else plain(name))
    return tokens


def test_rounds_of_fresh_comparisons_raise_the_true_reward(tokens, tmp_path):
    told = {
        "model": tokens.start,
        "data": tokens.world.prompts(copies=32),
        "out": tmp_path / "run",
        "say": lambda n: None,
    }
    done = train("rlhf-online", **told, **ROUNDS)
    first, last = (tokens.model(tmp_path / "run" / f"round-{n}" / "policy") for n in (1, 2))
    assert tokens.reward(last) > tokens.reward(tokens.model()) + 0.5
    assert tokens.reward(tokens.model(done.out)) == pytest.approx(tokens.reward(last))
    assert tokens.reward(first) > tokens.reward(tokens.model())
    rounds = [json.loads(line) for line in (done.out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in rounds] == [1, 2]
    assert rounds[1]["comparisons"] > rounds[0]["comparisons"] > 20
    assert {"sampled_reward", "gold", "sampled_kl"} <= rounds[0].keys()
    [kept] = (tmp_path / "run" / "round-2").glob("comparisons-*.jsonl")
    fresh = formats.read(kept, want="groups").records
    [older] = (tmp_path / "run" / "round-1").glob("comparisons-*.jsonl")

    def worth(groups):
        found = [tokens.world.reward(g.prompt[-1].content, r) for g in groups for r in g.responses]
        return sum(found) / len(found)

    # The second round compares what the first one's policy says.
    assert worth(fresh) > worth(formats.read(older, want="groups").records)
    assert all(group.origin.method == "rlhf-online" for group in fresh)
    assert train("rlhf-online", **told, **ROUNDS).kept
    with pytest.raises(KilterError, match="kl_coef is"):
        train("rlhf-online", **told, **ROUNDS, kl_coef=0.5)


def test_people_who_find_nothing_better_teach_nothing(tokens, tmp_path):
    told = {"data": tokens.world.prompts(), "out": tmp_path / "run", "say": lambda notes: None}
    with pytest.raises(KilterError, match=r"finds no response of .* better than another"):
        train("rlhf-online", model=tokens.start, **told, **ROUNDS | {"feedback": "contains:zzz"})


def test_a_reward_that_rises_while_the_onlooker_s_falls_is_told():
    def lines(rewards, gold):
        return [
            {"sampled_reward": r, "gold": g, "sampled_kl": float(i)}
            for i, (r, g) in enumerate(zip(rewards, gold, strict=True))
        ]

    assert rlhf_online.alarm(lines(range(9), range(9)), 1) == []
    [said] = rlhf_online.alarm(lines(range(9), [0, 1, 2, 3, 4, 5, 2, 1, 0]), 3)
    assert said.startswith("Round 3: from a distance of about sqrt(KL) = 2.00 on the reward rises")
    assert rlhf_online.alarm(lines([3, 2, 1], [3, 2, 1]), 1) == []
    assert rlhf_online.alarm([{"step": 1}], 1) == []
