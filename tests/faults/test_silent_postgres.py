"""A PostgreSQL server that acknowledges every byte and answers nothing is found in time."""

import asyncio
import time

import psycopg
import pytest

from sitq.backends.postgres import PostgresBackend
from sitq.backends.postgres.connection import Connection
from sitq.record import Record
from sitq.testing.postgres import Schemas
from sitq.testing.proxy import Proxy


@pytest.fixture(scope="module")
def kind():
    return "postgres"


@pytest.fixture
def patience(monkeypatch):
    monkeypatch.setattr("sitq.backends.postgres.patience.PatientConnection.patience", 0.6)


def test_a_server_that_says_nothing_is_given_up_and_its_connection_closed(server, patience):
    with Proxy(server.port) as proxy:
        connection = Connection(proxy.url(server.url()), "sitq")
        proxy.hold()
        begun = time.monotonic()
        with pytest.raises(psycopg.OperationalError, match=r"no answer within \d"):
            connection.raw.execute("SELECT 1")
        assert time.monotonic() - begun < 6
        assert not connection.usable
        with pytest.raises(psycopg.OperationalError, match="closed"):
            connection.raw.execute("SELECT 1")


def test_a_server_that_is_there_is_waited_for_while_it_is_at_work(server, patience):
    connection = Connection(server.url(), "sitq")
    try:
        connection.raw.execute("SELECT pg_sleep(2)")
    except psycopg.OperationalError as error:
        pytest.fail(f"it was given up: {error}")
    connection.close()


def test_a_question_that_never_came_to_the_server_is_given_up_though_others_come_there(server, patience):
    with Proxy(server.port) as proxy:
        connection = Connection(proxy.url(server.url()), "sitq")
        proxy.hold(forget=True)
        proxy.heal()
        with pytest.raises(psycopg.OperationalError, match=r"no answer within \d"):
            connection.raw.execute("SELECT pg_sleep(2)")


def test_nobody_waits_for_ever_for_a_session_that_is_at_work(server, patience, monkeypatch):
    monkeypatch.setattr("sitq.backends.postgres.patience.LONGEST", 1.5)
    connection = Connection(server.url(), "sitq")
    begun = time.monotonic()
    with pytest.raises(psycopg.OperationalError, match="no answer"):
        connection.raw.execute("SELECT pg_sleep(20)")
    assert time.monotonic() - begun < 10


def test_a_statement_that_may_take_its_time_does(server, patience):
    connection = Connection(server.url(), "sitq")
    with connection.patient():
        connection.raw.execute("SELECT pg_sleep(1.5)")
    connection.close()


@pytest.mark.usefixtures("patience")
async def test_an_event_loop_that_gets_no_answer_gives_its_connection_up(server):
    schemas = Schemas(server.url())
    with Proxy(server.port) as proxy:
        url, namespace = proxy.url(server.url()), schemas.get()
        async with PostgresBackend(url, namespace=namespace, migrate=True) as backend:
            await backend.put([[Record(id="first", name="work")]])
            (line,) = backend._engine.lines._lines
            proxy.hold()
            putting = asyncio.create_task(backend.put([[Record(id="second", name="work")]]))
            async with asyncio.timeout(5):
                await line.ended
            proxy.heal()
            assert [answer.id for (answer,) in await putting] == ["second"]
            assert await backend.get(["second"]) != [None]


@pytest.mark.usefixtures("patience")
async def test_an_event_loop_waits_for_a_server_that_is_at_work(server):
    schemas = Schemas(server.url())
    namespace = schemas.get()
    async with PostgresBackend(server.url(), namespace=namespace, migrate=True) as backend:
        await backend.put([[Record(id="first", name="work")]])
        (line,) = backend._engine.lines._lines
        with psycopg.connect(server.url()) as db:
            db.execute(f"LOCK TABLE {namespace}.task")
            putting = asyncio.create_task(backend.put([[Record(id="second", name="work")]]))
            assert not (await asyncio.wait([putting], timeout=2.5))[0]
        assert [answer.id for (answer,) in await putting] == ["second"]
        assert backend._engine.lines._lines == (line,)
        assert not backend._engine._doubts
