"""One task, one run, as long as nobody dies: what ran twice in other systems."""

import asyncio
import sys
import time

from sitq import Worker
from sitq.backends.base import Share, Want
from sitq.functions import python_version
from sitq.ids import token
from sitq.record import SECOND, Record, State

RUNS: list[object] = []

CLAIMER = """
import asyncio, sys
from sitq.backends import open_backend
from sitq.backends.base import Share, Want
from sitq.ids import token

async def main(url):
    async with open_backend(url) as store:
        while True:
            want = Want(claim=token(), worker=token(), queues=(Share("default", 7),), limit=7,
                        lease=10**9, python="3.11")
            taken = await store.take(want)
            if not taken.records:
                return
            print(*(record.id for record in taken.records), flush=True)

asyncio.run(main(sys.argv[1]))
"""


async def note(what):
    RUNS.append(what)


async def sleep_and_note(what, seconds):
    RUNS.append(what)
    await asyncio.sleep(seconds)


def compute(what, seconds):
    """Hold the interpreter for most of the time."""
    RUNS.append(what)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))


async def block_the_loop(what, seconds):
    RUNS.append(what)
    time.sleep(seconds)  # noqa: ASYNC251 - the fault itself


def want(limit=1):
    return Want(
        claim=token(),
        worker=token(),
        queues=(Share("default", limit),),
        limit=limit,
        lease=60 * SECOND,
        python=python_version(),
    )


async def test_processes_that_claim_at_once_share_no_task(shared, shared_url):
    """sitq 0.0: reserving was a SELECT and then an UPDATE that did not look again; 3 claims for each task.

    https://github.com/legout/sitq
    """
    await shared.put([[Record(id=f"t{n}", name="work") for n in range(1000)]])
    claimers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLAIMER, shared_url, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(4)
    ]
    said = await asyncio.gather(*(one.communicate() for one in claimers))
    claimed = [task for out, _ in said for task in out.decode().split()]
    assert len(claimed) == len(set(claimed)) == 1000
    assert [one.returncode for one in claimers] == [0] * 4


async def test_a_task_that_is_due_many_leases_ahead_runs_once(queue, working, value_of, stored):
    """Celery: an eta beyond the visibility timeout is delivered to one worker after another.

    https://github.com/celery/kombu/issues/337
    https://github.com/celery/celery/issues/2481
    https://github.com/celery/celery/issues/7009
    """
    RUNS.clear()
    async with working(lease=0.1), working(lease=0.1), working(lease=0.1), working(lease=0.1):
        task_id = await queue.options(delay=1.0).enqueue(note, "later")
        await value_of(task_id)
    assert RUNS == ["later"]
    assert (await stored(task_id)).attempt == 1


async def test_a_task_of_many_lease_lengths_without_a_timeout_runs_once(queue, working, value_of, stored):
    """River, Oban, pgqueuer, dramatiq: long or busy tasks were rescued while they ran, and ran again.

    https://github.com/riverqueue/river/pull/1331
    https://github.com/oban-bg/oban/issues/1141
    https://github.com/janbjorge/pgqueuer/issues/430
    https://github.com/Bogdanp/dramatiq/issues/692
    """
    RUNS.clear()
    async with working(lease=0.5, max_concurrency=3), working(lease=0.5):
        ids = [
            await queue.enqueue(sleep_and_note, "sleeps", 3),
            await queue.enqueue(compute, "computes", 3),
            await queue.enqueue(block_the_loop, "blocks", 2),
        ]
        for task_id in ids:
            await value_of(task_id, 30)
    assert sorted(RUNS) == ["blocks", "computes", "sleeps"]
    assert [(await stored(task_id)).crashes for task_id in ids] == [0, 0, 0]


async def test_what_becomes_due_goes_from_waiting_to_running_in_one_step(backend):
    """dramatiq: a delayed message was copied into its queue before it was acknowledged in the delay queue.

    https://github.com/Bogdanp/dramatiq/issues/431
    """
    soon = Record(id="soon", name="work", delay=SECOND // 5)
    await backend.put([[soon]])
    claimed = []
    async with asyncio.timeout(10):
        while not claimed:
            answers = await asyncio.gather(*(backend.take(want()) for _ in range(20)))
            claimed += [record.id for taken in answers for record in taken.records]
    answers = await asyncio.gather(*(backend.take(want()) for _ in range(20)))
    claimed += [record.id for taken in answers for record in taken.records]
    assert claimed == ["soon"]


async def test_two_workers_of_one_process_that_stop_run_nothing_at_once(queue, working, backend, eventually):
    """Sidekiq 8.1.3: two capsules with the same queue ran a job in parallel when the process shut down.

    https://github.com/sidekiq/sidekiq/issues/6379
    """
    RUNS.clear()
    running: set[int] = set()
    twice: list[int] = []
    OVERLAPS.update(running=running, twice=twice)
    ids = [await queue.enqueue(overlap, n) for n in range(30)]
    for _ in range(4):
        async with working(max_concurrency=3, grace=0.0), working(max_concurrency=3, grace=0.0):
            await eventually(lambda: running)
    async with working(max_concurrency=10):
        for task_id in ids:
            assert await queue.get_result(task_id, timeout=15)
    assert twice == []
    records = await backend.get(ids)
    assert {(record.state, record.crashes, record.failures) for record in records} == {
        (State.COMPLETED, 0, 0)
    }


OVERLAPS: dict[str, object] = {}


async def overlap(number):
    running, twice = OVERLAPS["running"], OVERLAPS["twice"]
    if number in running:
        twice.append(number)
    running.add(number)
    try:
        await asyncio.sleep(0.02)
    finally:
        running.discard(number)


async def test_the_name_of_a_worker_is_used_by_one_process_only():
    """A worker is told from an earlier one of the same host and process id by a part that is drawn anew."""
    assert len({Worker("memory://").id for _ in range(100)}) == 100
