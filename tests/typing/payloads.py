"""Intended uses of typed payloads, secrets and spilling, for mypy and pyright; never run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, assert_type

from sitq import (
    JSONSerializer,
    KeyRing,
    Secret,
    Serializer,
    Spill,
    SyncTaskQueue,
    TaskHandle,
    TaskQueue,
    Worker,
    task,
)


@dataclass
class Order:
    number: int
    at: datetime


Password = Annotated[str, Secret]


@task(name="pay")
async def pay(order: Order, password: Password, *, tip: int | None = None) -> set[int]:
    # The mark is no wrapper: the function has the plain value.
    assert_type(password, str)
    return {order.number, tip or 0}


async def use(keys: KeyRing, order: Order) -> None:
    serializer: Serializer = JSONSerializer()
    spill = Spill(Path("folder"), above=1024, most=1 << 20, grace=timedelta(hours=2))
    Spill("s3://bucket/tasks", options={"anon": True})
    async with TaskQueue("memory://", serializer, keys=keys, spill=spill) as queue:
        assert_type(await pay.enqueue(order, "hunter2", tip=3), str)
        handle = await queue.submit(pay, order, "hunter2")
        assert_type(handle, TaskHandle[set[int]])
        assert_type(await handle, set[int])
        result = await queue.get_result(handle.id)
        if result is not None:
            assert_type(queue.deserialize_result(result), Any)
            assert_type(result.name, str | None)
        wrapped = Secret({"token": "x"})
        assert_type(wrapped, Secret[dict[str, str]])
        assert_type(wrapped.reveal(), dict[str, str])
        await queue.enqueue(print, wrapped)
        Worker(queue.backend, serializer, keys=keys, spill=spill)
    SyncTaskQueue("memory://", spill=spill)


async def misuse(order: Order) -> None:
    await pay.enqueue(order, 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    TaskQueue("memory://", spill="folder")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
