"""How many requests at a time, and how long to wait for one."""

import asyncio

import pytest

from kilter.models import patience as patience_module
from kilter.models.patience import Patience, Wait
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


# ----------------------------------------------------------------------------------------------------------- patience


class Passing(Exception):
    """What may be tried again."""


class Served:
    """Requests that are answered when the test says so: the n-th that was sent by `futures[n]`."""

    def __init__(self):
        self.futures = []
        self.given_up = []

    async def ask(self):
        at = len(self.futures)
        self.futures.append(asyncio.get_running_loop().create_future())
        try:
            return await self.futures[at]
        except asyncio.CancelledError:
            self.given_up.append(at)
            raise

    async def sent(self, count):
        while len(self.futures) < count:
            await asyncio.sleep(0)


@pytest.fixture
def waiting(monkeypatch):
    """Return what runs `use(patience, served, clock)`; the clock goes only as the test moves it."""
    clock = [0.0]
    monkeypatch.setattr(patience_module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(patience_module, "LOOK", 0)

    def run(use, *, seen=4.0, longest=600.0):
        async def main():
            patience = Patience(longest, Passing)
            patience._took["kind"].extend([seen] * patience_module.SEEN)
            return await use(patience, Served(), clock)

        return asyncio.run(main())

    return run


def first(patience, served, kind="kind"):
    wait = Wait(kind, served.ask)
    return wait, asyncio.create_task(patience.first(wait))


async def looked():
    """Let a few looks at the watch go by."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_copy_is_sent_after_twice_the_slowest_of_a_kind_and_each_further_one_later():
    patience = Patience(600.0, Passing)
    assert patience.allowed("short") == 600.0
    patience._took["short"].extend([4.0] * patience_module.SEEN)
    patience._took["quick"].extend([0.1] * patience_module.SEEN)
    assert patience.allowed("short") == 8.0
    assert patience.allowed("short", 1) == 32.0
    assert patience.allowed("short", 4) == 600.0
    assert patience.allowed("quick") == patience_module.LEAST
    assert patience.allowed("long") == 600.0


def test_what_hangs_holds_nobody_up(waiting):
    async def use(patience, served, clock):
        wait, answer = first(patience, served)
        await served.sent(1)
        clock[0] = 8.0
        await looked()
        assert len(served.futures) == 1
        clock[0] = 8.1
        await served.sent(2)
        clock[0] = 9.6
        served.futures[1].set_result("from the copy")
        assert await answer == "from the copy"
        assert served.given_up == [0]
        assert (len(wait.copies), wait.unheard) == (1, 1)
        assert wait.seconds == pytest.approx(1.5)

    waiting(use)


def test_what_is_merely_slow_is_waited_for(waiting):
    """The copy takes as long; the first comes first, and others are given as long from then on."""

    async def use(patience, served, clock):
        wait, answer = first(patience, served)
        await served.sent(1)
        clock[0] = 10.0
        await served.sent(2)
        clock[0] = 41.0
        await looked()
        assert len(served.futures) == 2
        served.futures[0].set_result("slow")
        assert await answer == "slow"
        assert served.given_up == [1]
        assert (wait.unheard, wait.seconds, patience.allowed("kind")) == (1, 41.0, 82.0)

    waiting(use)


def test_a_copy_that_fails_leaves_the_first_alone_and_the_other_way_round(waiting):
    async def use(patience, served, clock):
        wait, answer = first(patience, served)
        await served.sent(1)
        clock[0] = 10.0
        await served.sent(2)
        served.futures[1].set_exception(Passing("dropped"))
        await looked()
        assert not answer.done()
        served.futures[0].set_result("first")
        assert await answer == "first"
        assert wait.unheard == 0
        wait, answer = first(patience, served)
        await served.sent(3)
        clock[0] = 100.0
        await served.sent(4)
        served.futures[2].set_exception(Passing("dropped"))
        await looked()
        assert not answer.done()
        served.futures[3].set_result("copy")
        assert await answer == "copy"
        assert wait.unheard == 0
        # Where all fail it is what befell the first.
        wait, answer = first(patience, served)
        await served.sent(5)
        clock[0] = 400.0
        await served.sent(6)
        served.futures[5].set_exception(Passing("the second's"))
        served.futures[4].set_exception(Passing("the first's"))
        with pytest.raises(Passing, match="the first's"):
            await answer

    waiting(use)


def test_a_refusal_is_an_answer_whoever_gets_it(waiting):
    async def use(patience, served, clock):
        _, answer = first(patience, served)
        await served.sent(1)
        clock[0] = 10.0
        await served.sent(2)
        served.futures[1].set_exception(KeyError("refused"))
        with pytest.raises(KeyError, match="refused"):
            await answer
        assert served.given_up == [0]

    waiting(use)


def test_few_have_a_copy_at_a_time_and_the_oldest_come_first(waiting):
    """A server that slows down as a whole is not given twice the work."""

    async def use(patience, served, clock):
        answers = []
        for at in range(50):
            clock[0] = at / 100
            answers.append(first(patience, served))
            await served.sent(at + 1)
        clock[0] = 12.0
        await served.sent(55)
        await looked()
        assert [len(wait.copies) for wait, _ in answers] == [1] * 5 + [0] * 45
        # The copies hang as well: nothing is expected of them any more, and the next get theirs.
        clock[0] = 45.0
        await looked()
        assert sum(len(wait.copies) for wait, _ in answers) == 10
        for future in served.futures:
            future.set_result("well")
        assert await asyncio.gather(*(answer for _, answer in answers)) == ["well"] * 50

    waiting(use)


def test_before_it_is_known_how_long_answers_take_no_copy_is_sent_and_the_longest_wait_is_kept(waiting):
    async def use(patience, served, clock):
        wait, answer = first(patience, served, "another kind")
        await served.sent(1)
        clock[0] = 599.0
        await looked()
        assert len(served.futures) == 1
        clock[0] = 601.0
        with pytest.raises(TimeoutError):
            await answer
        assert (served.given_up, wait.unheard) == ([0], 1)

    waiting(use)


def test_who_gives_up_waiting_gives_up_the_copies(waiting):
    async def use(patience, served, clock):
        _, answer = first(patience, served)
        await served.sent(1)
        clock[0] = 10.0
        await served.sent(2)
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)
        assert sorted(served.given_up) == [0, 1]
        assert not patience._waits

    waiting(use)
