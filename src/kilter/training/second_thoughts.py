"""Second Thoughts: learn the edits that turn an answer into one that people are content with."""

from __future__ import annotations

from collections.abc import Iterable

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.errors import KilterError, SetAside
from kilter.feedback.edits import Costs, chain, has_marks, outcome, write
from kilter.models.each import Each, answered, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Group, Message, Origin, Prompt, Record, identify
from kilter.registry import Amount, Count, method
from kilter.training.objective import learns_from
from kilter.training.sft import sft

PAPER = "arXiv:2301.00355"
PROMPTS = Prompts(__file__)


def edits_of(records: list[Record], *, costs: str = "1,1,2") -> tuple[list[Record], list[str]]:
    """Return of every pair the chain of edits that makes the better answer of the worse, once for each of the costs."""
    settings = [_costs(part) for part in costs.split(";")]
    made: list[Record] = []
    left = 0
    for group in (record for record in records if isinstance(record, Group)):
        for better, worse in group.pairs():
            source, target = group.responses[worse].strip(), group.responses[better].strip()
            if has_marks(source + target) or not source:
                left += 1
                continue
            asked = list(PROMPTS("edit", conversation=group.prompt, draft=source))
            # Settings often agree on a chain, which is then learned once.
            for text in dict.fromkeys(write(chain(source, target, cost), target) for cost in settings):
                key = identify(group.id, better, worse, text)
                made.append(Group(asked, [text], id=key, origin=Origin("second-thoughts", PAPER, parents=(group.id,))))
    notes = [f"{left} pairs left out: the worse answer is empty, or one holds a mark such as <keep>."] if left else []
    return made, notes


def _costs(text: str) -> Costs:
    try:
        insert, delete, replace = (float(part) for part in text.split(","))
    except ValueError:
        raise KilterError(
            f"'{text}' says no costs; write what it costs to insert, delete and replace: 1,1,2."
        ) from None
    if not (0 < insert < float("inf") and 0 < delete < float("inf") and 0 < replace < float("inf")):
        raise KilterError(f"The costs '{text}' have to be above 0, or edits that undo one another would be free.")
    return Costs(insert, delete, replace)


@method("second-thoughts", wing="training", paper=PAPER, survey="S1 §4.3.2")
@learns_from("pairs", becomes="scores", records=edits_of)
def second_thoughts(policy: LogProbs, group: Groups) -> Loss:
    """Second Thoughts: re-alignment by chains of edits (Liu et al. 2022, §3.1).

    The worse answer s of a pair becomes the better one t by the edits that dynamic programming over their words finds
    to cost least: keeping a word is free, inserting and deleting one cost 1, replacing one 2. The model is given
    the conversation with s as its own answer, is asked to edit it, and learns to write chain and result:

        <keep>the sky is<replace> red<by> blue<answer>the sky is blue

    L = - sum_t m_t log pi(y_t | x, s, y_<t) / sum_t m_t, m_t being 1 on chain and result and 0 on what came before, s
    among it. Several `costs`, with semicolons between, give several chains of a pair and so more data.

    `kilter data second-thoughts` has a model so trained answer, think again and edit. The paper's second stage (§3.2)
    refines it by reinforcement, rewarded by a discriminator of human and machine edits and a model of values: train
    either as a reward model on chains (`kilter train reward-outcome`), then any online method, such as
    `kilter train rlhf-ppo --feedback '{"models/discriminator": 0.5, "models/values": 0.5, "edits": 2}'`. The rule
    `edits` rewards a chain that fits the answer before it and comes out as it says. It is 0 or 1, and what a reward
    model says has no bound: where the rule counts for little, chains come to please the discriminator and fit less.

    policy: log-probs of R chains. The result is per chain [R], weighted by its number of scored tokens.

    Options:
        costs: what it costs to insert, delete and replace a word; several settings with semicolons between
    """
    return sft(policy, group)


@method("second-thoughts", wing="data", paper=PAPER, survey="S1 §4.3.2")
def think_again(
    model: Model,
    records: Iterable[Prompt],
    *,
    max_tokens: Count = 128,
    temperature: Amount = 0.0,
    seed: int = 0,
) -> Each[Demonstration]:
    """Answer, then edit the answer by a chain of edits (Liu et al. 2022, §3.3).

    The model writes a draft, is shown it as its own, and writes the edits (train one with `kilter train
    second-thoughts`). They are applied to the draft; where they do not fit it, the result that stands at their end is
    taken. Draft and edits are kept in meta, where a person may change a step. An answer without a readable chain is
    set aside.

    Options:
        max_tokens: longest draft; a chain may be four times as long
        temperature: of sampling; 0 takes the likeliest token
        seed: seed of the samples
    """

    async def one(prompt: Prompt) -> Demonstration:
        draft = await answered(model, prompt.messages, Sampling(max_tokens, temperature, seed=seed))
        asked = PROMPTS("edit", conversation=prompt.messages, draft=draft.text.strip())
        edits = await answered(model, asked, Sampling(4 * max_tokens, temperature, seed=seed))
        text = outcome(edits.text.strip(), draft.text.strip())
        if text is None or not text.strip():
            raise SetAside(
                "The model wrote no chain of edits; train it with `kilter train second-thoughts`.", "no chain"
            )
        origin = Origin("second-thoughts", PAPER, edits.model, (prompt.id,), seed, asked.version)
        meta = {**prompt.meta, "draft": draft.text, "edits": edits.text}
        return Demonstration([*prompt.messages, Message("assistant", text.strip())], origin=origin, meta=meta)

    return each(records, one, label="second thoughts")
