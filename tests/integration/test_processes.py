"""Real processes: what `executor="process"` promises, and the other executors."""

import asyncio
import contextlib
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sitq.backends.sqlite import SQLiteBackend
from sitq.context import current_task
from sitq.dependencies import Depends
from sitq.exceptions import ValidationError
from sitq.policy.retry import RetryPolicy
from sitq.record import State
from sitq.worker import Worker

APP = """
import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

from sitq import Retry, Snooze, current_task, task

CALLS = 0


def mark(path, text=""):
    with open(path, "a") as file:
        file.write(f"{os.getpid()} {text}\\n")


def pid(*args, **kwargs):
    global CALLS
    CALLS += 1
    return os.getpid(), CALLS, threading.current_thread() is threading.main_thread(), args, kwargs


def enqueue_another(path):
    from sitq import SyncTaskQueue

    with SyncTaskQueue(f"sqlite:///{path}") as queue:
        return queue.options(delay=99).enqueue(abs, 1)


@task(name=f"named in {__name__}")
async def named():
    await asyncio.sleep(0)
    return os.getpid()


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def fail(kind):
    if kind == "odd":
        raise Odd(1, 2)
    if kind == "exit":
        sys.exit(3)
    if kind == "stop":
        raise StopIteration("x")
    if kind == "lock":
        return threading.Lock()
    raise ValueError("no " + kind)


async def fail_async(kind):
    await asyncio.sleep(0)
    raise ValueError("no " + kind)


def die(how, path):
    mark(path)
    if how == "segfault":
        ctypes.string_at(0)
    if how == "exit":
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(path):
    mark(path)
    if current_task().attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "back again"


def spin(path):
    mark(path)
    while True:
        pass


def spawn_and_spin(path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    mark(path, str(child.pid))
    while True:
        pass


def polite(path):
    mark(path)
    while not current_task().cancelled:
        time.sleep(0.002)
    mark(path, current_task().cancel_reason)


async def polite_async(path):
    mark(path)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        mark(path, current_task().cancel_reason)
        raise


def longer():
    current_task().extend(60)
    time.sleep(0.5)
    return "in time"


def reports(times):
    for n in range(times):
        current_task().progress(n / times, f"step {n}")
    current_task().progress(1, "done")


def charge(path, card):
    mark(path, card)
    return {"card": card}


def order(path):
    paid = current_task().once_sync("charge", charge, path, "visa")
    if current_task().attempt < 3:
        raise OSError("away")
    return paid


async def order_async(path):
    paid = await current_task().once("charge", charge, path, "visa")
    if current_task().attempt < 3:
        raise OSError("away")
    return paid


def keeps_a_lock():
    return current_task().once_sync("lock", threading.Lock)


def signals():
    match current_task().attempt:
        case 1:
            raise Snooze(0)
        case 2:
            raise Retry(after=0, reason="once more")
    return current_task().id, current_task().queue, current_task().name


def big(data):
    return data + data


def closes_everything(path):
    mark(path)
    os.closerange(3, 1000)


def sleeps(path, seconds):
    mark(path)
    time.sleep(seconds)
    return os.getpid()
"""


@pytest.fixture
def app(tmp_path, monkeypatch):
    """A module that processes can import."""
    name = f"process_app_{os.urandom(4).hex()}"
    (tmp_path / f"{name}.py").write_text(APP)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = importlib.import_module(name)
    made.TRACES = tmp_path / "traces"
    yield made
    sys.modules.pop(name)


@pytest.fixture
async def backend(tmp_path):
    """The store is a real one here; that both do the same is shown elsewhere."""
    async with SQLiteBackend(tmp_path / "tasks.db") as store:
        yield store


def lines(app):
    path = app.TRACES
    return [line.split(maxsplit=1) for line in path.read_text().splitlines()] if path.exists() else []


def is_gone(pid):
    """Whether a process has ended; a zombie has, too."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


@pytest.fixture
def run(queue):
    """Enqueue for a process and wait for the end: the result."""

    async def enqueue(function, *args, **options):
        task_id = await queue.options(executor="process", **options).enqueue(function, *args)
        result = await queue.get_result(task_id, timeout=40)
        assert result is not None, "it did not end"
        return result

    return enqueue


# -- run ---------------------------------------------------------------------------------------------------


async def test_a_function_runs_in_the_main_thread_of_a_process_that_is_used_again(queue, working, run, app):
    async with working():
        first = queue.deserialize_result(await run(app.pid, 1, 2))
        second = queue.deserialize_result(await run(app.pid))
        third = queue.deserialize_result(await run(app.named))
    assert first[0] != os.getpid()
    assert first[1:] == (1, True, (1, 2), {})
    assert second[:2] == (first[0], 2)
    assert third == first[0]
    assert is_gone(first[0])


async def test_functions_by_value_and_large_data_go_there_and_back(queue, working, run, app):
    captured = "captured"
    async with working():
        here = queue.deserialize_result(await run(lambda: (captured, os.getpid())))
        data = os.urandom(400_000)
        assert queue.deserialize_result(await run(app.big, data)) == data + data

        async def asynchronous():
            await asyncio.sleep(0)
            return captured

        assert queue.deserialize_result(await run(asynchronous)) == "captured"
    assert here[0] == "captured"
    assert here[1] != os.getpid()


async def test_what_it_raises_comes_back_with_its_traceback(working, run, app):
    errors = {
        "much": "ValueError: no much",
        "odd": "Odd: 1 2",
        "exit": "SystemExit: 3",
        "stop": "StopIteration",
    }
    async with working():
        for kind, error in errors.items():
            result = await run(app.fail, kind)
            assert result.status == "failed"
            assert error in result.error
            assert "in fail" in result.traceback
            assert "task_process" not in result.traceback
            assert "inside.py" not in result.traceback
        result = await run(app.fail_async, "much")
    assert "in fail_async" in result.traceback
    assert "asyncio" not in result.traceback


async def test_what_it_enqueues_there_inherits_its_deadline(queue, working, run, app, tmp_path):
    deadline = datetime.now(UTC) + timedelta(minutes=5)
    async with working():
        result = await run(app.enqueue_another, str(tmp_path / "tasks.db"), deadline=deadline)
    child = await queue.task_info(queue.deserialize_result(result))
    assert child.deadline_at == deadline


async def test_a_policy_sees_the_bases_of_what_was_raised_there(queue, working, ended, app):
    policy = RetryPolicy(max_retries=2, base=0.0, retry_on=[app.Odd])
    ids = [await queue.options(executor="process", retry=policy).enqueue(app.fail, kind) for kind in "ab"]
    ids.append(await queue.options(executor="process", retry=policy).enqueue(app.fail, "odd"))
    async with working():
        assert [(await ended(each, 40)).failures for each in ids] == [0, 0, 2]


async def test_what_cannot_be_brought_over_ends_readably_and_does_not_run_again(queue, working, ended, app):
    result = await queue.options(executor="process", retry=3).enqueue(app.fail, "lock")
    async with working():
        record = await ended(result, 40)
    assert (record.state, record.attempt, record.errors[0].kind) == (State.FAILED, 1, "unstorable")
    assert "lock" in record.errors[0].message


async def test_what_keeps_a_call_from_a_process_is_named_with_the_remedy(working, run):
    def takes(number, lock=Depends(threading.Lock)):  # noqa: B008
        return number

    async with working():
        unbrought = await run(takes, 1)
        assert unbrought.status == "dead"
        assert "argument 2 of type lock cannot be serialized" in unbrought.error
        assert "what providers make for it, must be possible to pickle" in unbrought.error
        unknown = await run(where_now)
        assert "cannot import tests.integration.test_processes" in unknown.error
        assert "PYTHONPATH" in unknown.error
        stateless = await run(lambda: current_task().state)
        assert "FromLifespan(…) brings what it needs there" in stateless.error


async def test_signals_mean_there_what_they_mean_everywhere(queue, working, ended, app):
    task_id = await queue.options(executor="process").enqueue(app.signals)
    async with working():
        record = await ended(task_id, 40)
        result = await queue.get_result(task_id)
    assert (record.state, record.attempt, record.failures) == (State.COMPLETED, 3, 1)
    assert queue.deserialize_result(result) == (task_id, "default", record.name)


# -- deaths ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["segfault", "exit"])
async def test_what_kills_its_process_twice_is_dead_and_costs_no_worker(queue, working, ended, app, how):
    bystander = await queue.options(executor="process").enqueue(app.sleeps, str(app.TRACES) + "2", 0.1)
    task_id = await queue.options(executor="process", retry=5).enqueue(app.die, how, str(app.TRACES))
    async with working(process_concurrency=2) as worker:
        record = await ended(task_id, 40)
        other = await ended(bystander, 40)
        assert worker._shift._runs.busy == 0
    assert (record.state, record.attempt, len(lines(app))) == (State.DEAD, 2, 2)
    assert "quarantined" in record.errors[-1].message
    assert {error.kind for error in record.errors} == {"crashed"}
    died = record.errors[0].message
    assert {"segfault": "SIGSEGV", "exit": "exit code 0", "kill": "SIGKILL"}[how] in died
    assert (other.state, other.attempt) == (State.COMPLETED, 1)


async def test_a_process_that_died_once_uses_no_retry(queue, working, ended, app):
    task_id = await queue.options(executor="process").enqueue(app.die_once, str(app.TRACES))
    async with working():
        record = await ended(task_id, 40)
    assert (record.state, record.attempt, record.failures) == (State.COMPLETED, 2, 0)
    assert [error.kind for error in record.errors] == ["crashed"]


async def test_a_process_that_is_killed_while_it_is_idle_harms_no_task(queue, working, run, app):
    async with working():
        first = queue.deserialize_result(await run(app.pid))[0]
        os.kill(first, signal.SIGKILL)
        result = await run(app.pid)
    assert queue.deserialize_result(result)[0] != first


async def test_a_function_that_closes_its_line_to_the_worker_is_as_good_as_dead(queue, working, ended, app):
    task_id = await queue.options(executor="process").enqueue(app.closes_everything, str(app.TRACES))
    async with working():
        record = await ended(task_id, 40)
    assert (record.state, record.attempt) == (State.DEAD, 2)
    assert all(is_gone(int(pid)) for (pid,) in lines(app))


async def test_middleware_surrounds_what_runs_in_a_process(queue, working, run, app):
    seen = []

    async def watch(task, call_next):
        seen.append("before")
        try:
            return await call_next(task)
        except ValueError as error:
            seen.append(str(error))
            raise

    async with working(middleware=[watch]):
        assert queue.deserialize_result(await run(app.pid, 1))[3] == (1,)
        assert "in fail" in (await run(app.fail, "much")).traceback
    assert seen == ["before", "before", "no much"]


# -- killed ------------------------------------------------------------------------------------------------


async def test_a_time_out_kills_and_begins_when_the_process_has(queue, working, run, app):
    async with working():
        result = await run(app.spin, str(app.TRACES), timeout=0.2)
        assert result.error == "TimeoutError: it took longer than its time-out of 0.2 s"
        ((pid,),) = lines(app)
        assert is_gone(int(pid))
        assert queue.deserialize_result(await run(app.pid))[0] != int(pid)


async def test_what_a_task_has_started_is_killed_with_it(working, run, app, eventually):
    async with working():
        await run(app.spawn_and_spin, str(app.TRACES), timeout=0.5)
        ((_, child),) = lines(app)
        await eventually(lambda: is_gone(int(child)))


async def test_a_cancellation_kills_within_a_second(queue, working, app, eventually):
    took = []
    async with working(lease=240):
        for n in range(3):
            task_id = await queue.options(executor="process").enqueue(app.spin, str(app.TRACES))
            await eventually(lambda n=n: len(lines(app)) > n, 40)
            asked = time.monotonic()
            assert await queue.cancel(task_id, "enough")
            result = await queue.get_result(task_id, timeout=10)
            took.append(time.monotonic() - asked)
            assert (result.status, result.error) == ("cancelled", "enough")
            assert is_gone(int(lines(app)[n][0]))
    assert sorted(took)[1] <= 1.0


@pytest.mark.parametrize("name", ["polite", "polite_async"])
async def test_before_it_is_killed_a_task_is_told_and_its_process_lives_if_it_ends(
    queue, working, app, eventually, name
):
    async with working():
        task_id = await queue.options(executor="process").enqueue(getattr(app, name), str(app.TRACES))
        await eventually(lambda: lines(app), 40)
        await queue.cancel(task_id, "the customer left")
        result = await queue.get_result(task_id, timeout=10)
        assert (result.status, result.error) == ("cancelled", "the customer left")
        (pid,), (_, reason) = lines(app)
        assert reason == "the customer left"
        again = await queue.options(executor="process").enqueue(app.pid)
        assert queue.deserialize_result(await queue.get_result(again, timeout=40))[0] == int(pid)


async def test_a_stop_hands_back_what_runs_in_processes_and_leaves_none_behind(queue, stored, app):
    task_id = await queue.options(executor="process").enqueue(app.spin, str(app.TRACES))
    async with Worker(queue.backend, grace=0.1):
        deadline = time.monotonic() + 40
        while not lines(app):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
    record = await stored(task_id)
    assert (record.state, record.failures, record.crashes, record.alone) == (State.QUEUED, 0, 0, 0)
    assert is_gone(int(lines(app)[0][0]))


# -- what it says ------------------------------------------------------------------------------------------


async def test_a_task_there_can_extend_its_time(queue, working, run, app):
    async with working():
        assert queue.deserialize_result(await run(app.longer, timeout=0.3)) == "in time"


async def test_ten_thousand_notes_from_there_are_few_and_the_last_one_lands(queue, working, ended, app):
    calls = []
    apply = queue.backend.apply

    async def counted(moves):
        calls.append(len(moves))
        return await apply(moves)

    queue.backend.apply = counted
    task_id = await queue.options(executor="process").enqueue(app.reports, 10_000)
    async with working():
        record = await ended(task_id, 40)
    assert (record.state, record.progress[-1].message) == (State.COMPLETED, "done")
    assert len(calls) < 100


async def test_a_step_that_was_done_there_is_skipped_by_later_attempts(queue, working, run, app):
    async with working():
        for n, function in enumerate((app.order, app.order_async), 1):
            result = await run(function, str(app.TRACES), retry=RetryPolicy(max_retries=3, base=0.0))
            assert queue.deserialize_result(result) == {"card": "visa"}
            assert [card for _, card in lines(app)] == ["visa"] * n


async def test_a_step_there_that_cannot_be_kept_fails_the_task(queue, working, ended, app):
    task_id = await queue.options(executor="process", retry=3).enqueue(app.keeps_a_lock)
    async with working():
        record = await ended(task_id, 40)
    assert (record.state, record.attempt, record.errors[0].kind) == (State.FAILED, 1, "unstorable")


# -- how many ----------------------------------------------------------------------------------------------


async def test_a_worker_claims_no_more_for_processes_than_it_has(queue, working, ended, app):
    ids = [
        await queue.options(executor="process").enqueue(app.sleeps, str(app.TRACES), 0.05) for _ in range(9)
    ]
    async with working(process_concurrency=1, max_concurrency=10) as worker:
        records = [await ended(each, 40) for each in ids]
        plain = await queue.enqueue(len, "abc")
        assert queue.deserialize_result(await queue.get_result(plain, timeout=10)) == 3
        assert worker._shift._runs.processes.free == 1
    assert {record.state for record in records} == {State.COMPLETED}
    assert len({pid for (pid,) in lines(app)}) == 1
    # The first claim could not know that they are for processes: what was too much of it went back, once.
    assert [record.attempt for record in records] == [1] + [2] * 8


# -- the worker's death ------------------------------------------------------------------------------------


async def test_a_worker_that_is_killed_takes_its_processes_along(place):
    place.file.write_text(
        place.file.read_text() + "\n\ndef spin(path):\n    trace(path)\n    while True:\n        pass\n"
    )
    importlib.reload(place.app)
    queue = place.app.queue
    place.queue = queue
    worker = place.start("worker", f"{place.name}:queue")
    await queue.options(executor="process").enqueue(place.app.spin, str(place.traces))
    ((pid, _),) = await place.until(place.trace, 50)
    assert pid != worker.pid
    worker.kill()
    await place.until(lambda: is_gone(pid), 5)


# -- the other executors -----------------------------------------------------------------------------------


async def where():
    await asyncio.sleep(0)
    return threading.current_thread() is threading.main_thread(), current_task().attempt


def where_now():
    return threading.current_thread() is threading.main_thread(), current_task().attempt


@pytest.mark.parametrize("function", [where, where_now])
@pytest.mark.parametrize(("executor", "main"), [("thread", False), ("async", True)])
async def test_a_function_runs_where_its_task_says(queue, working, function, executor, main):
    async with working():
        task_id = await queue.options(executor=executor, timeout=10).enqueue(function)
        result = await queue.get_result(task_id, timeout=10)
    assert queue.deserialize_result(result) == (main, 1)


async def test_what_an_executor_raises_is_told_as_ever(queue, working):
    async with working():
        for executor in ("thread", "async"):
            task_id = await queue.options(executor=executor).enqueue(int, "x")
            result = await queue.get_result(task_id, timeout=10)
            assert "invalid literal" in result.error


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python has interpreters")
async def test_without_interpreters_they_are_refused_where_the_task_is_made(queue):
    with pytest.raises(ValidationError, match=r"needs Python 3\.14"):
        queue.options(executor="interpreter")


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python has interpreters")
async def test_a_worker_without_interpreters_leaves_their_tasks_to_others(queue, working, stored, eventually):
    task_id = await queue.enqueue(len, "abc")
    (record,) = await queue.backend.get([task_id])
    assert await queue.cancel(task_id)
    record.id, record.executor, record.state = "other", "interpreter", State.QUEUED
    record.payload = record.payload.replace(task_id.encode(), b"other".ljust(len(task_id), b"x"))
    record.id = "other".ljust(len(task_id), "x")
    await queue.backend.put([[record]])
    async with working() as worker:
        await eventually(lambda: worker._shift and worker._shift._runs.left)

        async def went_back():
            found = await stored(record.id)
            return found if found.state is State.QUEUED else None

        found = await eventually(went_back)
    assert (found.failures, found.errors) == (0, ())


@pytest.mark.skipif(sys.version_info < (3, 14), reason="this Python has no interpreters")
async def test_a_function_runs_in_an_interpreter_of_its_own(queue, working):
    async with working():
        task_id = await queue.options(executor="interpreter").enqueue(len, "abc")
        assert queue.deserialize_result(await queue.get_result(task_id, timeout=10)) == 3


def test_a_process_for_tasks_ends_when_nobody_is_at_the_other_end():
    code = (
        "import os, socket, subprocess, sys, threading\n"
        "ours, theirs = socket.socketpair()\n"
        "child = subprocess.Popen([sys.executable, '-c', 'from sitq.worker.inside import main; "
        "main(%d, %d)' % (theirs.fileno(), os.getpid())], pass_fds=[theirs.fileno()])\n"
        "theirs.close(); ours.close()\n"
        "sys.exit(child.wait(10))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=20, check=False).returncode == 0
