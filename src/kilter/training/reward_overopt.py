"""Reward over-optimisation: a policy learns from a proxy of a reward, and the reward itself is measured beside it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from kilter.engine.held_out import check as check_held_out
from kilter.engine.loop import LoopOptions, TrainResult
from kilter.feedback.named import named
from kilter.feedback.numbers import check
from kilter.feedback.overoptimised import FEWEST, Law, at, fitted, lost
from kilter.files import write_json, write_text
from kilter.models.load import load_weights
from kilter.records import Prompt
from kilter.registry import Amount, Count, method
from kilter.store.metrics import read_metrics
from kilter.training.course import Task, takes_its_course
from kilter.training.sampled import compared

PAPER = "arXiv:2210.10760"
POINTS, LAWS = "points.jsonl", "laws.json"
LINES = {"best-of-n": "best_of.jsonl"}  # where a method has its points, if not in metrics.jsonl
Point = dict[str, float]


@method("reward-overopt", wing="training", paper=PAPER, survey="S1 §4.3.3", aliases=("overoptimisation",))
@takes_its_course("prompts", shared=(LoopOptions,), log_every=1)
def reward_overopt(
    task: Task,
    *,
    gold: dict[str, float] | str,
    feedback: dict[str, float] | str | None = None,
    by: Literal["rlhf-ppo", "reinforce++", "best-of-n"] = "rlhf-ppo",
    comparisons: Count | None = None,
    noise: Amount = 0.0,
    proxy_model: str | None = None,
    kl_coef: Annotated[float, Field(gt=0)] = 1e-6,
    samples: Annotated[int, Field(ge=2)] = 4,
    max_tokens: Count = 64,
    temperature: Annotated[float, Field(gt=0)] = 1.0,
    judge_epochs: Annotated[float, Field(gt=0)] = 1.0,
    judge_learning_rate: Annotated[float, Field(gt=0)] | None = None,
) -> TrainResult:
    """Reward over-optimisation (Gao, Schulman and Hilton 2022): a policy against a proxy of the reward that is meant.

    As in the paper a gold reward stands for people: the model's responses to `comparisons` prompts are ranked by it,
    a preference model learns from these alone (`rm-bt`, begun from `proxy_model`: a smaller one, or fewer comparisons,
    makes more mistakes), and the policy learns from that model, the proxy. Or `feedback` is the proxy. Beside the proxy
    the gold reward of the same samples is measured and never learned from, at d = sqrt(KL(pi || pi_start)). The laws:

        R_gold(d) - R_gold(0) = d (a - b log d)   by reinforcement learning
        R_gold(d) - R_gold(0) = d (a - b d)       by the best of n, KL = log n - (n - 1) / n

    a is what learning gains at first, b what it loses to the proxy's mistakes; the gold reward is highest at
    e^(a / b - 1), or a / 2b. Reinforcement learning is that of `by` with next to no penalty on the KL, as in the paper.

    out/policy is the policy's run, whose metrics.jsonl (best_of.jsonl for the best of n) grows as it goes and has the
    proxy's reward, the gold one and the KL of every rollout; out/proxy the preference model's. out/points.jsonl has a
    line a point (d, proxy, gold, and what the law says), out/laws.json a, b, the peak as far as was gone, the gain
    there, `lost` (how far the last third lies below the best) and `proxy_gain`. `kilter eval reward-overopt` on
    out/policy adds intervals. `out` itself is the policy as it ended, over-optimised as it may be.

    Shared options (steps, learning_rate ...) are the policy's.

    Options:
        gold: what is meant: world, a reward model, a rule, judge:MODEL or {name: weight}
        feedback: the proxy, where there is one; none: a preference model learns from comparisons by the gold reward
        by: how the policy learns
        comparisons: prompts whose responses are compared for the proxy; none: all of them
        noise: how unsure the comparisons are: the better is preferred with sigma(lead / noise); 0 never errs
        proxy_model: what the proxy is trained from; none: the policy's own start
        kl_coef: what a nat away from the start costs the policy at each token; not 0, or nobody measures it
        samples: responses to each prompt, to compare and to learn from; for the best of n, n
        max_tokens: longest response, in tokens
        temperature: of sampling
        judge_epochs: passes of the proxy over the comparisons
        judge_learning_rate: of the proxy; none: the policy's
    """
    check_held_out(LoopOptions(**task.loop()), samples=by != "best-of-n")
    if (kept := task.admit()) is not None:
        return kept
    started = time.perf_counter()
    people = named(gold)
    prompts = [record for record in task.records if isinstance(record, Prompt)]
    check(people, prompts)
    task.say(task.notes)
    given = task.loop()
    sampling = {"max_tokens": max_tokens, "temperature": temperature}
    if feedback is None:
        file = task.out / f"comparisons-{task.mark()[:8]}.jsonl"
        asked = prompts[:comparisons]
        shaping = {"n": samples, "seed": given["seed"], **sampling}
        groups = compared(file, task.model, asked, people, noise=noise, by=(task.method, PAPER), **shaping)
        judging = task.judging(judge_epochs, judge_learning_rate)
        task.part("rm-bt", groups, task.out / "proxy", judging, model=proxy_model)
        feedback = str(task.out / "proxy")
    told = sampling | {"feedback": feedback, "gold": gold}
    told |= {"n": samples} if by == "best-of-n" else {"samples": samples, "kl_coef": kl_coef}
    policy = task.out / "policy"
    done = task.part(by, prompts, policy, given | told)
    points = distances(read_metrics(policy / LINES.get(by, "metrics.jsonl")))
    law: Law = "best-of-n" if by == "best-of-n" else "rl"
    found = laws(points, law)
    write_json(task.out / LAWS, {"by": by, "law": law, "points": len(points), **found})
    write_text(task.out / POINTS, "".join(json.dumps(point) + "\n" for point in points))
    said = _said(found, points)
    task.notes.extend(said)
    task.say(said)
    weights, tokenizer = load_weights(str(policy), torch.float32)
    lines = [{"step": n + 1, "loss": done.losses[-1]} | point for n, point in enumerate(points)]
    return task.finish(weights, tokenizer, losses=done.losses, tokens=done.tokens, started=started, lines=lines)


def distances(lines: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Return the points of a run's metrics: d, the proxy's and the gold reward, one for each rollout.

    Lines without them are passed over, and so are those that say the same as the one before: steps on one rollout.
    """
    points: list[Point] = []
    for line in lines:
        known = {name: line.get(f"sampled_{name}", line.get(name)) for name in ("kl", "reward", "gold")}
        if all(value is not None for value in known.values()):
            point = {"d": math.sqrt(max(0.0, known["kl"])), "proxy": known["reward"], "gold": known["gold"]}
            points += [point] if points[-1:] != [point] else []
    return points


def laws(points: list[Point], law: Law) -> dict[str, float]:
    """Return what the law says of `points`, and write it beside each; nothing where they are too few for a curve."""
    if len({round(point["d"], 9) for point in points}) < FEWEST:
        return {}
    d, proxy, gold = (np.array([point[name] for point in points]) for name in ("d", "proxy", "gold"))
    gain = gold - gold[d.argmin()]
    found = fitted(d, gain, law)
    for point, value in zip(points, at(d, found["a"], found["b"], law), strict=True):
        point["law"] = float(value + gold[d.argmin()])
    third = max(1, len(d) // 3)
    rise = float(proxy[-third:].mean() - proxy[:third].mean())
    return found | {"lost": lost(gain), "proxy_gain": rise}


def _said(found: Mapping[str, float], points: Sequence[Point]) -> list[str]:
    if not found:
        return ["The run has too few distances for a curve; take more steps, or a higher n."]
    if found["proxy_gain"] > 0 and found["lost"] > 0 and found["peak"] < max(point["d"] for point in points):
        return [
            f"The proxy rose by {found['proxy_gain']:.3g}; the gold reward is highest at sqrt(KL) = "
            f"{found['peak']:.2f} and fell by {found['lost']:.3g} from its best."
        ]
    return []
