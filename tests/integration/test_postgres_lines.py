"""Event loops that use connections of their own, and what becomes of these."""

import asyncio
import gc

import psycopg

from sitq.backends.base import Placed
from sitq.backends.postgres import PostgresBackend
from sitq.record import Record
from sitq.testing.postgres import Schemas


def task(id, size=1):
    return Record(id=id, name="work", payload=b"x" * size)


def lines(backend):
    return backend._engine.lines._lines


async def asked(backend, id="again"):
    """The line that answered a put."""
    await backend.put([[task("first")]])
    (line,) = lines(backend)
    assert await backend.put([[task(id)]]) == [[Placed(id)]]
    assert line.idle
    return line


async def test_a_call_of_many_megabytes_goes_through_a_line(postgres_url):
    schemas = Schemas(postgres_url)
    async with PostgresBackend(postgres_url, namespace=schemas.get(), migrate=True) as backend:
        await asked(backend)
        ids = [f"t{n}" for n in range(40)]
        assert await backend.put([[task(id, 900_000) for id in ids]]) == [[Placed(id) for id in ids]]
        assert [len(one.payload) for one in await backend.get(ids)] == [900_000] * 40


async def test_a_line_that_the_server_closed_is_replaced(postgres_url):
    schemas = Schemas(postgres_url)
    async with PostgresBackend(postgres_url, namespace=schemas.get(), migrate=True) as backend:
        line = await asked(backend)
        with psycopg.connect(postgres_url, autocommit=True) as db:
            db.execute("SELECT pg_terminate_backend(%s)", (line._pg.backend_pid,))
        async with asyncio.timeout(5):
            await line.ended
        assert line not in lines(backend)
        assert await backend.put([[task("after")]]) == [[Placed("after")]]
        async with asyncio.timeout(5):
            while not lines(backend):
                await backend.get(["after"])
                await asyncio.sleep(0.01)


async def test_one_that_is_closed_in_the_middle_of_a_call_loses_nothing(postgres_url):
    schemas = Schemas(postgres_url)
    async with PostgresBackend(postgres_url, namespace=schemas.get(), migrate=True) as backend:
        line = await asked(backend)
        putting = asyncio.create_task(backend.put([[task("cut")]]))
        await asyncio.sleep(0)
        assert not line.idle
        line._break(psycopg.OperationalError("gone"))
        assert (await putting)[0][0].id == "cut"
        assert await backend.get(["cut"]) != [None]


def test_another_event_loop_gets_the_lines_of_one_that_is_closed(postgres_url):
    schemas = Schemas(postgres_url)
    backend = PostgresBackend(postgres_url, namespace=schemas.get(), migrate=True)

    async def first():
        await backend.connect()
        return await asked(backend)

    async def second():
        async with asyncio.timeout(5):
            while not any(line.loop is asyncio.get_running_loop() for line in lines(backend)):
                await backend.get(["first"])
                await asyncio.sleep(0.01)
        await backend.close()

    left = asyncio.run(first())
    asyncio.run(second())
    assert left._db.raw.closed


def test_an_abandoned_backend_closes_its_lines(postgres_url):
    schemas = Schemas(postgres_url)

    async def use():
        backend = PostgresBackend(postgres_url, namespace=schemas.get(), migrate=True)
        await backend.connect()
        return await asked(backend)

    line = asyncio.run(use())
    gc.collect()
    assert line._db.raw.closed


async def test_with_one_connection_threads_do_all(postgres_url):
    schemas = Schemas(postgres_url)
    options = {"namespace": schemas.get(), "migrate": True, "connections": 1}
    async with PostgresBackend(postgres_url, **options) as backend:
        await backend.put([[task("a")]])
        assert await backend.put([[task("b")]]) == [[Placed("b")]]
        assert not lines(backend)
