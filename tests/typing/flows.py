"""Intended uses of flows, for mypy and pyright; never run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_type

from sitq import (
    After,
    BatchHandle,
    BatchInfo,
    Flow,
    Graph,
    GraphEdge,
    GraphNode,
    Task,
    TaskHandle,
    TaskQueue,
    chain,
    current_task,
    group,
    value_of,
)


async def add(one: int, two: int) -> int:
    return one + two


def total(numbers: list[int], *, label: str = "") -> str:
    return f"{label}{sum(numbers)}"


async def values(queue: TaskQueue) -> None:
    first = await queue.submit(add, 1, 2)
    second = await queue.submit(add, value_of(first), 3)
    assert_type(second, TaskHandle[int])
    third = await queue.submit(total, [value_of(each) for each in (first, second)], label="sum")
    assert_type(await third, str)
    last = await queue.options(depends_on=[first, third.id, After(second, on_failure="ignore")]).submit(
        total, [1, value_of(second)]
    )
    assert_type(await last, str)
    assert_type(value_of(first), int)
    await queue.submit(add, value_of(third), 1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await queue.enqueue(add, value_of(first), 1)
    await queue.enqueue(add, first, 1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    Task(add, (first, second), depends_on=[After(third, on_failure="fail")])


async def flows(queue: TaskQueue) -> None:
    flow = chain(Task(add, (1, 2)), group([Task(add, (1,)), chain(Task(add, (2,)))]), Task(total))
    assert_type(flow, Flow)
    assert_type(await queue.submit_many(flow), list[TaskHandle[Any]])
    assert_type(await queue.enqueue_many(group(Task(add, (1, 2)), flow)), list[str])


async def batches(queue: TaskQueue) -> None:
    batch = await queue.batch([Task(add, (1, 2))], on_finish=total, metadata={"title": "a"}, id="b")
    assert_type(await batch.cancel("why"), int)
    assert_type(batch, BatchHandle)
    assert_type(await batch, BatchInfo)
    assert_type(await queue.batch_info(batch.id), BatchInfo | None)
    assert_type((await batch.info()).metadata, Mapping[str, Any])
    assert_type(current_task().batch, BatchInfo | None)


async def graphs(queue: TaskQueue, handle: TaskHandle[int]) -> None:
    graph = await queue.graph(handle, limit=10)
    assert_type(graph, Graph)
    assert_type(graph.nodes, tuple[GraphNode, ...])
    assert_type(graph.edges, tuple[GraphEdge, ...])
    assert_type(graph.mermaid(), str)
