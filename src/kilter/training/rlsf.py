"""Learning from synthetic feedback: a reward model from who wrote the answers, and dialogues that it guides."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from kilter.engine.batch import Groups
from kilter.engine.loss import Loss
from kilter.engine.values import Values
from kilter.errors import SetAside
from kilter.feedback.reward_model import RewardModel
from kilter.models.each import Each, answered, each
from kilter.models.load import load
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Group, Message, Origin, Prompt, Record, identify
from kilter.registry import Amount, Count, method
from kilter.training.objective import learns_from
from kilter.training.reward import reward

PAPER = "arXiv:2305.13735"
PROMPTS = Prompts(__file__)


def compared(records: list[Record], *, by_length: bool = True) -> tuple[list[Record], list[str]]:
    """Return a pair for every comparison of a group that the rule keeps."""
    made: list[Record] = []
    dropped = 0
    for group in (record for record in records if isinstance(record, Group)):
        kept = [pair for pair in group.pairs() if not by_length or keeps(group.responses, *pair)]
        dropped += len(group.pairs()) - len(kept)
        for better, worse in kept:
            pair = [group.responses[better], group.responses[worse]]
            origin = Origin("rlsf", PAPER, parents=(group.id,))
            made.append(Group(group.prompt, pair, ranking=[0, 1], id=identify(group.id, better, worse), origin=origin))
    notes = [f"{dropped} pairs left out: the better is short beside the other answers."] if dropped else []
    return made, notes


def keeps(responses: Sequence[str], better: int, worse: int) -> bool:
    """Whether a comparison passes the rule of lengths, in characters.

    It fails where the better is shorter than the worse and than mean - sd / 2 of all. Of two alone the shorter always
    is: they pass, since whoever made them a pair had the others to measure by.
    """
    lengths = [len(response) for response in responses]
    if len(lengths) < 3:
        return True
    short = statistics.fmean(lengths) - statistics.pstdev(lengths) / 2
    return not (lengths[better] < lengths[worse] and lengths[better] < short)


@method("rlsf", wing="training", paper=PAPER, survey="S1 §4.3.2, S3 §3.1", aliases=("almost",))
@learns_from("pairs", trains="judge", records=compared, learning_rate=2e-5, epochs=1, weight_decay=0.1, max_length=1024)
def rlsf(values: Values, group: Groups) -> Loss:
    """Reward model from synthetic comparisons (Kim et al. 2023, §2.1).

    L = - log sigma(r(x, y_w) - r(x, y_l)), the mean over the step's pairs, where nobody compared y_w with y_l: y_w was
    written by the larger model, or after more or better examples. Records are groups ranked by who wrote the answers
    (`kilter data almost` makes pairs of them). A comparison is left out where y_w is shorter than y_l and also shorter
    than mean - sd / 2 of the answers to x: the larger model, too, is sometimes curt.

    What the paper does with it: `kilter data rlsf` has the model guide dialogues of simulated users, `kilter train sft`
    imitates them, and `kilter train rlhf-ppo --feedback MODEL` goes on from there.

    values: ends [R] are r; group.pairs [N, 2]. The result is per pair [N].

    Options:
        by_length: leave comparisons out by the rule of lengths
    """
    return reward(values, group)


@method("rlsf", wing="data", paper=PAPER, survey="S1 §4.3.2, S3 §3.1", aliases=("rmsp",))
def self_play(
    model: Model,
    records: Iterable[Prompt],
    *,
    feedback: str,
    user: str = "",
    n: Count = 4,
    turns: Count = 2,
    max_tokens: Count = 256,
    temperature: Amount = 1.0,
    seed: int = 0,
) -> Each[Demonstration]:
    """Dialogues of a simulated user with an assistant that a reward model guides (Kim et al. 2023, §2.2).

    The assistant answers the prompt `n` times, and the answer that the reward model scores highest is what it says;
    a simulated user says something more, and so on for so many `turns` of the assistant. meta has the reward of each.

    Options:
        feedback: a reward model (`kilter train rlsf`)
        user: the model that speaks as the user; without one, the model itself
        n: answers of which the best is said
        turns: turns of the assistant
        max_tokens: longest turn
        temperature: of sampling
        seed: seed of the samples
    """
    judge, speaker = RewardModel(feedback), load(user) if user else model

    async def one(prompt: Prompt) -> Demonstration:
        messages, scores = list(prompt.messages), []
        for turn in range(turns):
            if turn:
                asked = PROMPTS("user", conversation=messages)
                said = await answered(speaker, asked, Sampling(max_tokens, temperature, seed=seed + turn), cut=True)
                messages.append(Message("user", said.text.strip()))
            answers = await model.ask(messages, Sampling(max_tokens, temperature, n=n, seed=seed + turn))
            texts = list(dict.fromkeys(answer.text.strip() for answer in answers if answer.text.strip()))
            if not texts:
                raise SetAside("Every answer is empty; ask another model.", "empty")
            signals = await judge(Prompt(messages, meta=prompt.meta), texts)
            best = max(range(len(texts)), key=lambda k: (signals[k].score or 0.0, -k))
            scores.append(signals[best].score)
            messages.append(Message("assistant", texts[best]))
        origin = Origin("rlsf", PAPER, answers[0].model, (prompt.id,), seed, PROMPTS.version("user"))
        return Demonstration(messages, origin=origin, meta={**prompt.meta, "rewards": scores})

    return each(records, one, label="dialogues")
