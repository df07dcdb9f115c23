"""Whatever the fields of a task in Redis hold, the queue goes on, and errors are those of the docs.

https://github.com/hibiken/asynq/issues/764
"""

import asyncio
import contextlib
import os

import pytest
import redis

from sitq.backends.redis import RedisBackend
from sitq.record import Edge, Fair, Limit, Record, Unique

VALUES = [b"\xff\x00garbage", b"", b"9" * 30, b"-1", b"[]", None]
LIMITS = (Limit("few", slots=50), Limit("rate", rate=100, burst=100))


@pytest.fixture
def db(redis_url):
    with contextlib.closing(redis.Redis.from_url(redis_url)) as db:
        yield db


async def fill(store, when, want):
    groups = [[Record(id=f"t{n}", name="work", unique=Unique(f"u{n}"), limits=LIMITS)] for n in range(3)]
    groups += [[Record(id="plain", name="work")], [Record(id="fair", fair=Fair("tenant"), ttl=10**9)]]
    await store.put(groups)
    await store.put([[Record(id="child", name="work", edges=(Edge("t1"),))]])
    if when == "running":
        assert len((await store.take(want(9, lease=1))).records) == 5
        await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def filled(redis_url, db, when, want):
    """A store, and the key of the task that is to be damaged."""
    namespace = f"damage_{os.urandom(5).hex()}"
    async with RedisBackend(redis_url, namespace=namespace) as store:
        await fill(store, when, want)
        yield store, f"{{{namespace}}}:t:t1"
    db.unlink(*db.scan_iter(f"{{{namespace}}}:*", count=1000))


@pytest.mark.parametrize("when", ["waiting", "running"])
async def test_whatever_a_field_of_a_task_in_redis_holds_the_queue_goes_on(
    redis_url, db, when, want, gone_on
):
    async with filled(redis_url, db, when, want) as (_, key):
        fields = db.hkeys(key)
    assert fields
    wrong = []
    for field in fields:
        for value in VALUES:
            async with filled(redis_url, db, when, want) as (store, key):
                db.hdel(key, field) if value is None else db.hset(key, field, value)
                async with asyncio.timeout(20):
                    wrong += [(field, value, what) for what in await gone_on(store)]
    assert wrong == []
