"""Best of n: sample, keep the best, and have the model answer like that at once."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field

from kilter import formats
from kilter.engine.loop import LoopOptions, TrainResult
from kilter.errors import KilterError, SetAside
from kilter.feedback.named import named
from kilter.feedback.numbers import check
from kilter.models.load import load_weights
from kilter.records import Demonstration, Message, Prompt
from kilter.registry import Count, method
from kilter.training.course import Task, takes_its_course
from kilter.training.sampled import answers, judged
from kilter.training.unrewarded import rewarded


def kl(n: int) -> float:
    """Return log n - (n - 1) / n: KL(best of n || policy) in nats where no two rewards are equal, else at most that."""
    return math.log(n) - (n - 1) / n


def best_of(rewards: Sequence[float], k: int, gold: Sequence[float] | None = None) -> float:
    """Return the mean of the best of k over all choices of k of the n `rewards`: unbiased, for every k up to n.

    sum_i r_(i) C(i - 1, k - 1) / C(n, k), r_(1) <= ... <= r_(n) (Nakano et al. 2021, §F). With `gold` it is the mean of
    that of the responses that the rewards choose.
    """
    n, measured = len(rewards), rewards if gold is None else gold
    ordered = [measured[i] for i in sorted(range(n), key=rewards.__getitem__)]
    return sum(r * math.comb(i, k - 1) for i, r in enumerate(ordered)) / math.comb(n, k)


@method("best-of-n", wing="training", paper="arXiv:2112.09332", survey="S1 §4.3.2", aliases=("rejection-sampling",))
@takes_its_course("prompts", shared=(LoopOptions,))
def best_of_n(
    task: Task,
    *,
    feedback: dict[str, float] | str,
    gold: dict[str, float] | str | None = None,
    n: Annotated[int, Field(ge=2)] = 16,
    max_tokens: Count = 64,
    temperature: Annotated[float, Field(gt=0)] = 1.0,
) -> TrainResult:
    """Best of n, or rejection sampling (Nakano et al. 2021; Stiennon et al. 2020), put into the model's weights.

    The model gives n responses to each prompt, feedback rewards them, the best is kept (the first of equals), and the
    model is fine-tuned on what was kept: once, on its own samples from before (`raft` goes on sampling from what it has
    become). Without end the policy would be that of the best of n, F(y)^n - F^-(y)^n, F and F^- the probability that a
    response is rewarded at most, or less than, as y is, which is log n - (n - 1) / n nats away at most: the reward that
    a distance can buy, by which other methods are measured (`kilter eval reward-overopt`).

    out/chosen.jsonl has what was kept; lines of out/best_of.jsonl say for every k up to n the mean reward of the best
    of k and the distance. The shared options are those of the fine-tuning.

    Options:
        feedback: what rewards responses: world, a reward model, a rule, judge:MODEL or {name: weight}
        gold: feedback that is measured beside it, on what the first one chooses; none: nothing
        n: responses to each prompt
        max_tokens: longest response, in tokens
        temperature: of sampling
    """
    if (kept := task.admit()) is not None:
        return kept
    started = time.perf_counter()
    from kilter.store.metrics import Metrics, read_metrics

    judge = named(feedback)
    prompts = [record for record in task.records if isinstance(record, Prompt)]
    check(judge, prompts)
    truth = None if gold is None else named(gold)
    if truth is not None:
        check(truth, prompts)
    given = task.loop()
    chosen, table = task.out / f"chosen-{task.mark()[:8]}.jsonl", task.out / "best_of.jsonl"
    if not chosen.is_file():
        weights, tokenizer = load_weights(task.model, torch.float32)
        texts = answers(
            weights, tokenizer, prompts, n=n, max_tokens=max_tokens, temperature=temperature, seed=given["seed"]
        )
        found = judged(judge, prompts, texts)
        places, said = rewarded(found, judge)
        rewards = [row for row in found if not isinstance(row, SetAside)]
        prompts, texts = [prompts[at] for at in places], [texts[at] for at in places]
        true = None if truth is None else judged(truth, prompts, texts)
        if truth is not None and true is not None:
            said += rewarded(true, truth)[1]
        task.notes.extend(said)
        task.say(said)
        table.unlink(missing_ok=True)
        for k in range(1, n + 1):
            mean = sum(best_of(row, k) for row in rewards) / len(rewards)
            line = {"n": k, "reward": mean, "kl": kl(k)}
            if true is not None:
                pairs = [(a, b) for a, b in zip(rewards, true, strict=True) if not isinstance(b, SetAside)]
                line["gold"] = sum(best_of(row, k, own) for row, own in pairs) / len(pairs)
            Metrics(table).append(line)
        best: list[Any] = []
        for prompt, said, row in zip(prompts, texts, rewards, strict=True):
            if (text := said[row.index(max(row))]).strip():
                best.append(Demonstration([*prompt.messages, Message("assistant", text)], meta=prompt.meta))
        if not best:
            raise KilterError(f"All best responses of '{task.model}' are empty; take another feedback or a higher n.")
        formats.write(best, chosen)
    told = formats.read(chosen, want="demonstrations").records
    policy = task.out / "policy"
    done = task.part("sft", told, policy, given, say=task.say)
    weights, tokenizer = load_weights(str(policy), torch.float32)
    lines = read_metrics(done.metrics)
    return task.finish(weights, tokenizer, losses=done.losses, tokens=done.tokens, started=started, lines=lines)
