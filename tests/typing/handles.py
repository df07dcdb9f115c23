"""Intended uses of handles, for mypy and pyright; never run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from sitq import (
    Pause,
    Result,
    SyncTaskHandle,
    SyncTaskQueue,
    Task,
    TaskHandle,
    TaskInfo,
    TaskPage,
    TaskProgress,
    TaskQueue,
    TaskUpdate,
)


async def fetch(url: str, *, tries: int = 1) -> bytes:
    return url.encode() * tries


def measure(data: bytes) -> int:
    return len(data)


class Reader:
    async def read(self, path: str) -> str:
        return path

    def __call__(self, path: str) -> list[str]:
        return [path]


async def one(queue: TaskQueue) -> None:
    handle = await queue.submit(fetch, "https://example.org", tries=2)
    assert_type(handle, TaskHandle[bytes])
    assert_type(await handle, bytes)
    assert_type(await handle.result(timeout=5), bytes)
    assert_type(await (await queue.submit(measure, b"x")), int)
    assert_type(await (await queue.submit(Reader().read, "a")), str)
    assert_type(await (await queue.submit(Reader(), "a")), list[str])
    assert_type(await (await queue.options(priority=5).submit(fetch, "a")), bytes)
    assert_type(await handle.outcome(), Result)
    assert_type(await handle.peek(), Result)
    assert_type(await handle.status(), str)
    assert_type(await handle.cancel("no more"), bool)
    assert_type(await handle.progress(), TaskProgress | None)
    assert_type(await handle.notes(), tuple[TaskProgress, ...])
    assert_type(await handle.info(), TaskInfo)
    assert_type(handle.id, str)
    async for update in handle.updates():
        assert_type(update, TaskUpdate)
    assert_type(queue.handle("some-id"), TaskHandle[Any])


async def several(queue: TaskQueue, handles: list[TaskHandle[int]]) -> None:
    assert_type(await queue.gather(*handles), list[int])
    assert_type(await queue.gather(*handles, return_exceptions=True), list[int | BaseException])
    async for handle in queue.as_completed(handles, timeout=5):
        assert_type(handle, TaskHandle[int])
    assert_type(await queue.submit_many([Task(measure, (b"x",))]), list[TaskHandle[Any]])


def reads_only(handle: TaskHandle[object]) -> str:
    return handle.id


async def refused(queue: TaskQueue, handle: TaskHandle[int]) -> None:
    reads_only(handle)  # a handle of an int is one of an object
    await queue.submit(fetch, 5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await queue.submit(measure)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


async def control(queue: TaskQueue, handle: TaskHandle[int]) -> None:
    assert_type(await queue.cancel(handle.id, "no more"), bool)
    assert_type(await queue.cancel(handle), bool)
    assert_type(await queue.cancel([handle, "id"]), int)
    assert_type(await queue.cancel(state="queued", queue="emails", reason="no more"), int)
    assert_type(await queue.change(handle, delay=5, priority=1), bool)
    assert_type(await queue.change([handle], delay=timedelta(hours=1)), int)
    assert_type(await queue.change(queue="emails", eta=datetime.now(UTC)), int)
    assert_type(await queue.retry(handle), str)
    assert_type(await queue.retry("id"), str)
    assert_type(await queue.retry([handle.id]), list[str])
    assert_type(await queue.retry(state=["failed", "dead"], function=fetch), list[str])
    assert_type(await queue.purge("completed", older_than=3600), int)
    await queue.pause("emails", until=60, reason="x")
    await queue.pause(function=fetch, until=datetime.now(UTC))
    assert_type(await queue.resume(key="customer:42"), bool)
    assert_type(await queue.pauses(), list[Pause])
    page = await queue.tasks(state="failed", text="needle", limit=10)
    assert_type(page, TaskPage)
    for info in page:
        assert_type(info, TaskInfo)
        assert_type(info.created_at, datetime)
    async for one in queue.iter_tasks(queue="emails"):
        assert_type(one, TaskInfo)
    await queue.tasks(colour="red")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def blocking(queue: SyncTaskQueue) -> None:
    handle = queue.submit(fetch, "https://example.org", tries=2)
    assert_type(handle, SyncTaskHandle[bytes])
    assert_type(handle.result(timeout=5), bytes)
    assert_type(queue.options(priority=5).submit(measure, b"x").result(), int)
    assert_type(handle.peek(), Result)
    assert_type(queue.gather(handle, handle), list[bytes])
    assert_type(queue.gather(handle, return_exceptions=True), list[bytes | BaseException])
    for ended in queue.as_completed([handle], timeout=5):
        assert_type(ended, SyncTaskHandle[bytes])
    for update in handle.updates():
        assert_type(update, TaskUpdate)
    assert_type(queue.cancel(handle), bool)
    assert_type(queue.cancel(state="queued"), int)
    assert_type(queue.change([handle], priority=5), int)
    assert_type(queue.retry("id"), str)
    assert_type(queue.retry(state="failed"), list[str])
    assert_type(queue.purge("completed", older_than=3600), int)
    assert_type(queue.tasks(state="failed"), TaskPage)
    for info in queue.iter_tasks(queue="emails"):
        assert_type(info, TaskInfo)
    queue.options(prioritty=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    SyncTaskQueue("memory://", que="mails")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert_type(queue.get_results([handle, "id"]), list[Result | None])
    queue.submit(fetch, 5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
