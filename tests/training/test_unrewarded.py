"""Prompts that a judge gives no rating for: left out of their step, counted, said; nothing rated ends the run."""

import numpy as np
import pytest
import torch
from online_runs import Letters, prompts, run
from test_online import FAST, attached, weights

from jsonl import metrics
from kilter.errors import KilterError, SetAside
from kilter.feedback.judge import Judge, JudgeFeedback
from kilter.training import best_of_n, online_setup, rollouts
from kilter.training.run import train
from kilter.training.unrewarded import rewarded
from scripted_model import by_kind


def judge(rates=lambda question: True):
    """A judge of the letter e, whose words hold a rating only where `rates(question)`. `asked` counts its prompts."""

    def rate(variables, sampling):
        if not rates(variables["question"]):
            return "It is hard to say."
        return f"Well. Rating: [[{10 if 'e' in variables['response'] else 2 + len(variables['response']) % 5}]]"

    return JudgeFeedback(Judge(by_kind(rate=rate)))


PHASE = {"updates": 1, "minibatches": 1}  # a step of three prompts


class ByPhase(JudgeFeedback):
    """A judge that rates nothing in the phases `silent`, of three prompts each, and counts the prompts."""

    def __init__(self, *silent, dies_at=None):
        super().__init__(judge().judge)
        self.silent, self.dies_at, self.asked = silent, dies_at, 0

    async def __call__(self, prompt, responses):
        phase = self.asked // 3
        self.asked += 1
        if self.asked == self.dies_at:
            raise KeyboardInterrupt
        if phase in self.silent:
            raise SetAside("The judge gives no rating: 'hm'.", "no rating")
        return await super().__call__(prompt, responses)


def timeless(folder):
    return [{**line, "seconds": 0} for line in metrics(folder)]


def test_a_prompt_without_a_rating_is_left_out_of_its_step(tiny_model, tmp_path):
    _, made = attached(tiny_model, tmp_path / "a", judge(lambda question: "3" not in question))
    _, whole = attached(tiny_model, tmp_path / "b", judge())
    left = {prompt.id for prompt in made.prompts if "3" in prompt.messages[0].content}
    for step in (0, 4):
        made(step)
        whole(step)
        found = {tree.info["id"]: tree for tree in made._rollout.trees}
        due = {tree.info["id"]: tree for tree in whole._rollout.trees if tree.info["id"] not in left}
        assert found.keys() == due.keys()
        assert all(found[name].responses == due[name].responses for name in due)
        assert all(found[name].info["rewards"] == due[name].info["rewards"] for name in due)
        assert "unrewarded" not in whole.told()
    assert sum(prompt.id in left for phase in (0, 1) for prompt in (made.prompts[i] for i in made._chosen(phase))) == 2
    assert made.notes() == [
        "2 of 12 prompts were left out, for the feedback 'judge:scripted' did not reward them; one: "
        "The judge 'scripted' gives no rating: 'It is hard to say.'."
    ]
    assert whole.notes() == []


def test_it_is_counted_and_said_at_the_end_by_name_as_well(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(online_setup, "named", lambda name: judge(lambda question: "3" not in question))
    said = []
    told = {"model": tiny_model, "data": prompts(), "out": tmp_path, "say": said.append}
    settings = FAST | PHASE | {"steps": 5, "log_every": 1}
    done = train("grpo", **told, **settings)
    counted = [line.get("unrewarded") for line in metrics(tmp_path)]
    # Every prompt comes once in seven: two or three of fifteen are the third, and before the first none is counted.
    left = int(sum(filter(None, counted)))
    assert 2 <= left <= 3
    first = counted.index(1)
    assert counted[:first] == [None] * first
    assert set(counted[first:]) == {0, 1}
    assert any(f"{left} of 15 prompts were left out" in note for note in done.notes)
    assert len(done.losses) == 5
    assert said[-1] == done.notes[-1:]
    again = train("grpo", **told, **settings)
    assert (again.kept, again.notes) == (True, done.notes)


@pytest.mark.parametrize("name", ["rloo", "ppo"])
def test_a_rollout_without_any_rating_changes_nothing(tiny_model, tmp_path, name):
    """Weights and critic stay where they were, though the optimizer has momentum by then."""
    done = run(name, tiny_model, tmp_path / "b", ByPhase(1, 3), steps=4, **PHASE)
    assert (done.steps, len(done.losses)) == (4, 2)
    lines = metrics(tmp_path / "b")
    assert [line.get("skipped") for line in lines] == [None, 1, None, 1]
    assert [line.get("unrewarded") for line in lines] == [None, 3, 0, 3]
    assert ["loss" in line and "grad_norm" in line for line in lines] == [True, False, True, False]
    assert "2 of 4 rollouts had no reward at all; their steps were skipped." in done.notes
    run(name, tiny_model, tmp_path / "a", ByPhase(1), steps=1, **PHASE)
    run(name, tiny_model, tmp_path / "c", ByPhase(1), steps=2, **PHASE)
    for part in ("", "critic") if name == "ppo" else ("",):
        assert torch.equal(weights(tmp_path / "a" / part), weights(tmp_path / "c" / part))


def test_a_run_with_skipped_rollouts_goes_on_to_the_same_bits(tiny_model, tmp_path):
    how = {"steps": 4, "checkpoint_every": 2, **PHASE}
    whole = run("grpo", tiny_model, tmp_path / "a", ByPhase(1), **how)
    with pytest.raises(KeyboardInterrupt):
        run("grpo", tiny_model, tmp_path / "b", ByPhase(1, dies_at=8), **how)
    again = ByPhase()
    parts = run("grpo", tiny_model, tmp_path / "b", again, **how)
    assert again.asked == 6, "what had been judged, or not, was kept"
    assert parts.notes == whole.notes
    assert timeless(tmp_path / "b") == timeless(tmp_path / "a")
    assert torch.equal(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_three_rollouts_in_a_row_without_any_rating_end_the_run(tiny_model, tmp_path):
    feedback = ByPhase(1, 2, 4, 5, 6)
    with pytest.raises(KilterError, match=r"rewarded nothing in 3 rollouts in a row.* gives no rating: 'hm'\. Take"):
        run("rloo", tiny_model, tmp_path / "a", feedback, steps=40, **PHASE)
    assert feedback.asked == 7 * 3
    with pytest.raises(KilterError, match="No step was taken: 3 of 3 prompts were left out"):
        run("rloo", tiny_model, tmp_path / "b", ByPhase(0), steps=1, **PHASE)
    assert not (tmp_path / "b" / "config.json").exists()


def test_a_cost_that_is_not_known_leaves_a_prompt_out_and_gold_does_not(tiny_model, tmp_path):
    partial = judge(lambda question: "3" not in question)
    _, whole = attached(tiny_model, tmp_path / "a", Letters())
    _, costs = attached(tiny_model, tmp_path / "b", Letters(), judges={"cost": partial})
    _, gold = attached(tiny_model, tmp_path / "c", Letters(), judges={"gold": partial})
    ids = [[tree.info["id"] for tree in (made(0), made._rollout.trees)[1]] for made in (whole, costs, gold)]
    assert len(ids[1]) == len(ids[0]) - 1
    assert ids[2] == ids[0]
    assert costs.told()["unrewarded"] == 1
    assert "unrewarded" not in gold.told()
    known = gold._rollout.flat("gold")
    assert np.isnan(known).sum() == 4
    assert gold.told()["gold"] == pytest.approx(np.nanmean(known))
    back = rollouts.read(rollouts.path(tmp_path / "c", 0), "mark")
    np.testing.assert_array_equal(back.flat("gold"), known)
    _, none = attached(tiny_model, tmp_path / "d", Letters(), judges={"gold": judge(lambda question: False)})
    none(0)
    assert "gold" not in none.told()


def test_methods_that_judge_once_leave_such_prompts_out(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(best_of_n, "named", lambda name: judge(lambda question: name == "gold" or "3" not in question))
    loop = {name: value for name, value in FAST.items() if name not in ("samples", *PHASE)}
    told = loop | {"steps": 1, "feedback": "partial", "gold": "gold", "n": 2}
    done = train("best-of-n", model=tiny_model, data=prompts(), out=tmp_path, **told)
    assert any("1 of 7 prompts were left out" in note for note in done.notes)
    [chosen] = tmp_path.glob("chosen-*.jsonl")
    assert "what is 3?" not in chosen.read_text(encoding="utf-8")


def test_a_feedback_that_rewards_nothing_is_an_error():
    why = SetAside("It gives no rating.")
    assert rewarded([[1.0], [0.5, 2.0]], judge()) == ([0, 1], [])
    places, [said] = rewarded([why, [1.0], why], judge())
    assert places == [1]
    assert said.startswith("2 of 3 prompts were left out, for the feedback 'judge:scripted' did not reward them")
    with pytest.raises(KilterError, match=r"'judge:scripted' rewards nothing: It gives no rating. Take another judge"):
        rewarded([why, why], judge())
