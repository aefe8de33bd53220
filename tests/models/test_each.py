"""Methods written for one item, done for all of them."""

import asyncio

import pytest

from kilter.errors import KilterError, SetAside
from kilter.models import each as module
from kilter.models.budget import Enough
from kilter.models.drive import wait
from kilter.models.each import answered, each, pulled
from kilter.models.protocol import Answer, Sampling
from kilter.records import Message
from kilter.store.rejects import Rejects


async def slowest_first(item):
    for _ in range(200 - item):
        await asyncio.sleep(0)
    return item * 2


def test_results_come_in_the_order_of_the_items():
    assert wait(each(range(200), slowest_first)) == [2 * i for i in range(200)]
    assert list(pulled(each(range(200), slowest_first, concurrency=7))) == [2 * i for i in range(200)]
    assert wait(each([], slowest_first)) == []


def test_no_more_than_so_many_at_a_time_and_no_item_before_its_time():
    taken = inside = most = 0

    def items():
        nonlocal taken
        for i in range(100):
            taken += 1
            yield i

    async def one(item):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        assert taken <= item + 9
        await asyncio.sleep(0)
        inside -= 1
        return item

    assert wait(each(items(), one, concurrency=9)) == list(range(100))
    assert most == 9


def test_items_set_aside_are_entered_in_order_and_left_out():
    async def one(item):
        await slowest_first(item)
        if item % 10 == 3:
            raise SetAside(f"{item} will not do.", "three")
        return item

    with Rejects() as kept:
        entered = []
        kept.set_aside = lambda item, why: entered.append((item, str(why), why.rule))
        assert wait(each(range(50), one)) == [i for i in range(50) if i % 10 != 3]
    assert entered == [(i, f"{i} will not do.", "three") for i in (3, 13, 23, 33, 43)]
    with pytest.raises(SetAside, match="3 will not do"):  # nobody keeps it: then it is not left out either
        wait(each(range(50), one))


def test_anything_else_stops_the_rest():
    begun, cancelled = [], []

    async def one(item):
        begun.append(item)
        try:
            await asyncio.sleep(0 if item == 2 else 3600)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        raise KilterError("The second is bad; leave it out.")

    with Rejects(), pytest.raises(KilterError, match="The second is bad"):
        wait(each(range(100), one, concurrency=5))
    assert len(begun) <= 6
    assert sorted([*cancelled, 2]) == sorted(begun)


def test_when_it_is_enough_what_is_under_way_is_finished():
    done = []

    async def one(item):
        for _ in range(20):
            await asyncio.sleep(0)
        if item >= 10:
            raise Enough("The budget is used up.")
        await asyncio.sleep(0.01)
        done.append(item)

    with pytest.raises(Enough):
        wait(each(range(1000), one, concurrency=20))
    assert sorted(done) == list(range(10))


def test_one_that_takes_long_holds_a_bounded_number_up(monkeypatch):
    monkeypatch.setattr(module, "AHEAD", 50)
    gate, begun = asyncio.Event(), []

    async def one(item):
        begun.append(item)
        if item == 0:
            await gate.wait()
        return item

    async def main():
        async def everything():
            return [result async for result in each(range(500), one, concurrency=8)]

        running = asyncio.create_task(everything())
        for _ in range(1000):
            await asyncio.sleep(0)
        held = len(begun)
        gate.set()
        return held, await running

    held, results = asyncio.run(main())
    assert held == 50
    assert results == list(range(500))


def test_long_results_are_held_up_sooner(monkeypatch):
    monkeypatch.setattr(module, "HELD", 100_000)
    gate, begun = asyncio.Event(), []

    async def one(item):
        begun.append(item)
        if item == 0:
            await gate.wait()
        return "x" * 10_000

    async def main():
        running = asyncio.ensure_future(each(range(300), one, concurrency=4)._all())
        for _ in range(1000):
            await asyncio.sleep(0)
        held = len(begun)
        gate.set()
        return held, await running

    held, results = asyncio.run(main())
    assert 10 <= held <= 15
    assert len(results) == 300


def test_phases_follow_one_another_in_one_event_loop():
    async def double(item):
        await asyncio.sleep(0)
        return item * 2

    async def method():
        first = await each(range(5), double)
        return each(first, double)

    assert wait(method()) == list(pulled(method())) == [0, 4, 8, 12, 16]

    async def notebook():
        return wait(method()), list(pulled(method()))

    assert asyncio.run(notebook()) == ([0, 4, 8, 12, 16],) * 2


def test_lists_are_unpacked_and_none_is_left_out():
    async def one(item):
        return [item] * item if item != 2 else None

    assert list(pulled(each(range(4), one))) == [1, 3, 3, 3]
    assert list(pulled([1, [2, 3], None, 4])) == [1, 2, 3, 4]
    assert list(pulled(iter("ab"))) == ["a", "b"]


def test_who_stops_pulling_leaves_nothing_running():
    begun, ended = [], []

    async def one(item):
        begun.append(item)
        try:
            await asyncio.sleep(0 if item < module.AT_A_TIME else 3600)
        finally:
            ended.append(item)
        return item

    results = pulled(each(range(1000), one, concurrency=10))
    assert next(results) == 0
    assert len(begun) > len(ended)
    results.close()
    assert sorted(begun) == sorted(ended)


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (Answer("", 0, None, "stop"), "empty"),
        (Answer(" \n\t", 1, None, "stop"), "empty"),
        (Answer("half an ans", 9, None, "length"), "cut off"),
        (Answer("well", 1, None, "filter"), "filtered"),
    ],
)
def test_an_answer_that_cannot_be_used_is_set_aside(answer, rule):
    class Says:
        name = "says"

        async def ask(self, messages, sampling):
            return [answer]

    def ask(**allowed):
        return asyncio.run(answered(Says(), [Message("user", "x")], Sampling(max_tokens=9), **allowed))

    with pytest.raises(SetAside) as told:
        ask()
    assert told.value.rule == rule
    if rule != "filtered":
        assert ask(cut=True, empty=True) is answer
