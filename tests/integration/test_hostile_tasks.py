"""Whatever a task raises or returns, it ends readably, and its worker lives on."""

import asyncio
import sys
import threading

import pytest

from sitq.core import Task
from sitq.record import Record, State
from sitq.worker import Worker


def add(one, two):
    return one + two


async def hang():
    await asyncio.Event().wait()


class Unpicklable(Exception):
    def __reduce__(self):
        raise TypeError("no pickles")


class OnlyNotUnpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class UnprintableAndOut(Exception):
    def __str__(self):
        raise SystemExit(3)

    __repr__ = __str__


class NoText(Exception):
    def __str__(self):
        return 5  # noqa: PLE0307 - the fault itself


class LyingText(str):
    __slots__ = ()

    def encode(self, *_):
        raise RuntimeError("no bytes")

    def __getitem__(self, _):
        return 5


class Lying(Exception):
    def __str__(self):
        return LyingText("it is a lie")


class NamelessMeta(type):
    def __getattribute__(cls, name):
        if name in {"__qualname__", "__module__", "__name__"}:
            raise SystemExit(4)
        return super().__getattribute__(name)


class LoneModule(Exception):
    __module__ = "\ud800"


class Endless(Exception):
    @property
    def __traceback__(self):
        raise RuntimeError("no trace")


class Falsy(Exception):
    def __bool__(self):
        raise RuntimeError("neither true nor false")

    def __eq__(self, other):
        raise RuntimeError("equal to nothing")

    __hash__ = None


class Local:
    def __reduce__(self):
        raise SystemExit(5)


def deep(levels=100_000):
    nested = []
    for _ in range(levels):
        nested = [nested]
    return nested


def recurse():
    return recurse()


def long_chain():
    error = ValueError("0")
    for n in range(500):
        try:
            raise ValueError(str(n)) from error  # noqa: TRY301 - a chain of them is the point
        except ValueError as caught:
            error = caught
    raise error


def itself():
    error = ValueError("its own cause")
    error.__cause__ = error
    raise error


def nested_groups():
    error = ValueError("inside")
    for _ in range(200):
        error = ExceptionGroup("group", [error])
    raise error


def of_a_nameless_class():
    raise NamelessMeta("Nameless", (Exception,), {})("no name")


def from_odd_globals():
    exec(compile("raise ValueError('no name here')", "odd", "exec"), {"__name__": None})


async def cancels_itself():
    asyncio.current_task().cancel()
    await asyncio.sleep(0)


async def awaits_a_generator_exit():
    await asyncio.to_thread(_raise, GeneratorExit())


async def awaits_a_stopped_loop():
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def taskgroup():
    async with asyncio.TaskGroup() as group:
        group.create_task(_fail())
        group.create_task(hang())


async def _fail():
    raise ValueError("in the group")


async def async_generator():
    yield 1


def generator():
    yield 1


def _raise(error):
    raise error


def raising(error, *args):
    return lambda: _raise(error(*args) if args else error)


NASTY = {
    # exceptions
    "unpicklable exception": raising(Unpicklable, "x"),
    "only not unpicklable exception": raising(OnlyNotUnpicklable, 1, 2),
    "__str__ raises": raising(Unprintable, "x"),
    "__str__ exits": raising(UnprintableAndOut, "x"),
    "__str__ is no text": raising(NoText, "x"),
    "text that lies": raising(Lying, "x"),
    "a class without a name": of_a_nameless_class,
    "a module of half a character": raising(LoneModule, "x"),
    "__traceback__ raises": raising(Endless, "x"),
    "no truth and no equality": raising(Falsy, "x"),
    "BaseException": raising(BaseException, "bare"),
    "SystemExit": raising(SystemExit, 3),
    "sys.exit": sys.exit,
    "KeyboardInterrupt": raising(KeyboardInterrupt, "x"),
    "GeneratorExit": raising(GeneratorExit, "x"),
    "StopIteration": raising(StopIteration, "x"),
    "StopAsyncIteration": raising(StopAsyncIteration, "x"),
    "CancelledError": raising(asyncio.CancelledError, "x"),
    "InvalidStateError": raising(asyncio.InvalidStateError, "x"),
    "MemoryError": raising(MemoryError, "x"),
    "ExceptionGroup": lambda: _raise(ExceptionGroup("g", [ValueError("one"), TypeError("two")])),
    "BaseExceptionGroup": lambda: _raise(BaseExceptionGroup("g", [SystemExit(1), KeyboardInterrupt()])),
    "groups in groups": nested_groups,
    "a huge message": lambda: _raise(ValueError("x" * 5_000_000)),
    "surrogates in the message": lambda: _raise(ValueError("\ud800\udfff\0 half")),
    "zero bytes in the message": lambda: _raise(ValueError("a\0b")),
    "recursion": recurse,
    "a chain of causes": long_chain,
    "its own cause": itself,
    "odd globals": from_odd_globals,
    "a class raised": lambda: _raise(ValueError),
    "cancels itself": cancels_itself,
    "awaits a GeneratorExit": awaits_a_generator_exit,
    "awaits a cancelled future": awaits_a_stopped_loop,
    "a task group that fails": taskgroup,
    # results
    "a lock": threading.Lock,
    "a generator": generator,
    "an async generator": async_generator,
    "__reduce__ raises": lambda: Unpicklable("x"),
    "__reduce__ exits": Local,
    "a socket": lambda: __import__("socket").socket(),
    "a deeply nested list": deep,
    "too large": lambda: b"x" * (1 << 21),
    "a module's dictionary of locks": lambda: {n: threading.Lock() for n in range(3)},
    "a running event loop": lambda: asyncio.new_event_loop().close() or threading.current_thread(),
    "a frame": sys._getframe,
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_whatever_a_task_raises_or_returns_it_ends_readably_and_the_worker_lives_on(
    queue, working, ended
):
    async with working(max_concurrency=4) as worker:
        ids = {kind: await queue.enqueue(CALLS, kind) for kind in NASTY}
        records = {kind: await ended(each, 20) for kind, each in ids.items()}
        sound = await queue.enqueue(add, 1, 2)
        assert (await queue.get_result(sound, timeout=5)).status == "success"
        assert worker._shift._runs.busy == 0
        assert not worker._shift._runs.in_flight
        assert not worker._shift._keeper._held
    for kind, record in records.items():
        assert record.state is State.FAILED, (kind, record.state)
        assert record.attempt == 1, kind
        (failure,) = record.errors
        assert failure.message or failure.type, kind
        (failure.type + failure.message + failure.traceback).encode()
        assert len(failure.type + failure.message + failure.traceback) < 40_000, kind
        result = await queue.get_result(ids[kind], timeout=0)
        assert result.status == "failed", kind
        assert result.error, kind


async def CALLS(kind):  # noqa: N802 - it stands for each of the calls above
    function = NASTY[kind]
    if asyncio.iscoroutinefunction(function):
        return await function()
    if kind in {"recursion", "GeneratorExit", "sys.exit", "KeyboardInterrupt"}:
        return await asyncio.to_thread(function)
    return function()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_whatever_a_thread_raises_or_returns_it_ends_readably_and_the_worker_lives_on(
    queue, working, ended
):
    kinds = [kind for kind, function in NASTY.items() if not asyncio.iscoroutinefunction(function)]
    async with working(max_concurrency=4) as worker:
        ids = {kind: await queue.enqueue(calls_in_thread, kind) for kind in kinds}
        records = {kind: await ended(each, 20) for kind, each in ids.items()}
        assert worker._shift._runs.busy == 0
    assert {kind for kind, record in records.items() if record.state is not State.FAILED} == set()
    assert {record.attempt for record in records.values()} == {1}


def calls_in_thread(kind):
    return NASTY[kind]()


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [(add, (1,), {}), (add, (1, 2, 3), {}), (add, (1,), {"three": 3}), (hang, (1,), {})],
)
@pytest.mark.usefixtures("older_producer")
async def test_arguments_that_do_not_fit_are_dead_with_their_reason(queue, ended, function, args, kwargs):
    task_id = await queue.options(retry=5).enqueue(function, *args, **kwargs)
    await Worker(queue.backend).run(burst=True)
    record = await ended(task_id)
    assert (record.state, record.attempt) == (State.DEAD, 1)
    assert "argument" in record.errors[0].message


async def test_a_result_that_cannot_be_stored_is_not_run_again(queue, ended):
    task_id = await queue.options(retry=5).enqueue(threading.Lock)
    await Worker(queue.backend).run(burst=True)
    record = await ended(task_id)
    assert (record.state, record.attempt, record.errors[0].kind) == (State.FAILED, 1, "unstorable")


async def test_corrupt_records_hold_up_nobody(queue, ended):
    damaged = [
        Record(id="payload", name="x:y", payload=b"nonsense"),
        Record(id="empty"),
        Record(id="policy", name="x:y", payload=b"", retry={"max_retries": []}),
    ]
    await queue.backend.put([damaged])
    sound = await queue.enqueue_many([Task(add, (n, 1)) for n in range(3)])
    await Worker(queue.backend).run(burst=True)
    for each in sound:
        assert (await ended(each)).state is State.COMPLETED
    for each in damaged:
        record = await ended(each.id)
        assert (record.state, record.attempt) == (State.DEAD, 1)
        assert record.errors[0].message
