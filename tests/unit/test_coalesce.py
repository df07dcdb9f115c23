import asyncio

import pytest

from sitq.coalesce import Coalescer
from sitq.exceptions import BackendError


class Store:
    """Answers each item with its double, one call at a time, when it is let."""

    def __init__(self, *, open_: bool = True) -> None:
        self.calls: list[list[int]] = []
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        if open_:
            self.gate.set()

    async def double(self, items: list[int]) -> list[int]:
        self.calls.append(items)
        self.begun.set()
        await self.gate.wait()
        return [2 * item for item in items]


async def test_everybody_gets_the_answer_to_their_own_item():
    store = Store()
    coalescer = Coalescer(store.double)
    assert await asyncio.gather(*[coalescer.submit(n) for n in range(50)]) == [2 * n for n in range(50)]


async def test_what_is_submitted_in_one_turn_of_the_loop_is_one_call():
    store = Store()
    coalescer = Coalescer(store.double)
    await asyncio.gather(*[coalescer.submit(n) for n in range(50)])
    assert store.calls == [list(range(50))]


async def test_what_is_submitted_during_a_call_is_the_next_one():
    store = Store(open_=False)
    coalescer = Coalescer(store.double)
    first = asyncio.create_task(coalescer.submit(1))
    await asyncio.wait_for(store.begun.wait(), 5)
    others = [asyncio.create_task(coalescer.submit(n)) for n in (2, 3)]
    await asyncio.sleep(0)
    assert store.calls == [[1]]
    store.gate.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6]
    assert store.calls == [[1], [2, 3]]


async def test_a_call_takes_no_more_than_the_most():
    store = Store()
    coalescer = Coalescer(store.double, most=3)
    await asyncio.gather(*[coalescer.submit(n) for n in range(7)])
    assert store.calls == [[0, 1, 2], [3, 4, 5], [6]]


async def test_items_count_as_much_as_they_weigh_and_one_that_is_too_heavy_goes_alone():
    calls = []

    async def count(items):
        calls.append(items)
        return [len(item) for item in items]

    coalescer = Coalescer(count, most=4, weigh=len)
    items = ["aa", "bb", "c", "dddddddd", "e"]
    assert await asyncio.gather(*[coalescer.submit(item) for item in items]) == [2, 2, 1, 8, 1]
    assert calls == [["aa", "bb"], ["c", "dddddddd"], ["e"]]


async def test_a_failure_reaches_everybody_in_the_batch_each_with_an_error_of_their_own():
    async def fail(_items):
        raise BackendError("the disk burns", operation="put")

    coalescer = Coalescer(fail)
    errors = await asyncio.gather(*[coalescer.submit(n) for n in range(3)], return_exceptions=True)
    assert [str(error) for error in errors] == ["the disk burns"] * 3
    assert all(isinstance(error, BackendError) and error.operation == "put" for error in errors)
    assert len({id(error) for error in errors}) == 3


async def test_an_error_that_cannot_be_copied_reaches_everybody_all_the_same():
    class Odd(Exception):
        def __init__(self, one, two):
            super().__init__("odd")

    async def fail(_items):
        raise Odd(1, 2)

    coalescer = Coalescer(fail)
    async with asyncio.timeout(5):
        errors = await asyncio.gather(*[coalescer.submit(n) for n in range(3)], return_exceptions=True)
    assert [type(error) for error in errors] == [Odd] * 3


async def test_a_store_that_answers_too_little_leaves_nobody_waiting():
    async def forget(items):
        return items[1:]

    coalescer = Coalescer(forget)
    async with asyncio.timeout(5):
        errors = await asyncio.gather(*[coalescer.submit(n) for n in range(3)], return_exceptions=True)
    assert [type(error) for error in errors] == [ValueError] * 3


async def test_the_next_batch_goes_although_one_failed():
    failing = True

    async def call(items):
        if failing:
            raise BackendError("not yet")
        return items

    coalescer = Coalescer(call)
    with pytest.raises(BackendError):
        await coalescer.submit(1)
    failing = False
    assert await coalescer.submit(2) == 2


async def test_a_caller_that_is_cancelled_disturbs_nobody_and_takes_its_item_not_back():
    store = Store(open_=False)
    coalescer = Coalescer(store.double)
    leaves = asyncio.create_task(coalescer.submit(1))
    stays = asyncio.create_task(coalescer.submit(2))
    await asyncio.wait_for(store.begun.wait(), 5)
    leaves.cancel()
    store.gate.set()
    assert await stays == 4
    assert leaves.cancelled() or leaves.cancelling()
    assert store.calls == [[1, 2]]


async def test_draining_waits_for_every_answer():
    store = Store(open_=False)
    coalescer = Coalescer(store.double)
    submitted = asyncio.create_task(coalescer.submit(1))
    await asyncio.wait_for(store.begun.wait(), 5)
    drained = asyncio.create_task(coalescer.drain())
    await asyncio.sleep(0)
    assert not drained.done()
    store.gate.set()
    await drained
    assert await submitted == 2


async def test_draining_an_idle_one_takes_no_time():
    async with asyncio.timeout(5):
        await Coalescer(Store().double).drain()


async def test_when_the_flush_is_cancelled_nobody_waits_for_ever():
    store = Store(open_=False)
    coalescer = Coalescer(store.double, most=1)
    callers = [asyncio.create_task(coalescer.submit(n)) for n in range(3)]
    await asyncio.wait_for(store.begun.wait(), 5)
    coalescer._flushing.cancel()
    done, pending = await asyncio.wait(callers, timeout=5)
    assert not pending
    assert all(task.cancelled() for task in done)
    store.gate.set()
    assert await coalescer.submit(5) == 10
