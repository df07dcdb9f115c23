import asyncio
import functools
import inspect
import pickle
import sys
import textwrap
import types

import cloudpickle
import pytest

from sitq import MemoryBackend, TaskFunction, TaskQueue, functions, task
from sitq.exceptions import ConfigurationError, ValidationError
from sitq.functions import name_of, resolve
from sitq.policy.retry import RetryPolicy
from sitq.record import SECOND


@pytest.fixture
async def queue():
    async with TaskQueue(MemoryBackend()) as queue:
        yield queue


@pytest.fixture
def stored(queue):
    async def get(task_id):
        (record,) = await queue.backend.get([task_id])
        call = (await queue._session()).codec.call(record)
        return record, call

    return get


@pytest.fixture
def mails(make_module):
    return make_module(
        "made_mails",
        '''
        import functools
        from sitq import task
        def shout(function):
            @functools.wraps(function)
            def wrapper(*args, **kwargs):
                return function(*args, **kwargs).upper()
            return wrapper
        @task(retry=3, priority=5)
        async def send(to: str, *, subject: str = "hi") -> str:
            """Send a mail."""
            return to
        @task
        @shout
        def inside(text): return text
        @shout
        @task
        def outside(text): return text
        class Mailer:
            def __init__(self, host): self.host = host
            @task(queue="mails")
            def send(self, to): return f"{to} by {self.host}"
            @staticmethod
            @task
            def outer_static(to): return f"outer {to}"
            @task
            @staticmethod
            def inner_static(to): return f"inner {to}"
            @classmethod
            @task
            def outer_class(cls, to): return f"outer {cls.__name__} {to}"
            @task
            @classmethod
            def inner_class(cls, to): return f"inner {cls.__name__} {to}"
        ''',
    )


# --- a plain callable still ---


def test_it_is_called_documented_and_inspected_like_the_function(mails):
    assert isinstance(mails.send, TaskFunction)
    assert asyncio.run(mails.send("a", subject="b")) == "a"
    assert mails.inside("a") == mails.outside("a") == "A"
    assert mails.send.__doc__ == "Send a mail."
    assert (mails.send.__name__, mails.send.__module__) == ("send", "made_mails")
    assert str(inspect.signature(mails.send)) == "(to: str, *, subject: str = 'hi') -> str"
    assert inspect.unwrap(mails.send) is mails.send.function
    assert asyncio.iscoroutinefunction(mails.send)
    assert not asyncio.iscoroutinefunction(mails.inside)


async def test_every_keyword_is_the_functions_own(queue, stored):
    @queue.task(name="test_decorator.free")
    def free(**given):
        return given

    given = dict.fromkeys(("self", "function", "args", "kwargs", "options", "queue", "eta", "id", "retry"), 1)
    assert free(**given) == given
    for task_id in (
        await free.enqueue(**given),
        (await free.submit(**given)).id,
        await free.options(priority=1).enqueue(**given),
        await queue.options(priority=1).enqueue(free, **given),
        (await queue.submit(free, **given)).id,
    ):
        _, call = await stored(task_id)
        assert call[-1] == given


def test_what_wraps_it_is_no_task_function(mails):
    assert not hasattr(mails.outside, "enqueue")


def test_it_pickles_by_its_name(mails):
    for dump in (pickle.dumps, cloudpickle.dumps):
        assert pickle.loads(dump(mails.send)) is mails.send
        urgent = pickle.loads(dump(mails.send.options(priority=9)))
        assert (urgent.origin, urgent.defaults.priority) == (mails.send, 9)
        assert len(dump(mails.send)) < 100


def test_one_that_has_no_place_of_its_own_pickles_by_value():
    @task(priority=3)
    def inner(a):
        return a + 1

    again = pickle.loads(cloudpickle.dumps(inner))
    assert again is not inner
    assert (again(1), again.defaults.priority) == (2, 3)
    assert name_of(again)[:2] == name_of(inner)[:2]


def test_one_that_calls_itself_by_its_name_travels_by_value():
    script = textwrap.dedent(
        """
        import cloudpickle, pickle
        from sitq import task
        @task
        def count(n): return n if n == 0 else count(n - 1)
        print(pickle.loads(cloudpickle.dumps(count))(3), pickle.loads(cloudpickle.dumps(count.function))(3))
        """
    )
    import subprocess  # noqa: PLC0415

    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "0 0\n"


# --- enqueued ---


async def test_it_is_enqueued_by_its_name_with_its_options(queue, stored, mails):
    record, (function, args, kwargs) = await stored(await queue.enqueue(mails.send, "a", subject="b"))
    assert (record.name, record.python) == ("made_mails:send", None)
    assert (record.priority, record.retry["max_retries"]) == (5, 3)
    assert (function, args, kwargs) == (mails.send.function, ("a",), {"subject": "b"})


async def test_options_of_the_call_are_laid_over_those_of_the_function(queue, stored, mails):
    record, _ = await stored(await queue.options(priority=7, timeout=2).enqueue(mails.send, "a"))
    assert (record.priority, record.timeout, record.retry["max_retries"]) == (7, 2 * SECOND, 3)
    record, _ = await stored(await queue.options(priority=0, retry=None).enqueue(mails.send, "a"))
    assert (record.priority, record.retry) == (0, None)


async def test_a_later_start_of_the_call_takes_the_place_of_the_functions_own(queue, stored):
    from datetime import UTC, datetime  # noqa: PLC0415

    @task(name="made_late", delay=60)  # of its own: a registered function is known by its name everywhere
    def late(a):
        return a

    eta = datetime(2999, 1, 1, tzinfo=UTC)
    record, _ = await stored(await queue.enqueue(late, 1, eta=eta))
    assert (record.due, record.delay) == (eta.timestamp() * SECOND, 0)


async def test_a_function_of_a_queue_is_enqueued_without_naming_the_queue(queue, stored):
    @queue.task(name="made_own", priority=4)
    async def own(a: int, eta: str = "") -> int:
        return a

    record, (_, args, kwargs) = await stored(await own.enqueue(1, eta="mine"))
    assert (record.name, record.priority, args, kwargs) == ("made_own", 4, (1,), {"eta": "mine"})
    record, _ = await stored(await own.options(delay=60, queue="other").enqueue(1))
    assert (record.queue, record.priority) == ("other", 4)
    assert record.due >= record.created + 60 * SECOND
    handle = await own.options(priority=6).submit(1)
    record, _ = await stored(handle.id)
    assert record.priority == 6


async def test_a_function_without_a_queue_says_how_to_get_one(queue, mails):
    with pytest.raises(ConfigurationError, match=r"send belongs to no queue.*queue\.include"):
        await mails.send.enqueue("a")
    queue.include(mails.send)
    assert await mails.send.enqueue("a")
    assert await mails.send.options(priority=1).enqueue("a")


async def test_a_decorator_above_is_run_and_one_below_too(queue, stored, mails):
    for name in ("inside", "outside"):
        record, (function, args, _) = await stored(await queue.enqueue(getattr(mails, name), "a"))
        assert record.name == f"made_mails:{name}"
        assert function(*args) == "A"


async def test_a_method_takes_its_instance_along(queue, stored, mails):
    class_of = mails.Mailer
    mailer = class_of("host")
    assert mailer.send("a") == class_of.send(mailer, "a") == "a by host"
    assert str(inspect.signature(mailer.send)) == "(to)"
    queue.include(class_of.send)
    for task_id in (
        await mailer.send.enqueue("a"),
        await queue.enqueue(mailer.send, "a"),
        await class_of.send.enqueue(mailer, "a"),
        await mailer.send.options(priority=1).enqueue("a"),
    ):
        record, (function, args, _) = await stored(task_id)
        assert (record.name, record.queue, record.python) == ("made_mails:Mailer.send", "mails", None)
        assert function(*args) == "a by host"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("outer_static", "outer a"),
        ("inner_static", "inner a"),
        ("outer_class", "outer Mailer a"),
        ("inner_class", "inner Mailer a"),
    ],
)
async def test_static_and_class_methods_work_in_either_order(queue, stored, mails, name, value):
    for owner in (mails.Mailer, mails.Mailer("host")):
        method = getattr(owner, name)
        assert method("a") == value
        record, (function, args, _) = await stored(await queue.enqueue(method, "a"))
        assert (record.name, record.python) == (f"made_mails:Mailer.{name}", None)
        assert function(*args) == value


async def test_a_bound_method_of_a_decorated_function_is_seen_through(queue, stored, mails):
    # What `@classmethod @task` gives from Python 3.13 on.
    method = types.MethodType(mails.Mailer.__dict__["outer_class"].__func__, mails.Mailer)
    _, (function, args, _) = await stored(await queue.enqueue(method, "a"))
    assert function(*args) == "outer Mailer a"


def test_a_worker_that_only_imports_finds_what_is_decorated(make_module):
    make_module("made_lazy", "from sitq import task\n@task(name='by_name')\ndef work(): return 1")
    functions._functions.clear()  # as in a worker that has not imported it yet
    assert resolve("made_lazy:work", registered_only=False)() == 1
    assert isinstance(resolve("made_lazy:work", registered_only=False), types.FunctionType)


def test_two_names_for_one_function():
    def work():
        return 1

    quick, slow = task(name="made_quick", priority=9)(work), task(name="made_slow", priority=-9)(work)
    assert [name_of(each).name for each in (quick, slow)] == ["made_quick", "made_slow"]
    again = task(name="made_again")(quick)
    assert again.function is work


def test_a_partial_can_be_a_task():
    power = task(name="made_power")(functools.partial(pow, 2))
    assert power(3) == 8
    assert name_of(power).name == "made_power"


def test_options_of_the_decorator_are_checked_at_once():
    with pytest.raises(ValidationError, match="did you mean priority"):
        task(prioritty=3)
    with pytest.raises(ValidationError, match=r"id is about one task; give it to \.options"):
        task(id="a")
    with pytest.raises(ValidationError, match="belongs to the function"):
        TaskQueue(MemoryBackend()).options(aliases=["a"])

    @task(name="made_policy", retry=RetryPolicy(max_retries=5))
    def policed():
        pass

    assert policed.defaults.retry.max_retries == 5
