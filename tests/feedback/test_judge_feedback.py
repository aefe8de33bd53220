"""A judge by its name as feedback, the world's teacher among them."""

import pytest

from kilter.errors import KilterError
from kilter.feedback.judge import JudgeFeedback
from kilter.feedback.named import admit, is_own, named
from kilter.models.drive import wait
from kilter.world import FAMILIES, World


def test_a_judge_is_feedback_by_its_name():
    found = named("judge:kilter/teacher")
    assert isinstance(found, JudgeFeedback)
    assert is_own("judge:kilter/teacher")
    admit("judge:kilter/teacher")
    admit({"judge:kilter/teacher": 1.0, "contains:blue": 0.5})
    for wrong in ("judge:", "judge:no/such/model"):
        with pytest.raises(KilterError):
            admit(wrong)


def test_the_teacher_rates_good_responses_above_bad_ones():
    feedback = named("judge:kilter/teacher")
    better = total = 0
    for prompt, item in World()._distinct("eval", 60, 3, dict.fromkeys(FAMILIES, 1.0)):
        if World().judge(prompt, item.bad).reward == 0:
            good, bad = wait(feedback(prompt, [item.good, item.bad]))
            better += good.score > bad.score
            total += 1
    assert total > 30
    assert better >= 0.95 * total
