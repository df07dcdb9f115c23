"""Likely slips of callers: each is told what was meant."""

import os
import sys
import threading
import types

import pytest

from sitq.backends.memory import MemoryBackend
from sitq.backends.sqlite import SQLiteBackend
from sitq.backends.sqlite.location import is_ours
from sitq.codec import Codec
from sitq.core import Task
from sitq.decorator import declare
from sitq.exceptions import SerializationError, ValidationError
from sitq.limits import RateLimit
from sitq.policy import outcome as came_to
from sitq.queue import TaskQueue
from sitq.serialization import CloudpickleSerializer
from sitq.worker import Worker
from sitq.worker.attempt import Attempts
from sitq.worker.failures import Failures
from sitq.worker.run import Run


def greet(name, timeout=None):
    return name


async def test_an_option_among_the_keywords_is_told_its_place():
    async with TaskQueue(MemoryBackend()) as queue:
        with pytest.raises(ValidationError, match=r"did you mean queue\.options\(retry=…\)\.enqueue\(greet"):
            await queue.enqueue(greet, "x", retry=3)
        assert await queue.enqueue(greet, "x", timeout=3), "the function takes it itself"
        assert await queue.stats() == {"default": {"queued": 1}}


def test_a_queue_name_in_the_place_of_a_serializer_is_told_its_place():
    with pytest.raises(ValidationError, match="the name of a queue goes to queue="):
        TaskQueue(MemoryBackend(), "emails")
    with pytest.raises(ValidationError, match=r"JSONSerializer\(\), not CloudpickleSerializer"):
        Worker(MemoryBackend(), CloudpickleSerializer)


def test_a_queue_in_the_place_of_a_backend_is_told_to_pass_its_backend():
    with pytest.raises(ValidationError, match=r"not a TaskQueue; pass its \.backend"):
        Worker(TaskQueue(MemoryBackend()))


def test_a_url_in_the_place_of_a_path_is_told_its_place():
    with pytest.raises(ValidationError, match=r"a URL goes to TaskQueue\('sqlite:///x.db'\)"):
        SQLiteBackend("sqlite:///x.db")
    with pytest.raises(ValidationError, match="not NoneType"):
        SQLiteBackend(None)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("delay", r"no delay; write await greet\.enqueue\(…\)"),
        ("apply_async", r"write await greet\.options\(…\)\.enqueue\(…\)"),
        ("s", r"write Task\(greet, args\)"),
        ("other", "'TaskFunction' object has no attribute 'other'"),
    ],
)
def test_what_other_task_queues_call_a_method_is_told_its_name(name, instead):
    declared = declare(greet, "slips.greet")
    with pytest.raises(AttributeError, match=instead):
        getattr(declared, name)
    assert not hasattr(declared, name)


async def test_an_id_that_was_not_awaited_is_told_to_be():
    async with TaskQueue(MemoryBackend()) as queue:
        forgotten = queue.enqueue(greet, "x")
        with pytest.raises(ValidationError, match="not a coroutine; await the call first"):
            await queue.get_result(forgotten, timeout=1)
        forgotten.close()


async def test_a_list_of_handles_is_told_to_be_unpacked():
    async with TaskQueue(MemoryBackend()) as queue:
        with pytest.raises(ValidationError, match=r"not list; write gather\(\*handles\)"):
            await queue.gather([await queue.submit(greet, "x")])


def test_a_rate_as_text_is_told_how_to_be_written():
    with pytest.raises(ValidationError, match=r"not '10/m'; RateLimit\(10, per=60\) is 10 in a minute"):
        RateLimit("10/m")


async def test_what_is_no_result_and_no_list_of_ids_is_refused():
    async with TaskQueue(MemoryBackend()) as queue:
        with pytest.raises(ValidationError, match="not NoneType; get_result answers None"):
            queue.deserialize_result(None)
        with pytest.raises(ValidationError, match="a list of task ids, not 'abc'; put it into"):
            await queue.get_results("abc")
    with pytest.raises(ValidationError, match=r"write \(1,\)"):
        Task(greet, 1)
    for keywords in ({"name"}, "name", 5):
        with pytest.raises(ValidationError, match="kwargs must be a mapping of names to arguments"):
            Task(greet, (), keywords)


async def test_code_by_value_that_imports_what_is_not_here_is_handed_back(monkeypatch):
    module = types.ModuleType("only_there")
    exec("def inner(): return 1", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_there", module)
    inner = module.inner
    codec = Codec(CloudpickleSerializer())
    record = codec.record("a", lambda: inner() + 1, (), {})
    record.token, record.attempt = "t", 1
    monkeypatch.delitem(sys.modules, "only_there")
    came = await Attempts(codec, None, None, Failures("w", lambda: 0)).outcome(Run(record))
    assert isinstance(came, came_to.HandedBack)
    assert came.delay


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no owners of files here")
@pytest.mark.parametrize("end", ["-wal", "-shm"])
def test_a_log_that_somebody_else_laid_beside_the_file_makes_it_no_longer_ours(tmp_path, monkeypatch, end):
    path = tmp_path / "tasks.db"
    path.touch(0o600)
    assert is_ours(str(path))
    laid = tmp_path / f"tasks.db{end}"
    laid.touch()
    if os.geteuid() == 0:
        os.chown(laid, 4711, 4711)
    else:
        monkeypatch.setattr("sitq.backends.sqlite.location._owner", lambda _: 4711)
    assert not is_ours(str(path))


async def test_a_file_that_is_not_there_is_said_to_be_missing_without_making_it(tmp_path):
    path = tmp_path / "tasks.db"
    assert SQLiteBackend(path).missing() == f"there is no file {path}"
    assert not path.exists()
    async with SQLiteBackend(path) as backend:
        assert backend.missing() is None
    assert SQLiteBackend(":memory:").missing() is None


def test_a_function_that_drags_along_what_cannot_travel_is_told_why_it_travels():
    lock = threading.Lock()
    with pytest.raises(SerializationError, match=r"travels by value.* put it into a module"):
        Codec(CloudpickleSerializer()).record("a", lambda: lock.acquire(), (), {})  # noqa: PLW0108 - it holds it
