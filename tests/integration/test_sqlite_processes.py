"""Several processes on one file."""

import asyncio
import contextlib
import json
import sqlite3
import subprocess
import sys
import time

import pytest

from sitq.backends.base import Share, Want, queue_topic
from sitq.backends.sqlite import SQLiteBackend
from sitq.record import Record

COMMITS = """
import asyncio, json, sys, time
from sitq.backends.sqlite import SQLiteBackend
from sitq.record import Record

async def main(path, name, seconds):
    done = 0
    async with SQLiteBackend(path, synchronous="NORMAL") as backend:
        print("ready", flush=True)
        sys.stdin.readline()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await backend.put([[Record(id=f"{name}-{done}", name="work")]])
            done += 1
    print(json.dumps(done), flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
"""

ABANDON = """
import asyncio, sys
from sitq.backends.sqlite import SQLiteBackend
from sitq.record import Record

async def main(path):
    backend = SQLiteBackend(path)
    await backend.connect()
    listener = backend.listen(["queue/default"])
    await backend.put([[Record(id="left", name="work")]])
    if sys.argv[2] == "keep":
        globals()["kept"] = backend, listener

asyncio.run(main(sys.argv[1]))
"""


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_eight_processes_commit_without_errors_and_without_starving(tmp_path):
    path = tmp_path / "t.db"
    processes = [start(COMMITS, path, f"p{number}", 2) for number in range(8)]
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    done = []
    for process in processes:
        out, err = process.communicate(timeout=50)
        assert process.returncode == 0, err
        done.append(json.loads(out))
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM sitq_task").fetchone() == (sum(done),)
    db.close()
    # The built-in busy handler gives one process thousands of turns and another one or none.
    assert min(done) > max(done) / 10


async def test_a_listener_is_woken_by_another_process(tmp_path):
    path = tmp_path / "t.db"
    async with SQLiteBackend(path) as backend:
        listener = backend.listen([queue_topic("default")])
        await listener.wait(0.05)
        waiter = asyncio.ensure_future(listener.wait(20))
        process = start(ABANDON, path, "drop")
        assert await waiter
        _, err = await asyncio.to_thread(process.communicate, timeout=30)
        assert process.returncode == 0, err
        want = Want(
            claim="c", worker="w", queues=(Share("default", 1),), limit=1, lease=1_000_000, python="3.11"
        )
        deadline = time.monotonic() + 10
        while not (taken := await backend.take(want)).records and time.monotonic() < deadline:
            await listener.wait(1)
        assert [record.id for record in taken.records] == ["left"]
        listener.close()


def test_an_abandoned_backend_neither_hangs_nor_warns_at_exit(tmp_path):
    for how in ("drop", "keep"):
        process = start(ABANDON, tmp_path / f"{how}.db", how)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")


async def test_two_objects_of_one_process_share_a_file(tmp_path):
    async with SQLiteBackend(tmp_path / "t.db") as one, SQLiteBackend(tmp_path / "t.db") as other:
        await one.put([[Record(id="a", name="work")]])
        (found,) = await other.get(["a"])
        assert found is not None


@pytest.mark.parametrize("how", ["take", "tend"])
async def test_a_claim_that_waited_long_for_the_lock_takes_nobodys_lease(tmp_path, how):
    ahead = [0]
    path = tmp_path / "tasks.db"
    async with SQLiteBackend(path, clock=lambda: time.time_ns() // 1000 + ahead[0]) as backend:

        async def take(claim):
            share = Share("default", 9)
            want = Want(claim=claim, worker=claim, queues=(share,), limit=9, lease=10_000_000, python="3.11")
            return (await backend.take(want)).records

        await backend.put([[Record(id="a", name="work")]])
        (held,) = await take("holder")
        await backend.put([[Record(id="b", name="work")]])
        suspended = sqlite3.connect(path, isolation_level=None)
        with contextlib.closing(suspended):
            suspended.execute("BEGIN IMMEDIATE")  # as one that was stopped in the middle of a commit
            waiting = asyncio.create_task(take("late") if how == "take" else backend.tend())
            await asyncio.sleep(0)  # so that it was asked before the time that nobody could use
            ahead[0] = 11_000_000
            suspended.execute("ROLLBACK")
        answer = await waiting
        assert answer == 0 if how == "tend" else [record.id for record in answer] == ["b"]
        (now,) = await backend.get(["a"])
        assert now is not None
        assert (now.token, now.crashes) == (held.token, 0)
        assert "a" in [record.id for record in await take("in time")]
