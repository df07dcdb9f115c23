"""Servers that take no writes for a while: after a failover to a standby, or because somebody said so.

https://github.com/graphile/worker/issues/449
"""

import asyncio
import contextlib
import time

import psycopg
import pytest

from sitq import ConcurrencyLimit, current_task, exceptions
from sitq.backends import open_backend
from sitq.backends.base import PAUSE_QUEUE, Filter, Lease, Share, Want
from sitq.move import Cancel
from sitq.record import Limit, Record, State
from sitq.testing.proxy import Proxy
from sitq.testing.servers import PostgresServer

USED = 5.0
SLACK = 3.0
AWAY = 3.0
"""Seconds without a server that takes writes: longer than a worker bears with an outcome that is refused."""

GO: dict[str, asyncio.Event] = {}


@pytest.fixture(scope="module")
def kind():
    return "postgres"


@pytest.fixture
def primary(postgres_binaries):
    """A server that the test may lose."""
    with PostgresServer(binaries=postgres_binaries) as server:
        yield server


@contextlib.contextmanager
def standby_of(primary):
    """A server that has whatever the other one acknowledged."""
    with PostgresServer(binaries=primary.binaries, standby_of=primary) as standby:
        told(primary, "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
        yield standby


def told(server, *statements):
    """The last answer to statements of the superuser."""
    with psycopg.connect(server.url(), autocommit=True) as db:
        for statement in statements:
            answer = db.execute(statement)
        return answer.fetchone()


async def unlucky(name):
    """Fail once, when the store takes no writes."""
    await GO[name].wait()
    if current_task().attempt == 1:
        raise ValueError("the first time")
    return current_task().attempt


async def lasts_past_it(busy, away, back):
    """Let outcomes of all kinds come while the store takes no writes, and see that all of them land."""
    GO[busy.name] = asyncio.Event()
    again = busy.queue.options(retry=3, priority=9)
    unlucky_ones = [
        await again.submit(unlucky, busy.name),
        await again.options(limits=[ConcurrencyLimit(1, key="one")]).submit(unlucky, busy.name),
    ]
    for one in unlucky_ones:
        deadline = time.monotonic() + 20
        while (await busy.queue.backend.get([one.id]))[0].state is not State.RUNNING:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
    assert await busy.until(lambda: len(busy.starts(0)) > 20, 20)
    before = await busy.rate(1.5)
    await away()
    GO[busy.name].set()
    await asyncio.sleep(AWAY)
    await asyncio.to_thread(back)
    healed = time.monotonic()
    assert await busy.fast_again(0.9 * before, healed, USED + SLACK), (
        f"{len(busy.starts(healed))} starts since, {before:.0f}/s before"
    )
    for one in unlucky_ones:
        outcome = await one.outcome(30)
        assert outcome.status == "success", outcome.error
        assert busy.queue.deserialize_result(outcome) == 2


async def test_outcomes_wait_for_a_standby_to_be_promoted(primary, traffic, url_of):
    with standby_of(primary) as standby, Proxy(primary.port) as way:
        url = way.url(primary.url())

        async def lose():
            await asyncio.to_thread(primary.kill)
            way.target = standby.port
            assert told(standby, "SELECT pg_is_in_recovery()") == (True,)

        async with traffic("failover", url, max_concurrency=5) as busy:
            await lasts_past_it(busy, lose, lambda: told(standby, "SELECT pg_promote()"))
            async with open_backend(url_of(standby.url())) as look:
                assert await busy.drained(look) == []


async def test_outcomes_wait_for_a_server_that_was_made_read_only(primary, traffic, url_of):
    def make(value):
        # What a pool of connections holds keeps to it as well.
        told(
            primary,
            f"ALTER SYSTEM SET default_transaction_read_only = {value}",
            "SELECT pg_reload_conf()",
        )

    async def away():
        make("on")

    async with traffic("readonly", primary.url(), max_concurrency=5) as busy:
        await lasts_past_it(busy, away, lambda: make("off"))
        async with open_backend(url_of(primary.url())) as look:
            assert await busy.drained(look) == []


def want():
    return Want(claim="c", worker="w", queues=(Share("default", 1),), limit=1, lease=10**7, python="3.11")


WRITES = {
    "put": lambda store: store.put([[Record(id="a")]]),
    "limited put": lambda store: store.put([[Record(id="b", limits=(Limit("few", slots=1),))]]),
    "take": lambda store: store.take(want()),
    "apply": lambda store: store.apply([Cancel(id="there")]),
    "swap": lambda store: store.swap("cell", None, b""),
    "pause": lambda store: store.swap(PAUSE_QUEUE + "default", None, b""),
    "append": lambda store: store.append("log", [b"1"]),
    "tend": lambda store: store.tend(),
    "renew": lambda store: asyncio.to_thread(store.lease_channel().renew, [Lease("there", "c")], 10**7),
}


@pytest.fixture
async def on_a_standby(primary, url_of):
    """A store on a server that only reads."""
    async with open_backend(url_of(primary.url())) as store:
        await store.put([[Record(id="there")]])
    with standby_of(primary) as standby:
        async with open_backend(url_of(standby.url())) as store:
            yield store


async def test_a_standby_is_read_and_what_is_to_be_written_says_that_the_store_is_away(on_a_standby):
    assert [record.id for record in await on_a_standby.get(["there"])] == ["there"]
    assert len((await on_a_standby.scan(Filter())).records) == 1
    assert await on_a_standby.tally() == {"default": {State.QUEUED: 1}}
    for write in WRITES.values():
        with pytest.raises(exceptions.ConnectionError, match="a standby, or was made read-only"):
            await write(on_a_standby)
