"""The reward model of RLHF: a number for a response, learned from which of two people preferred."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from kilter.engine.batch import Groups
from kilter.engine.loss import Loss
from kilter.engine.values import Values
from kilter.errors import KilterError
from kilter.registry import method
from kilter.training.objective import learns_from


@method(
    "rm-bt",
    wing="training",
    paper="arXiv:2009.01325",
    survey="S1 §4.3.1, S2 §3.2.1",
    aliases=("reward", "reward-model"),
)
@learns_from("pairs", trains="judge")
def reward(values: Values, group: Groups, *, margin: float = 0.0, centering: float = 0.0) -> Loss:
    """Bradley-Terry reward model from pairs and rankings (Christiano et al. 2017, Stiennon et al. 2020).

    L = - 1/C sum_{w > l} log sigma(r(x, y_w) - r(x, y_l) - m) for each prompt, the mean over the step's prompts. The
    sum runs over all C pairs of the K ranked responses (C = K (K-1) / 2 without ties): they are one example, so that a
    prompt counts once and its responses are computed once (Ouyang et al. 2022). r is the number that the model says at
    the end of the conversation. A number that is the same for all responses to a prompt does not change L.

    With `margin` a, m is a times how much higher y_w is scored than y_l (Touvron et al. 2023), or ranked; where pairs
    have a column `margin`, a times that. `centering` c adds c (r(y_w) + r(y_l))^2, which keeps rewards about 0.

    values: ends [R] are r; group.pairs [N, 2] are rows of y_w and y_l. The result is per pair [N], each weighing 1 / C.
    Its gradient with respect to r(y_w) - r(y_l) is -sigma(m - (r(y_w) - r(y_l))). The metric accuracy counts a tie as
    one half.

    Options:
        margin: by how much the better one should lead for each unit that it is scored or ranked above the worse
        centering: weight of the squared sum of the two rewards; 0.01 where it is wanted (Eisenstein et al. 2023)
    """
    rewards, (better, worse) = values.ends, group.pairs.T
    lead = rewards[better] - rewards[worse]
    wanted = lead - margin * _distance(group) if margin else lead
    loss = -logsigmoid(wanted)
    if centering:
        loss = loss + centering * (rewards[better] + rewards[worse]) ** 2
    pairs = rewards.new_zeros(len(rewards))
    trees = group.group_of[better]
    share = 1 / pairs.index_add(0, trees, rewards.new_ones(len(lead)))[trees]
    metrics = {
        "reward_margin": lead,
        "accuracy": (lead > 0).float() + 0.5 * (lead == 0).float(),
        "chosen_reward": rewards[better],
        "rejected_reward": rewards[worse],
    }
    return Loss(loss * share, share, metrics)


def _distance(group: Groups) -> Tensor:
    """Return [N]: how much higher the better one of each pair is scored."""
    if group.scores is None:
        raise KilterError("A margin needs scores or a ranking, and some group has none; set margin to 0.")
    return group.scores[group.pairs[:, 0]] - group.scores[group.pairs[:, 1]]
