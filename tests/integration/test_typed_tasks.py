"""Typed values through a store and a worker."""

import dataclasses
import datetime as dt
import enum
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, TypedDict

import pydantic
import pytest

from sitq import (
    JSONSerializer,
    MsgpackSerializer,
    SerializationError,
    SyncTaskQueue,
    TaskQueue,
    ValidationError,
    task,
)
from sitq.envelope import seal
from sitq.record import State


class Order(pydantic.BaseModel):
    id: uuid.UUID
    at: dt.datetime
    lines: dict[str, int] = {}


@dataclasses.dataclass
class Receipt:
    order: Order
    paid: dt.date


ORDER = Order(id=uuid.UUID(int=3), at=dt.datetime(2030, 1, 1, tzinfo=dt.UTC), lines={"tea": 2})
RECEIPT = Receipt(ORDER, dt.date(2030, 2, 1))


@task(name="test_typed_tasks.pay")
async def pay(order: Order, on: dt.date) -> Receipt:
    assert isinstance(order, Order)
    return Receipt(order, on)


@task(name="test_typed_tasks.sum_up")
def sum_up(*receipts: Receipt) -> set[uuid.UUID]:
    assert all(isinstance(each, Receipt) for each in receipts)
    return {each.order.id for each in receipts}


@task(name="test_typed_tasks.count")
async def count(number: int) -> int:
    return number


class Kind(enum.Enum):
    SMALL = "s"


class At(TypedDict):
    at: dt.date
    what: Kind


@dataclasses.dataclass
class Basket:
    number: uuid.UUID
    days: dict[dt.date, list[dt.date]]
    note: str | None


class Line(NamedTuple):
    number: uuid.UUID


@task(name="test_typed_tasks.new_id")
async def new_id() -> uuid.UUID:
    return uuid.UUID(int=5)


@task(name="test_typed_tasks.new_day")
async def new_day() -> dt.date:
    return dt.date(2030, 3, 1)


@task(name="test_typed_tasks.new_order")
async def new_order() -> Order:
    return ORDER


@task(name="test_typed_tasks.mixed")
async def mixed(
    ids: list[uuid.UUID],
    parts: tuple[uuid.UUID, int, dt.date] | None = None,
    basket: Annotated[Basket, "of goods"] | None = None,
    orders: Mapping[uuid.UUID, Order] | None = None,
    at: At | None = None,
    *,
    several: set[uuid.UUID] | None = None,
) -> list[list[str]]:
    days = [*basket.days, *basket.days[dt.date(2030, 1, 1)]]
    every = [ids, parts, [basket.number, *days], [one for two in orders.items() for one in two]]
    return [[type(one).__name__ for one in each] for each in [*every, at.values(), several]]


@task(name="test_typed_tasks.untyped_items")
async def untyped_items(items: list[Any]) -> None:
    pass


@pytest.fixture(params=[JSONSerializer(), MsgpackSerializer()], ids=lambda one: one.name)
def serializer(request):
    return request.param


@pytest.fixture
async def typed(backend, serializer):
    async with TaskQueue(backend, serializer) as queue:
        yield queue


async def test_arguments_and_results_have_their_types(typed, working, serializer):
    async with working(serializer=serializer):
        handle = await typed.submit(pay, ORDER, on=dt.date(2030, 2, 1))
        assert await handle == RECEIPT
        result = await typed.get_result(handle.id, timeout=10)
        assert typed.deserialize_result(result) == RECEIPT


async def test_the_value_of_another_task_has_the_type_of_the_parameter_that_takes_it(
    typed, working, serializer
):
    async with working(serializer=serializer):
        first = await typed.submit(pay, ORDER, dt.date(2030, 2, 1))
        last = await typed.submit(sum_up, first, RECEIPT)
        assert await last.result(timeout=10) == {ORDER.id}


async def test_values_of_other_tasks_come_into_typed_arguments_at_any_depth(typed, working, serializer):
    async with working(serializer=serializer):
        number, day = await typed.submit(new_id), await typed.submit(new_day)
        basket = Basket(number, {dt.date(2030, 1, 1): [day, dt.date(2031, 1, 1)]}, None)
        found = await typed.submit(
            mixed,
            [number, uuid.UUID(int=7)],
            (number, 3, dt.date(2032, 1, 1)),
            basket,
            {uuid.UUID(int=1): ORDER, uuid.UUID(int=2): await typed.submit(new_order)},
            {"at": day, "what": Kind.SMALL},
            several={number, uuid.UUID(int=8)},
        )
        assert await found.result(10) == [
            ["UUID", "UUID"],
            ["UUID", "int", "date"],
            ["UUID", "date", "date", "date"],
            ["UUID", "Order", "UUID", "Order"],
            ["date", "Kind"],
            ["UUID", "UUID"],
        ]


async def test_what_is_beside_the_value_of_another_task_must_fit_and_what_holds_none_is_named(typed):
    number = await typed.submit(new_id)
    with pytest.raises(ValidationError, match=r"argument 1 \('ids'\) of mixed\(\) does not fit"):
        await typed.enqueue(mixed, [number, "no id"])
    with pytest.raises(ValidationError, match=r"would come back as str"):
        await typed.enqueue(untyped_items, [number, uuid.UUID(int=7)])
    for kind in (Line(number), {number}, Receipt(number, dt.date(2030, 1, 1))):
        with pytest.raises(SerializationError, match=f"a {type(kind).__name__} cannot hold the value of ano"):
            await typed.enqueue(untyped_items, [kind])
    with pytest.raises(SerializationError, match="cannot be a key of a dictionary"):
        await typed.enqueue(mixed, [], None, None, {number: ORDER})


async def test_an_argument_that_does_not_fit_stores_nothing(typed):
    with pytest.raises(ValidationError, match=r"argument 1 \('number'\) of count\(\) .* got `str`"):
        await typed.enqueue(count, "three")
    assert await typed.stats() == {}


async def test_arguments_that_do_not_fit_any_more_end_the_task_with_the_reason(
    typed, backend, working, serializer, stored
):
    task_id = await typed.enqueue(count, 3)
    record = await stored(task_id)
    record.id = "changed"
    record.payload = seal(
        serializer.dumps((("three",), {})),
        purpose="task",
        namespace="sitq",
        queue="default",
        task_id="changed",
        name=record.name,
        codec=serializer.name,
    )
    record.state = State.QUEUED
    await backend.put([[record]])
    async with working(serializer=serializer):
        assert (await typed.get_result(task_id, timeout=10)).status == "success"
        result = await typed.get_result("changed", timeout=10)
    assert result.status == "dead"
    assert "argument 1 ('number') of count() does not fit its annotation int" in result.error


def test_the_queue_without_an_event_loop_gives_typed_results_too(tmp_path, serializer):
    import asyncio  # noqa: PLC0415

    from sitq import SQLiteBackend, Worker  # noqa: PLC0415

    with SyncTaskQueue(SQLiteBackend(tmp_path / "t.db"), serializer) as queue:
        task_id = queue.enqueue(pay, ORDER, dt.date(2030, 2, 1))
        asyncio.run(Worker(SQLiteBackend(tmp_path / "t.db"), serializer).run(burst=True))
        assert queue.get_result(task_id, timeout=10) == RECEIPT
