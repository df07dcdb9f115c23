"""Time-outs as a task sees them, wherever it runs."""

import asyncio
import time
import types

import pytest

from sitq import current_task

REASON = "it took longer than its time-out of 0.3 s"


def look_in_a_thread(file):
    """Note what the task is told, as soon as it is told anything."""
    task = current_task()
    for _ in range(2000):
        if task.cancelled:
            file.write_text(str(task.cancel_reason))
            return
        time.sleep(0.005)


async def be_cancelled(file):
    try:
        await asyncio.sleep(20)
    except asyncio.CancelledError as error:
        file.write_text("; ".join([str(current_task().cancel_reason), *map(str, error.args)]))
        raise


def by_value(function):
    """The same function, which processes need not import."""
    made = types.FunctionType(function.__code__, function.__globals__ | {"__name__": "__main__"})
    made.__module__, made.__qualname__ = "__main__", f"by_value.<locals>.{function.__name__}"
    return made


async def return_late():
    try:
        await asyncio.sleep(20)
    except asyncio.CancelledError:
        return "late"


@pytest.mark.parametrize(
    ("function", "said"), [(look_in_a_thread, REASON), (be_cancelled, f"{REASON}; {REASON}")]
)
async def test_a_task_is_told_of_its_timeout(queue, working, eventually, tmp_path, function, said):  # noqa: PLR0917 - fixtures
    file = tmp_path / "said"
    async with working():
        handle = await queue.options(timeout=0.3).submit(function, file)
        ended = await handle.outcome(20)
        assert (ended.status, ended.error) == ("failed", f"TimeoutError: {REASON}")
        await eventually(lambda: file.exists() and file.read_text() == said)


@pytest.mark.parametrize("executor", ["async", "process"])
async def test_a_task_that_returns_after_its_time_has_failed(queue, working, executor):
    async with working():
        handle = await queue.options(timeout=0.3, executor=executor).submit(by_value(return_late))
        assert (await handle.outcome(20)).error == f"TimeoutError: {REASON}"
