"""Intended uses, for mypy and pyright; never run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from sitq import (
    Backend,
    Cancel,
    JSONSerializer,
    KeyRing,
    MemoryBackend,
    Result,
    Retry,
    RetryPolicy,
    Serializer,
    Snooze,
    SQLiteBackend,
    SyncTaskQueue,
    Task,
    TaskQueue,
    Worker,
    current_task,
    task,
)
from sitq.context import CurrentTask


@task
def resize(path: str, width: int = 100) -> int:
    return width if path else 0


@task(name="mail", aliases=["email"])
async def send(to: str) -> None:
    running = current_task()
    assert_type(running, CurrentTask)
    if running.cancelled:
        raise Cancel("too late")
    if running.attempt == 1:
        raise Retry(after=timedelta(seconds=5), reason=to)
    raise Snooze(5)


class Pickle:
    """A serializer of the user's own."""

    def dumps(self, value: Any, /) -> bytes:
        return repr(value).encode()

    def loads(self, data: bytes, /) -> Any:
        return data


def backends() -> Sequence[Backend | str]:
    return [MemoryBackend(), SQLiteBackend("tasks.db", synchronous="NORMAL"), "sqlite:///tasks.db"]


async def produce() -> None:
    serializer: Serializer = Pickle()
    queue = TaskQueue(SQLiteBackend("tasks.db"), serializer, queue="mails", keys=KeyRing([("a", b"x" * 32)]))
    async with queue:
        task_id = await queue.enqueue(resize, "a.png", width=5)
        assert_type(task_id, str)
        await queue.enqueue(send, "a@b.c", eta=datetime.now(UTC))
        policy = RetryPolicy(max_retries=5, backoff="linear", base=1.0)
        urgent = queue.options(priority=5, retry=policy, timeout=30, ttl=timedelta(hours=1), tags=["x"])
        assert_type(await urgent.options(queue="other").enqueue(send, to="a@b.c"), str)
        assert_type(
            await queue.enqueue_many([Task(resize, ("a.png",)), Task(send, kwargs={"to": "a"})]), list[str]
        )
        result = await queue.get_result(task_id, timeout=5)
        assert_type(result, Result | None)
        if result is not None and result.status == "success":
            value = queue.deserialize_result(result)
            print(value)  # noqa: T201
        assert_type(await queue.get_results([task_id]), list[Result | None])
        assert_type(await queue.cancel(task_id, "no more"), bool)
        assert_type(await queue.stats(), dict[str, dict[str, int]])


async def consume() -> None:
    worker = Worker(
        "sqlite:///tasks.db", JSONSerializer(), 5, timedelta(seconds=1), queues={"mails": 2, "default": 1}
    )
    assert_type(worker.id, str)
    await worker.start()
    await worker.run(burst=True)
    await worker.stop(grace=5)
    async with Worker(MemoryBackend(), queues=["mails"], lease=5, trust_store=True) as working:
        assert_type(working, Worker)


def plain() -> None:
    with SyncTaskQueue("memory://", queue="mails") as queue:
        task_id = queue.enqueue(resize, "a.png")
        assert_type(task_id, str)
        assert_type(queue.options(priority=1).enqueue(send, "a"), str)
        assert_type(queue.get_outcome(task_id, timeout=5), Result | None)
        print(queue.get_result(task_id))  # noqa: T201
    application = TaskQueue("memory://")
    with SyncTaskQueue(application) as queue:
        assert_type(queue.inner, TaskQueue)
        assert_type(queue.submit(resize, "a.png").result(timeout=5), int)
    SyncTaskQueue(Worker("memory://"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# The decorator keeps the function's type, so that calls are still checked.
assert_type(resize("a.png", width=5), int)
resize("a.png", wide=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
TaskQueue(MemoryBackend(), que="mails")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
RetryPolicy(backoff="fibonacci")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
