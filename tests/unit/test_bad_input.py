"""What callers do wrong, one test each: the error names the value and the remedy."""

import asyncio
import os
import re
import signal
import threading
import time
import warnings
from datetime import UTC, datetime

import pytest

from sitq.backends.base import Share, Want
from sitq.backends.memory import MemoryBackend
from sitq.backends.postgres import PostgresBackend
from sitq.backends.sqlite import SQLiteBackend
from sitq.batch import plan_batch
from sitq.codec import Codec
from sitq.core import Result, Task
from sitq.exceptions import (
    BackendError,
    ConfigurationError,
    SerializationError,
    SyncTaskQueueError,
    TaskQueueError,
    ValidationError,
)
from sitq.policy.retry import RetryPolicy
from sitq.queue import TaskQueue
from sitq.record import Record
from sitq.serialization import CloudpickleSerializer, JSONSerializer
from sitq.signals import Retry, Snooze, Throttled
from sitq.sync import SyncTaskQueue
from sitq.worker import Worker

TIMES = [-1, -0.001, float("nan"), float("inf"), float("-inf"), 1e300, "1", True]


def f(*args, **kwargs):
    """Something to enqueue."""


async def coroutine():
    """Something that is called by mistake."""


@pytest.fixture
async def queue():
    async with TaskQueue(MemoryBackend()) as queue:
        yield queue


# -- functions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [5, None, [f]])
async def test_what_cannot_be_called(queue, value):
    with pytest.raises(ValidationError, match="cannot be called; pass the function"):
        await queue.enqueue(value)
    with pytest.raises(ValidationError, match="cannot be called"):
        Task(value)


async def test_the_name_of_a_function(queue):
    with pytest.raises(ValidationError, match=r"'mail\.send'; pass the function itself, not its name"):
        await queue.enqueue("mail.send")


async def test_a_call_instead_of_a_coroutine_function(queue):
    with pytest.raises(
        ValidationError, match=r"enqueue\(coroutine, …\) instead of enqueue\(coroutine\(…\)\)"
    ):
        await queue.enqueue(coroutine())


@pytest.mark.parametrize(
    ("make", "instead"),
    [
        (Task, "Task(coroutine, …) instead of Task(coroutine(…))"),
        (
            lambda made: RetryPolicy(on_exhausted=made),
            "on_exhausted=coroutine instead of on_exhausted=coroutine(…)",
        ),
        (
            lambda made: plan_batch([], {"finish": made}),
            "on_finish=coroutine instead of on_finish=coroutine(…)",
        ),
    ],
)
def test_a_call_where_a_function_is_given_is_told_how_it_is_given_there(make, instead):
    with pytest.raises(ValidationError, match=re.escape(instead)):
        make(coroutine())


async def test_a_running_future_instead_of_a_function(queue):
    future = asyncio.ensure_future(coroutine())
    with pytest.raises(ValidationError, match="already running"):
        await queue.enqueue(future)
    await future


async def test_arguments_of_a_task_that_are_text():
    with pytest.raises(ValidationError, match=r"write \('a.png',\)"):
        Task(f, "a.png")


@pytest.mark.parametrize("value", [threading.Lock(), (n for n in [])], ids=["lock", "generator"])
async def test_an_argument_that_cannot_be_serialized_is_named(queue, value):
    def shaped(path, handle):
        """Something with names."""

    with pytest.raises(SerializationError, match=r"argument 2 \('handle'\)"):
        await queue.enqueue(shaped, "a", value)
    with pytest.raises(SerializationError, match="keyword argument 'handle'"):
        await queue.enqueue(shaped, "a", handle=value)


async def test_a_payload_over_the_limit(queue):
    with pytest.raises(
        SerializationError,
        match=r"1,0\d\d,\d\d\d bytes, more than the limit of 1,048,576; .*spill=",
    ):
        await queue.enqueue(f, b"x" * (1 << 20))


async def test_a_function_that_json_cannot_send():
    queue = TaskQueue(MemoryBackend(), JSONSerializer())
    with pytest.raises(SerializationError, match="@task"):
        await queue.enqueue(lambda: None)
    await queue.close()


# -- times -------------------------------------------------------------------------------------------------


async def test_a_naive_eta(queue):
    with pytest.raises(ValidationError, match=r"has no time zone; use datetime.now\(UTC\)"):
        await queue.enqueue(f, eta=datetime(2030, 1, 1))  # noqa: DTZ001 - the mistake itself


@pytest.mark.parametrize("value", ["tomorrow", 60, 60.0])
async def test_an_eta_that_is_no_datetime(queue, value):
    with pytest.raises(ValidationError, match="eta must be an aware datetime"):
        await queue.enqueue(f, eta=value)


@pytest.mark.parametrize("name", ["eta", "deadline"])
def test_a_naive_instant_among_the_options(queue, name):
    with pytest.raises(ValidationError, match=f"{name} .* has no time zone"):
        queue.options(**{name: datetime(2030, 1, 1)})  # noqa: DTZ001 - the mistake itself


def test_an_instant_before_1970(queue):
    with pytest.raises(ValidationError, match="1970"):
        queue.options(eta=datetime(1969, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("value", TIMES)
@pytest.mark.parametrize("name", ["delay", "ttl", "timeout", "result_ttl"])
def test_a_time_among_the_options_that_is_none(queue, name, value):
    with pytest.raises(ValidationError, match=name):
        queue.options(**{name: value})


@pytest.mark.parametrize("name", ["ttl", "timeout"])
def test_a_limit_of_no_time(queue, name):
    with pytest.raises(ValidationError, match=f"{name} must be longer than 0 s; leave it out for no limit"):
        queue.options(**{name: 0})


@pytest.mark.parametrize("value", TIMES)
async def test_a_timeout_of_a_result_that_is_none(queue, value):
    with pytest.raises(ValidationError, match="timeout"):
        await queue.get_result("a", timeout=value)


@pytest.mark.parametrize("value", TIMES)
@pytest.mark.parametrize("name", ["poll_interval", "lease", "grace"])
def test_a_time_of_a_worker_that_is_none(name, value):
    with pytest.raises(ValidationError, match=name):
        Worker(MemoryBackend(), **{name: value})


@pytest.mark.parametrize("value", TIMES)
@pytest.mark.parametrize("signal_", [Snooze, Throttled, Retry])
def test_a_time_of_a_signal_that_is_none(signal_, value):
    with pytest.raises(ValidationError):
        signal_(value)


@pytest.mark.parametrize("value", TIMES)
@pytest.mark.parametrize("name", ["base", "cap"])
def test_a_time_of_a_policy_that_is_none(name, value):
    with pytest.raises(ValidationError, match=name):
        RetryPolicy(**{name: value})


# -- names -------------------------------------------------------------------------------------------------

NAMES = ["", "x" * 256, "a\0b", "a\nb", "a\x1bb", "\ud800", "a\u2028b", 5, None, b"a"]


@pytest.mark.parametrize("name", NAMES)
def test_a_queue_that_no_text_can_name(name):
    with pytest.raises(ValidationError, match="queue"):
        TaskQueue(MemoryBackend(), queue=name)


@pytest.mark.parametrize("name", [name for name in NAMES if name is not None])
def test_names_among_the_options_that_no_text_can_be(queue, name):
    for option in ("queue", "id"):
        with pytest.raises(ValidationError, match=option):
            queue.options(**{option: name})
    with pytest.raises(ValidationError, match="tag"):
        queue.options(tags=[name])


@pytest.mark.parametrize("name", [name for name in NAMES if name is not None])
def test_a_worker_that_no_text_can_name(name):
    with pytest.raises(ValidationError, match="worker id"):
        Worker(MemoryBackend(), worker_id=name)


@pytest.mark.parametrize("value", ["urgent", 5])
def test_tags_that_are_no_list(queue, value):
    with pytest.raises(ValidationError, match="tags must be a list"):
        queue.options(tags=value)


@pytest.mark.parametrize("name", ["", "x" * 129, "a\nb", 5, None])
async def test_a_task_id_that_no_text_can_be(queue, name):
    for call in (queue.get_result, queue.cancel, lambda each: queue.get_results([each])):
        with pytest.raises(ValidationError, match="task id"):
            await call(name)


# -- options -----------------------------------------------------------------------------------------------


def test_a_misspelt_option_names_the_nearest(queue):
    with pytest.raises(ValidationError, match=r"no option 'priorit'; did you mean priority\?"):
        queue.options(priorit=5)
    with pytest.raises(ValidationError, match=r"no option 'time_out'; did you mean timeout\?"):
        Task(f, time_out=5)


@pytest.mark.parametrize("value", [101, -101, 1.5, "high", None, True])
def test_a_priority_that_is_none(queue, value):
    with pytest.raises(ValidationError, match="priority"):
        queue.options(priority=value)


@pytest.mark.parametrize("value", [-1, 1.5, "three", True, 10_001])
def test_a_number_of_retries_that_is_none(queue, value):
    with pytest.raises(ValidationError, match="retry"):
        queue.options(retry=value)


# -- many --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [f, (f, ()), "task", None])
async def test_many_with_something_that_is_no_task(queue, value):
    with pytest.raises(ValidationError, match=r"Task objects, not .*write Task\(function, args\)"):
        await queue.enqueue_many([Task(f), value])
    assert await queue.stats() == {}


async def test_one_task_where_many_belong(queue):
    with pytest.raises(ValidationError, match=r"write \[task\]"):
        await queue.enqueue_many(Task(f))


async def test_more_than_fit_into_one_call(queue):
    def endless():
        one = Task(f)
        while True:
            yield one

    with pytest.raises(ValidationError, match="at most 100,000 tasks at once; split them"):
        await queue.enqueue_many(endless())


# -- results -----------------------------------------------------------------------------------------------


async def test_an_unknown_task(queue):
    async with asyncio.timeout(5):
        assert await queue.get_result("nobody") is None
        assert await queue.cancel("nobody") is False
        assert await queue.get_results(["nobody"]) == [None]


@pytest.mark.parametrize("reason", [5, None, b"why", "x" * 1001])
async def test_a_reason_that_cannot_be_kept(queue, reason):
    with pytest.raises(ValidationError, match="reason"):
        await queue.cancel("a", reason)


async def test_a_reason_with_half_a_character(queue):
    task_id = await queue.enqueue(f)
    assert await queue.cancel(task_id, "\ud800") is True
    assert (await queue.get_result(task_id)).error == "\\ud800"


@pytest.mark.parametrize("status", ["failed", "cancelled", "pending", "dead", "expired"])
def test_the_value_of_a_task_that_has_none(status):
    with pytest.raises(ValidationError, match=f"status is {status}"):
        TaskQueue(MemoryBackend()).deserialize_result(Result("a", status))


async def test_a_result_that_cannot_be_stored(queue):
    task_id = await queue.enqueue(threading.Lock)
    await Worker(queue.backend).run(burst=True)
    result = await queue.get_result(task_id)
    assert result.status == "failed"
    assert "cannot" in result.error
    (record,) = await queue.backend.get([task_id])
    assert record.attempt == 1


async def test_a_function_that_the_worker_cannot_import(queue, caplog):
    def gone():
        """A function of a module that the worker has not."""

    gone.__module__, gone.__qualname__ = "no.such.module", "gone"
    record = Record(id="a", name="no.such.module:gone")
    codec = Codec(CloudpickleSerializer())
    record.payload = codec.wrapper.seal(
        CloudpickleSerializer().dumps(((), {})), "task", "a", "default", record.name
    )
    await queue.backend.put([[record]])
    await Worker(queue.backend).run(burst=True)
    (record,) = await queue.backend.get(["a"])
    assert (record.state, record.failures, record.crashes) == ("queued", 0, 0)
    assert "no.such.module" in caplog.text


async def test_a_function_by_value_from_another_python_waits_for_it(queue):
    task_id = await queue.enqueue(lambda: None)
    (record,) = await queue.backend.get([task_id])
    old = Record(id="old", name=record.name, payload=record.payload, python="3.9")
    await queue.backend.put([[old]])
    await Worker(queue.backend).run(burst=True)
    assert [each.status for each in await queue.get_results([task_id, "old"])] == ["success", "pending"]
    (record,) = await queue.backend.get(["old"])
    assert (record.state, record.attempt) == ("queued", 0)


# -- backends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", [TaskQueue, SyncTaskQueue, Worker])
def test_the_name_of_a_queue_where_a_backend_belongs(face):
    with pytest.raises(ValidationError, match=r"not the text 'emails'.*TaskQueue\(backend, queue=…\)"):
        face("emails")


@pytest.mark.parametrize("face", [TaskQueue, SyncTaskQueue, Worker])
def test_a_class_where_a_backend_belongs(face):
    with pytest.raises(ValidationError, match=r"not its class; pass MemoryBackend\(…\)"):
        face(MemoryBackend)


@pytest.mark.parametrize("face", [TaskQueue, SyncTaskQueue, Worker])
def test_something_else_where_a_backend_belongs(face):
    with pytest.raises(ValidationError, match="a backend is needed"):
        face(5)


@pytest.mark.parametrize("face", [TaskQueue, SyncTaskQueue, Worker])
def test_a_url_of_an_unknown_scheme(face):
    with pytest.raises(ConfigurationError, match="no store is known for sqlte://; did you mean sqlite"):
        face("sqlte:///a.db")


@pytest.mark.parametrize("keys", ["", "  ", "nonsense", "a:short", "a:" + "ab" * 32 + ",a:" + "cd" * 32])
async def test_malformed_keys_in_the_environment(monkeypatch, keys):
    monkeypatch.setenv("SITQ_SECRET_KEYS", keys)
    with pytest.raises(ConfigurationError, match="SITQ_SECRET_KEYS"):
        await TaskQueue(MemoryBackend()).enqueue(f)
    with pytest.raises(ConfigurationError, match="SITQ_SECRET_KEYS"):
        await Worker(MemoryBackend()).run(burst=True)


# -- after the end -----------------------------------------------------------------------------------------


async def test_a_queue_after_its_close(queue):
    task_id = await queue.enqueue(f)
    await queue.close()
    calls = [
        lambda: queue.enqueue(f),
        lambda: queue.enqueue_many([Task(f)]),
        lambda: queue.get_result(task_id),
        lambda: queue.get_results([task_id]),
        lambda: queue.cancel(task_id),
        queue.stats,
        queue.connect,
    ]
    for call in calls:
        with pytest.raises(TaskQueueError, match="this queue is closed; make a new TaskQueue"):
            await call()


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_backend_before_its_connect_and_after_its_close(tmp_path, store):
    backend = MemoryBackend() if store == "memory" else SQLiteBackend(tmp_path / "a.db")
    want = Want(claim="c", worker="w", queues=(Share("q", 1),), limit=1, lease=1, python="3.11")
    for again in range(2):
        for call in (
            lambda: backend.get(["a"]),
            lambda: backend.put([[Record(id="a")]]),
            lambda: backend.take(want),
        ):
            with pytest.raises(BackendError, match="is not connected: await connect"):
                await call()
        if not again:
            await backend.connect()
            await backend.close()


async def test_a_queue_whose_backend_was_closed_by_others(queue):
    await queue.enqueue(f)
    await queue.backend.close()
    with pytest.raises(BackendError, match="not connected"):
        await queue.enqueue(f)


# -- after a fork ------------------------------------------------------------------------------------------


def in_a_fork(call) -> str:
    """What a call raises in a fork of this process, within a deadline."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is the mistake itself
        child = os.fork()
    if child == 0:
        try:
            call()
            text = "nothing"
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode()[:4000])
        os._exit(0)
    os.close(writer)
    deadline = time.monotonic() + 10
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "it hung"
        threading.Event().wait(0.005)
    with os.fdopen(reader) as said:
        return said.read()


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    return MemoryBackend() if request.param == "memory" else SQLiteBackend(tmp_path / "a.db")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
class TestAFork:
    def test_of_a_queue(self, store):
        queue = TaskQueue(store)
        asyncio.run(queue.enqueue(f))
        told = in_a_fork(lambda: asyncio.run(queue.enqueue(f)))
        assert "used in its fork" in told
        assert "make a new backend object" in told
        asyncio.run(queue.close())

    def test_of_a_queue_that_is_closed_in_the_child_harms_nobody(self, store):
        queue = TaskQueue(store)
        task_id = asyncio.run(queue.enqueue(f))
        assert in_a_fork(lambda: asyncio.run(queue.close())) == "nothing"
        assert asyncio.run(queue.get_results([task_id]))[0].status == "pending"
        asyncio.run(queue.close())

    def test_of_a_worker(self, store):
        queue = TaskQueue(store)
        asyncio.run(queue.enqueue(f))
        assert "used in its fork" in in_a_fork(lambda: asyncio.run(Worker(store).run(burst=True)))
        asyncio.run(queue.close())

    def test_of_a_sync_queue(self, store):
        queue = SyncTaskQueue(store)
        queue.enqueue(f)
        told = in_a_fork(lambda: queue.enqueue(f))
        assert told.startswith(SyncTaskQueueError.__name__)
        assert "make a new SyncTaskQueue in the child" in told
        assert in_a_fork(queue.close) == "nothing"
        queue.close()

    def test_of_a_queue_that_was_never_used_works(self, store):
        queue = SyncTaskQueue(store)
        assert in_a_fork(lambda: queue.enqueue(f)) == "nothing"


def test_a_pool_of_postgres_is_refused_with_what_to_give_instead():
    with pytest.raises(ValidationError, match="the pool's conninfo"):
        PostgresBackend(object())
