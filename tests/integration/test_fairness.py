"""Fairness: a tenant with very many tasks keeps nobody waiting."""

import pytest

from sitq import Fair, Task
from sitq.codec import Codec
from sitq.options import NO_OPTIONS, make_options
from sitq.serialization import CloudpickleSerializer

started: list[tuple[str, int]] = []


async def note(tenant, rank=0):
    started.append((tenant, rank))


def records(tenant, n):
    """Tasks of a tenant."""
    codec, options = Codec(CloudpickleSerializer()), make_options(NO_OPTIONS, {"fair": tenant})
    return [codec.record(f"{tenant}-{each}", note, (tenant,), {}, options) for each in range(n)]


@pytest.mark.parametrize("waiting", [10_000, pytest.param(100_000, marks=pytest.mark.performance)])
async def test_ninety_nine_small_tenants_are_done_within_the_first_two_thousand_starts(
    backend, working, eventually, waiting
):
    started.clear()
    huge = records("huge", waiting)
    for begun in range(0, len(huge), 5000):
        await backend.put([huge[begun : begun + 5000]])
    for tenant in range(99):
        await backend.put([records(f"t{tenant}", 10)])

    async def enough():
        return len(started) >= 2000

    async with working(max_concurrency=50):
        await eventually(enough, 40)
    first = [tenant for tenant, _ in started[:2000]]
    assert sum(tenant != "huge" for tenant in first) == 990


async def test_weights_share_the_starts(queue, working, eventually):
    started.clear()
    for name, weight in (("a", 1), ("b", 3)):
        await queue.enqueue_many([Task(note, (name,), fair=Fair(name, weight=weight)) for _ in range(200)])

    async def enough():
        return len(started) >= 400

    async with working(max_concurrency=1):
        await eventually(enough, 30)
    first = [tenant for tenant, _ in started[:200]]
    assert 140 <= first.count("b") <= 160


async def test_priorities_hold_inside_a_tenant_and_not_among_them(queue, working, eventually):
    started.clear()
    await queue.enqueue_many(
        [Task(note, ("a", rank), fair="a", priority=rank) for rank in (1, 9, 5)]
        + [Task(note, ("b", 0), fair=lambda tenant, _: tenant, priority=-9)]
    )

    async def enough():
        return len(started) >= 4

    async with working(max_concurrency=1):
        await eventually(enough)
    assert [rank for tenant, rank in started if tenant == "a"] == [9, 5, 1]
    assert started.index(("b", 0)) <= 1
