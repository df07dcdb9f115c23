"""The API as first documented: its code works as printed, given the least around it that makes it run."""

import asyncio
import importlib
import inspect
import subprocess
import sys
import textwrap
from datetime import UTC, datetime

import pytest

import sitq
from sitq import ReservedTask, Result, SQLiteBackend, SyncTaskQueue, Task, TaskQueue, Worker

# ruff: noqa: W293 - as printed

BASIC_USAGE = '''
import asyncio
from sitq import TaskQueue, Worker, SQLiteBackend

async def my_task(name: str) -> str:
    """Example task function."""
    await asyncio.sleep(0.1)  # Simulate work
    return f"Hello, {name}!"

async def main():
    # Set up backend and queue
    backend = SQLiteBackend("tasks.db")
    await backend.connect()
    queue = TaskQueue(backend=backend)
    
    # Enqueue a task
    task_id = await queue.enqueue(my_task, "World")
    
    # Start worker to process tasks
    worker = Worker(backend, max_concurrency=2)
    worker_task = asyncio.create_task(worker.start())
    
    # Get result
    result = await queue.get_result(task_id, timeout=5)
    if result and result.status == "success":
        value = queue.deserialize_result(result)
        print(f"Result: {value}")
    
    # Cleanup
    await worker.stop()
    await worker_task
    await backend.close()

if __name__ == "__main__":
    asyncio.run(main())
'''

SYNC_USAGE = """
from sitq import SyncTaskQueue, SQLiteBackend

def main():
    # SyncTaskQueue manages its own event loop
    with SyncTaskQueue(SQLiteBackend("tasks.db")) as queue:
        task_id = queue.enqueue(my_task, "World")
        result = queue.get_result(task_id, timeout=5)
        print(f"Result: {result}")

if __name__ == "__main__":
    main()
"""

CORE_USAGE = """
from sitq import TaskQueue, Worker, SQLiteBackend

backend = SQLiteBackend("tasks.db")
queue = TaskQueue(backend=backend)

# Enqueue task
task_id = await queue.enqueue(my_function, "arg")

# Get result
result = await queue.get_result(task_id)

# Check status
if result and result.status == "success":
    value = queue.deserialize_result(result)
    print(f"Result: {value}")
elif result:
    print(f"Error: {result.error}")
"""

QUEUE_INIT = """
from sitq import TaskQueue, SQLiteBackend

backend = SQLiteBackend("tasks.db")
queue = TaskQueue(backend=backend)
"""

QUEUE_ENQUEUE = """
# Simple task
task_id = await queue.enqueue(my_function, "arg1", "arg2")

# Task with keyword arguments
task_id = await queue.enqueue(my_function, arg1, kwarg="value")

# Delayed execution
from datetime import datetime, timezone, timedelta
eta = datetime.now(timezone.utc) + timedelta(seconds=30)
task_id = await queue.enqueue(my_function, arg, eta=eta)
"""

QUEUE_GET_RESULT = """
result = await queue.get_result(task_id)

if result and result.status == "success":
    value = queue.deserialize_result(result)
    print(f"Result: {value}")
elif result:
    print(f"Error: {result.error}")
else:
    print("Task not found")
"""

QUEUE_DESERIALIZE = """
result = await queue.get_result(task_id)
if result and result.status == "success":
    value = queue.deserialize_result(result)
"""

QUEUE_CONTEXT = """
async with TaskQueue(backend=backend) as queue:
    task_id = await queue.enqueue(my_function)
    result = await queue.get_result(task_id)
"""

FUNCTION = """
def my_function(*args, **kwargs):
    return [*args, *kwargs.values()]
"""

WORKING = """
import asyncio
import sitq

async def main():
    async with sitq.Worker("sqlite:///tasks.db"):
{body}

asyncio.run(main())
"""


def _run(code, folder):
    """What a script prints that has this code; it must end by itself, without a warning."""
    (folder / "script.py").write_text(code)
    command = [sys.executable, "-W", "error", "script.py"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def _run_beside_a_worker(code, folder):
    return _run(FUNCTION + WORKING.format(body=textwrap.indent(code, " " * 8)), folder)


class TestCodeAsPrinted:
    def test_the_basic_usage_pattern(self, tmp_path):
        assert _run(BASIC_USAGE, tmp_path) == "Result: Hello, World!\n"

    async def test_the_sync_usage(self, tmp_path):
        preamble = 'def my_task(name):\n    return f"Hello, {name}!"\n'
        async with Worker(SQLiteBackend(tmp_path / "tasks.db")):
            assert await asyncio.to_thread(_run, preamble + SYNC_USAGE, tmp_path) == "Result: Hello, World!\n"

    def test_the_core_usage(self, tmp_path):
        assert _run_beside_a_worker(CORE_USAGE, tmp_path) == "Result: ['arg']\n"

    def test_the_queue_examples(self, tmp_path):
        code = QUEUE_INIT + 'arg1 = arg = "a"\n' + QUEUE_ENQUEUE.replace("seconds=30", "seconds=0.3")
        assert (
            _run_beside_a_worker(code + QUEUE_GET_RESULT + QUEUE_DESERIALIZE, tmp_path) == "Result: ['a']\n"
        )

    def test_the_queue_as_a_context_manager(self, tmp_path):
        assert (
            _run_beside_a_worker(QUEUE_INIT + QUEUE_CONTEXT + "    print(result.status)\n", tmp_path)
            == "success\n"
        )

    def test_an_unknown_task_is_not_found(self, tmp_path):
        code = QUEUE_INIT + 'task_id = "unknown"\n' + QUEUE_GET_RESULT
        assert _run_beside_a_worker(code, tmp_path) == "Task not found\n"


class TestModules:
    @pytest.mark.parametrize(
        ("module", "names"),
        [
            ("sitq.queue", ["TaskQueue"]),
            ("sitq.core", ["Task", "Result", "ReservedTask"]),
            ("sitq.worker", ["Worker"]),
            ("sitq.backends.base", ["Backend"]),
            ("sitq.backends.sqlite", ["SQLiteBackend"]),
            ("sitq.serialization", ["Serializer", "CloudpickleSerializer"]),
            ("sitq.sync", ["SyncTaskQueue"]),
            (
                "sitq.exceptions",
                ["SitqError", "TaskQueueError", "BackendError", "WorkerError", "ValidationError"],
            ),
            ("sitq.validation", []),
        ],
    )
    def test_each_documented_module_has_its_names(self, module, names):
        found = importlib.import_module(module)
        for name in names:
            assert inspect.isclass(getattr(found, name))
            assert name == "SitqError" or getattr(found, name) is getattr(sitq, name)

    def test_the_parameters_have_their_documented_names(self):
        assert [*inspect.signature(TaskQueue).parameters][:2] == ["backend", "serializer"]
        enqueue = inspect.signature(TaskQueue.enqueue).parameters
        assert (enqueue["eta"].kind, enqueue["eta"].default) == (inspect.Parameter.KEYWORD_ONLY, None)
        assert [*inspect.signature(TaskQueue.get_result).parameters][1:3] == ["task_id", "timeout"]
        assert [*inspect.signature(TaskQueue.deserialize_result).parameters][1:] == ["result"]
        assert {"backend", "max_concurrency", "poll_interval"} <= set(inspect.signature(Worker).parameters)


def parse(text):
    return int(text)


class TestAttributes:
    async def test_a_task_has_what_is_documented(self):
        task = Task(len, ("abc",))
        assert (task.function, task.args, task.kwargs, task.eta, task.status) == (
            len,
            ("abc",),
            {},
            None,
            "queued",
        )
        assert isinstance(task.id, str)
        assert isinstance(task.created_at, datetime)

    async def test_a_result_has_what_is_documented(self, tmp_path):
        async with TaskQueue(SQLiteBackend(tmp_path / "tasks.db")) as queue, Worker(queue.backend):
            good = await queue.get_result(await queue.enqueue(len, "abc"), timeout=10)
            bad = await queue.get_result(await queue.enqueue(parse, "abc"), timeout=10)
        assert good is not None
        assert (good.status, good.error, good.traceback) == ("success", None, None)
        assert isinstance(good.value, bytes)
        assert good.created_at <= good.completed_at <= datetime.now(UTC)
        assert bad is not None
        assert (bad.status, bad.value) == ("failed", None)
        assert "invalid literal" in bad.error
        assert bad.traceback.startswith("Traceback (most recent call last):")
        assert Result("unfinished", "pending").completed_at is None

    def test_a_reserved_task_has_what_is_documented(self):
        reserved = ReservedTask("an id", len, ("abc",))
        assert (reserved.id, reserved.function, reserved.args) == ("an id", len, ("abc",))
        assert (reserved.kwargs, reserved.eta) == ({}, None)

    async def test_a_timeout_gives_none(self, tmp_path):
        async with TaskQueue(SQLiteBackend(tmp_path / "tasks.db")) as queue:
            assert await queue.get_result(await queue.enqueue(len, "abc"), timeout=0.05) is None

    async def test_the_sync_queue_refuses_to_work_inside_an_event_loop(self, tmp_path):
        with pytest.raises(sitq.SyncTaskQueueError):
            SyncTaskQueue(SQLiteBackend(tmp_path / "tasks.db")).enqueue(len, "abc")
