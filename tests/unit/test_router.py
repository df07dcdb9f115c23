import pytest

from sitq import MemoryBackend, TaskQueue, TaskRouter, functions
from sitq.exceptions import ConfigurationError, ValidationError
from sitq.functions import name_of, resolve


@pytest.fixture(autouse=True)
def _names():
    before = dict(functions._functions)
    yield
    functions._functions.clear()
    functions._functions.update(before)


@pytest.fixture
def router():
    router = TaskRouter(queue="mails", retry=2)

    @router.task
    async def send(to): ...

    @router.task(name="digest", priority=3, retry=5)
    def make_digest(day): ...

    router.send, router.digest = send, make_digest
    return router


async def record_of(queue, task_id):
    (record,) = await queue.backend.get([task_id])
    return record


async def test_included_functions_belong_to_the_queue(router):
    async with TaskQueue(MemoryBackend()) as queue:
        with pytest.raises(ConfigurationError, match="belongs to no queue"):
            await router.send.enqueue("a")
        queue.include(router)
        record = await record_of(queue, await router.send.enqueue("a"))
        assert (record.queue, record.retry["max_retries"]) == ("mails", 2)
        record = await record_of(queue, await router.digest.options(retry=1).enqueue("mon"))
        assert (record.name, record.priority, record.retry["max_retries"]) == ("digest", 3, 1)


async def test_a_prefix_goes_before_the_names_and_the_former_ones_stay(router):
    async with TaskQueue(MemoryBackend()) as queue:
        queue.include(router, prefix="mail.")
        record = await record_of(queue, await router.digest.enqueue("mon"))
        assert (record.name, record.python) == ("mail.digest", None)
        assert resolve("digest", registered_only=True) is router.digest.function
        assert resolve("mail.digest", registered_only=True) is router.digest.function
        assert name_of(router.send).name.startswith("mail.")


async def test_options_come_from_the_queue_the_router_the_function_and_the_call_in_this_order(router):
    async with TaskQueue(MemoryBackend()) as queue:
        queue.include(router, priority=1, timeout=9, retry=9)
        record = await record_of(queue, await router.send.enqueue("a"))
        assert (record.priority, record.timeout, record.retry["max_retries"]) == (1, 9_000_000, 2)
        record = await record_of(queue, await router.digest.enqueue("a"))
        assert (record.priority, record.retry["max_retries"]) == (3, 5)


async def test_routers_nest(router):
    outer = TaskRouter("app.")
    outer.include(router, prefix="mail.")
    async with TaskQueue(MemoryBackend()) as queue:
        queue.include(outer, prefix="v2.")
        record = await record_of(queue, await router.digest.enqueue("mon"))
        assert record.name == "v2.app.mail.digest"
        assert resolve("app.mail.digest", registered_only=True) is router.digest.function


async def test_a_function_belongs_to_one_open_queue(router):
    first, second = TaskQueue(MemoryBackend()), TaskQueue(MemoryBackend())
    first.include(router)
    first.include(router)
    with pytest.raises(ConfigurationError, match=r"belongs to <TaskQueue .* already"):
        second.include(router)
    await first.close()
    second.include(router)
    assert await router.send.enqueue("a")
    await second.close()


def test_what_is_included_must_be_declared():
    with pytest.raises(ValidationError, match=r"decorate it with @queue\.task"):
        TaskQueue(MemoryBackend()).include(print)
    with pytest.raises(ValidationError, match="prefix"):
        TaskRouter("a\nb")
