"""Intended uses of retries, steps, progress and executors, for mypy and pyright; never run."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from sitq import MemoryBackend, RetryPolicy, TaskQueue, Worker, current_task, task


async def charge(card: str, amount: int = 1) -> float:
    return float(len(card) * amount)


def count(words: list[str]) -> int:
    return len(words)


charge_task = task(charge)
count_task = task(name="count")(count)


@task(name="give-up")
def give_up(task_id: str, error: str) -> None:
    print(task_id, error)  # noqa: T201


async def order(card: str) -> None:
    here = current_task()
    assert_type(await here.once("charge", charge, card, amount=5), float)
    assert_type(await here.once("count", count, [card]), int)
    assert_type(here.once_sync("count", count, [card]), int)
    assert_type(await here.once("charge", charge_task, card), float)
    assert_type(await here.once("count", count_task, [card]), int)
    assert_type(here.once_sync("count", count_task, [card]), int)
    here.progress(0.4, "half way")
    here.progress(message="nearly there")
    here.extend(timedelta(seconds=5))
    assert_type(here.cancelled, bool)
    assert_type(here.cancel_reason, str | None)
    await here.once("charge", charge, 5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    here.once_sync("count", count, [card], 3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def produce() -> None:
    queue = TaskQueue(MemoryBackend())
    policy = RetryPolicy(
        delays=[1, 10, 60.5], retry_on=[OSError, "httpx.HTTPError"], stop_on=(KeyError,), on_exhausted=give_up
    )
    await queue.options(retry=policy, executor="process", timeout=5).enqueue(order, "visa")
    await queue.options(retry=[1, 10, 60]).enqueue(order, "visa")


def consume() -> Worker:
    return Worker(MemoryBackend(), process_concurrency=2)


RetryPolicy(retry_on=[int])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
RetryPolicy(on_exhausted=count)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
