"""A wire to a Redis server, on which calls follow each other: cancelled callers, silence, a broken line."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from sitq.backends.base import Placed
from sitq.backends.redis import RedisBackend
from sitq.exceptions import ConnectionError  # noqa: A004
from sitq.record import Record
from sitq.testing.servers import RedisServer

pytestmark = pytest.mark.asyncio
Start = Callable[..., Any]


def records(*ids: str) -> list[list[Record]]:
    return [[Record(id=id, name="f")] for id in ids]


async def test_answers_of_cancelled_callers_go_to_nobody(own_server: Start) -> None:
    server = own_server(RedisServer)
    async with RedisBackend(server.url()) as backend, Redis.from_url(server.url()) as other:
        ids = [f"task-{n}" for n in range(60)]
        await backend.put([[Record(id=id, name=f"name of {id}") for id in ids]])
        await backend.get(ids)  # the server has the script from now on
        await other.client_pause(300, all=True)  # no answer comes before its caller is gone
        calls = [asyncio.ensure_future(backend.get([id])) for id in ids]
        for _ in range(3):
            await asyncio.sleep(0)
        for call in (call for n, call in enumerate(calls) if n % 3):
            call.cancel()
        for id, call in zip(ids[::3], calls[::3], strict=True):
            done, _ = await asyncio.wait([call], timeout=10)
            assert [one and one.name for (one,) in (call.result() for call in done)] == [f"name of {id}"]


async def test_all_who_wait_learn_that_the_server_is_silent(own_server: Start) -> None:
    server = own_server(RedisServer)
    async with (
        RedisBackend(server.url() + "?socket_timeout=0.3") as backend,
        Redis.from_url(server.url()) as other,
    ):
        assert await backend.put(records("before")) == [[Placed("before")]]
        await other.client_pause(800, all=True)
        said = await asyncio.gather(*(backend.get([str(n)]) for n in range(5)), return_exceptions=True)
        assert {type(one) for one in said} == {ConnectionError}
        await asyncio.sleep(1)
        assert await backend.put(records("after")) == [[Placed("after")]]


async def test_a_connection_that_the_server_closed_is_replaced_unnoticed(own_server: Start) -> None:
    server = own_server(RedisServer)
    async with RedisBackend(server.url()) as backend, Redis.from_url(server.url()) as other:
        for n in range(5):
            assert await backend.put(records(str(n))) == [[Placed(str(n))]]
            await other.client_kill_filter(_type="normal", skipme=True)
        assert [one.id for one in await backend.get(["0", "4"]) if one] == ["0", "4"]


async def test_a_topic_that_is_listened_to_anew_needs_no_new_subscription(own_server: Start) -> None:
    server = own_server(RedisServer)
    async with RedisBackend(server.url()) as backend, Redis.from_url(server.url()) as other:
        first = backend.listen(["queue/default"])
        assert await first.wait(5)
        for n in range(3):
            first.close()
            first = backend.listen(["queue/default"])
            await backend.put(records(str(n)))
            assert await first.wait(5)
        commands = await other.info("commandstats")
        assert commands["cmdstat_subscribe"]["calls"] <= 2
        assert "cmdstat_unsubscribe" not in commands
