"""What judges a response: one protocol for truths, rules, models and people."""

from kilter.feedback.annotators import Annotators
from kilter.feedback.judge import Judge, JudgeFeedback
from kilter.feedback.protocol import Feedback, Signal
from kilter.feedback.reward_model import RewardModel
from kilter.feedback.truth import WorldTruth

__all__ = ["Annotators", "Feedback", "Judge", "JudgeFeedback", "RewardModel", "Signal", "WorldTruth"]
