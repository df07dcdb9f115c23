"""`--max-tasks` and `--max-memory`: worker processes that end when they have done their part."""

import re
import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(150)  # each of them starts several processes, one after another


def _pids(place):
    """The process ids of the workers that have begun to work, in that order."""
    return [int(pid) for pid in re.findall(r"\[(\d+)\] sitq\.worker: working", place.log)]


async def _ran_in(place, tasks, seconds=30.0):
    return [await place.value_of(task_id, seconds) for task_id in tasks]


async def test_a_worker_ends_after_so_many_tasks_with_a_code_of_its_own(place):
    tasks = [await place.queue.enqueue(place.app.add, n, n) for n in range(5)]
    ended = place.run("worker", f"{place.name}:queue", "--max-tasks=3")
    assert ended.returncode == 5, ended.stderr
    assert "claiming nothing more, as it has claimed 3 tasks" in ended.stderr
    results = await place.queue.get_results(tasks)
    assert [result.status for result in results] == ["success"] * 3 + ["pending"] * 2


async def test_it_lets_its_tasks_end_however_long_they_take(place):
    task_id = await place.queue.enqueue(place.app.hold, str(place.traces), 1.0)
    ended = place.run("worker", f"{place.name}:queue", "--max-tasks=1", "--grace=0")
    assert ended.returncode == 5, ended.stderr
    assert not place.trace("cancelled")
    (result,) = await place.queue.get_results([task_id])
    assert result.status == "success"


async def test_a_signal_hands_back_what_still_runs(place):
    task_id = await place.queue.enqueue(place.app.hold, str(place.traces))
    process = place.start("worker", f"{place.name}:queue", "--max-tasks=1", "--grace=0.1")
    await place.until(lambda: "claiming nothing more" in place.log)
    await place.until(place.trace)
    process.terminate()
    assert await place.exit_of(process) == 0  # it was told to
    (record,) = await place.queue.backend.get([task_id])
    assert (record.state, record.failures) == ("queued", 0)


async def test_a_supervisor_replaces_it_and_no_task_is_run_twice(place):
    supervisor = place.start("worker", f"{place.name}:queue", "--processes=2", "--max-tasks=4")
    tasks = [await place.queue.enqueue(place.app.hold_thread, str(place.traces), 0.0) for _ in range(12)]
    pids = await _ran_in(place, tasks)
    assert max(pids.count(pid) for pid in pids) <= 4
    assert len(place.trace()) == 12
    assert len(_pids(place)) >= 3
    assert "WARNING" not in place.log  # it is nothing to worry about
    supervisor.terminate()
    assert await place.exit_of(supervisor) == 0


async def test_another_process_begins_while_a_long_task_keeps_the_old_one(place):
    supervisor = place.start(
        "worker", f"{place.name}:queue", "--processes=2", "--max-tasks=1", "--concurrency=1"
    )
    long = [await place.queue.enqueue(place.app.hold, str(place.traces)) for _ in range(2)]
    await place.until(lambda: len(place.trace()) == 2, 40)
    other = await place.queue.enqueue(place.app.add, 1, 2)  # both places are taken by what runs for a minute
    assert await place.value_of(other, 40) == 3
    assert [result.status for result in await place.queue.get_results(long)] == ["pending"] * 2
    supervisor.send_signal(signal.SIGINT)
    await place.until(lambda: "stopping: running tasks may end" in place.log)
    supervisor.send_signal(signal.SIGINT)
    assert await place.exit_of(supervisor) == 3


async def test_a_burst_goes_on_in_the_next_process(place):
    tasks = [await place.queue.enqueue(place.app.add, n, n) for n in range(10)]
    supervisor = place.start("worker", f"{place.name}:queue", "--processes=2", "--burst", "--max-tasks=3")
    assert await place.exit_of(supervisor, 40) == 0
    assert await _ran_in(place, tasks, 1) == [2 * n for n in range(10)]


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="the system tells only the most there ever was"
)
async def test_a_process_that_has_grown_is_replaced(place):
    supervisor = place.start("worker", f"{place.name}:queue", "--processes=2", "--max-memory=250MiB")
    await place.until(lambda: len(_pids(place)) == 2, 40)
    grown = await place.value_of(await place.queue.enqueue(place.app.grow, 300 << 20))
    await place.until(lambda: "MiB of memory" in place.log)
    await place.until(lambda: len(_pids(place)) == 3, 40)
    await place.until(lambda: f"worker process {grown} " in place.log)
    assert "ended with exit code 5" in place.log
    supervisor.terminate()
    assert await place.exit_of(supervisor) == 0


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--max-tasks=0", "--max-tasks"),
        ("--max-memory=much", "max_memory must be a size such as 200MiB"),
        ("--max-memory=0", "max_memory"),
    ],
)
def test_what_is_no_limit_is_said(place, option, message):
    for processes in ("1", "2"):
        ended = place.run("worker", f"{place.name}:queue", option, f"--processes={processes}")
        assert ended.returncode == 2
        assert message in ended.stderr
