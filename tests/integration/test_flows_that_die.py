"""Flows whose workers are killed at every step: no task, no child, no callback and no value is lost."""

import asyncio
import sys
import time
from pathlib import Path

import pytest

from sitq import SQLiteBackend, Task, TaskQueue, Worker, chain, current_task, group, task
from sitq.record import SECOND, State

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")

DYING = Path(__file__).with_name("dying.py")
POINTS_AT_ONCE = 8


@task(name="dying.load")
async def load() -> list[int]:
    return [1, 2, 3]


@task(name="dying.pick")
async def pick(numbers: list[int], index: int) -> int:
    return 10 * numbers[index]


@task(name="dying.add_up")
def add_up(numbers: list[int]) -> int:
    return sum(numbers)


@task(name="dying.report")
async def report(total: int) -> list[object]:
    batch = current_task().batch
    assert batch is not None
    return [total, batch.completed, batch.total, batch.metadata["title"]]


@task(name="dying.explode")
async def explode(_: int) -> None:
    raise ArithmeticError("no")


@task(name="dying.begin")
async def begin() -> str:
    sys.settrace(None)  # it has started
    return "begun"


@pytest.fixture
async def dying():
    """Lets a worker process die at one of its steps: its exit code, negative if it was killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(DYING), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    turn = asyncio.Lock()

    async def die(path: Path, when: str, step: int) -> int:
        async with turn:
            process.stdin.write(f"{path}\t{when}\t{step}\n".encode())
            return int(await process.stdout.readline())

    yield die
    process.stdin.close()
    await process.wait()


async def _one_flow(die, path, when, step):
    """A flow whose first worker dies at a step; whether there was such a step."""
    async with SQLiteBackend(path, synchronous="NORMAL") as backend, TaskQueue(backend) as queue:
        last = Task(add_up)
        flow = chain(Task(load), group([Task(pick, (n,)) for n in range(3)]), last)
        good = await queue.batch(
            flow, on_success=Task(report, (last,)), on_failure=load, on_finish=load, metadata={"title": "t"}
        )
        bad = await queue.batch(
            chain(Task(load), Task(explode), Task(explode)), on_success=load, on_failure=load
        )
        killed = await die(path, when, step)
        async with Worker(backend, worker_id="heir"):
            assert await good.callbacks["success"].result(40) == [60, 5, 5, "t"]
            assert await good.callbacks["finish"].result(40) == [1, 2, 3]
            assert await bad.callbacks["failure"].result(40) == [1, 2, 3]
            assert (await good.callbacks["failure"].outcome(40)).status == "cancelled"
            assert (await bad.callbacks["success"].outcome(40)).status == "cancelled"
        for batch, ends in ((good, (5, 0, 0)), (bad, (1, 1, 1))):
            info = await batch.info()
            assert (info.completed, info.failed, info.cancelled) == ends
            for record in await backend.get(list(info.task_ids)):
                assert record.state in {State.COMPLETED, State.FAILED, State.CANCELLED}
                expired = sum(past.kind == "crashed" for past in record.errors)
                assert record.attempt <= 1 + expired, "a task ran twice although no lease ran out"
        return killed != 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_no_child_and_no_callback_is_lost_at_whatever_step_the_worker_is_killed(tmp_path, dying, when):
    steps = 0
    while True:
        points = [
            _one_flow(dying, tmp_path / f"{step}.db", when, step)
            for step in range(steps + 1, steps + 1 + POINTS_AT_ONCE)
        ]
        died = await asyncio.gather(*points)
        steps += sum(died)
        if not all(died):
            break
    assert steps >= 10


@pytest.mark.timeout(120)
async def test_a_task_is_lost_at_no_line_between_its_claim_and_its_start(tmp_path, dying):
    """RQ: a job that had been popped and was not yet noted as started was in no list.

    https://github.com/rq/rq/issues/2015
    https://github.com/rq/rq/issues/2061
    https://github.com/rq/rq/issues/2236
    """
    path = tmp_path / "tasks.db"
    ids = []
    async with SQLiteBackend(path, synchronous="NORMAL") as backend, TaskQueue(backend) as queue:
        died = True
        while died:
            ids.append(await queue.enqueue(begin))
            died = await dying(path, "line", len(ids)) != 0
        *held, last = [(one.state, one.attempt, one.owner) for one in await backend.get(ids)]
        assert len(held) > 50
        assert set(held) == {(State.RUNNING, 1, "dying")}
        assert last == (State.COMPLETED, 1, None)

    def later() -> int:
        return time.time_ns() // 1000 + 700 * SECOND

    async with SQLiteBackend(path, synchronous="NORMAL", clock=later) as backend:
        await Worker(backend, max_concurrency=10).run(burst=True)
        records = await backend.get(ids[:-1])
        assert {(one.state, one.attempt, one.crashes) for one in records} == {(State.COMPLETED, 2, 1)}


@pytest.mark.timeout(120)
async def test_a_diamond_of_a_hundred_by_a_hundred_runs_every_task_once(backend, working, stored):
    upper = [Task(pick, ([n], 0)) for n in range(100)]
    lower = [Task(add_up, (upper,)) for _ in range(100)]
    bottom = Task(add_up, (lower,))
    async with TaskQueue(backend) as queue:
        ids = await queue.enqueue_many([bottom, *lower, *upper])
        assert sum([len((await stored(one)).edges) for one in ids]) == 10_100
        async with working(max_concurrency=50):
            assert await queue.handle(ids[0]).result(60) == 100 * 10 * sum(range(100))
        records = await backend.get(ids)
        assert {record.state for record in records} == {State.COMPLETED}
        assert {record.attempt for record in records} == {1}
        assert (await queue.stats())["default"] == {"completed": 201}


async def test_ten_thousand_tasks_with_edges_go_in_at_once(backend, stored):
    tasks = [Task(load)]
    for n in range(1, 10_000):
        tasks.append(Task(add_up, (tasks[n // 2],), depends_on=[tasks[n - 1]]))
    async with TaskQueue(backend) as queue:
        ids = await queue.enqueue_many(reversed(tasks))
        assert ids == [one.id for one in reversed(tasks)]
        assert (await queue.stats())["default"] == {"queued": 1, "blocked": 9_999}
        assert len((await stored(ids[0])).edges) == 2
