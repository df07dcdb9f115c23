"""The Redis store on servers with moods of their own: restarts, full memory, few permissions, TLS."""

import asyncio
import logging
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from sitq import TaskQueue
from sitq.backends.base import Lease, Placed, Share, Want
from sitq.backends.redis import RedisBackend
from sitq.exceptions import ConnectionError, ResourceExhaustionError  # noqa: A004
from sitq.move import Settle
from sitq.record import Record, State
from sitq.testing.servers import RedisServer, free_port

pytestmark = pytest.mark.asyncio
Start = Callable[..., Any]


def want(limit: int = 1, queue: str = "default") -> Want:
    shares = (Share(queue, limit),)
    return Want(
        claim=os.urandom(8).hex(), worker="w", queues=shares, limit=limit, lease=60_000_000, python="3.11"
    )


async def live(backend: RedisBackend, id: str = "a") -> None:
    """A task's whole life, with everything that a worker asks for."""
    assert await backend.put([[Record(id=id, name="f")]]) == [[Placed(id)]]
    (record,) = (await backend.take(want())).records
    channel = backend.lease_channel()
    renewed = await asyncio.to_thread(channel.renew, [Lease(id, record.token or "")], 60_000_000)
    assert [one.answer for one in renewed] == ["kept"]
    await asyncio.to_thread(channel.close)
    done = Settle(id=id, token=record.token, state=State.COMPLETED, result=b"r")
    assert await backend.apply([done]) == [True]
    (found,) = await backend.get([id])
    assert found is not None
    assert found.result == b"r"
    assert await backend.swap("cell", None, b"x")
    assert await backend.swap("cell", b"x", None)
    await backend.append("log", [b"x"])
    assert len(await backend.read("log")) >= 1
    await backend.tend()
    listener = backend.listen(["queue/heard"])
    waiting = asyncio.ensure_future(listener.wait(10))
    await asyncio.sleep(0.2)
    await backend.put([[Record(id=f"{id}-heard", name="f", queue="heard")]])
    assert await waiting
    listener.close()


async def test_scripts_and_tasks_are_there_again_after_a_restart(own_server: Start) -> None:
    server = own_server(RedisServer)
    async with RedisBackend(server.url()) as backend:
        await backend.put([[Record(id="before", name="f")]])
        await asyncio.to_thread(server.restart)
        await backend.put([[Record(id="after", name="f")]])
        taken = await backend.take(want(5))
        assert [record.id for record in taken.records] == ["before", "after"]


async def test_scripts_that_a_server_forgot_are_sent_again(own_server: Start) -> None:
    server = own_server(RedisServer)
    async with RedisBackend(server.url()) as backend, Redis.from_url(server.url()) as client:
        await live(backend, "a")
        await client.script_flush()
        await live(backend, "b")


async def test_a_server_that_is_away_is_named_without_its_password() -> None:
    url = f"redis://worker:secret@127.0.0.1:{free_port()}/0"
    backend = RedisBackend(url)
    with pytest.raises(ConnectionError, match="cannot be reached") as caught:
        await backend.connect()
    assert "secret" not in f"{caught.value} {backend!r}"
    assert "***" in str(caught.value)


async def test_a_server_that_stands_still_is_found_within_ten_seconds(own_server: Start) -> None:
    server = own_server(RedisServer)
    async with RedisBackend(server.url()) as backend:
        await live(backend)
        server.suspend()
        try:
            started = asyncio.get_running_loop().time()
            with pytest.raises(ConnectionError, match="did not answer in time"):
                await backend.put([[Record(id="b", name="f")]])
            assert asyncio.get_running_loop().time() - started < 10
        finally:
            server.resume()
        (answer,) = (await backend.put([[Record(id="b", name="f")]]))[0]
        assert answer.id == "b"


async def fill(backend: RedisBackend, most: int = 500) -> int:
    """Put tasks until the server has no memory left; how many there are."""
    for number in range(most):
        group = [Record(id=f"{number}-{n}", name="f", payload=b"x" * 10_000) for n in range(20)]
        try:
            await backend.put([group])
        except ResourceExhaustionError:
            return 20 * number
    pytest.fail("the server takes everything")


@pytest.mark.parametrize("flags", [True, False], ids=["flags", "as-in-6.2"])
async def test_with_full_memory_new_tasks_are_refused_and_running_ones_end(
    own_server: Start, *, flags: bool
) -> None:
    server = own_server(RedisServer, {"maxmemory": "12mb"})
    async with RedisBackend(server.url()) as backend:
        backend._dialect.flagged = flags
        await backend.put([[Record(id=f"r{n}", name="f") for n in range(50)]])
        running = (await backend.take(want(50))).records
        placed = await fill(backend)
        moves = [
            Settle(id=one.id, token=one.token, state=State.COMPLETED, result=b"y" * 2000) for one in running
        ]
        try:
            kept = await backend.apply(moves)
        except ResourceExhaustionError as error:
            pytest.fail(f"it could not be settled: {error}")
        assert kept == [True] * 50
        more = (await backend.take(want(10))).records
        assert len(more) == 10
        channel = backend.lease_channel()
        renewed = channel.renew([Lease(one.id, one.token or "") for one in more], 60_000_000)
        channel.close()
        assert {one.answer for one in renewed} == {"kept"}
        counts = (await backend.tally())["default"]
        assert counts == {State.COMPLETED: 50, State.RUNNING: 10, State.QUEUED: placed - 10}
        with pytest.raises(ResourceExhaustionError):
            await TaskQueue(backend).enqueue(print)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A folder with a certificate for the loopback and its key."""
    if shutil.which("openssl") is None:
        pytest.fail("openssl is needed to make a certificate")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"]
    subprocess.run([*command, *files], check=True, capture_output=True)
    return tmp_path


async def test_tls_and_passwords_work_and_are_never_shown(
    own_server: Start, certificate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    port = free_port()
    files = {
        f"tls-{name}-file": certificate / f"{file}.pem" for name, file in (("cert", "cert"), ("key", "key"))
    }
    settings = {
        "tls-port": port,
        "port": 0,
        "tls-auth-clients": "no",
        "tls-ca-cert-file": certificate / "cert.pem",
    }
    own_server(RedisServer, settings | files, password="gre%20en")
    url = f"rediss://:gre%2520en@127.0.0.1:{port}/0?ssl_ca_certs={certificate / 'cert.pem'}"
    async with RedisBackend(url) as backend:
        await live(backend)
        assert "gre%" not in repr(backend)
    with pytest.raises(ConnectionError) as caught:
        await RedisBackend(url.partition("?")[0]).connect()  # nobody vouches for the certificate
    assert "gre%2520en" not in str(caught.value)
    assert "gre%20en" not in caplog.text


async def test_a_ready_client_stays_its_owners(own_server: Start) -> None:
    server = own_server(RedisServer, password="secret")
    async with Redis.from_url(server.url(), decode_responses=True) as client:
        async with RedisBackend(client) as backend:
            await live(backend)
            assert "secret" not in repr(backend)
        assert await client.ping()


async def test_a_socket_is_a_server_too(own_server: Start) -> None:
    server = own_server(RedisServer, {"unixsocket": "redis.sock"})
    async with RedisBackend(f"unix://{server.folder / 'redis.sock'}") as backend:
        assert backend.traits.local
        await live(backend)


async def test_all_keys_of_a_namespace_are_in_one_slot(redis_url: str) -> None:
    """A cluster runs a script on one node, and only on keys that are there."""
    namespace = f"slots-{os.urandom(5).hex()}"
    async with RedisBackend(redis_url, namespace=namespace) as backend:
        await live(backend)
    async with Redis.from_url(redis_url) as client:
        keys = [key async for key in client.scan_iter(f"*{namespace}*", count=5000)]
        await client.unlink(*keys)
    assert len(keys) > 10
    assert len({key_slot(key) for key in keys}) == 1


async def test_who_is_cancelled_leaves_the_connection_to_its_answer(own_server: Start) -> None:
    """redis-py hangs up on the server instead, so that the rest of an answer is not the next caller's."""
    server = own_server(RedisServer)
    async with RedisBackend(server.url()) as backend, Redis.from_url(server.url()) as client:
        await live(backend)
        before = (await client.info("stats"))["total_connections_received"]
        for _ in range(5):
            server.suspend()
            calls = [asyncio.create_task(backend.get(["a"])) for _ in range(8)]
            await asyncio.sleep(0.05)  # all are under way
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
            server.resume()
            await live_again(backend)
        made = (await client.info("stats"))["total_connections_received"] - before
    assert made <= 12  # as many as there were calls at once, and not as many as were cancelled


async def live_again(backend: RedisBackend) -> None:
    """An answer, and the right one."""
    (record,) = await backend.get(["a"])
    assert record is not None
    assert record.id == "a"
