"""Workers that are killed at each line between a claim and the start of its task lose none."""

import asyncio
import sys
import time
from pathlib import Path

import pytest

from sitq import SQLiteBackend, TaskQueue, Worker, task
from sitq.record import SECOND, State

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")

KILLED_AT = Path(__file__).with_name("killed_at.py")


@task(name="killed.work")
async def work() -> str:
    sys.settrace(None)  # it has started
    return "worked"


@pytest.mark.timeout(120)
async def test_a_task_is_lost_at_no_line_between_its_claim_and_its_start(tmp_path):
    """RQ: a job that had been popped and was not yet noted as started was in no list.

    https://github.com/rq/rq/issues/2015
    https://github.com/rq/rq/issues/2061
    https://github.com/rq/rq/issues/2236
    """
    path = tmp_path / "tasks.db"
    ids = []
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(KILLED_AT),
        str(path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    async with SQLiteBackend(path, synchronous="NORMAL") as backend, TaskQueue(backend) as queue:
        died = True
        while died:
            ids.append(await queue.enqueue(work))
            process.stdin.write(b"%d\n" % len(ids))
            died = int(await process.stdout.readline()) != 0
        process.stdin.close()
        await process.wait()
        records = await backend.get(ids)
        *held, last = [(one.state, one.attempt, one.owner) for one in records]
        assert len(held) > 50
        assert set(held) == {(State.RUNNING, 1, "dying")}
        assert last == (State.COMPLETED, 1, None)

    def later() -> int:
        return time.time_ns() // 1000 + 700 * SECOND

    async with SQLiteBackend(path, synchronous="NORMAL", clock=later) as backend:
        await Worker(backend, max_concurrency=10).run(burst=True)
        records = await backend.get(ids[:-1])
        assert {(one.state, one.attempt, one.crashes) for one in records} == {(State.COMPLETED, 2, 1)}
