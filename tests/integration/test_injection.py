"""Parameters that the worker fills in: what providers make, and when they clean up."""

import asyncio
import contextlib
import functools
import os
import sqlite3
import threading
import time
from contextvars import ContextVar
from datetime import date
from typing import Annotated

import pytest

from sitq import (
    INJECTED,
    Cancel,
    Depends,
    FromLifespan,
    JSONSerializer,
    MemoryBackend,
    Snooze,
    ValidationError,
    WorkerError,
    current_task,
    task,
)
from sitq.queue import TaskQueue
from sitq.record import State
from sitq.worker import Worker, around

TRACE: list = []
GATE = threading.Event()
WHO = ContextVar("WHO", default="nobody")


@pytest.fixture(autouse=True)
def _afresh():
    TRACE.clear()
    GATE.clear()
    yield
    GATE.set()


def trace(what):
    TRACE.append(what)


def plain():
    trace("plain")
    return "plain"


async def coroutine():
    return "coroutine"


def generator():
    trace("in")
    try:
        yield "generator"
    except BaseException as error:
        trace(type(error).__name__)
        raise
    finally:
        trace("out")


async def async_generator():
    trace("in")
    try:
        yield "async generator"
    except BaseException as error:
        trace(type(error).__name__)
        raise
    finally:
        await asyncio.sleep(0)
        trace("out")


@contextlib.contextmanager
def manager():
    trace("in")
    yield "manager"
    trace("out")


@contextlib.asynccontextmanager
async def async_manager():
    trace("in")
    yield "async manager"
    trace("out")


class Made:
    pass


class Managed:
    def __enter__(self):
        trace("in")
        return self

    def __exit__(self, *error):
        trace("out")
        return True


class AsyncManaged:
    async def __aenter__(self):
        trace("in")
        return self

    async def __aexit__(self, *error):
        trace("out")
        return True


class Provider:
    def __call__(self):
        return "object"


class AsyncProvider:
    async def __call__(self):
        yield "async object"


OBJECT = Provider()
ASYNC_OBJECT = AsyncProvider()
PARTIAL = functools.partial(plain)

PROVIDERS = [
    (plain, "plain", []),
    (coroutine, "coroutine", []),
    (generator, "generator", ["in", "out"]),
    (async_generator, "async generator", ["in", "out"]),
    (manager, "manager", ["in", "out"]),
    (async_manager, "async manager", ["in", "out"]),
    (Made, "Made", []),
    (Managed, "Managed", ["in", "out"]),
    (AsyncManaged, "AsyncManaged", ["in", "out"]),
    (OBJECT, "object", []),
    (ASYNC_OBJECT, "async object", []),
    (PARTIAL, "plain", []),
]


def shown(value):
    return value if isinstance(value, str) else type(value).__name__


def given(provider, kind):
    """A function that wants what the provider makes."""
    if kind == "async":

        async def function(value=Depends(provider)):
            trace("run")
            return shown(value)

    else:

        def function(value=Depends(provider)):
            trace("run")
            return shown(value)

    return function


@pytest.fixture
def outcome(queue):
    """Enqueues, and answers with the value, or the error's text."""

    async def run(function, *args, options=None, **kwargs):
        made = queue.options(**options) if options else queue
        result = await queue.get_result(await made.enqueue(function, *args, **kwargs), timeout=15)
        assert result is not None
        return queue.deserialize_result(result) if result.status == "success" else result

    return run


# Each by its own name, as code that travels by value has a copy of TRACE.
FUNCTIONS = {}
for number, (provider, _, _) in enumerate(PROVIDERS):
    for kind in ("async", "thread"):
        made = given(provider, kind)
        made.__qualname__ = f"function_{number}_{kind}"
        globals()[made.__qualname__] = FUNCTIONS[number, kind] = made


@pytest.mark.parametrize("kind", ["async", "thread"])
@pytest.mark.parametrize("number", range(len(PROVIDERS)))
async def test_whatever_provides_is_called_and_cleaned_up_after_the_attempt(outcome, working, number, kind):
    _, value, around = PROVIDERS[number]
    async with working():
        assert await outcome(FUNCTIONS[number, kind]) == value
    seen = [each for each in TRACE if each != "plain"]
    assert seen == ([around[0], "run", around[1]] if around else ["run"])


async def annotated(
    first,
    client: Annotated[str, Depends(async_generator)],
    second="b",
    *,
    other: Annotated[str, Depends(plain)],
):
    return first, client, second, other


async def test_callers_pass_the_others_wherever_the_injected_ones_stand(outcome, working):
    async with working():
        assert await outcome(annotated, "a") == ("a", "async generator", "b", "plain")
        assert await outcome(annotated, "a", "c") == ("a", "async generator", "c", "plain")
        assert await outcome(annotated, second="d", first="e") == ("e", "async generator", "d", "plain")


@pytest.mark.usefixtures("older_producer")
async def test_a_caller_cannot_pass_what_the_worker_fills_in(outcome, working):
    async with working():
        for call in (("a", "b", "c"), ("a", "b", "c", "d")):
            assert (await outcome(annotated, *call)).status == "dead"
        refused = await outcome(annotated, "a", client="mine")
    assert refused.status == "dead"
    assert "unexpected keyword argument 'client'" in refused.error
    assert TRACE == []  # nothing was provided for it


class Bound:
    def __init__(self, name):
        self.name = name

    async def method(self, more, value=Depends(plain)):
        return self.name, more, value

    def __call__(self, more, value=Depends(plain)):
        return self.name, more, value


async def test_methods_partials_and_objects_are_filled_in_too(outcome, working):
    async with working():
        assert await outcome(Bound("x").method, 1) == ("x", 1, "plain")
        assert await outcome(Bound("y"), 2) == ("y", 2, "plain")
        assert await outcome(functools.partial(annotated, "p")) == ("p", "async generator", "b", "plain")


def inner():
    trace("inner in")
    yield "inner"
    trace("inner out")


async def middle(value: Annotated[str, Depends(inner)]):
    trace("middle in")
    yield "middle of " + value
    trace("middle out")


async def nested(a=Depends(inner), b=Depends(middle), c=Depends(inner)):
    return a, b, c


async def test_a_provider_runs_once_in_an_attempt_and_is_cleaned_up_in_reverse(outcome, working):
    async with working():
        assert await outcome(nested) == ("inner", "middle of inner", "inner")
        assert await outcome(nested) == ("inner", "middle of inner", "inner")
    assert TRACE == ["inner in", "middle in", "middle out", "inner out"] * 2


@task(name="test_injection.in_front")
async def in_front(client: Annotated[str, Depends(plain)], number: int, path: date):
    return client, number, type(path).__name__


async def test_types_and_keys_of_arguments_are_those_of_the_callers_parameters(backend, working):
    serializer = JSONSerializer()
    async with TaskQueue(backend, serializer) as queue, working(serializer=serializer):
        first = await queue.options(unique=True, delay=60).enqueue(in_front, 1, date(2026, 1, 2))
        assert await queue.options(unique=True).enqueue(in_front, number=1, path=date(2026, 1, 2)) == first
        assert await queue.options(unique=True).enqueue(in_front, 2, date(2026, 1, 2)) != first
        assert await queue.change(first, delay=0)
        result = await queue.get_result(first, timeout=10)
    assert queue.deserialize_result(result) == ["plain", 1, "date"]


def made_for_a_process():
    def where():
        yield os.getpid()

    def function(one, provided=Depends(where)):
        return one, provided, os.getpid()

    return function


async def test_a_process_is_given_what_the_worker_provides(outcome, working):
    async with working(process_concurrency=1):
        one, provided, ran = await outcome(made_for_a_process(), 1, options={"executor": "process"})
    assert (one, provided) == (1, os.getpid())
    assert ran != provided


# -- failures ----------------------------------------------------------------------------------------------


async def fails_async(how, value=Depends(async_generator), other=Depends(generator)):
    raise {"error": ValueError("no"), "snooze": Snooze(60), "cancel": Cancel("enough")}[how]


def fails_thread(how, value=Depends(generator)):
    raise {"error": ValueError("no"), "snooze": Snooze(60), "cancel": Cancel("enough")}[how]


@pytest.mark.parametrize(
    ("how", "seen"), [("error", "ValueError"), ("snooze", "Snooze"), ("cancel", "Cancel")]
)
@pytest.mark.parametrize("function", [fails_async, fails_thread])
async def test_the_clean_up_sees_what_ended_the_attempt(queue, working, eventually, function, how, seen):  # noqa: PLR0917
    providers = 2 if function is fails_async else 1
    async with working():
        await queue.enqueue(function, how)
        await eventually(lambda: TRACE.count("out") == providers)
    assert ["in"] * providers + [seen, "out"] * providers == TRACE


async def swallows():
    with contextlib.suppress(ValueError):
        yield "swallows"


async def swallowed(value=Depends(swallows), other=Depends(Managed), third=Depends(AsyncManaged)):
    raise ValueError("still here")


def swallowed_thread(other=Depends(Managed)):
    raise ValueError("still here")


@pytest.mark.parametrize("function", [swallowed, swallowed_thread])
async def test_the_clean_up_cannot_swallow_the_failure(outcome, working, function):
    async with working():
        failed = await outcome(function)
    assert (failed.status, failed.error) == ("failed", "ValueError: still here")
    assert TRACE.count("out") == TRACE.count("in")


def cannot():
    raise ConnectionError("refused")


async def cannot_async():
    raise ConnectionError("refused")
    yield


def needs_broken(one=Depends(generator), two=Depends(cannot)):
    trace("run")


async def needs_broken_async(one=Depends(async_generator), two=Depends(cannot_async)):
    trace("run")


@pytest.mark.parametrize("function", [needs_broken, needs_broken_async])
async def test_a_provider_that_fails_is_a_failure_of_the_attempt_that_names_it(outcome, working, function):
    async with working():
        failed = await outcome(function)
        retried = await outcome(function, options={"retry": 1})
    assert failed.status == retried.status == "failed"
    assert failed.error_type == "ConnectionError"
    assert "refused" in failed.error
    assert "raised by the provider" in failed.error
    assert "cannot" in failed.error
    assert TRACE == ["in", "ConnectionError", "out"] * 3  # the first one's clean-up, in each of three runs


def commit():
    yield
    raise OSError("the commit failed")


async def commit_async():
    yield
    raise OSError("the commit failed")


def commits(one=Depends(generator), two=Depends(commit)):
    return "done"


async def commits_async(one=Depends(async_generator), two=Depends(commit_async)):
    return "done"


@pytest.mark.parametrize("function", [commits, commits_async])
async def test_a_clean_up_that_fails_fails_the_attempt_and_the_others_see_it(outcome, working, function):
    async with working():
        failed = await outcome(function)
    assert failed.status == "failed"
    assert failed.error.startswith("OSError: the commit failed")
    assert "commit" in failed.error.partition("raised by the provider")[2]
    assert TRACE == ["in", "OSError", "out"]


def yields_twice():
    yield 1
    yield 2


def never_yields():
    return
    yield


@pytest.mark.parametrize("provider", [yields_twice, never_yields])
async def test_a_generator_that_does_not_yield_once_is_a_failure(outcome, working, provider):
    async with working():
        failed = await outcome(given(provider, "thread"))
        failed_async = await outcome(given(provider, "async"))
    assert failed.status == failed_async.status == "failed"
    assert "generator didn't" in failed.error


def wants_more(size):
    return size


def circle(value: "Annotated[str, Depends(circle)]"):
    return value


async def of_attempt():
    return 1


async def shared_of_attempt(value=Depends(of_attempt)):
    return value


@pytest.mark.parametrize(
    ("marker", "text"),
    [
        (Depends(wants_more), "has a parameter 'size' that nobody fills in"),
        (Depends(circle), "needs itself"),
        (Depends(shared_of_attempt, scope="worker"), "belongs to one attempt"),
        (INJECTED, "parameter 'value' of tests.integration.test_injection"),
        (INJECTED, "nothing says how; write value: Annotated[…, Depends(…)] = INJECTED"),
    ],
)
async def test_what_can_never_be_provided_says_why(outcome, working, marker, text):
    async def function(value=marker):
        return value

    async with working():
        failed = await outcome(function)
    assert failed.status == "failed"
    assert "ConfigurationError" in failed.error
    assert text in failed.error


def the_real_thing():
    raise AssertionError("not in a test")


def through_the_real_thing(value=Depends(the_real_thing)):
    return f"through {value}"


async def uses_both(one=Depends(the_real_thing), two=Depends(through_the_real_thing), *, number=1):
    return [one, two, number]


async def test_a_test_may_put_other_providers_in_the_place_of_a_functions_own(working, queue):
    cleaned = []

    async def fake():
        yield "fake"
        cleaned.append(1)

    async with working(overrides={the_real_thing: fake}):
        task_id = await queue.enqueue(uses_both)
        ended = await queue.get_result(task_id, timeout=10)
    assert queue.deserialize_result(ended) == ["fake", "through fake", 1]
    assert cleaned == [1]


@pytest.mark.parametrize("given", [5, {the_real_thing: "fake"}, {5: the_real_thing}])
def test_what_overrides_nothing_is_refused(given):
    with pytest.raises(ValidationError, match="overrides"):
        Worker(MemoryBackend(), overrides=given)


# -- the end of an attempt from outside --------------------------------------------------------------------


async def holds(value=Depends(async_generator), other=Depends(generator)):
    trace("run")
    await asyncio.sleep(60)


async def test_a_timeout_and_a_cancellation_clean_up(queue, working, eventually, ended):
    async with working():
        late = await queue.options(timeout=0.1).enqueue(holds)
        assert (await ended(late)).state is State.FAILED
        stopped = await queue.enqueue(holds)
        await eventually(lambda: TRACE.count("run") == 2)
        await queue.cancel(stopped)
        assert (await ended(stopped)).state is State.CANCELLED
    assert TRACE == ["in", "in", "run", "CancelledError", "out", "CancelledError", "out"] * 2


def blocks(value=Depends(async_generator)):
    trace("run")
    GATE.wait(30)
    trace("end")


def blocks_in_thread(value=Depends(generator)):
    trace("run")
    GATE.wait(30)
    trace("end")


@pytest.mark.parametrize("function", [blocks, blocks_in_thread])
async def test_what_a_thread_still_uses_is_cleaned_up_when_it_has_ended(
    queue, working, ended, eventually, function
):
    async with working():
        late = await queue.options(timeout=0.1).enqueue(function)
        assert (await ended(late)).state is State.FAILED
        assert TRACE == ["in", "run"]
        GATE.set()
        await eventually(lambda: "out" in TRACE)
    assert TRACE.index("end") < TRACE.index("out")


def enters_slowly():
    trace("entering")
    GATE.wait(30)
    trace("in")
    yield
    trace("out")


async def waits_for_it(first=Depends(async_generator), slow=Depends(enters_slowly)):
    trace("run")


async def test_a_provider_that_nobody_waits_for_any_more_is_cleaned_up(queue, working, ended, eventually):
    async with working():
        late = await queue.options(timeout=0.1).enqueue(waits_for_it)
        assert (await ended(late)).state is State.FAILED
        GATE.set()
        await eventually(lambda: TRACE.count("out") == 2)
    assert "run" not in TRACE


# -- threads and context -----------------------------------------------------------------------------------


def connection():
    made = sqlite3.connect(":memory:")
    yield made
    made.close()


def asks(made: sqlite3.Connection = Depends(connection)):
    return made.execute("SELECT 1").fetchone()[0]


async def test_plain_functions_and_plain_providers_share_a_thread(outcome, working):
    async with working(max_concurrency=3):
        assert await asyncio.gather(*(outcome(asks) for _ in range(20))) == [1] * 20


def thread():
    return threading.current_thread()


async def where(maker=Depends(thread)):
    return maker is threading.main_thread(), threading.current_thread() is threading.main_thread()


async def test_plain_providers_of_async_functions_do_not_block_the_event_loop(outcome, working):
    async with working():
        assert await outcome(where) == (False, True)


def user():
    token = WHO.set("somebody")
    yield current_task().id
    WHO.reset(token)


def asks_who(task_id=Depends(user)):
    return WHO.get(), task_id == current_task().id


async def user_async():
    token = WHO.set("somebody")
    yield current_task().id
    WHO.reset(token)


async def asks_who_async(task_id=Depends(user_async)):
    return WHO.get(), task_id == current_task().id


async def test_providers_know_the_task_and_hand_on_context_variables(outcome, working):
    async with working():
        assert await outcome(asks_who) == ("somebody", True)
        assert await outcome(asks_who_async) == ("somebody", True)


def returns_a_coroutine(value=Depends(generator)):
    async def later():
        trace("later")
        return value

    return later()


async def test_what_a_plain_function_returns_to_be_awaited_has_its_dependencies(outcome, working):
    async with working():
        assert await outcome(returns_a_coroutine) == "generator"
    assert TRACE == ["in", "later", "out"]


# -- for the whole worker ----------------------------------------------------------------------------------


async def pool():
    trace("pool in")
    await asyncio.sleep(0.01)
    yield object()
    trace("pool out")


def log(of=Depends(pool, scope="worker")):
    trace("log in")
    yield [of]
    trace("log out")


async def uses(one=Depends(pool, scope="worker"), two=Depends(log, scope="worker"), three=Depends(generator)):
    assert two == [one]
    return id(one)


def uses_in_thread(one=Depends(pool, scope="worker"), three=Depends(generator)):
    return id(one)


async def test_a_provider_of_the_worker_serves_all_attempts(outcome, working):
    async with working():
        found = await asyncio.gather(*(outcome(each) for each in [uses, uses_in_thread] * 5))
        assert "pool out" not in TRACE
    assert len({*found}) == 1
    own = [each for each in TRACE if " " in each]
    assert own == ["pool in", "log in", "log out", "pool out"]
    async with working():
        await outcome(uses)
    assert TRACE.count("pool in") == TRACE.count("pool out") == 2


async def flaky_pool():
    trace("try")
    if TRACE.count("try") < 2:
        raise ConnectionError("not yet")
    return "pool"


async def uses_flaky(value=Depends(flaky_pool, scope="worker")):
    return value


async def test_a_provider_of_the_worker_that_failed_is_asked_again(outcome, working):
    async with working():
        assert "not yet" in (await outcome(uses_flaky)).error
        assert await outcome(uses_flaky) == "pool"
        assert await outcome(uses_flaky) == "pool"
    assert TRACE == ["try", "try"]


async def slow_pool():
    trace("in")
    await asyncio.to_thread(GATE.wait, 30)
    trace("made")
    yield "pool"
    trace("out")


async def uses_slow(value=Depends(slow_pool, scope="worker")):
    return value


async def test_it_outlives_the_attempt_that_asked_first(queue, outcome, working, ended):
    async with working():
        first = await queue.options(timeout=0.05).enqueue(uses_slow)
        assert (await ended(first)).state is State.FAILED
        GATE.set()
        assert await outcome(uses_slow) == "pool"
    assert TRACE == ["in", "made", "out"]


async def knows_no_task():
    try:
        current_task()
    except WorkerError:
        return "no task"


async def asks_shared(value=Depends(knows_no_task, scope="worker")):
    return value


async def test_it_knows_nothing_of_the_task_that_asked_first(outcome, working):
    async with working():
        assert await outcome(asks_shared) == "no task"


def made_by_value():
    async def pool():
        return object()

    async def function(value=Depends(pool, scope="worker")):
        return id(value)

    return function


async def test_functions_that_travel_by_value_share_it_too(outcome, working):
    function = made_by_value()
    async with working():
        assert await outcome(function) == await outcome(function)


async def test_the_order_at_the_end_is_tasks_then_providers_then_lifespan(backend, queue, eventually):
    @contextlib.asynccontextmanager
    async def lifespan(worker):
        yield "state"
        trace("lifespan out")

    worker = Worker(backend, lifespan=lifespan, grace=5)
    async with worker:
        await queue.enqueue(ends_last)
        await eventually(lambda: "running" in TRACE)
    assert TRACE == ["pool in", "running", "ran", "pool out", "lifespan out"]


async def ends_last(value=Depends(pool, scope="worker")):
    trace("running")
    await asyncio.sleep(0.1)
    trace("ran")


# -- the state of the lifespan -----------------------------------------------------------------------------


class App:
    def __init__(self):
        self.name = "app"


@contextlib.asynccontextmanager
async def app_lifespan(worker):
    yield App()


@contextlib.asynccontextmanager
async def dict_lifespan(worker):
    yield {"name": "dict"}


def name_of(state):
    return state.name


def of_state(state: App = FromLifespan(App)):
    return state.name


async def reads_state(
    whole: Annotated[App, FromLifespan()] = INJECTED,
    part: str = FromLifespan(name_of),
    provided: str = Depends(of_state),
):
    assert current_task().state is whole
    return whole.name, part, provided


def reads_state_in_thread(state: App = FromLifespan(App)):
    assert current_task().state is state
    return state.name


async def test_the_state_is_filled_in_whole_or_in_part(outcome, working):
    async with working(lifespan=app_lifespan):
        assert await outcome(reads_state) == ("app", "app", "app")
        assert await outcome(reads_state_in_thread) == "app"


async def test_a_state_of_another_class_is_a_failure_that_says_so(outcome, working):
    async with working(lifespan=dict_lifespan):
        failed = await outcome(reads_state_in_thread)
    assert "wants a App" in failed.error
    assert "yielded a dict" in failed.error


async def reads_current():
    return current_task().state


async def test_without_a_lifespan_there_is_no_state(outcome, working):
    async with working():
        for function in (reads_state_in_thread, reads_current):
            failed = await outcome(function)
            assert failed.status == "failed"
            assert "lifespan" in failed.error


# -- what it costs -----------------------------------------------------------------------------------------


async def test_a_plain_function_is_called_as_it_is(backend, monkeypatch):
    """The worker looks at each function once, and what has nothing around it is called itself."""
    looks = []
    real = around.plan_of
    monkeypatch.setattr(
        around, "plan_of", lambda function, *more: looks.append(function) or real(function, *more)
    )
    async with TaskQueue(backend) as queue, Worker(backend, grace=1):
        for _ in range(5):
            await queue.get_result(await queue.enqueue(coroutine), timeout=10)
            await queue.get_result(await queue.enqueue(annotated, "a"), timeout=10)
    assert looks == [coroutine, annotated]
    assert around.Surroundings((), None).prepare(coroutine) is coroutine


async def test_waiting_for_a_provider_takes_from_the_timeout(queue, working, ended):
    begun = time.monotonic()
    async with working():
        record = await ended(await queue.options(timeout=0.1).enqueue(uses_slow))
        GATE.set()
    assert record.errors[-1].kind == "timeout"
    assert time.monotonic() - begun < 15
