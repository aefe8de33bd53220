"""How many requests at a time, and how long to wait for one."""

import asyncio

import pytest

from kilter.models import patience as patience_module
from kilter.models.patience import Patience
from kilter.models.throttle import Throttle


def within(use):
    async def main():
        return await use()

    return asyncio.run(main())


async def done(throttle, well=True, wait=0.0):
    async with throttle:
        await asyncio.sleep(0)
        throttle.well() if well else throttle.slow(wait)


def test_never_more_than_the_limit_are_in_and_success_raises_it():
    async def use():
        throttle = Throttle(start=4, most=16)
        inside = most = 0

        async def one():
            nonlocal inside, most
            async with throttle:
                inside += 1
                most = max(most, inside)
                assert inside <= int(throttle.limit)
                await asyncio.sleep(0)
                inside -= 1
                throttle.well()

        await asyncio.gather(*(one() for _ in range(60)))
        return throttle, most

    throttle, most = within(use)
    assert throttle.limit == most == 16
    assert throttle.inside == 0


def test_one_in_twenty_refused_whatever_the_load_is_no_crowd():
    async def use():
        throttle = Throttle(start=64, most=256)
        for i in range(2000):
            await done(throttle, well=i % 20 > 0)
        return throttle.limit

    assert within(use) == 256


@pytest.mark.parametrize("bears", [1, 7, 40])
def test_the_limit_goes_to_what_the_server_bears(bears):
    """A server that takes `bears` requests at a time and turns the others away at once."""

    async def use():
        throttle = Throttle(start=128)
        working = refused = 0

        async def one():
            nonlocal working, refused
            while True:
                async with throttle:
                    if working < bears:
                        working += 1
                        for _ in range(20):
                            await asyncio.sleep(0)
                        working -= 1
                        throttle.well()
                        return
                    refused += 1
                    throttle.slow()
                for _ in range(40):
                    await asyncio.sleep(0)

        await asyncio.gather(*(one() for _ in range(1500)))
        return throttle.limit, refused

    limit, refused = within(use)
    assert bears / 2 <= limit <= 2 * bears + 2
    assert refused < 700


def test_a_crowd_that_is_refused_together_counts_once():
    async def use():
        throttle = Throttle(start=64)
        gate = asyncio.Event()

        async def one():
            async with throttle:
                await gate.wait()
                throttle.slow()

        crowd = [asyncio.create_task(one()) for _ in range(64)]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*crowd)
        return throttle.limit

    assert within(use) == 64 * 0.25


def test_while_the_server_asks_for_peace_nobody_is_let_in():
    async def use():
        throttle = Throttle(start=32)
        for _ in range(4):
            await done(throttle, well=False, wait=30.0)
        assert throttle.limit < 32
        late = asyncio.create_task(done(throttle))
        for _ in range(50):
            await asyncio.sleep(0)
        waiting = not late.done()
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        return waiting, throttle.inside

    assert within(use) == (True, 0)


def test_whoever_gives_up_waiting_takes_no_place():
    async def use():
        throttle = Throttle(start=2)
        async with throttle, throttle:
            waiting = [asyncio.create_task(done(throttle)) for _ in range(9)]
            await asyncio.sleep(0)
            for task in waiting[::2]:
                task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return throttle.inside, sum(task.cancelled() for task in waiting)

    assert within(use) == (0, 5)


def test_patience_is_three_times_the_slowest_of_a_kind_and_grows():
    patience = Patience(longest=600.0)
    assert patience.allowed("short", 0) == 600.0
    patience._took["short"].extend([4.0] * patience_module.SEEN)
    patience._took["quick"].extend([0.1] * patience_module.SEEN)
    assert patience.allowed("short", 0) == 12.0
    assert patience.allowed("short", 1) == 48.0
    assert patience.allowed("short", 3) == 600.0
    assert patience.allowed("quick", 0) == patience_module.LEAST
    assert patience.allowed("long", 0) == 600.0


def test_what_hangs_is_given_up_while_it_is_waited_for(monkeypatch):
    """The limit is found while the first request already hangs."""
    monkeypatch.setattr(patience_module, "LEAST", 0.05)
    monkeypatch.setattr(patience_module, "LOOK", 0.01)

    async def use():
        patience = Patience(longest=60.0)

        async def hangs():
            async with patience.begin("kind", 0).limit:
                await asyncio.sleep(3600)

        hanging = asyncio.create_task(hangs())
        for _ in range(patience_module.SEEN):
            wait = patience.begin("kind", 0)
            async with wait.limit:
                await asyncio.sleep(0)
            patience.end(wait, well=True)
        with pytest.raises(TimeoutError):
            await hanging

    within(use)
