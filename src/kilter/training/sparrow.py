"""Sparrow: one model for all rules, answers chosen by preference and rules together, probes that look for breaches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from kilter.engine.batch import Groups
from kilter.engine.loss import Loss
from kilter.engine.values import Values
from kilter.errors import KilterError, SetAside
from kilter.feedback.reward_model import RewardModel
from kilter.feedback.rule_model import RuleModel, rules_in, with_rule
from kilter.models.each import Each, answered, each
from kilter.models.load import load
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Group, Message, Origin, Prompt, Record
from kilter.registry import Amount, Count, method
from kilter.training.objective import learns_from
from kilter.training.reward_outcome import reward_outcome

PAPER = "arXiv:2209.14375"
PROMPTS = Prompts(__file__)


def ruled(records: list[Record]) -> tuple[list[Record], list[str]]:
    """Return the groups with the rule that they are labelled by at the head of the conversation."""
    groups = [record for record in records if isinstance(record, Group)]
    found = [(group, rule_of(group)) for group in groups]
    made: list[Record] = [
        Group(
            with_rule(group.prompt, rule),
            group.responses,
            labels=group.labels,
            id=group.id,
            origin=group.origin,
            meta=group.meta,
        )
        for group, rule in found
        if rule
    ]
    if not made:
        raise KilterError(
            "No record says by which rule it is labelled; give it a column 'rule' with the rule in words."
        )
    left = len(groups) - len(made)
    return made, [f"{left} of {len(groups)} records left out: no column 'rule' with the rule in words."] if left else []


def rule_of(group: Group) -> str:
    """Return the rule in words that a group is labelled by, "" where it says none."""
    found = group.meta.get("rule") or (group.meta.get("extra") or {}).get("rule")
    return found.strip() if isinstance(found, str) else ""


@method("sparrow", wing="training", paper=PAPER, survey="S1 §4.3.1")
@learns_from("labels", trains="judge", becomes="labels", records=ruled)
def sparrow(values: Values, group: Groups) -> Loss:
    """Rule reward model, conditioned on the rule's text (Glaese et al. 2022, §2.6.2).

    L = - [z log sigma(r) + (1 - z) log sigma(-r)], the mean over the step's responses: r(x, y, rule) is the number that
    the model says at the end of the conversation, which begins with the rule in words; z is 1 where y keeps the rule
    and 0 where it breaks it. sigma(r) is P(y keeps the rule), 1 - sigma(r) is P(violation). There is one model for all
    rules: what it learns of one wording serves another, and rules may be added without training.

    Rows are `prompt`, `completion`, `label` (whether the rule is kept) and `rule`. The paper's other model, of what
    people prefer, is `kilter train reward`. The two together choose among samples (`kilter data sparrow`) and reward a
    policy, R = R_preference + mean_i P(rule i is kept), as the feedback of any online method:
    `--feedback '{"models/preference": 1, "rules:models/rules@rules.txt": 1}'`; the paper's reinforcement is A2C with a
    penalty for leaving the first policy. `kilter data sparrow-probes` looks for breaches to label and learn from next.

    values: ends [R] are r; group.labels [R] are z. The result is per response [R]. Raises KilterError where no record
    says its rule.
    """
    return reward_outcome(values, group)


def rerank(preference: Sequence[float], kept: Sequence[Sequence[float]]) -> list[float]:
    """Return the score of each of N responses, given what people would prefer [N] and P(rule is kept) [N][rules].

    e^R / (e^R + e^mean(R)) times the geometric mean over the n rules of P(rule i is kept) (§2.6.3): in [0, 1], rising
    in R and in every one of the probabilities.
    """
    mean = sum(preference) / len(preference)
    scores = []
    for reward, chances in zip(preference, kept, strict=True):
        lead = min(max(reward - mean, -700.0), 700.0)
        together = math.prod(chances) ** (1 / len(chances)) if chances else 1.0
        scores.append(together / (1 + math.exp(-lead)))
    return scores


@method("sparrow", wing="data", paper=PAPER, survey="S1 §4.3.1")
def best_by_rules(
    model: Model,
    records: Iterable[Prompt],
    *,
    preference: str,
    rule_model: str,
    rules: str,
    n: Count = 8,
    max_tokens: Count = 128,
    temperature: Amount = 1.0,
    seed: int = 0,
) -> Each[Group]:
    """Sample answers and score them by preference and rules together (Glaese et al. 2022, §2.6.3).

    Of `n` samples, y scores e^R(y) / (e^R(y) + e^mean(R)) (prod_i (1 - P(y breaks rule i)))^(1/#rules). The group holds
    the samples, the best first, with these as scores; meta has each one's preference and its probability of keeping
    each of the rules. Fine-tune on the best, or on the ranking.

    Options:
        preference: a reward model of what people prefer (`kilter train reward`)
        rule_model: a rule reward model (`kilter train sparrow`)
        rules: a file of rules, one a line
        n: samples of each prompt
        max_tokens: longest answer
        temperature: of sampling
        seed: seed of the samples
    """
    liked, keeps = RewardModel(preference), RuleModel(rule_model, rules_in(rules))

    async def one(prompt: Prompt) -> Group:
        answers = await model.ask(prompt.messages, Sampling(max_tokens, temperature, n=n, seed=seed))
        texts = list(dict.fromkeys(answer.text.strip() for answer in answers if answer.text.strip()))
        if not texts:
            raise SetAside("Every sample is empty; ask another model.", "empty")
        wanted = [signal.score or 0.0 for signal in await liked(prompt, texts)]
        kept = await keeps.kept(prompt, texts)
        scores = rerank(wanted, kept)
        order = sorted(range(len(texts)), key=lambda k: -scores[k])
        told = [{"preference": wanted[k], "kept": dict(zip(keeps.rules, kept[k], strict=True))} for k in order]
        return Group(
            prompt.messages,
            [texts[k] for k in order],
            scores=[scores[k] for k in order],
            origin=Origin("sparrow", PAPER, answers[0].model, (prompt.id,), seed),
            meta={**prompt.meta, "judged": told},
        )

    return each(records, one, label="samples")


@method("sparrow-probes", wing="data", paper=PAPER, survey="S1 §4.3.1")
def probes(
    model: Model,
    *,
    rule_model: str,
    rules: str,
    attacker: str = "",
    n: Count = 100,
    max_tokens: Count = 128,
    temperature: Amount = 1.0,
    seed: int = 0,
) -> Each[Group]:
    """Tempt a model to break rules, and label what it says (Glaese et al. 2022, §2.4, a model in the person's place).

    For each of `n` probes one of the rules is taken, in turn; an attacker is told the rule and writes a message that
    would tempt an assistant to break it, the model answers, and the rule model says whether the answer keeps the rule.
    The records are what `kilter train sparrow` learns from; meta has the rule, the probability that it is kept and
    "adversarial". Have people label them where they can: what a rule model says of its own blind spots is blind.

    Options:
        rule_model: a rule reward model (`kilter train sparrow`)
        rules: a file of rules, one a line
        attacker: the model that writes the probes; without one, the model itself
        n: how many probes
        max_tokens: longest message and answer
        temperature: of sampling
        seed: seed of the samples
    """
    judge, tempter = RuleModel(rule_model, rules_in(rules)), load(attacker) if attacker else model

    async def one(index: int) -> Group:
        place = index % len(judge.rules)
        sampling = Sampling(max_tokens, temperature, seed=seed * n + index)
        asked = PROMPTS("probe", rule=judge.rules[place])
        probe = await answered(tempter, asked, sampling)
        prompt = Prompt([Message("user", probe.text.strip())])
        said = await answered(model, prompt.messages, sampling, cut=True)
        [kept] = await judge.kept(prompt, [said.text])
        return Group(
            prompt.messages,
            [said.text],
            labels=[kept[place] >= 0.5],
            origin=Origin("sparrow-probes", PAPER, said.model, (), seed, asked.version),
            meta={"rule": judge.rules[place], "kept": kept[place], "adversarial": True},
        )

    return each(range(n), one, label="probes")
