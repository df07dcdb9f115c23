import asyncio
import builtins
import contextlib
import contextvars
import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sitq import context
from sitq.codec import Codec
from sitq.context import current_task
from sitq.envelope import _parse, reseal
from sitq.exceptions import UnknownFunctionError, ValidationError
from sitq.functions import register
from sitq.keys import KeyRing
from sitq.options import NO_OPTIONS, make_options
from sitq.policy import outcome as came_to
from sitq.record import SECOND, Limit, Record
from sitq.serialization import CloudpickleSerializer
from sitq.signals import Cancel, Retry, Snooze, Throttled
from sitq.worker.attempt import Attempts
from sitq.worker.failures import Failures
from sitq.worker.run import Interruption, Run

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")
CODEC = Codec(CloudpickleSerializer())


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def attempts(threads) -> Attempts:
    return Attempts(CODEC, None, threads, Failures("w", lambda: 99))


@pytest.fixture
def outcome(attempts):
    """Runs a function as an attempt and answers with its outcome."""

    async def run(function, /, *args, options=None, record=None, **kwargs):
        made = CODEC.record("a", function, args, kwargs, make_options(NO_OPTIONS, options or {}))
        made.token, made.attempt = "t", 1
        for name, value in (record or {}).items():
            setattr(made, name, value)
        attempt = Run(made)
        attempt.task = asyncio.current_task()
        return await attempts.outcome(attempt)

    return run


def value_of(outcome):
    assert isinstance(outcome, came_to.Returned), outcome
    found = _parse(outcome.result, 1 << 20, "a")
    return CODEC.wrapper.serializer_named(found.codec).loads(outcome.result[found.start : found.end])


def add(one, two=0):
    return one + two


async def add_async(one, two=0):
    await asyncio.sleep(0)
    return one + two


class Adder:
    def __init__(self, one):
        self.one = one

    def add(self, two):
        return self.one + two

    async def add_async(self, two):
        return self.one + two

    def __call__(self, two):
        return self.one + two


class AsyncAdder:
    async def __call__(self, one, two=0):
        return one + two


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (add, (1, 2)),
        (add_async, (1, 2)),
        (lambda one, two: one + two, (1, 2)),
        (functools.partial(add, 1), (2,)),
        (functools.partial(add_async, 1), (2,)),
        (functools.partial(add, two=2), (1,)),
        (Adder(1).add, (2,)),
        (Adder(1).add_async, (2,)),
        (Adder(1), (2,)),
        (AsyncAdder(), (1, 2)),
        (lambda one, two: add_async(one, two=two), (1, 2)),
        (builtins.sum, ([1, 2],)),
    ],
)
async def test_whatever_can_be_called_is_run(outcome, function, args):
    assert value_of(await outcome(function, *args)) == 3


async def test_keywords_reach_the_function_whatever_their_names(outcome):
    def names(**kwargs):
        return sorted(kwargs)

    given = dict.fromkeys(("args", "callable", "fn", "func", "kwargs", "run", "self"), 1)
    assert value_of(await outcome(names, **given)) == sorted(given)


async def test_async_functions_run_in_the_event_loop_and_others_in_a_thread(outcome):
    def where():
        return threading.current_thread() is threading.main_thread()

    async def where_async():
        return threading.current_thread() is threading.main_thread()

    assert value_of(await outcome(where)) is False
    assert value_of(await outcome(where_async)) is True


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_a_task_knows_itself(outcome, kind):
    def who():
        task = current_task()
        return task.id, task.attempt, task.queue, task.cancelled

    async def who_async():
        return who()

    found = value_of(await outcome(who_async if kind == "async" else who, options={"queue": "q"}))
    assert found == ("a", 1, "q", False)


async def test_after_the_attempt_no_task_is_current(outcome):
    await outcome(add_async, 1)
    assert context.current.get(None) is None


async def test_context_variables_are_carried_into_threads_and_not_back(outcome):
    def swap():
        before = VARIABLE.get()
        VARIABLE.set("of the thread")
        return before

    VARIABLE.set("of the caller")
    register(swap, name="test_attempt.swap")
    assert value_of(await outcome(swap)) == "of the caller"
    assert VARIABLE.get() == "of the caller"


# -- signals -----------------------------------------------------------------------------------------------


def raising(error):
    def fail():
        raise error

    return fail


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        (Snooze(1.5), came_to.Snoozed(1_500_000)),
        (Throttled(2), came_to.Throttled(2 * SECOND, "k")),
    ],
)
async def test_a_signal_is_an_instruction(outcome, signal, expected):
    assert await outcome(raising(signal), record={"limits": (Limit("k"),)}) == expected


async def test_a_retry_carries_its_delay_and_reason(outcome):
    asked = await outcome(raising(Retry(after=1, reason="busy")))
    assert (asked.delay, asked.failure.kind, asked.failure.message) == (SECOND, "raised", "busy")
    assert (await outcome(raising(Retry()))).delay is None
    assert (await outcome(raising(Retry(after=0)))).delay == 0


async def test_a_cancel_carries_its_reason(outcome):
    ended = await outcome(raising(Cancel("no more")))
    assert isinstance(ended, came_to.Cancelled)
    assert (ended.failure.kind, ended.failure.message) == ("cancelled", "no more")


async def test_reasons_are_bounded_and_storable(outcome):
    ended = await outcome(raising(Cancel("\ud800" + "x" * 100_000)))
    assert len(ended.failure.message) < 5_000
    ended.failure.message.encode()


async def test_a_signal_that_was_tampered_with_is_a_failure(outcome):
    signal = Retry(after=1)
    signal.after = "soon"
    assert isinstance(await outcome(raising(signal)), came_to.Raised)


# -- failures ----------------------------------------------------------------------------------------------


async def test_a_failure_says_what_where_and_when(outcome):
    def fail():
        raise ValueError("this is wrong")

    failure = (await outcome(fail)).failure
    assert (failure.kind, failure.type, failure.message) == ("raised", "ValueError", "this is wrong")
    assert (failure.attempt, failure.at, failure.worker) == (1, 99, "w")
    assert "in fail" in failure.traceback
    assert 'attempt.py", line' not in failure.traceback.replace("test_attempt.py", "")
    assert "concurrent/futures" not in failure.traceback


async def test_the_traceback_of_an_async_function_begins_with_it(outcome):
    async def fail():
        raise ValueError("this is wrong")

    failure = (await outcome(fail)).failure
    assert failure.traceback.count("File ") == 1
    assert "in fail" in failure.traceback


@pytest.mark.usefixtures("older_producer")
async def test_arguments_that_do_not_fit_make_it_unrunnable(outcome):
    assert isinstance(await outcome(add, 1, 2, 3), came_to.Unrunnable)
    assert isinstance(await outcome(add_async, nonsense=1), came_to.Unrunnable)


async def test_a_type_error_of_the_functions_own_is_a_failure_like_any_other(outcome):
    assert isinstance(await outcome(add, 1, "two"), came_to.Raised)
    assert isinstance(await outcome(raising(TypeError("mine"))), came_to.Raised)


async def test_a_type_error_of_a_function_without_a_readable_signature_is_a_failure(outcome):
    class Odd:
        __signature__ = 5

        def __call__(self):
            raise TypeError("mine")

    assert isinstance(await outcome(Odd()), came_to.Raised)


async def test_a_payload_that_cannot_be_read_makes_it_unrunnable(outcome):
    ended = await outcome(add, 1, record={"payload": b"nonsense"})
    assert isinstance(ended, came_to.Unrunnable)
    assert "envelope" in ended.failure.message
    assert ended.failure.traceback == ""


async def test_an_unknown_function_is_for_the_worker_to_decide(outcome):
    made = CODEC.record("a", add, (1,), {})
    with pytest.raises(UnknownFunctionError):
        await outcome(add, 1, record={"payload": renamed(made), "name": "nowhere.at.all:gone"})


def renamed(record):
    return reseal(
        record.payload,
        purpose="task",
        namespace="sitq",
        queue="default",
        task_id="a",
        names=(record.name,),
        trusted=True,
        to_name="nowhere.at.all:gone",
    )


async def test_an_unknown_function_error_of_the_tasks_own_is_its_failure(outcome):
    assert isinstance(await outcome(raising(UnknownFunctionError("mine"))), came_to.Raised)


async def test_an_error_of_ours_that_the_task_raises_keeps_its_traceback(outcome):
    failure = (await outcome(raising(ValidationError("mine")))).failure
    assert failure.type == "sitq.exceptions.ValidationError"
    assert "in fail" in failure.traceback


@pytest.mark.parametrize("kind", ["async", "thread"])
@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), BaseException("bare")],
)
async def test_what_is_no_exception_ends_the_attempt_and_nothing_else(outcome, kind, error):
    def fail():
        raise error

    async def fail_async():
        raise error

    ended = await outcome(fail_async if kind == "async" else fail)
    assert isinstance(ended, came_to.Raised)
    assert type(error).__name__ in ended.failure.type + ended.failure.message


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_a_stop_iteration_is_a_failure_and_no_standstill(outcome, kind):
    def fail():
        raise StopIteration(1)

    async def fail_async():
        raise StopIteration(1)

    async with asyncio.timeout(10):
        ended = await outcome(fail_async if kind == "async" else fail)
    assert ended.failure.type == "RuntimeError"
    assert "StopIteration" in ended.failure.message


async def test_the_coroutine_of_a_loop_that_is_thrown_away_can_be_closed(attempts):
    async def hang():
        await asyncio.get_running_loop().create_future()

    record = CODEC.record("a", hang, (), {})
    record.token = "t"
    coroutine = attempts.outcome(Run(record))
    coroutine.send(None)
    coroutine.close()  # RuntimeError if it went on


# -- time-outs and interruptions ----------------------------------------------------------------------------


async def test_a_timeout_ends_an_async_function(outcome):
    async def hang():
        await asyncio.Event().wait()

    ended = await outcome(hang, options={"timeout": 0.01})
    assert isinstance(ended, came_to.Raised)
    assert (ended.failure.kind, ended.failure.type) == ("timeout", "TimeoutError")
    assert "0.01 s" in ended.failure.message


async def test_a_function_in_a_thread_is_told_of_its_timeout(attempts):
    def wait_until_told():
        task, tick = current_task(), threading.Event()
        for _ in range(2000):
            if task.cancelled:
                return
            tick.wait(0.005)

    record = CODEC.record("a", wait_until_told, (), {}, make_options(NO_OPTIONS, {"timeout": 0.01}))
    record.token = "t"
    run = Run(record)
    ended = await attempts.outcome(run)
    assert ended.failure.kind == "timeout"
    assert not run.thread.cancelled()
    await asyncio.wait_for(asyncio.wrap_future(run.thread), 5)


heard: list[object] = []


async def be_cancelled(*, then=None):
    """Note what it is told, and end for good only when it is cancelled once more, or `then`."""
    try:
        heard.append("begun")
        await asyncio.Event().wait()
    except asyncio.CancelledError as cancelled:
        heard.extend([current_task().cancelled, current_task().cancel_reason, *cancelled.args])
        if then is not None:
            await asyncio.sleep(then)
        raise


@pytest.fixture
def _unheard():
    heard.clear()


@pytest.mark.usefixtures("_unheard")
async def test_an_async_function_is_told_of_its_timeout_before_it_is_cancelled(outcome):
    ended = await outcome(be_cancelled, options={"timeout": 0.01})
    assert heard == ["begun", True, ended.failure.message, ended.failure.message]


@pytest.mark.parametrize("way", ["returns", "raises", "asks for a retry", "raises its own time-out"])
async def test_what_a_function_does_after_its_time_is_a_timeout_all_the_same(outcome, way):
    endings = {
        "raises": ValueError("x"),
        "asks for a retry": Retry(),
        "raises its own time-out": TimeoutError("y"),
    }

    async def go_on():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        if way in endings:
            raise endings[way]
        return "late"

    ended = await outcome(go_on, options={"timeout": 0.01})
    assert isinstance(ended, came_to.Raised)
    assert (ended.failure.kind, ended.failure.type) == ("timeout", "TimeoutError")


async def test_timeouts_within_a_function_are_its_own(outcome):
    async def inner():
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return current_task().cancelled, asyncio.current_task().cancelling()

    assert value_of(await outcome(inner, options={"timeout": 60})) == (False, 0)


async def test_a_timeout_leaves_no_cancellation_behind_in_its_asyncio_task(attempts):
    async def hang():
        await asyncio.Event().wait()

    record = CODEC.record("a", hang, (), {}, make_options(NO_OPTIONS, {"timeout": 0.01}))
    record.token = "t"

    async def attempt():
        return await attempts.outcome(Run(record)), asyncio.current_task().cancelling()

    ended, left = await asyncio.create_task(attempt())
    assert (ended.failure.kind, left) == ("timeout", 0)


@pytest.mark.usefixtures("_unheard")
async def test_a_function_that_was_interrupted_before_is_not_late(attempts, eventually):
    record = CODEC.record("a", be_cancelled, (), {"then": 0.3}, make_options(NO_OPTIONS, {"timeout": 0.2}))
    record.token = "t"
    run = Run(record)
    run.task = asyncio.create_task(attempts.outcome(run))
    await eventually(lambda: heard)
    run.interrupt(Interruption.STOP, "enough")
    ended = await run.task
    assert isinstance(ended, came_to.Cancelled)
    assert heard == ["begun", True, "enough", "enough"]


@pytest.mark.usefixtures("_unheard")
async def test_an_event_loop_that_ends_while_a_function_is_late_is_no_timeout(attempts, eventually):
    record = CODEC.record("a", be_cancelled, (), {"then": 20}, make_options(NO_OPTIONS, {"timeout": 0.01}))
    record.token = "t"
    task = asyncio.create_task(attempts.outcome(Run(record)))
    await eventually(lambda: len(heard) > 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_timeout_error_of_the_tasks_own_is_no_timeout_of_the_task(outcome):
    ended = await outcome(raising(TimeoutError("mine")), options={"timeout": 60})
    assert (ended.failure.kind, ended.failure.message) == ("raised", "mine")


async def interrupted(attempts, why, function):
    begun = asyncio.Event()
    record = CODEC.record("a", add, (), {})
    record.token = "t"
    run = Run(record)
    attempts._prepare = lambda record, values: (function, (begun,), {})
    run.task = asyncio.create_task(attempts.outcome(run))
    await asyncio.wait_for(begun.wait(), 5)
    run.interrupt(why, "enough")
    return await asyncio.wait_for(run.task, 5)


async def hang(begun):
    begun.set()
    await asyncio.Event().wait()


@pytest.mark.usefixtures("older_producer")
async def test_a_stop_cancels_with_its_reason(attempts):
    ended = await interrupted(attempts, Interruption.STOP, hang)
    assert isinstance(ended, came_to.Cancelled)
    assert ended.failure.message == "enough"


@pytest.mark.parametrize("why", [Interruption.SHUTDOWN, Interruption.LOST])
@pytest.mark.usefixtures("older_producer")
async def test_what_the_worker_interrupts_goes_back_unjudged(attempts, why):
    assert await interrupted(attempts, why, hang) == came_to.HandedBack()


@pytest.mark.usefixtures("older_producer")
async def test_what_ends_by_itself_while_it_is_interrupted_has_its_own_outcome(attempts):
    async def stubborn(begun):
        try:
            await hang(begun)
        except asyncio.CancelledError:
            return "done all the same"

    assert isinstance(await interrupted(attempts, Interruption.STOP, stubborn), came_to.Returned)


@pytest.mark.usefixtures("older_producer")
async def test_an_interruption_before_the_first_step_is_heard_at_the_first_await(attempts):
    reached = []

    async def function():
        reached.append(1)
        await asyncio.Event().wait()

    record = CODEC.record("a", add, (), {})
    record.token = "t"
    run = Run(record)
    attempts._prepare = lambda record, values: (function, (), {})
    run.task = asyncio.create_task(attempts.outcome(run))
    run.interrupt(Interruption.SHUTDOWN)
    assert await asyncio.wait_for(run.task, 5) == came_to.HandedBack()
    assert reached == [1]


def test_the_first_interruption_stays():
    run = Run(Record(id="a"))
    run.interrupt(Interruption.STOP, "one")
    run.interrupt(Interruption.LOST, "two")
    assert (run.interruption, run.reason, run.context.cancelled) == (Interruption.STOP, "one", True)


@pytest.mark.usefixtures("older_producer")
async def test_a_task_that_is_cancelled_from_elsewhere_says_so_to_the_worker(attempts):
    begun = asyncio.Event()
    record = CODEC.record("a", add, (), {})
    attempts._prepare = lambda record, values: (hang, (begun,), {})
    task = asyncio.create_task(attempts.outcome(Run(record)))
    await asyncio.wait_for(begun.wait(), 5)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


# -- results -----------------------------------------------------------------------------------------------


async def test_a_result_that_cannot_be_stored_is_no_failure_of_the_function(outcome):
    ended = await outcome(threading.Lock)
    assert isinstance(ended, came_to.Unstorable)
    assert "cannot" in ended.failure.message


async def test_a_result_that_is_too_large_says_how_large(outcome):
    ended = await outcome(lambda: b"x" * (1 << 20))
    assert isinstance(ended, came_to.Unstorable)
    assert "1,048," in ended.failure.message


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, RecursionError])
async def test_a_result_may_raise_whatever_it_likes_when_it_is_pickled(outcome, error):
    class Nasty:
        def __reduce__(self):
            raise error

    assert isinstance(await outcome(Nasty), came_to.Unstorable)


async def test_a_payload_may_raise_whatever_it_likes_when_it_is_loaded(outcome):
    class Bomb:
        def __reduce__(self):
            return _interrupt, ()

    assert isinstance(await outcome(add, Bomb()), came_to.Unrunnable)


def _interrupt():
    raise KeyboardInterrupt


async def test_a_task_signed_with_a_key_that_is_not_here_is_handed_back(threads):
    theirs = Codec(CloudpickleSerializer(), KeyRing([("new", b"2" * 32)]))
    ours = Codec(CloudpickleSerializer(), KeyRing([("old", b"1" * 32)]))
    record = theirs.record("a", add, (1,), {})
    record.token, record.attempt = "t", 1
    attempt = Run(record)
    attempt.task = asyncio.current_task()
    came = await Attempts(ours, None, threads, Failures("w", lambda: 99)).outcome(attempt)
    assert came == came_to.HandedBack(10 * SECOND)
