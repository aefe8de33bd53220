"""Asking a checkpoint on this machine: what is asked together, and what is answered."""

import asyncio
import gc
import math
import threading
import time
import weakref

import pytest
import torch

from kilter.engine.template import group_tree
from kilter.errors import KilterError
from kilter.models import local as module
from kilter.models.gather import Gatherer
from kilter.models.local import Local
from kilter.models.protocol import Sampling, cuts, used
from kilter.records import Group, Message

QUESTIONS = [[Message("user", f"what is {i} + 1?")] for i in range(12)]
WARM = Sampling(max_tokens=8, temperature=1.0, n=2)


@pytest.fixture(scope="module")
def model(tiny_model):
    return Local(str(tiny_model), device="cpu")


@pytest.fixture
def batches(monkeypatch):
    """The number of prompts in each call of the sampler."""
    sizes = []

    def counted(model, prompts, **options):
        sizes.append(len(prompts))
        return whole(model, prompts, **options)

    whole = module.sample
    monkeypatch.setattr(module, "sample", counted)
    return sizes


def gathered(coroutines, **options):
    async def main():
        return await asyncio.gather(*coroutines, **options)

    return asyncio.run(main())


def test_what_is_asked_together_is_sampled_together(model, batches):
    together = gathered(model.ask(question, WARM) for question in QUESTIONS)
    assert batches == [12]
    assert all(len(answers) == 2 for answers in together)
    alone = [asyncio.run(model.ask(question, WARM)) for question in QUESTIONS]
    assert [[a.text for a in answers] for answers in alone] == [[a.text for a in answers] for answers in together]


def test_each_way_of_sampling_is_a_batch_of_its_own(model, batches):
    several = [WARM, Sampling(max_tokens=4), Sampling(max_tokens=9)]
    found = gathered(model.ask(question, how) for question in QUESTIONS[:2] for how in several)
    assert sorted(batches) == [2, 4]
    assert [len(answers) for answers in found] == [2, 1, 1] * 2
    assert [answers[0].tokens for answers in found] == [8, 4, 9] * 2


def test_seeds_and_samples_differ_and_repeat(model):
    again = Sampling(max_tokens=8, temperature=1.0, n=2, seed=1)
    first, second, third = gathered(model.ask(QUESTIONS[0], how) for how in (WARM, WARM, again))
    assert [answer.text for answer in first] == [answer.text for answer in second]
    # Two threads may sum in another order the next time: the last bit of a log-prob is no promise.
    for one, two in zip(first, second, strict=True):
        assert one.logprobs == pytest.approx(two.logprobs, abs=1e-5)
    assert first != third
    assert first[0].text != first[1].text


def test_an_answer_adds_up(model):
    before = model.tokens
    [answer] = asyncio.run(model.ask(QUESTIONS[0], Sampling(max_tokens=5)))
    assert (answer.tokens, answer.finish_reason) == (5, "length")
    assert len(answer.logprobs) == 5
    assert all(value < 0 for value in answer.logprobs)
    assert model.tokens > before + 5


def test_an_answer_ends_before_a_stop(model):
    [whole] = asyncio.run(model.ask(QUESTIONS[0], Sampling(max_tokens=12, temperature=1.0, seed=5)))
    end = whole.text[3:5]
    cut = Sampling(max_tokens=12, temperature=1.0, seed=5, stop=(end,))
    [answer] = asyncio.run(model.ask(QUESTIONS[0], cut))
    assert answer.text == whole.text[: whole.text.find(end)].strip()
    assert answer.tokens < whole.tokens
    assert answer.finish_reason == "stop"


def test_a_token_that_ends_the_turn_is_not_in_the_text(model, monkeypatch):
    fourth = asyncio.run(model.ask(QUESTIONS[0], Sampling(max_tokens=4)))[0]
    whole = asyncio.run(model.ask(QUESTIONS[0], Sampling(max_tokens=5)))[0]
    made = []

    def watched(model, prompts, *, ready, **options):
        def noted(at, completions):
            made.extend(completions)
            ready(at, completions)

        return sample(model, prompts, ready=noted, **options)

    sample = module.sample
    monkeypatch.setattr(module, "sample", watched)
    asyncio.run(model.ask(QUESTIONS[0], Sampling(max_tokens=5)))
    monkeypatch.setattr(model, "ends", {made[0].tokens[4]})
    [answer] = asyncio.run(model.ask(QUESTIONS[0], Sampling(max_tokens=9)))
    assert (answer.text, answer.finish_reason) == (fourth.text, "stop")
    assert (answer.tokens, answer.logprobs) == (5, whole.logprobs)


def test_a_prompt_too_long_is_cut_from_the_left_and_counted(model):
    long = [Message("user", "it is blue. " * 200)]
    before = used(model)
    [answer] = asyncio.run(model.ask(long, Sampling(max_tokens=4)))
    assert answer.tokens == 4
    asyncio.run(model.ask(QUESTIONS[0], Sampling(max_tokens=4)))
    spent = used(model) - before
    assert (spent.requests, spent.cut) == (2, 1)
    assert cuts(spent)[0].startswith("1 prompt was cut from the left")
    assert cuts(used(model) - used(model)) == []
    # Of two responses to one conversation that is cut, one prompt was.
    before = used(model)
    gathered(model.score(long, text) for text in ("it is", "blue"))
    asyncio.run(model.score(QUESTIONS[0], "blue"))
    assert (used(model) - before).cut == 1


def test_scores_are_those_of_an_ordinary_forward(model):
    responses = ["it is 2.", "it is not, 不", "blue"]
    found = gathered(model.score(QUESTIONS[i], text) for i in (0, 1) for text in responses)
    for k, (i, text) in enumerate((i, text) for i in (0, 1) for text in responses):
        tree = group_tree(model.tokenizer, Group(QUESTIONS[i], [text]))
        tokens = torch.tensor([[*tree.prompt, *tree.responses[0]]])
        with torch.no_grad():
            logs = model.model(tokens).logits[0, len(tree.prompt) - 1 : -1].log_softmax(-1)
        expected = logs.gather(1, torch.tensor(tree.responses[0])[:, None])[:, 0]
        assert found[k] == pytest.approx(expected.tolist(), abs=2e-5)
        assert tree.responses[0][-1] in model.ends
        assert math.fsum(found[k]) < 0


def test_one_bad_request_leaves_the_others_alone(model):
    found = gathered(
        [
            model.ask(QUESTIONS[0], Sampling(max_tokens=3)),
            model.ask(QUESTIONS[1], Sampling(max_tokens=3, top_p=7.0)),
            model.score(QUESTIONS[0], "word " * 400),
            model.score(QUESTIONS[0], "fine"),
        ],
        return_exceptions=True,
    )
    assert found[0][0].tokens == 3
    assert isinstance(found[1], KilterError)
    assert "top_p is 7.0" in str(found[1])
    assert "over 256 tokens" in str(found[2])
    assert len(found[3]) > 1


def test_the_loop_stays_alive_and_batches_form_meanwhile():
    sizes, turns = [], 0

    def work(requests, check):
        sizes.append(len(requests))
        time.sleep(0.05)
        for request in requests:
            request.settle(-request.item)

    async def main():
        nonlocal turns
        gatherer = Gatherer(work, "test")

        async def asking(item):
            return await gatherer.ask(item), await gatherer.ask(item + 100)

        async def beating():
            nonlocal turns
            while True:
                await asyncio.sleep(0.001)
                turns += 1

        beat = asyncio.create_task(beating())
        found = await asyncio.gather(*(asking(i) for i in range(5)))
        beat.cancel()
        return found

    assert asyncio.run(main()) == [(-i, -i - 100) for i in range(5)]
    assert sizes == [5, 5]
    assert turns > 20


def test_work_in_vain_is_ended():
    ended = threading.Event()

    def work(requests, check):
        try:
            while True:
                check()
                time.sleep(0.001)
        finally:
            ended.set()

    async def main():
        gatherer = Gatherer(work, "test")
        await asyncio.wait_for(gatherer.ask(1), timeout=0.1)

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert ended.wait(5)


def test_a_failure_of_the_work_reaches_all_who_wait():
    def work(requests, check):
        raise ZeroDivisionError

    async def main():
        gatherer = Gatherer(work, "test")
        return await asyncio.gather(*(gatherer.ask(i) for i in range(3)), return_exceptions=True)

    assert [type(error) for error in asyncio.run(main())] == [ZeroDivisionError] * 3


def test_a_model_that_nobody_has_is_gone_with_its_thread(tiny_model):
    model = Local(str(tiny_model), device="cpu")
    asyncio.run(model.ask(QUESTIONS[0], WARM))
    asyncio.run(model.score(QUESTIONS[0], "4"))
    weights, before = weakref.ref(model.model), threading.active_count()
    gc.disable()  # nobody looks for rings of references
    try:
        del model
        for _ in range(500):  # the thread that answered may not have left its last step yet
            if weights() is None and threading.active_count() < before:
                break
            time.sleep(0.01)
        assert weights() is None
        assert threading.active_count() < before
    finally:
        gc.enable()
