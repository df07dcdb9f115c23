"""What becomes of the tasks of a worker that is gone: each starts again, soon, and holds up nobody."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from msgspec import structs

from sitq import ConcurrencyLimit, SQLiteBackend, TaskQueue
from sitq.backends.base import Filter, Lease, Share, Want
from sitq.functions import python_version
from sitq.ids import token
from sitq.move import Lapse, Release, Settle
from sitq.record import SECOND, Limit, Record, State, Unique

RUNS: list[object] = []


async def note(what):
    RUNS.append(what)
    return what


def want(worker="dead", limit=10, lease=SECOND // 5, **more):
    return Want(
        claim=token(),
        worker=worker,
        queues=(Share("default", limit),),
        limit=limit,
        lease=lease,
        python=python_version(),
        **more,
    )


async def test_a_dead_workers_task_starts_again_a_lease_later(queue, backend, working, value_of, stored):
    """arq, saq, Celery: it took minutes or hours, or the task was aborted instead of run again.

    https://github.com/python-arq/arq/issues/343
    https://github.com/python-arq/arq/issues/407
    https://github.com/tobymao/saq/issues/127
    https://github.com/oban-bg/oban/issues/430
    """
    task_id = await queue.enqueue(note, "again")
    begun = time.monotonic()
    assert len((await backend.take(want(lease=SECOND))).records) == 1
    async with working():
        assert await value_of(task_id) == "again"
    assert time.monotonic() - begun < 10
    record = await stored(task_id)
    assert (record.attempt, record.crashes, record.failures) == (2, 1, 0)


async def test_a_task_that_is_claimed_is_not_swept_away_before_it_starts(backend):
    """saq: a task between its dequeue and its start looked stuck to the sweeper.

    https://github.com/tobymao/saq/issues/277
    https://github.com/tobymao/saq/issues/124
    """
    await backend.put([[Record(id="a", name="work")]])
    (claimed,) = (await backend.take(want("alive", lease=60 * SECOND))).records
    for _ in range(5):
        await backend.tend()
        assert (await backend.take(want("other"))).records == []
    assert await backend.apply([Settle(id="a", token=claimed.token, state=State.COMPLETED)]) == [True]


async def test_sweepers_that_never_rest_take_no_task_between_its_claim_and_its_end(backend, make_backend):
    """saq: as above, with the sweeps at any moment of the claims, and through connections of their own.

    https://github.com/tobymao/saq/issues/277
    https://github.com/tobymao/saq/issues/124
    """
    await backend.put([[Record(id=f"t{number}", name="work")] for number in range(300)])
    over = False
    sweeps = 0

    async def sweep(store):
        nonlocal sweeps
        elsewhere = structs.replace(want("sweeper"), queues=(Share("elsewhere", 10),))
        while not over:
            await store.tend()
            assert (await store.take(structs.replace(elsewhere, claim=token()))).records == []
            sweeps += 1
            await asyncio.sleep(0)

    async with make_backend() as one, make_backend() as other:
        sweeping = [asyncio.create_task(sweep(store)) for store in (one, other)]
        held = []
        while records := (await backend.take(want("alive", 3, lease=60 * SECOND))).records:
            held += records
            assert len(held) <= 300, "a task was claimed twice"
            await asyncio.sleep(0)
        kept = await backend.apply(
            [Settle(id=one.id, token=one.token, state=State.COMPLETED) for one in held]
        )
        over = True
        await asyncio.gather(*sweeping)
    assert sweeps > 10
    assert sorted(one.id for one in held) == sorted(f"t{number}" for number in range(300))
    assert kept == [True] * 300
    ended = await backend.get([one.id for one in held])
    assert {(one.state, one.attempt, one.crashes) for one in ended} == {(State.COMPLETED, 1, 0)}


async def test_a_successor_of_the_same_name_keeps_no_task_of_its_predecessor_alive(
    queue, backend, working, value_of, stored
):
    """procrastinate, Oban: a worker under the name of a dead one made its orphans look alive.

    https://github.com/procrastinate-org/procrastinate/issues/307
    https://github.com/procrastinate-org/procrastinate/issues/1518
    https://github.com/oban-bg/oban/issues/862
    """
    orphan = await queue.enqueue(note, "orphan")
    await backend.take(want("pod-1"))
    async with working(worker_id="pod-1", lease=0.3):
        other = await queue.enqueue(note, "other")
        assert await value_of(other) == "other"
        assert await value_of(orphan) == "orphan"
    assert (await stored(orphan)).attempt == 2


async def test_a_claim_that_is_cut_short_does_not_block_recovery(backend):
    """procrastinate, taskiq-redis: who recovers died while doing so, and held a lock without an end.

    https://github.com/procrastinate-org/procrastinate/issues/1408
    https://github.com/taskiq-python/taskiq-redis/issues/131
    """
    await backend.put([[Record(id=f"t{n}", name="work") for n in range(20)]])
    await backend.take(want("dead", 20, lease=1))
    for _ in range(20):
        claim = asyncio.create_task(backend.take(want("dying", 1)))
        upkeep = asyncio.create_task(backend.tend())
        await asyncio.sleep(0)
        claim.cancel()
        upkeep.cancel()
        await asyncio.wait([claim, upkeep])
    claimed: set[str] = set()
    deadline = time.monotonic() + 10
    while len(claimed) < 20 and time.monotonic() < deadline:  # until the leases of those have run out, too
        claimed |= {
            record.id for record in (await backend.take(want("alive", 20, lease=60 * SECOND))).records
        }
        await asyncio.sleep(0.02)
    assert claimed == {f"t{n}" for n in range(20)}


REAPERS = """
import asyncio, os, random, signal, sys, time
from sitq.backends import open_backend
from sitq.backends.base import Share, Want
from sitq.functions import python_version
from sitq.ids import token

async def reap(url, ready):
    async with open_backend(url) as store:
        os.write(ready, b"!")
        while True:
            shares = (Share("default", 5),)
            await store.take(Want(claim=token(), worker="dying", queues=shares, limit=5, lease=1,
                                  python=python_version()))
            await store.tend()

url, killed = sys.argv[1], 0
open_backend(url)  # its modules are there for all forks
while killed < int(sys.argv[2]):
    heard, ready = os.pipe()
    pid = os.fork()
    if not pid:
        asyncio.run(reap(url, ready))
    os.close(ready)
    began = os.read(heard, 1)
    os.close(heard)
    time.sleep(random.random() * 0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    killed += began == b"!"
print(killed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, and kills")
async def test_recovery_is_not_blocked_by_a_hundred_who_were_killed_in_it(shared, shared_url):
    """procrastinate: the task that recovers others stalled itself.

    https://github.com/procrastinate-org/procrastinate/issues/1408
    """
    ids = {f"t{number}" for number in range(20)}
    await shared.put([[Record(id=one, name="work")] for one in sorted(ids)])
    await shared.take(want("dead", 20, lease=1))
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", REAPERS, shared_url, "100"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stdout.split() == ["100"], done.stderr
    claimed: set[str] = set()
    deadline = time.monotonic() + 10
    while len(claimed) < 20 and time.monotonic() < deadline:
        claimed |= {one.id for one in (await shared.take(want("alive", 20, lease=60 * SECOND))).records}
        await asyncio.sleep(0.02)
    assert claimed == ids
    assert (await shared.tally())["default"] == {State.RUNNING: 20}


@pytest.mark.parametrize("ground", ["slot", "unique key"])
async def test_what_a_dead_worker_held_does_not_keep_its_own_task_from_starting(
    queue, backend, working, value_of, ground
):
    """pgqueuer, Oban: a dead job held the concurrency slot or the unique key that its recovery needed.

    https://github.com/janbjorge/pgqueuer/issues/475
    https://github.com/oban-bg/oban/issues/424
    https://github.com/graphile/worker/issues/254
    """
    options = {"slot": {"limits": [ConcurrencyLimit(1, key="one")]}, "unique key": {"unique": "only"}}
    task_id = await queue.options(**options[ground]).enqueue(note, ground)
    await backend.take(want())
    async with working():
        assert await value_of(task_id) == ground
        later = await queue.options(**options[ground]).enqueue(note, "later")
        assert later != task_id
        assert await value_of(later) == "later"


async def test_a_retry_gives_way_to_a_sibling_that_took_its_unique_key(backend):
    """procrastinate: a retry violated the unique index, and neither retry nor failure was written.

    https://github.com/procrastinate-org/procrastinate/issues/1446
    """
    from sitq.move import Retry  # noqa: PLC0415

    unique = Unique("only", scope="waiting")
    await backend.put([[Record(id="first", name="work", unique=unique)]])
    (first,) = (await backend.take(want("w", lease=60 * SECOND))).records
    await backend.put([[Record(id="second", name="work", unique=unique)]])
    assert await backend.apply([Retry(id="first", token=first.token)]) == [True]
    claimed = {record.id for record in (await backend.take(want("w"))).records}
    assert claimed == {"first", "second"}


async def test_the_dead_one_among_thousands_that_live_is_found(backend):
    """River: a page full of jobs that could not be rescued hid the stuck ones behind it.

    https://github.com/riverqueue/river/pull/1318
    """
    await backend.put([[Record(id=f"live{n}", name="work") for n in range(3000)]])
    await backend.take(want("alive", 3000, lease=3600 * SECOND))
    await backend.put([[Record(id="dead", name="work")]])
    (dead,) = (await backend.take(want("dead", lease=3600 * SECOND))).records
    await backend.apply([Lapse(id="dead", token=dead.token)])
    assert [record.id for record in (await backend.take(want("other"))).records] == ["dead"]


async def test_a_running_task_always_has_a_lease(backend):
    """Asynq, Solid Queue: a task was active and had no lease, or none that anybody looked at.

    https://github.com/hibiken/asynq/issues/1144
    https://github.com/hibiken/asynq/issues/1051
    https://github.com/rails/solid_queue/issues/455
    """
    await backend.put([[Record(id=f"t{n}", name="work") for n in range(100)]])
    for steps in range(40):
        claim = asyncio.create_task(backend.take(want("cut", 3, lease=60 * SECOND)))
        for _ in range(steps % 5):
            await asyncio.sleep(0)
        claim.cancel()
        await asyncio.wait([claim])
        running = await backend.scan(Filter(states=(State.RUNNING,)), None, 1000)
        assert all(record.lease_until and record.token for record in running.records)


async def test_a_running_row_without_a_lease_is_found_all_the_same(tmp_path):
    """Asynq: liveness was a second key, and without it the task was lost for ever.

    https://github.com/hibiken/asynq/issues/1144
    """
    path = tmp_path / "tasks.db"
    async with SQLiteBackend(path) as store:
        await store.put([[Record(id="a", name="work"), Record(id="b", name="work")]])
        await store.take(want("dead", lease=3600 * SECOND))
        with contextlib.closing(sqlite3.connect(path)) as other, other:
            other.execute("UPDATE sitq_task SET lease_until = NULL WHERE id = 'a'")
        await store.tend()
        (record,) = await store.get(["a"])
        assert record is not None
        assert record.state is not State.RUNNING


async def test_one_bad_row_does_not_stop_the_recovery_of_the_others(tmp_path):
    """Asynq: one entry that could not be read stopped the recoverer at each of its rounds.

    https://github.com/hibiken/asynq/issues/764
    """
    path = tmp_path / "tasks.db"
    async with SQLiteBackend(path) as store:
        await store.put([[Record(id=f"t{n}", name="work") for n in range(5)]])
        await store.take(want("dead", lease=1))
        with contextlib.closing(sqlite3.connect(path)) as other, other:
            other.execute(
                "UPDATE sitq_body SET body = x'c1' "
                "WHERE sequence = (SELECT sequence FROM sitq_task WHERE id = 't1')"
            )
        await asyncio.sleep(0.01)
        claimed = [record.id for record in (await store.take(want("alive"))).records]
        assert claimed == ["t0", "t2", "t3", "t4"]
        (bad,) = await store.get(["t1"])
        assert bad is not None
        assert bad.state is State.DEAD
        assert bad.errors


async def test_the_same_task_is_lost_in_no_way_between_its_claim_and_its_start(queue, backend, working):
    """RQ: a job that had been popped and was not yet noted as started was in no list.

    https://github.com/rq/rq/issues/2015
    https://github.com/rq/rq/issues/2061
    https://github.com/rq/rq/issues/2236
    """
    ids = [await queue.enqueue(note, number) for number in range(20)]
    for _ in range(2):
        dead = (await backend.take(want("dead", 20, lease=60 * SECOND))).records
        await backend.apply([Lapse(id=one.id, token=one.token) for one in dead])
    states = await backend.tally()
    assert sum(states["default"].values()) == 20
    async with working(max_concurrency=20):
        for task_id in ids:
            assert await queue.get_result(task_id, timeout=20)


async def test_thousands_that_become_due_at_once_survive_the_death_of_who_takes_them(backend):
    """Sidekiq: millions of scheduled jobs were popped at once, and the process died with them.

    https://github.com/sidekiq/sidekiq/pull/843
    """
    await backend.put([[Record(id=f"t{n}", name="work", delay=1000) for n in range(5000)]])
    await asyncio.sleep(0.01)
    first = await backend.take(want("dead", 100, lease=1))
    assert len(first.records) == 100
    await asyncio.sleep(0.01)
    left = set()
    while records := (await backend.take(want("alive", 1000, lease=60 * SECOND))).records:
        left |= {record.id for record in records}
    assert len(left) == 5000


async def test_a_renewal_touches_nothing_that_another_claim_holds_now(backend):
    """pgqueuer, streaq: a zombie's heartbeat kept a job alive, or stole it back, that was another's by then.

    https://github.com/janbjorge/pgqueuer/issues/474
    """
    await backend.put([[Record(id="a", name="work")]])
    (old,) = (await backend.take(want("zombie", lease=1))).records
    await asyncio.sleep(0.01)
    (new,) = (await backend.take(want("alive", lease=10 * SECOND))).records
    channel = backend.lease_channel()
    try:
        (answer,) = await asyncio.to_thread(channel.renew, [Lease("a", old.token)], 3600 * SECOND)
    finally:
        channel.close()
    assert answer.answer == "lost"
    (record,) = await backend.get(["a"])
    assert record.lease_until == new.lease_until


@pytest.mark.parametrize("how", ["ran out", "given back"])
async def test_the_word_of_a_worker_that_another_process_has_replaced_is_refused(make_backend, how):
    """nats-server, and most of the field: who wakes up late overwrites what its successor does.

    https://github.com/nats-io/nats-server/issues/4786
    """
    ids = [f"t{number}" for number in range(5)]
    async with make_backend() as late, make_backend() as successor:
        await late.put([[Record(id=one, name="work") for one in ids]])
        old = (await late.take(want("late", lease=1 if how == "ran out" else 60 * SECOND))).records
        if how == "given back":  # by a word of its own that came by another way
            assert all(await successor.apply([Release(id=one.id, token=one.token) for one in old]))
        await asyncio.sleep(0.02)
        new = (await successor.take(want("successor", lease=60 * SECOND))).records
        assert [one.id for one in old] == [one.id for one in new] == ids
        moves = [Settle(id=one.id, token=one.token, state=State.COMPLETED, result=b"late") for one in old]
        assert await late.apply(moves) == [False] * 5
        records = await late.get(ids)
    assert [(one.state, one.token) for one in records] == [(State.RUNNING, one.token) for one in new]


async def test_limits_of_the_dead_count_until_they_are_taken_over_and_no_longer(backend):
    """A slot belongs to a record that runs and is no counter of its own, so it cannot be left behind."""
    few = (Limit("few", slots=2),)
    await backend.put([[Record(id=f"t{n}", name="work", limits=few) for n in range(6)]])
    for _ in range(3):
        dead = (await backend.take(want("dead", lease=60 * SECOND))).records
        assert len(dead) == 2
        assert await backend.apply([Lapse(id=one.id, token=one.token) for one in dead]) == [True, True]
    assert len((await backend.take(want("alive", lease=60 * SECOND))).records) == 2


KILLED_IN_A_TRANSACTION = """
import asyncio, os, signal, sys
from sitq import SQLiteBackend
from sitq.record import Record

async def main(path):
    store = SQLiteBackend(path)
    await store.connect()
    engine = store._engine
    def die(work):
        work.db.raw.execute("UPDATE sitq_task SET priority = 99")
        os.kill(os.getpid(), signal.SIGKILL)
    await store._write(engine, "die", die, 1)

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
async def test_a_process_that_is_killed_while_it_holds_the_lock_blocks_nobody(tmp_path):
    """taskiq-redis: the lock of a killed process had no end.

    https://github.com/taskiq-python/taskiq-redis/issues/131
    """
    path = tmp_path / "tasks.db"
    async with SQLiteBackend(path) as store, TaskQueue(store) as queue:
        task_id = await queue.enqueue(note, "a")
        for _ in range(2):
            done = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", KILLED_IN_A_TRANSACTION, str(path)], check=False
            )
            assert done.returncode == -signal.SIGKILL
        begun = time.monotonic()
        assert await queue.enqueue(note, "b")
        assert time.monotonic() - begun < 5
        (record,) = await store.get([task_id])
        assert record is not None
        assert record.priority == 0
