"""How tasks end: cancelled, too late, tried again, and after whatever user code does."""

import asyncio
import sys
import threading
import time

import pytest

from sitq.context import current_task
from sitq.core import Task
from sitq.policy.retry import RetryPolicy
from sitq.record import SECOND, State
from sitq.signals import Cancel, Retry, Snooze
from sitq.worker import Worker

BEGUN: dict[str, threading.Event] = {}
GATES: dict[str, threading.Event] = {}
TOLD: dict[str, threading.Event] = {}
RAN: list[int] = []


@pytest.fixture(autouse=True)
def _stage():
    for events in (BEGUN, GATES, TOLD):
        events["now"] = threading.Event()
    RAN.clear()
    yield
    GATES["now"].set()


async def hang():
    BEGUN["now"].set()
    await asyncio.Event().wait()


async def hang_and_clean_up():
    BEGUN["now"].set()
    try:
        await asyncio.Event().wait()
    finally:
        TOLD["now"].set()


def hang_in_thread():
    BEGUN["now"].set()
    while not GATES["now"].wait(0.002):
        if current_task().cancelled:
            TOLD["now"].set()


def add(one, two):
    return one + two


async def begun():
    assert await asyncio.to_thread(BEGUN["now"].wait, 10)


# -- cancelled ---------------------------------------------------------------------------------------------


async def test_a_waiting_task_that_is_cancelled_never_runs(queue, working):
    task_id = await queue.options(delay=3600).enqueue(add, 1, 2)
    async with working():
        assert await queue.cancel(task_id, "no more") is True
        result = await queue.get_result(task_id, timeout=5)
    assert (result.status, result.error) == ("cancelled", "no more")


async def test_a_running_async_task_is_cancelled_within_a_second(queue, working):
    task_id = await queue.enqueue(hang_and_clean_up)
    async with working(poll_interval=3600):
        await begun()
        asked = time.monotonic()
        assert await queue.cancel(task_id, "no more") is True
        result = await queue.get_result(task_id, timeout=5)
        assert time.monotonic() - asked < 1
    assert (result.status, result.error) == ("cancelled", "no more")
    assert TOLD["now"].is_set()


async def test_a_running_thread_is_told_and_its_task_is_cancelled_at_once(queue, working, eventually):
    task_id = await queue.enqueue(hang_in_thread)
    async with working(max_concurrency=1) as worker:
        await begun()
        await queue.cancel(task_id)
        assert (await queue.get_result(task_id, timeout=5)).status == "cancelled"
        assert await asyncio.to_thread(TOLD["now"].wait, 5)
        assert worker._shift._busy == 1  # its thread keeps the slot
        GATES["now"].set()
        await eventually(lambda: worker._shift._busy == 0)


# -- too late ----------------------------------------------------------------------------------------------


async def test_an_async_task_that_takes_too_long_fails(queue, working):
    task_id = await queue.options(timeout=0.02).enqueue(hang_and_clean_up)
    async with working():
        result = await queue.get_result(task_id, timeout=5)
    assert (result.status, result.error) == ("failed", "it took longer than its time-out of 0.02 s")
    assert TOLD["now"].is_set()


async def test_a_thread_that_takes_too_long_fails_at_once_and_keeps_its_slot_until_it_ends(
    queue, working, stored
):
    task_id = await queue.options(timeout=0.02).enqueue(hang_in_thread)
    async with working(max_concurrency=1):
        assert (await queue.get_result(task_id, timeout=5)).status == "failed"
        assert await asyncio.to_thread(TOLD["now"].wait, 5)
        other = await queue.enqueue(add, 1, 2)
        assert await queue.get_result(other, timeout=0.05) is None
        assert (await stored(other)).state is State.QUEUED
        GATES["now"].set()
        assert (await queue.get_result(other, timeout=5)).status == "success"


async def test_a_timeout_uses_the_retry_budget(queue, working, ended):
    policy = RetryPolicy(max_retries=2, base=0.0)
    task_id = await queue.options(timeout=0.01, retry=policy).enqueue(hang)
    async with working():
        record = await ended(task_id)
    assert (record.attempt, record.failures) == (3, 2)
    assert [error.kind for error in record.errors] == ["timeout"] * 3


async def test_what_did_not_start_in_time_has_expired(queue, working, eventually, ended):
    task_id = await queue.options(ttl=0.01).enqueue(add, 1, 2)
    await asyncio.sleep(0.02)
    async with working():
        record = await ended(task_id)
    assert (record.state, record.attempt) == (State.EXPIRED, 0)


# -- tried again -------------------------------------------------------------------------------------------


async def fail_until(times):
    RAN.append(current_task().attempt)
    if len(RAN) < times:
        raise ValueError(f"attempt {len(RAN)}")
    return len(RAN)


async def test_without_a_policy_a_failure_is_the_end(queue):
    task_id = await queue.enqueue(fail_until, 2)
    await Worker(queue.backend).run(burst=True)
    result = await queue.get_result(task_id, timeout=0)
    assert (result.status, result.error, result.error_type) == (
        "failed",
        "ValueError: attempt 1",
        "ValueError",
    )
    assert "in fail_until" in result.traceback


async def test_a_task_that_fails_runs_again_until_it_returns(queue, working, ended):
    task_id = await queue.options(retry=RetryPolicy(max_retries=5, base=0.0)).enqueue(fail_until, 3)
    async with working():
        record = await ended(task_id)
    assert (record.state, record.attempt, record.failures) == (State.COMPLETED, 3, 2)
    assert RAN == [1, 2, 3]
    assert [error.message for error in record.errors] == ["attempt 1", "attempt 2"]


@pytest.mark.parametrize("retries", [1, 3])
async def test_so_many_more_runs_and_not_one_more(queue, working, ended, retries):
    task_id = await queue.options(retry=RetryPolicy(max_retries=retries, base=0.0)).enqueue(fail_until, 99)
    async with working():
        record = await ended(task_id)
    assert (record.state, len(RAN), record.failures) == (State.FAILED, retries + 1, retries)


async def test_a_retry_waits_as_long_as_its_policy_says(queue, working, eventually, stored):
    policy = RetryPolicy(max_retries=3, base=3600.0, jitter=False)
    task_id = await queue.options(retry=policy).enqueue(fail_until, 99)
    async with working():

        async def went_back():
            record = await stored(task_id)
            return record if record.failures == 1 else None

        record = await eventually(went_back)
    wait = record.due - record.errors[0].at
    assert 3590 * SECOND < wait < 3610 * SECOND


async def signal(what, times=2):
    RAN.append(1)
    if len(RAN) < times:
        raise what
    return len(RAN)


def signal_in_thread(what):
    RAN.append(1)
    if len(RAN) < 2:
        raise what
    return len(RAN)


@pytest.mark.parametrize("function", [signal, signal_in_thread])
async def test_a_snooze_runs_it_again_and_spends_nothing(queue, working, ended, function):
    task_id = await queue.enqueue(function, Snooze(0))
    async with working():
        record = await ended(task_id)
    assert (record.state, record.attempt, record.failures, record.errors) == (State.COMPLETED, 2, 0, ())


@pytest.mark.parametrize("function", [signal, signal_in_thread])
async def test_a_retry_that_was_asked_for_spends_one(queue, working, ended, function):
    task_id = await queue.enqueue(function, Retry(after=0, reason="busy"))
    async with working():
        record = await ended(task_id)
    assert (record.state, record.failures, record.errors[0].message) == (State.COMPLETED, 1, "busy")


@pytest.mark.parametrize("function", [signal, signal_in_thread])
async def test_a_task_can_cancel_itself(queue, working, ended, function):
    task_id = await queue.options(retry=5).enqueue(function, Cancel("enough"))
    async with working():
        record = await ended(task_id)
    assert (record.state, record.errors[-1].message) == (State.CANCELLED, "enough")


async def test_asking_without_a_policy_ends_after_ten(queue, working, ended):
    task_id = await queue.enqueue(signal, Retry(after=0), 99)
    async with working():
        record = await ended(task_id)
    assert (record.state, len(RAN), record.failures) == (State.FAILED, 11, 10)


# -- whatever user code does -------------------------------------------------------------------------------


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
        assert worker._shift._busy == 0
        assert not worker._shift._runs
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
        assert worker._shift._busy == 0
    assert {kind for kind, record in records.items() if record.state is not State.FAILED} == set()
    assert {record.attempt for record in records.values()} == {1}


def calls_in_thread(kind):
    return NASTY[kind]()


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [(add, (1,), {}), (add, (1, 2, 3), {}), (add, (1,), {"three": 3}), (hang, (1,), {})],
)
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
    from sitq.record import Record  # noqa: PLC0415

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
