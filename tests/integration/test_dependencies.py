"""Tasks that wait for others, and take their values."""

import dataclasses
import pickle

import pytest

from sitq import After, DependencyError, JSONSerializer, MsgpackSerializer, Task, TaskQueue, ValidationError
from sitq.decorator import task
from sitq.move import Delete
from sitq.record import State
from sitq.serialization import CloudpickleSerializer

SERIALIZERS = [CloudpickleSerializer(), JSONSerializer(), MsgpackSerializer()]


@task(name="test_dependencies.add")
async def add(one, two=0):
    return one + two


@task(name="test_dependencies.echo")
async def echo(*args, **kwargs):
    return [list(args), kwargs]


@task(name="test_dependencies.explode")
async def explode():
    raise ArithmeticError("no")


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    inner: object


def count(points, seen, table):
    return points[0].x, points[0].inner, sorted(seen), table[7]


async def test_a_task_waits_for_the_ones_that_it_depends_on(queue, working, stored):
    first = await queue.enqueue(add, 1, 2)
    second = await queue.options(depends_on=[first]).enqueue(add, 3)
    assert (await stored(second)).state is State.BLOCKED
    async with working():
        assert (await queue.get_result(second, 10)).status == "success"
    assert (await stored(first)).finished <= (await stored(second)).started


@pytest.mark.parametrize("serializer", SERIALIZERS, ids=lambda one: one.name)
async def test_a_task_as_an_argument_is_replaced_by_its_value_at_any_depth(backend, serializer, working):
    async with TaskQueue(backend, serializer) as queue, working(serializer=serializer):
        one = Task(add, (1, 2))
        two = Task(echo, (one, [one, {"k": (one, 5)}]), {"deep": {"er": [one]}})
        ids = await queue.enqueue_many([one, two])
        result = await queue.get_result(ids[1], 10)
        tupled = (3, 5) if serializer.name == "cloudpickle" else [3, 5]
        assert queue.deserialize_result(result) == [[3, [3, {"k": tupled}]], {"deep": {"er": [3]}}]


async def test_pickled_calls_take_values_inside_of_objects_and_sets(queue, working):
    one, two = Task(add, (1,)), Task(add, (2,))
    three = Task(count, ([Point(one, two)], {one, two, 9}, {7: one}))
    ids = await queue.enqueue_many([one, two, three])
    async with working():
        result = await queue.get_result(ids[2], 10)
    assert queue.deserialize_result(result) == (1, 2, [1, 2, 9], 1)


@pytest.mark.parametrize(
    ("on_failure", "status"), [("skip", "cancelled"), ("fail", "failed"), ("ignore", "success")]
)
async def test_the_failure_of_a_parent_takes_the_effect_that_its_edge_names(
    queue, working, on_failure, status
):
    parent = await queue.enqueue(explode)
    child = await queue.options(depends_on=[After(parent, on_failure=on_failure)]).enqueue(add, 1)
    async with working():
        result = await queue.get_result(child, 10)
    assert result.status == status
    if status != "success":
        assert parent in result.error


async def test_the_value_of_an_ignored_failure_is_none(queue, working):
    parent = Task(explode)
    child = Task(echo, (After(parent, on_failure="ignore"), 1))
    other = Task(echo, (parent, 2), depends_on=[After(parent, on_failure="ignore")])
    ids = await queue.enqueue_many([parent, child, other])
    async with working():
        assert queue.deserialize_result(await queue.get_result(ids[1], 10)) == [[None, 1], {}]
        assert queue.deserialize_result(await queue.get_result(ids[2], 10)) == [[None, 2], {}]


async def test_a_task_can_wait_for_a_failure(queue, working):
    good, bad = await queue.enqueue(add, 1), await queue.enqueue(explode)
    rescue = {"on_success": "skip", "on_failure": "ignore"}
    unneeded = await queue.options(depends_on=[After(good, **rescue)]).enqueue(add, 1)
    needed = await queue.options(depends_on=[After(bad, **rescue)]).enqueue(add, 1)
    async with working():
        assert (await queue.get_result(unneeded, 10)).status == "cancelled"
        assert (await queue.get_result(needed, 10)).status == "success"


async def test_an_unknown_parent_is_refused_by_its_id(queue):
    with pytest.raises(DependencyError, match="nobody"):
        await queue.options(depends_on=["nobody"]).enqueue(add, 1)
    with pytest.raises(DependencyError, match="stranger"):
        await queue.enqueue_many([Task(add, (Task(add, (1,), id="stranger"),))])


async def test_a_cycle_is_refused_with_the_ids_on_it(queue):
    one = Task(add, (1,), id="one", depends_on=["three"])
    two = Task(add, (one,), id="two")
    three = Task(add, (two,), id="three")
    four = Task(add, (three,), id="four")
    with pytest.raises(DependencyError, match="one -> three -> two -> one"):
        await queue.enqueue_many([four, one, two, three])
    assert await queue.stats() == {}


async def test_a_value_that_is_gone_is_a_recorded_reason(queue, backend, working, stored):
    parent = await queue.enqueue(add, 1)
    async with working():
        await queue.get_result(parent, 10)
    (child,) = await queue.enqueue_many([Task(add, (After(parent),), delay=0.1)])
    assert await backend.apply([Delete(id=parent, end=State.COMPLETED)]) == [True]
    async with working():
        result = await queue.get_result(child, 10)
    assert result.status == "dead"
    assert parent in result.error
    assert "gone" in result.error


async def test_a_parent_is_not_purged_before_the_child_that_takes_its_value_ended(
    queue, backend, working, stored
):
    parent = Task(add, (1,), result_ttl=0)
    child = Task(add, (parent, 1), queue="later")
    ids = await queue.enqueue_many([parent, child])
    async with working():
        await queue.get_result(ids[0], 10)
    await backend.tend()
    assert (await stored(ids[0])).state is State.COMPLETED
    async with working(queues=["later"]):
        assert queue.deserialize_result(await queue.get_result(ids[1], 10)) == 2
    await backend.tend()
    assert await stored(ids[0]) is None


async def test_what_is_no_dependency_is_refused(queue):
    for wrong in (5, [5], [object()]):
        with pytest.raises(ValidationError, match="depend"):
            queue.options(depends_on=wrong)
    with pytest.raises(ValidationError, match="on_failure"):
        After("a", on_failure="explode")
    with pytest.raises(ValidationError, match="on_success"):
        After("a", on_success="explode")
    with pytest.raises(ValidationError, match="neither"):
        After("a", on_success="skip")


async def test_a_task_cannot_be_pickled_elsewhere_than_in_a_call():
    with pytest.raises(Exception, match="pass its id"):
        pickle.dumps(Task(add))
