"""Chains, groups, batches and graphs, on real stores with real workers."""

import asyncio

import pytest

import sitq
from sitq import (
    DependencyError,
    JSONSerializer,
    Task,
    TaskQueue,
    UnknownTaskError,
    ValidationError,
    chain,
    current_task,
    group,
    task,
)
from sitq.record import State

seen: list[object] = []


@task(name="test_flows.add")
async def add(*numbers):
    return sum(numbers)


@task(name="test_flows.total")
async def total(numbers, more=0):
    return [sum(numbers), more]


@task(name="test_flows.explode")
async def explode(*_):
    raise ArithmeticError("no")


@task(name="test_flows.sleeps")
async def sleeps():
    await asyncio.sleep(60)


@task(name="test_flows.tell")
async def tell(*_):
    batch = current_task().batch
    return (
        None
        if batch is None
        else [batch.id, dict(batch.metadata), batch.completed, batch.failed, batch.total]
    )


@pytest.fixture
async def serve(working):
    async with working(max_concurrency=20):
        yield


# -- chains and groups -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("serve")
async def test_each_step_of_a_chain_takes_the_value_of_the_one_before(queue):
    handles = await queue.submit_many(chain(Task(add, (1, 2)), Task(add, (10,)), Task(add, (100,))))
    assert await queue.gather(*handles, timeout=10) == [3, 13, 113]


@pytest.mark.usefixtures("serve")
async def test_a_group_in_a_chain_fans_out_and_in_with_its_values_in_order(queue):
    flow = chain(
        Task(add, (1,)),
        group([Task(add, (n,)) for n in range(5)]),
        Task(total, (7,)),
    )
    handles = await queue.submit_many(flow)
    assert await handles[-1].result(10) == [15, 7]
    assert await queue.gather(*handles[1:-1]) == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("serve")
async def test_flows_nest(queue):
    inner = chain(Task(add, (1,)), Task(add, (2,)))
    flow = chain(Task(add, (5,)), group(inner, Task(add, (10,)), group(Task(add, (20,)))), Task(echo))
    handles = await queue.submit_many(flow)
    assert await handles[-1].result(10) == [8, 15, [25]]


@task(name="test_flows.echo")
async def echo(value):
    return value


@pytest.mark.usefixtures("serve")
async def test_a_flows_value_is_an_argument_for_others(queue):
    flow = group(Task(add, (1,)), Task(add, (2,)))
    last = Task(echo, ({"sum": flow.value},))
    handles = await queue.submit_many([*flow, last])
    assert await handles[-1].result(10) == {"sum": [1, 2]}


async def test_a_chain_without_values_only_waits(queue, stored):
    ids = await queue.enqueue_many(
        chain(Task(add, (1,)), group(Task(add, (2,)), Task(add, (3,))), Task(add, (4,)), pass_values=False)
    )
    records = [await stored(one) for one in ids]
    assert [record.inputs for record in records] == [()] * 4
    assert [sorted(edge.parent for edge in record.edges) for record in records] == [
        [],
        ids[:1],
        ids[:1],
        sorted(ids[1:3]),
    ]


@pytest.mark.usefixtures("serve")
async def test_a_failure_in_a_chain_cancels_the_rest(queue, ended):
    ids = await queue.enqueue_many(chain(Task(add), Task(explode), Task(add), Task(add)))
    assert [(await ended(one)).state.value for one in ids] == [
        "completed",
        "failed",
        "cancelled",
        "cancelled",
    ]


async def test_a_flow_leaves_the_tasks_that_it_is_made_of_as_they_are():
    first, second = Task(add, (1,)), Task(add, (2,), priority=3)
    flow = chain(first, second)
    assert second.args == (2,)
    assert [one.id for one in flow] == [first.id, second.id]
    assert flow[1].args == (first, 2)
    assert flow[1].options.priority == 3
    assert len(flow) == 2
    assert [one.id for one in flow[:1]] == [first.id]


async def test_what_is_no_flow_is_refused():
    one = Task(add)
    with pytest.raises(ValidationError, match="twice"):
        group(one, one)
    with pytest.raises(ValidationError, match="empty"):
        chain()
    with pytest.raises(ValidationError, match="not of int"):
        group([1])
    with pytest.raises(ValidationError, match="not of TaskFunction"):
        chain(one, add)


# -- batches -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("serve")
async def test_a_batch_that_succeeds_calls_success_and_finish(queue, ended):
    batch = await queue.batch(
        [Task(add, (n,)) for n in range(5)],
        on_success=tell,
        on_failure=Task(tell),
        on_finish=tell,
        metadata={"for": "all"},
    )
    info = await batch.result(10)
    assert (info.total, info.completed, info.pending, info.finished, info.succeeded) == (5, 5, 0, True, True)
    assert info.metadata == {"for": "all"}
    told = [batch.id, {"for": "all"}, 5, 0, 5]
    assert await batch.callbacks["success"].result(10) == told
    assert await batch.callbacks["finish"].result(10) == told
    assert (await ended(batch.callbacks["failure"].id)).state is State.CANCELLED
    assert await queue.gather(*batch.handles) == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("serve")
async def test_a_batch_with_a_failure_calls_failure_and_finish(queue, ended):
    tasks = [Task(add), Task(explode), Task(add), Task(explode)]
    batch = await queue.batch(tasks, on_success=tell, on_failure=tell, on_finish=tell)
    told = [batch.id, {}, 2, 2, 4]
    assert await batch.callbacks["failure"].result(10) == told
    assert await batch.callbacks["finish"].result(10) == told
    assert (await ended(batch.callbacks["success"].id)).state is State.CANCELLED
    info = await batch.info()
    assert not info.succeeded
    assert info.finished


async def test_a_batch_that_is_cancelled_ends_with_its_members_and_says_so(queue, working, ended):
    batch = await queue.batch(
        [Task(add), Task(sleeps), Task(add, delay=60)], on_success=tell, on_failure=tell, on_finish=tell
    )
    async with working():
        assert await batch.handles[0].result(10) == 0
        async for update in batch.handles[1].updates():
            if update.status == "running":
                break
        assert not await queue.cancel(batch.id)
        assert await batch.cancel("no more") == 2
        info = await batch.result(10)
        assert (info.completed, info.cancelled, info.pending) == (1, 2, 0)
        assert await batch.callbacks["failure"].result(10) == [batch.id, {}, 1, 0, 3]
        assert await batch.callbacks["finish"].result(10) == [batch.id, {}, 1, 0, 3]
    assert (await ended(batch.callbacks["success"].id)).state is State.CANCELLED
    assert (await batch.handles[1].peek()).error == "no more"
    assert await batch.cancel() == 0


async def test_all_of_a_batch_can_be_cancelled_with_its_callbacks(queue):
    batch = await queue.batch([Task(add), Task(add)], on_finish=tell, metadata={"n": 1})
    assert await queue.cancel(batch=batch.id) == 3
    info = await batch.result(5)
    assert (info.cancelled, info.total) == (2, 2)
    assert (await batch.callbacks["finish"].peek()).status == "cancelled"


async def test_the_progress_of_a_batch_is_told_before_during_and_after(queue, working):
    batch = await queue.batch([Task(add, queue=f"q{n}") for n in range(3)], metadata={"n": 1}, id="my-batch")
    info = await queue.batch_info("my-batch")
    assert (info.total, info.ended, info.finished, info.finished_at) == (3, 0, False, None)
    assert info.task_ids == tuple(handle.id for handle in batch.handles)
    async with working(queues=["q0"]):
        await batch.handles[0]
    await queue.cancel(batch.handles[1].id)
    info = await batch.info()
    assert (info.completed, info.cancelled, info.pending) == (1, 1, 1)
    async with working(queues=["q2"]):
        info = await batch
    assert (info.completed, info.cancelled, info.finished) == (2, 1, True)
    assert info.finished_at is not None


async def test_counts_stay_known_when_the_members_are_gone(queue, backend, working):
    batch = await queue.batch([Task(add, result_ttl=0) for _ in range(3)])
    async with working():
        await batch
    await backend.tend()
    assert await queue.get_results([handle.id for handle in batch.handles]) == [None] * 3
    assert (await batch.info()).completed == 3


async def test_members_are_kept_until_the_callbacks_ended(queue, backend, working, stored):
    members = [Task(add, (n,), result_ttl=0) for n in range(3)]
    batch = await queue.batch(members, on_success=Task(total, (members,), queue="later"))
    async with working():
        await batch
    await backend.tend()
    async with working(queues=["later"]):
        assert await batch.callbacks["success"].result(10) == [3, 0]
    await backend.tend()
    assert await stored(batch.handles[0].id) is None


@pytest.mark.usefixtures("serve")
async def test_members_know_their_batch_and_other_tasks_none(queue):
    batch = await queue.batch([Task(tell) for _ in range(3)], metadata={"a": [1]})
    for handle in batch.handles:
        assert (await handle.result(10))[:2] == [batch.id, {"a": [1]}]
    assert await (await queue.submit(tell)) is None


@pytest.mark.usefixtures("serve")
async def test_an_empty_batch_succeeds_at_once(queue):
    batch = await queue.batch([], on_success=tell, on_failure=tell, on_finish=tell)
    assert await batch.callbacks["success"].result(10) == [batch.id, {}, 0, 0, 0]
    assert await batch.callbacks["finish"].result(10) == [batch.id, {}, 0, 0, 0]
    assert {*batch.callbacks} == {"success", "finish"}
    assert (await batch).succeeded


@pytest.mark.usefixtures("serve")
async def test_others_can_wait_for_a_batch_and_take_what_is_known_of_it(queue):
    batch = await queue.batch([Task(add), Task(explode)])
    after = await queue.submit(counts, batch)
    assert await after.result(10) == [1, 1]


@task(name="test_flows.counts")
async def counts(info):
    return [info.completed, info.failed]


@pytest.mark.usefixtures("serve")
async def test_flows_can_be_members_of_a_batch(queue):
    batch = await queue.batch(
        chain(Task(add, (1,)), group(Task(add), Task(add, (2,))), Task(total)), on_finish=tell
    )
    assert await batch.callbacks["finish"].result(10) == [batch.id, {}, 4, 0, 4]
    assert await batch.handles[-1] == [4, 0]


async def test_a_batch_with_an_id_is_enqueued_once_also_at_the_same_time(queue, backend):
    async def enqueue():
        async with TaskQueue(backend) as other:
            return await other.batch([Task(add), Task(add)], on_finish=tell, id="once")

    batches = await asyncio.gather(*(enqueue() for _ in range(5)))
    batches.append(await queue.batch([Task(add)], id="once"))
    assert {tuple(batch.handles) for batch in batches} == {tuple(batches[0].handles)}
    assert len(batches[0].handles) == 2
    assert {batch.callbacks["finish"].id for batch in batches} == {batches[0].callbacks["finish"].id}
    assert (await queue.stats())["default"] == {"queued": 2, "blocked": 2, "completed": 1}


async def test_a_refused_batch_leaves_nothing_behind(queue):
    with pytest.raises(DependencyError, match="nobody"):
        await queue.batch([Task(add), Task(add, depends_on=["nobody"])], on_finish=tell, id="b")
    assert await queue.stats() == {}
    await queue.batch([Task(add)], id="b")


async def test_what_is_no_batch_is_refused(queue):
    one = Task(add)
    with pytest.raises(ValidationError, match="twice"):
        await queue.batch([one, one])
    with pytest.raises(ValidationError, match="twice"):
        await queue.batch([one], on_finish=one)
    with pytest.raises(ValidationError, match="not TaskFunction"):
        await queue.batch([add])
    with pytest.raises(ValidationError, match="write \\[task\\]"):
        await queue.batch(5)
    with pytest.raises(ValidationError, match="metadata must be"):
        await queue.batch([one], metadata=["a"])
    with pytest.raises(ValidationError, match="metadata cannot hold tasks"):
        await queue.batch([one], metadata={"task": one})
    assert await queue.batch_info("unknown") is None
    plain = await queue.enqueue(add)
    with pytest.raises(ValidationError, match="no batch"):
        await queue.batch_info(plain)


async def test_a_batch_works_with_plain_data(backend, working):
    async with TaskQueue(backend, JSONSerializer()) as queue, working(serializer=JSONSerializer()):
        batch = await queue.batch([Task(add, (1,)), Task(add, (2,))], on_success=tell, metadata={"k": "v"})
        assert await batch.callbacks["success"].result(10) == [batch.id, {"k": "v"}, 2, 0, 2]


# -- graphs ------------------------------------------------------------------------------------------------


async def test_a_graph_walks_up_and_down_from_any_of_its_tasks(queue):
    flow = chain(Task(add), group(Task(add), Task(add)), Task(total))
    ids = await queue.enqueue_many(flow)
    await queue.enqueue(add)
    for start in (*ids, flow[2]):
        graph = await queue.graph(start)
        assert {node.id for node in graph.nodes} == {*ids}
        assert {(edge.parent, edge.child) for edge in graph.edges} == {
            (ids[0], ids[1]),
            (ids[0], ids[2]),
            (ids[1], ids[3]),
            (ids[2], ids[3]),
        }
        assert {edge.condition for edge in graph.edges} == {"success"}
        assert graph.complete
        assert graph.nodes[0].id == graph.start
    states = {node.id: node.state for node in graph.nodes}
    assert states[ids[0]] is State.QUEUED
    assert states[ids[3]] is State.BLOCKED


async def test_a_graph_finds_what_has_ended_and_names_what_is_gone(queue, backend, working):
    flow = chain(Task(add, (), result_ttl=0), Task(add), Task(add))
    ids = await queue.enqueue_many(flow)
    async with working():
        await queue.get_result(ids[-1], 10)
    await backend.tend()
    graph = await queue.graph(ids[1])
    assert {node.id: node.state for node in graph.nodes} == {
        ids[0]: None,
        ids[1]: State.COMPLETED,
        ids[2]: State.COMPLETED,
    }


async def test_a_graph_has_at_most_as_many_nodes_as_were_asked_for(queue):
    top = Task(add)
    ids = await queue.enqueue_many(chain(top, group([Task(add) for _ in range(50)]), Task(total)))
    graph = await queue.graph(ids[0], limit=10)
    assert len(graph.nodes) == 10
    assert not graph.complete
    assert (await queue.graph(ids[0], limit=52)).complete is False
    assert (await queue.graph(ids[0], limit=53)).complete
    assert len((await queue.graph(ids[-1], limit=1)).nodes) == 1


async def test_the_graph_of_a_batch_says_when_its_callbacks_run(queue):
    batch = await queue.batch([Task(add), Task(add)], on_success=tell, on_failure=tell, on_finish=tell)
    graph = await queue.graph(batch)
    assert len(graph.nodes) == 6
    kinds = {one.id: kind for kind, one in batch.callbacks.items()}
    members = {handle.id for handle in batch.handles}
    conditions = {
        (kinds[edge.child], edge.condition)
        for edge in graph.edges
        if edge.parent in members and edge.child in kinds
    }
    assert conditions == {("success", "success"), ("failure", "any failure"), ("finish", "any end")}


async def test_the_graph_of_an_unknown_task_is_an_error(queue):
    with pytest.raises(UnknownTaskError):
        await queue.graph("nobody")
    with pytest.raises(ValidationError, match="limit"):
        await queue.graph("nobody", limit=0)


@pytest.mark.usefixtures("serve")
async def test_values_and_batches_go_along_into_other_processes(queue):
    def elsewhere(value):  # by value, as another process cannot import a test
        batch = sitq.current_task().batch
        return [value, batch.metadata["k"], batch.completed, batch.total]

    members = [Task(add, (3,)), Task(add, (4,))]
    callback = Task(elsewhere, (members,), executor="process")
    batch = await queue.batch(members, on_success=callback, metadata={"k": "v"})
    assert await batch.callbacks["success"].result(30) == [[3, 4], "v", 2, 2]
