"""What a worker runs, and how many at once."""

import asyncio
import contextvars
import functools
import gc
import threading

import pytest

from sitq.backends.sqlite import SQLiteBackend
from sitq.context import current_task
from sitq.core import Task
from sitq.decorator import task
from sitq.queue import TaskQueue
from sitq.record import State
from sitq.serialization import JSONSerializer, MsgpackSerializer
from sitq.worker import Worker

TENANT = contextvars.ContextVar("TENANT", default="nobody")


def add(one, two=0):
    return one + two


async def add_async(one, two=0):
    await asyncio.sleep(0)
    return one + two


@task(name="test_running.shout")
def shout(text):
    return text.upper()


class Adder:
    def __init__(self, one):
        self.one = one

    def add(self, two):
        return self.one + two

    async def add_async(self, two):
        return self.one + two

    @staticmethod
    def add_static(one, two):
        return one + two

    @classmethod
    def add_class(cls, one, two):
        return one + two

    def __call__(self, two):
        return self.one + two


class AsyncAdder:
    async def __call__(self, one, two):
        return one + two


def closure(one):
    def inner(two):
        return one + two

    return inner


@functools.lru_cache
def cached(one, two):
    return one + two


FUNCTIONS = {
    "function": (add, (1, 2)),
    "async function": (add_async, (1, 2)),
    "lambda": (lambda one, two: one + two, (1, 2)),
    "closure": (closure(1), (2,)),
    "partial": (functools.partial(add, 1), (2,)),
    "async partial": (functools.partial(add_async, 1), (2,)),
    "bound method": (Adder(1).add, (2,)),
    "async bound method": (Adder(1).add_async, (2,)),
    "static method": (Adder.add_static, (1, 2)),
    "class method": (Adder.add_class, (1, 2)),
    "callable object": (Adder(1), (2,)),
    "async callable object": (AsyncAdder(), (1, 2)),
    "lambda that returns a coroutine": (lambda one, two: add_async(one, two=two), (1, 2)),
    "cached function": (cached, (1, 2)),
    "built-in": (sum, ([1, 2],)),
    "type": (int, ("3",)),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
async def test_whatever_can_be_called_runs_and_its_value_comes_back(queue, working, kind):
    function, args = FUNCTIONS[kind]
    task_id = await queue.enqueue(function, *args)
    async with working():
        result = await queue.get_result(task_id, timeout=10)
    assert result.status == "success", result
    assert queue.deserialize_result(result) == 3
    assert result.created_at <= result.completed_at


@pytest.mark.parametrize("serializer", [JSONSerializer(), MsgpackSerializer()])
async def test_plain_serializers_run_registered_functions(backend, serializer):
    async with TaskQueue(backend, serializer) as queue:
        task_id = await queue.enqueue(shout, "hello")
        await Worker(backend, serializer).run(burst=True)
        assert queue.deserialize_result(await queue.get_result(task_id)) == "HELLO"


async def test_each_value_goes_to_the_task_that_asked_for_it(queue, working):
    ids = await asyncio.gather(*[queue.enqueue(add, n, two=n) for n in range(200)])
    async with working():
        results = await asyncio.gather(*[queue.get_result(each, timeout=10) for each in ids])
    assert [queue.deserialize_result(result) for result in results] == [2 * n for n in range(200)]


def whoami():
    return current_task().id, current_task().attempt, current_task().queue, threading.current_thread().name


async def test_a_task_in_a_thread_knows_itself(queue, working):
    task_id = await queue.options(queue="q").enqueue(whoami)
    async with working(queues=["q"]):
        found = queue.deserialize_result(await queue.get_result(task_id, timeout=10))
    assert found[:3] == (task_id, 1, "q")
    assert found[3].startswith("sitq-task")


async def asked_from_a_thread():
    TENANT.set("of the task")
    return await asyncio.to_thread(lambda: (TENANT.get(), current_task().id))


async def test_context_variables_are_carried_into_threads(queue):
    def tenant():
        return TENANT.get()

    TENANT.set("of the worker")
    plain = await queue.enqueue(tenant_of_thread)
    nested = await queue.enqueue(asked_from_a_thread)
    await Worker(queue.backend).run(burst=True)
    values = [queue.deserialize_result(await queue.get_result(each)) for each in (plain, nested)]
    assert values == ["of the worker", ("of the task", nested)]


def tenant_of_thread():
    return TENANT.get()


class Gauge:
    """Counts who is inside, and lets nobody out before the gate opens."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = self.most = 0
        self.gate = threading.Event()

    def __enter__(self):
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *_):
        with self.lock:
            self.inside -= 1


GAUGES: dict[str, Gauge] = {}


def dwell(name):
    with GAUGES[name]:
        assert GAUGES[name].gate.wait(10)


async def dwell_async(name):
    with GAUGES[name]:
        while not GAUGES[name].gate.is_set():  # noqa: ASYNC110 - the gate is for threads, too
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("function", [dwell, dwell_async])
async def test_never_more_than_allowed_run_at_once_and_so_many_do(queue, working, eventually, function):
    gauge = GAUGES["bounded"] = Gauge()
    ids = await queue.enqueue_many([Task(function, ("bounded",)) for _ in range(12)])
    async with working(max_concurrency=4):
        await eventually(lambda: gauge.inside == 4)
        for _ in range(5):
            await asyncio.sleep(0)
        tally = (await queue.stats())["default"]
        assert (tally["running"], tally["queued"]) == (4, 8)  # nothing is claimed that cannot start
        gauge.gate.set()
        results = await asyncio.gather(*[queue.get_result(each, timeout=10) for each in ids])
    assert {result.status for result in results} == {"success"}
    assert gauge.most == 4


ORDER: list[int] = []


async def note(number):
    ORDER.append(number)


async def test_higher_priorities_start_first_and_equals_in_order(queue):
    ORDER.clear()
    await queue.enqueue_many([Task(note, (n,), priority=n % 3) for n in range(9)])
    await Worker(queue.backend, max_concurrency=1).run(burst=True)
    assert ORDER == [2, 5, 8, 1, 4, 7, 0, 3, 6]


async def test_queues_are_served_in_strict_order(queue):
    ORDER.clear()
    for n, name in enumerate(["low", "high", "low", "high"]):
        await queue.options(queue=name).enqueue(note, n)
    await Worker(queue.backend, max_concurrency=1, queues=["high", "low"]).run(burst=True)
    assert ORDER == [1, 3, 0, 2]


async def test_other_queues_are_left_alone(queue, stored):
    other = await queue.options(queue="other").enqueue(add, 1)
    await Worker(queue.backend).run(burst=True)
    assert (await stored(other)).state is State.QUEUED


async def test_what_is_not_due_yet_waits_and_then_starts_by_itself(queue, working, stored):
    later = await queue.options(delay=0.3).enqueue(add, 1, 2)
    async with working(poll_interval=60):
        result = await queue.get_result(later, timeout=10)
    assert (await stored(later)).started >= (await stored(later)).due
    assert result.status == "success"


async def test_an_idle_worker_hears_of_a_task_long_before_it_polls(queue, working, eventually):
    async with working(poll_interval=3600) as worker:
        await eventually(lambda: worker._shift is not None)
        for _ in range(3):
            task_id = await queue.enqueue(add, 1, 2)
            assert (await queue.get_result(task_id, timeout=5)).status == "success"


async def chain(depth):
    if depth:
        await QUEUES["chain"].enqueue(chain, depth - 1)


QUEUES: dict[str, TaskQueue] = {}


async def test_a_burst_also_runs_what_its_tasks_enqueue(queue):
    QUEUES["chain"] = queue
    await queue.enqueue(chain, 5)
    await asyncio.wait_for(Worker(queue.backend).run(burst=True), 10)
    assert await queue.stats() == {"default": {"completed": 6}}


async def test_a_burst_leaves_what_is_not_due(queue):
    await queue.options(delay=3600).enqueue(add, 1)
    await asyncio.wait_for(Worker(queue.backend).run(burst=True), 10)
    assert await queue.stats() == {"default": {"queued": 1}}


async def collect():
    gc.collect()
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.get_running_loop().run_in_executor(None, gc.collect)


async def test_collecting_garbage_at_every_turn_loses_no_task(queue, working):
    async with working():
        ids = await asyncio.gather(*[queue.enqueue(collect) for _ in range(4)])
        gc.collect()
        waiting = [asyncio.create_task(queue.get_result(each, timeout=20)) for each in ids]
        gc.collect()
        results = await asyncio.gather(*waiting)
    assert {result.status for result in results} == {"success"}


async def test_waiting_for_a_thousand_results_costs_few_reads(queue, working, monkeypatch):
    reads = []
    get = type(queue.backend).get

    async def count(self, ids):
        reads.append(len(ids))
        return await get(self, ids)

    monkeypatch.setattr(type(queue.backend), "get", count)
    async with TaskQueue(queue.backend) as counted:
        ids = await counted.enqueue_many([Task(add_async, (n,)) for n in range(1000)])
        async with working(max_concurrency=100):
            results = await asyncio.gather(*[counted.get_result(each, timeout=30) for each in ids])
    assert {result.status for result in results} == {"success"}
    assert len(reads) <= 60


@pytest.mark.parametrize(
    "name",
    [
        "'; DROP TABLE tasks; --",
        "../../etc/passwd",
        "%00%n%s{0}",
        "a:b/c*d?e",
        "名前 📮",
        "<script>alert(1)</script>",
        "$(reboot)",
        "\\",
        '"quoted"',
        "x" * 255,
        "default ",
        "queue/default",
    ],
)
async def test_hostile_names_are_names_like_any_other(backend, stored, name):
    async with TaskQueue(backend, queue=name) as queue:
        task_id = await queue.options(id=name[:128], tags=[name]).enqueue(add, 1, 2)
        await queue.options(queue="default", id="bystander").enqueue(add, 1)
        await Worker(backend, queues=[name], worker_id=name).run(burst=True)
        assert queue.deserialize_result(await queue.get_result(task_id, timeout=5)) == 3
        assert await queue.stats() == {name: {"completed": 1}, "default": {"queued": 1}}


async def test_a_worker_that_opens_its_file_by_itself_trusts_it_as_ours(tmp_path):
    """Whether others can write to a file is known once it is open, and not before."""
    path = tmp_path / "tasks.db"
    async with TaskQueue(SQLiteBackend(path)) as queue:
        task_id = await queue.enqueue(len, "abc")
        last = await queue.enqueue(abs, queue.handle(task_id))
    await asyncio.wait_for(Worker(SQLiteBackend(path)).run(burst=True), 20)
    async with TaskQueue(SQLiteBackend(path)) as queue:
        assert await queue.handle(last).result(5) == 3
