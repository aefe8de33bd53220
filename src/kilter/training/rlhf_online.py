"""Iterated online RLHF: deploy, collect fresh comparisons, train preference model and policy anew, and again."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field

from kilter.engine.held_out import check as check_held_out
from kilter.engine.loop import METRICS, LoopOptions, TrainResult
from kilter.feedback.named import named
from kilter.feedback.numbers import check
from kilter.models.load import load_weights
from kilter.records import Group, Prompt
from kilter.registry import Amount, Count, method
from kilter.store.metrics import read_metrics
from kilter.training.course import Task, takes_its_course
from kilter.training.sampled import compared

PAPER = "arXiv:2204.05862"


@method("rlhf-online", wing="training", paper=PAPER, survey="S1 §4.3.1", aliases=("iterated-rlhf",))
@takes_its_course("prompts", shared=(LoopOptions,))
def rlhf_online(
    task: Task,
    *,
    feedback: dict[str, float] | str,
    rounds: Count = 3,
    samples: Annotated[int, Field(ge=2)] = 2,
    comparisons: Count | None = None,
    noise: Amount = 0.0,
    held_out: Annotated[float, Field(ge=0, le=0.5)] = 0.5,
    kl_coef: Amount = 0.001,
    responses: Count = 4,
    max_tokens: Count = 64,
    temperature: Annotated[float, Field(gt=0)] = 1.0,
    judge_epochs: Annotated[float, Field(gt=0)] = 1.0,
    judge_learning_rate: Annotated[float, Field(gt=0)] | None = None,
) -> TrainResult:
    """Iterated online RLHF (Bai et al. 2022).

    A round: the policy that is deployed, at first the model itself, gives `samples` responses to prompts that were not
    compared before; people, here `feedback`, say which is better; a preference model is trained from scratch on the
    comparisons of all rounds together, L = log(1 + e^(r_bad - r_good)) (`rm-bt`); the policy is trained from scratch by
    `rlhf-ppo` on r_PM - kl_coef (log mu - log pi_ref), and deployed. What is compared so becomes better, and the
    preference model learns to tell good from very good, where the next policy will be: comparisons that were all
    collected at the start tell it nothing of that.

    A second preference model, trained on the `held_out` share of the comparisons alone, looks on while the policy
    learns from the first (on the others): its rewards stand in the metrics of the round as gold. Where the policy's
    reward rises and that one's falls the policy has learned the first model's mistakes; a note says from which distance
    sqrt(KL) on. held_out=0 trains one model on all. The paper's law is a reward linear in sqrt(KL).

    The mixture of helpful and harmless data is that of the prompts and of `feedback` ({name: weight}). Everything below
    out/round-N is a run of its own: comparisons, preferences, onlooker, policy; a run that was stopped goes on
    where it was. `out` itself is the last policy. The paper's pretraining of preference models on ranked web data is
    not here: start from a model that has it.

    Shared options (steps, learning_rate, batch_size ...) are the policy's in each round.

    Options:
        feedback: who compares: world, a reward model, a rule, judge:MODEL or {name: weight}
        rounds: how often fresh comparisons are collected
        samples: responses to a prompt that are compared
        comparisons: prompts that are compared in a round; none: an equal share of all for each round
        noise: how unsure people are: the better is preferred with sigma(lead / noise); 0 never errs
        held_out: share of the comparisons that only the onlooker learns from
        kl_coef: lambda_KL, what a nat away from the model at the start costs at each token
        responses: samples to each prompt while the policy learns
        max_tokens: longest response, in tokens
        temperature: of sampling
        judge_epochs: passes of a preference model over the comparisons
        judge_learning_rate: of preference models; none: the policy's
    """
    check_held_out(LoopOptions(**task.loop()), samples=True)
    if (kept := task.admit()) is not None:
        return kept
    started = time.perf_counter()
    people = named(feedback)
    prompts = [record for record in task.records if isinstance(record, Prompt)]
    check(people, prompts)
    share = comparisons or max(1, len(prompts) // rounds)
    if share * rounds > len(prompts):
        task.notes.append(f"{rounds} rounds of {share} prompts each are more than {len(prompts)}: some come again.")
    task.say(task.notes)
    given = task.loop()
    judging = task.judging(judge_epochs, judge_learning_rate)
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(given["seed"])).tolist()
    deployed, tokens = task.model, 0
    pool: list[Group] = []
    lines: list[dict[str, Any]] = []
    losses: list[float] = []
    for turn in range(rounds):
        folder = task.out / f"round-{turn + 1}"
        chosen = [prompts[order[(turn * share + i) % len(prompts)]] for i in range(share)]
        shaping = {"n": samples, "max_tokens": max_tokens, "temperature": temperature, "seed": given["seed"] + turn}
        file = folder / f"comparisons-{task.mark()[:8]}.jsonl"
        pool += compared(file, deployed, chosen, people, noise=noise, by=("rlhf-online", PAPER), **shaping)
        learned, apart = _split(pool, held_out)
        policy = folder / "policy"
        sampling: dict[str, Any] = {
            "samples": responses,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "kl_coef": kl_coef,
        }
        sampling["feedback"] = str(task.part("rm-bt", learned, folder / "preferences", judging).out)
        if apart:
            sampling["gold"] = str(task.part("rm-bt", apart, folder / "onlooker", judging).out)
        done = task.part("rlhf-ppo", prompts, policy, given | sampling)
        said = read_metrics(policy / METRICS)
        task.notes.extend(alarm(said, turn + 1))
        lines.append({"step": turn + 1, "loss": done.losses[-1], "comparisons": len(pool)})
        lines[-1] |= {name: said[-1][name] for name in ("sampled_reward", "sampled_kl", "gold") if name in said[-1]}
        losses.append(done.losses[-1])
        tokens += done.tokens
        deployed = str(policy)
    weights, tokenizer = load_weights(deployed, torch.float32)
    return task.finish(weights, tokenizer, losses=losses, tokens=tokens, started=started, lines=lines)


def _split(pool: Sequence[Group], held_out: float) -> tuple[list[Group], list[Group]]:
    """Return the comparisons that are learned from and those of the onlooker, by the prompts' ids."""
    apart = [group for group in pool if int(group.id, 16) % 1000 < 1000 * held_out]
    learned = [group for group in pool if group not in apart]
    # With so few of them that one side would have none both learn from all.
    return (learned, apart) if learned and apart else (list(pool), [])


def alarm(lines: Sequence[dict[str, Any]], turn: int) -> list[str]:
    """Return a sentence where the reward rises and the onlooker's falls, with the distance from which on.

    `lines` are the metrics of a round. A third of the round is compared with the next.
    """
    told = [(line["sampled_reward"], line["gold"], line.get("sampled_kl", 0.0)) for line in lines if "gold" in line]
    size = len(told) // 3
    if not size:
        return []
    parts = [told[at * size : (at + 1) * size if at < 2 else None] for at in range(3)]
    means = [[sum(column) / len(part) for column in zip(*part, strict=True)] for part in parts]
    for before, after in ((0, 1), (1, 2)):
        if means[after][0] > means[before][0] and means[after][1] < means[before][1]:
            away = math.sqrt(max(0.0, means[before][2]))
            return [
                f"Round {turn}: from a distance of about sqrt(KL) = {away:.2f} on the reward rises and that of the "
                "onlooker falls: the policy learns the preference model's mistakes; raise kl_coef, or take fewer steps."
            ]
    return []
