"""Chain of Hindsight: answers of every quality are imitated, each behind words that say which it is."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kilter import formats
from kilter.engine.batch import Groups, Tree
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.errors import KilterError
from kilter.records import Demonstration, Group, Message, Origin, Record, identify
from kilter.registry import Amount, Share, method
from kilter.training.marked import mark_template, under
from kilter.training.objective import learns_from

PAPER = "arXiv:2302.02676"
KINDS = ("p", "n", "np", "pn")
PARAPHRASES = (
    ("a bad answer is:", "a good answer is:"),
    ("This would be worse:", "This would be better:"),
    ("One that people disliked:", "One that people liked:"),
    ("较差的回答：", "较好的回答："),
)
"""Other words for the worse and the better answer, so that the condition is understood and not only recognised."""


def chains(
    records: list[Record],
    tokenizer: Any,
    *,
    kinds: str = "np,pn",
    good: str = "A helpful answer:",
    bad: str = "An unhelpful answer:",
    paraphrases: bool = True,
    seed: int = 0,
) -> tuple[list[Record], list[str]]:
    """Return the chains of every pair, and let the chat template ask under the good condition."""
    wanted = [kind.strip() for kind in kinds.split(",")]
    if strange := [kind for kind in wanted if kind not in KINDS]:
        raise KilterError(f"There is no chain of the kind '{strange[0]}'; kinds are {', '.join(KINDS)}.")
    if not good.strip() or not bad.strip() or good == bad:
        raise KilterError("The words for good and for bad have to be there, and to differ; give others.")
    words = [(bad, good), *(PARAPHRASES if paraphrases else ())]
    mark_template(tokenizer, good, [word for pair in words for word in pair])
    made: list[Record] = []
    for group in (record for record in records if isinstance(record, Group)):
        for better, worse in group.pairs():
            for kind in wanted:
                # Its kind is read from it once more, where there is only a tree.
                key = f"{identify(group.id, better, worse)}-{kind}"
                draw = random.Random(f"coh {seed} {key}")
                # The words that will be asked with are as frequent as all others together.
                said = words[0] if len(words) == 1 or draw.random() < 0.5 else draw.choice(words[1:])
                steps = [(said[1], better) if which == "p" else (said[0], worse) for which in kind]
                messages = list(group.prompt)
                for mark, k in steps:
                    messages = [*under(messages, mark), Message("assistant", group.responses[k])]
                origin = Origin("coh", PAPER, parents=(group.id,), seed=seed)
                made.append(Demonstration(messages, id=key, origin=origin, meta={"chain": kind}))
    return made, []


def forgetful(
    trees: Sequence[Tree],
    tokenizer: Any,
    *,
    hidden: Share = 0.15,
    pretraining: str = "",
    pretraining_weight: Amount = 0.01,
    max_length: int = 1024,
    seed: int = 0,
) -> list[Tree]:
    """Hide tokens of what stands before an answer, and put texts beside the chains."""
    special = set(tokenizer.all_special_ids)
    blank = next(
        i for i in (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id, 0) if i is not None
    )
    made = []
    for tree in trees:
        draw = random.Random(f"coh {seed} {tree.info.get('id')}")
        rate = draw.random() * hidden * 2
        tokens = [*tree.prompt, *tree.responses[0]]
        places = [at for at, token in enumerate(tokens) if at and token not in special and draw.random() < rate]
        info = {**tree.info, "unseen": (places, blank), "order": [1.0]}
        made.append(replace(tree, prompt_mask=_answers(tree), info=info))
    if pretraining:
        made += _texts(pretraining, tokenizer, max_length, pretraining_weight)
    return made


def _answers(tree: Tree) -> list[bool] | None:
    """Return which tokens of a chain's prompt are its first answer: none where it has but one answer.

    Earlier turns of the assistant belong to x, and are not learned.
    """
    scored = [bool(mark) for mark in tree.prompt_mask or ()]
    if not str(tree.info["id"]).endswith(("-np", "-pn")) or not any(scored):
        return None
    end = max(at for at, mark in enumerate(scored) if mark)
    begin = next((at for at in range(end, -1, -1) if not scored[at]), -1) + 1
    return [begin <= at <= end for at in range(len(scored))]


def _texts(source: str, tokenizer: Any, max_length: int, weight: float) -> list[Tree]:
    """Return the texts of the records of a file as trees without a prompt, all of whose tokens are learned."""
    found = []
    for record in formats.read(source).records:
        turns = record.prompt if isinstance(record, Group) else record.messages
        parts = [turn.content for turn in turns] + (record.responses[:1] if isinstance(record, Group) else [])
        ids = tokenizer("\n".join(parts), add_special_tokens=False)["input_ids"][:max_length]
        if len(ids) > 1:
            found.append(Tree((), [ids], [[True] * len(ids)], info={"id": record.id, "order": [weight]}))
    if not found:
        raise KilterError(f"{source} holds no text to learn from; give another file, or leave pretraining out.")
    return found


@method("coh", wing="training", paper=PAPER, survey="S1 §4.3.3, S2 §3.2.2", aliases=("chain-of-hindsight",))
@learns_from("pairs", becomes="demonstrations", records=chains, trees=forgetful)
def coh(policy: LogProbs, group: Groups) -> Loss:
    """Chain of Hindsight (Liu, Sferrazza and Abbeel 2023, §2).

    Of each pair of a better answer y_w and a worse one y_l to x come conversations in which what a person said of an
    answer stands before it, as the end of a user's turn:

        np    x + bad words -> y_l,  good words -> y_w          p    x + good words -> y_w
        pn    x + good words -> y_w,  bad words -> y_l          n    x + bad words -> y_l

    L = - sum_t m_t log pi(y_t | all before) / sum_t m_t, where m_t is 1 on the tokens of the answers (with the one that
    ends a turn) and 0 on x and on the words. The model learns good answers from bad ones by what is said of them, and
    is asked under the good words: the checkpoint's chat template says them wherever a user's turn says none, so that
    it is evaluated, sampled and trained further as any other model is. `kinds` p is fine-tuning on the better answers,
    and p,n are conditional behaviour cloning.

    Copying y_l into y_w is made hard by hiding: of each chain a share of the tokens, drawn between 0 and twice `hidden`
    once for all epochs, is put in as a blank, and still has to be predicted. The paper hides them from attention
    instead. The texts of `pretraining`, a file, are learned whole with the weight 0.01 of the released code (the paper
    has 1.5), so that the language is not forgotten.

    policy: log-probs of R chains; group.scores [R] their weights. The result is per chain [R], weighted by its number
    of scored tokens.

    Options:
        kinds: chains that are made of every pair, with commas between: p, n, np, pn
        good: the words for a better answer, which the checkpoint is asked with
        bad: the words for a worse answer
        paraphrases: say it in other words in half of the chains
        hidden: mean share of a chain's tokens that are hidden from what follows; 0 hides none
        pretraining: a file of texts to learn beside the chains
        pretraining_weight: weight of a token of those texts
    """
    weight = policy.lengths if group.scores is None else policy.lengths * group.scores
    return Loss(-policy.sum() * weight / policy.lengths.clamp(min=1), weight)
