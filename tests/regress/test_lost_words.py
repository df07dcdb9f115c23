"""Requests and answers that get lost on the way: between a client and its store nothing is certain."""

import asyncio
import contextlib

import pytest

from sitq import Task, TaskQueue
from sitq.exceptions import ConnectionError as StoreAwayError
from sitq.record import State
from sitq.worker import claim, settle


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(claim, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(settle, "_FIRST_PAUSE", 0.001)


class Forgetful:
    """A way to the store on which answers get lost: what was asked for has happened all the same."""

    lose: dict[str, int]

    async def _answer(self, operation, asking):
        answer = await asking
        if self.lose.get(operation, 0) > 0:
            self.lose[operation] -= 1
            raise StoreAwayError(f"the answer to {operation} got lost")
        return answer

    async def put(self, groups):
        return await self._answer("put", super().put(groups))

    async def take(self, want):
        return await self._answer("take" if want.limit else "recover", super().take(want))

    async def apply(self, moves):
        return await self._answer("apply", super().apply(moves))


class Deaf:
    """A way to the store on which every hint gets lost."""

    def listen(self, topics):
        listener = super().listen(topics)
        listener.hint = lambda: None
        return listener


@pytest.fixture
def forgetful(make_backend):
    @contextlib.asynccontextmanager
    async def open_one(**lose):
        backend = make_backend(Forgetful)
        backend.lose = {}
        async with backend:
            backend.lose = lose
            yield backend

    return open_one


async def test_an_enqueue_whose_answer_was_lost_is_repeated_without_a_second_task(queue, forgetful, backend):
    """Sidekiq: a client that asked again after a read time-out had two copies of its job.

    https://github.com/sidekiq/sidekiq/issues/3303
    """
    async with forgetful() as store, TaskQueue(store) as away:
        for number in range(50):
            store.lose = {"put": 3}
            task = Task(str, (number,), id=f"order-{number}")
            while True:
                with contextlib.suppress(StoreAwayError):
                    assert await away.enqueue_many([task]) == [f"order-{number}"]
                    break
    counts = await backend.tally()
    assert sum(counts["default"].values()) == 50


async def test_a_claim_whose_answer_was_lost_is_repeated_and_loses_nothing(queue, forgetful, working, stored):
    """RQ, Celery: what was popped and never arrived is gone, or comes back after the visibility timeout.

    https://github.com/rq/rq/issues/2015
    https://github.com/celery/celery/issues/4354
    """
    ids = [await queue.enqueue(run_by_key, key) for key in range(10)]
    RUNS.clear()
    async with forgetful(take=4) as store, working(store, max_concurrency=3):
        for task_id in ids:
            assert await queue.get_result(task_id, timeout=8) is not None, "it waits for the end of its lease"
    assert sorted(RUNS) == list(range(10))
    records = [await stored(task_id) for task_id in ids]
    assert [(record.attempt, record.crashes) for record in records] == [(1, 0)] * 10


RUNS: list[int] = []


async def run_by_key(key):
    RUNS.append(key)


async def test_what_a_claim_took_is_handed_back_when_the_worker_stops_before_the_answer(
    queue, forgetful, working, stored, eventually
):
    """Celery: messages that were fetched and not yet read are lost at a warm shutdown.

    https://github.com/celery/celery/issues/7950
    https://github.com/celery/kombu/issues/305
    """
    async with forgetful() as store:
        async with working(store) as worker:
            await asyncio.sleep(0)
            store.lose = {"take": 10**9}
            task_id = await queue.enqueue(run_by_key, 0)
            await eventually(lambda: claimed(stored, task_id))
            await worker.stop()
        record = await stored(task_id)
    assert (record.state, record.failures, record.crashes) == (State.QUEUED, 0, 0)


async def claimed(stored, task_id):
    return (await stored(task_id)).state is State.RUNNING


async def test_an_outcome_whose_answer_was_lost_lands_once(queue, forgetful, working, stored, value_of):
    """Sidekiq, graphile-worker: an acknowledgement that failed meant another run, or a lock for ever.

    https://github.com/sidekiq/sidekiq/issues/4495
    https://github.com/graphile/worker/issues/254
    """
    RUNS.clear()
    async with forgetful(apply=5) as store, working(store):
        ids = [await queue.enqueue(run_by_key, key) for key in range(20)]
        for task_id in ids:
            await value_of(task_id)
    assert sorted(RUNS) == list(range(20))
    assert {(await stored(task_id)).attempt for task_id in ids} == {1}


async def test_a_caller_that_was_cancelled_takes_no_answer_of_others_along(backend):
    """redis-py: after a cancellation the answers belonged to the wrong callers, or to nobody.

    https://github.com/redis/redis-py/issues/2665
    """
    for n in range(8):
        assert await backend.swap(f"cell{n}/", None, b"%d" % n)
    for _ in range(10):
        calls = [asyncio.create_task(backend.cells(f"cell{n}/")) for n in range(8)]
        await asyncio.sleep(0)
        calls[0].cancel()
        _, waiting = await asyncio.wait(calls, timeout=5)
        assert not waiting, "callers wait for ever"
        answers = [[cell.value for cell in call.result()] for call in calls[1:]]
        assert answers == [[b"%d" % n] for n in range(1, 8)], "they have answers of others"


async def test_a_producer_that_was_cancelled_takes_no_answer_of_others_along(queue):
    """The same for those whose tasks are put together."""
    for _ in range(10):
        calls = [asyncio.create_task(queue.enqueue(run_by_key, n)) for n in range(8)]
        for _ in range(3):
            await asyncio.sleep(0)
        calls[0].cancel()
        _, waiting = await asyncio.wait(calls, timeout=5)
        assert not waiting, "callers wait for ever"
        assert len({call.result() for call in calls[1:]}) == 7


async def test_without_any_hint_a_task_starts_and_its_result_arrives(make_backend, working):
    """taskiq-redis, Celery: a consumer whose subscription broke was alive and consumed nothing.

    https://github.com/celery/celery/issues/8030
    https://github.com/celery/celery/issues/9054
    https://github.com/nats-io/nats.py/issues/504
    """
    async with make_backend(Deaf) as store, TaskQueue(store) as queue, working(store, poll_interval=0.1):
        first = await queue.get_result(await queue.enqueue(run_by_key, 1), timeout=10)
        await asyncio.sleep(0.3)  # it is idle
        second = await queue.get_result(await queue.enqueue(run_by_key, 2), timeout=10)
    assert first is not None
    assert second is not None, "it waits for a hint that does not come"
