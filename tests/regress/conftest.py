import contextlib
import os

import pytest
import redis

from sitq.backends import open_backend
from sitq.backends.base import Filter, Share, Want
from sitq.backends.memory import MemoryBackend
from sitq.backends.postgres import PostgresBackend
from sitq.backends.redis import RedisBackend
from sitq.backends.sqlite import SQLiteBackend
from sitq.exceptions import SitqError
from sitq.functions import python_version
from sitq.move import Cancel, Settle
from sitq.record import Record, State
from sitq.testing.postgres import Schemas

SHARED = ("sqlite", "postgres", "redis")
"""The stores that several processes can use."""


@pytest.fixture(scope="session")
def schemas(postgres_url):
    """Schemas of PostgreSQL that are emptied and used again, as making one takes its time."""
    return Schemas(postgres_url)


@pytest.fixture
def url_of(request, tmp_path):
    """The URL of a store of the test's own, by its kind; a server has nothing of it afterwards."""
    used = {}

    def make(kind):
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/tasks.db"
        url = request.getfixturevalue(f"{kind}_url")
        if kind not in used:
            used[kind] = (
                request.getfixturevalue("schemas").get()
                if kind == "postgres"
                else f"regress-{os.urandom(6).hex()}"
            )
        return f"{url}?namespace={used[kind]}" + ("&migrate=true" if kind == "postgres" else "")

    yield make
    if "postgres" in used:
        request.getfixturevalue("schemas").put_back([used["postgres"]])
    if "redis" in used:
        with contextlib.closing(redis.Redis.from_url(request.getfixturevalue("redis_url"))) as client:
            keys = list(client.scan_iter(f"{{{used['redis']}}}:*", count=5000))
            if keys:
                client.unlink(*keys)


@pytest.fixture(params=SHARED)
def shared_url(request, url_of):
    """The URL of a store that several processes can use."""
    return url_of(request.param)


@pytest.fixture(params=["memory", *SHARED])
def make_backend(request, tmp_path, url_of):
    """Backends on one store; each call makes another object on it, as another process would."""
    kinds = {
        "memory": MemoryBackend,
        "sqlite": SQLiteBackend,
        "postgres": PostgresBackend,
        "redis": RedisBackend,
    }
    kind = kinds[request.param]

    def make(mixin=None, **options):
        made = kind if mixin is None else type(f"{mixin.__name__}{kind.__name__}", (mixin, kind), {})
        if request.param == "memory":
            backend = made.__new__(made)
            named = MemoryBackend.named(str(tmp_path), **options)
            backend._start(named._shared, "sitq", str(tmp_path))
            return backend
        if request.param == "sqlite":
            return made(tmp_path / "tasks.db", **options)
        url, _, query = url_of(request.param).partition("?")
        namespace = query.partition("&")[0].removeprefix("namespace=")
        if request.param == "postgres":
            options.setdefault("migrate", True)
        return made(url, namespace=namespace, **options)

    return make


@pytest.fixture
async def backend(make_backend):
    """A connected store of the test's own."""
    async with make_backend() as store:
        yield store


@pytest.fixture
async def shared(shared_url):
    """A connected store that several processes can use."""
    async with open_backend(shared_url) as store:
        yield store


@pytest.fixture
def value_of(queue):
    """What a task returned."""

    async def value(task_id, seconds=15.0):
        result = await queue.get_result(task_id, timeout=seconds)
        assert result is not None, f"task {task_id} has not ended within {seconds:g} s"
        return queue.deserialize_result(result)

    return value


def claim_of(limit, lease=60_000_000):
    return Want(
        claim=os.urandom(8).hex(),
        worker="w",
        queues=(Share("default", limit),),
        limit=limit,
        lease=lease,
        python=python_version(),
    )


async def _gone_on(store):
    """What went wrong with the others, and which errors are none of ours."""
    foreign, claimed = [], set()

    async def do(call):
        try:
            return await call
        except SitqError:
            return None
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            foreign.append(repr(error))
            return None

    async def claim():
        taken = await do(store.take(claim_of(9)))
        claimed.update(record.id for record in taken.records) if taken else None

    await do(store.tend())
    for _ in range(3):
        await claim()
    for call in (
        store.get(["t0", "t1", "t2", "child"]),
        store.tally(),
        store.scan(Filter()),
        store.apply([Cancel(id="child")]),
        store.apply([Settle(id="t1", state=State.COMPLETED)]),
        store.put([[Record(id="later", name="work")]]),
        store.tend(),
    ):
        await do(call)
    await claim()
    lacking = {"t0", "t2", "plain", "fair", "later"} - claimed
    return [*set(foreign), *([f"held up: {sorted(lacking)}"] if lacking else [])]


@pytest.fixture
def want():
    """A claim of so many tasks of the default queue."""
    return claim_of


@pytest.fixture
def gone_on():
    """What a store with a damaged `t1` does to the tasks beside it."""
    return _gone_on
