"""Intended uses of decorated functions and options, for mypy and pyright; never run."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import timedelta
from typing import Annotated, Any, assert_type

from sitq import (
    ConcurrencyLimit,
    Fair,
    MemoryBackend,
    RateLimit,
    Task,
    TaskFunction,
    TaskHandle,
    TaskQueue,
    TaskRouter,
    Throttled,
    Unique,
    debounce,
    task,
    throttle,
)

queue = TaskQueue(MemoryBackend())
router = TaskRouter("mail.", queue="mails", retry=3)


@queue.task
async def send(to: str, *, subject: str = "") -> int:
    return len(to + subject)


@queue.task(retry=3, timeout=timedelta(seconds=5), name="resize", aliases=["old"], tags=["images"])
def resize(path: str, width: int = 100) -> bytes:
    return path.encode() * width


@router.task(limits=[RateLimit(100, per=60, key="api"), ConcurrencyLimit(5)], fair=Fair("a", weight=2))
async def call(
    customer: Annotated[str, ConcurrencyLimit(1)], plan: Annotated[str | None, Fair()] = None
) -> str | None:
    return plan or customer


class Mailer:
    @task(unique=True)
    async def send(self, to: str) -> int:
        return len(to)

    @task
    @staticmethod
    def check(to: str) -> bool:
        return bool(to)

    @task
    async def post(self, to: str, data: dict[str, Any]) -> int:
        return len(data)

    @task
    @classmethod
    async def load(cls, data: dict[str, Any], kind: type[Mailer]) -> int:
        return len(data)

    @queue.task
    @classmethod
    async def make(cls, to: str, *, times: int = 1) -> Mailer:
        return cls()

    @task(retry=3)
    @classmethod
    def count(cls, to: str) -> int:
        return len(to)

    @classmethod
    @task
    async def first(cls: type[Mailer], to: str) -> Mailer:
        return cls()

    @task(priority=1)
    @staticmethod
    async def look(to: str) -> bool:
        return bool(to)


def by_receiver(to: str, **_: Any) -> str:
    return to


async def produce(mailer: Mailer) -> None:
    assert_type(await send("a"), int)
    later: Coroutine[Any, Any, int] = send("a")
    assert_type(await later, int)
    assert_type(resize("a"), bytes)
    assert_type(await send.enqueue("a", subject="b"), str)
    assert_type(await send.options(delay=60).enqueue("a"), str)
    assert_type(await send.submit("a"), TaskHandle[int])
    assert_type(await (await resize.options(priority=3).submit("a", width=3)), bytes)
    assert_type(await mailer.send.enqueue("a"), str)
    assert_type(await mailer.send.submit("a"), TaskHandle[int])
    assert_type(await Mailer.check.submit("a"), TaskHandle[bool])
    assert_type(await mailer.check.submit("a"), TaskHandle[bool])
    assert_type(mailer.check("a"), bool)
    assert_type(await Mailer.look.submit("a"), TaskHandle[bool])
    assert_type(await Mailer.make.submit("a", times=2), TaskHandle[Mailer])
    assert_type(await Mailer.make("a"), Mailer)
    assert_type(await mailer.make.options(delay=5).submit("a"), TaskHandle[Mailer])
    assert_type(await Mailer.count.submit("a"), TaskHandle[int])
    assert_type(Mailer.count("a"), int)
    assert_type(await mailer.post.submit("a", {}), TaskHandle[int])
    assert_type(await Mailer.load.submit({}, Mailer), TaskHandle[int])
    assert_type(await queue.submit(Mailer.make, "a"), TaskHandle[Mailer])
    assert_type(await queue.submit(mailer.count, "a"), TaskHandle[int])
    assert_type(await queue.enqueue(Mailer.count, "a"), str)
    assert_type(await Mailer.first("a"), Mailer)
    assert_type(await queue.submit(Mailer.first, "a"), TaskHandle[Mailer])
    assert_type(await mailer.send("a"), int)
    assert_type(await queue.enqueue(send, "a"), str)
    assert_type(await queue.submit(send, "a"), TaskHandle[int])
    assert_type(await queue.submit(mailer.send, "a"), TaskHandle[int])
    await queue.enqueue_many([Task(send, ("a",), priority=1, unique="a")])
    await queue.options(unique=debounce(5, "a"), limits=RateLimit(None)).enqueue(send, "a")
    await queue.options(unique=throttle(5, by_receiver), fair=by_receiver).enqueue(send, "a")
    await queue.options(unique=Unique(window=60, clash="raise"), retry=[1, 5]).enqueue(send, "a")


async def mistakes(mailer: Mailer) -> None:
    await send.enqueue(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await send.enqueue("a", topic="b")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await resize.submit()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await mailer.send.enqueue(mailer, "a")  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    await Mailer.make.enqueue(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await Mailer.count.submit()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await queue.enqueue(send, 1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await queue.options(delay=1).enqueue(send)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    send.options(prioritty=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Task(send, ("a",), prioritty=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Task(send, ("a",), priority="high")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    task(retry="often")  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    Unique("a", clash="explode")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def limit() -> None:
    assert_type(await queue.limit(RateLimit(50), ConcurrencyLimit(None), queue="mails"), None)
    assert_type(await queue.limits(), list[RateLimit | ConcurrencyLimit])
    bounded = TaskQueue(MemoryBackend(), max_length=1000, when_full="wait")
    await bounded.options(max_length=5, when_full="refuse", limits=None, tags=None).enqueue(send, "a")
    await queue.limit("50")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    raise Throttled(timedelta(seconds=5), key="api")


def include(every: list[TaskFunction[..., Any, Any]]) -> None:
    queue.include(router, prefix="mail.", priority=3)
    for each in every:
        queue.include(each)
