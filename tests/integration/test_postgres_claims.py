"""Claims that are tried more than once, or whose caller is gone."""

import asyncio
import threading

from sitq.backends.base import Share, Want
from sitq.backends.postgres import PostgresBackend
from sitq.backends.tables.lanes import StaleLaneError
from sitq.functions import python_version
from sitq.record import Limit, Record
from sitq.testing.postgres import Schemas


def want(limit):
    shares = (Share("default", limit),) if limit else ()
    return Want(claim="c", worker="w", queues=shares, limit=limit, lease=60_000_000, python=python_version())


async def test_what_a_claim_takes_at_its_second_try_is_found_by_whoever_asks_for_it_again(
    postgres_url, monkeypatch
):
    schemas, tries, second = Schemas(postgres_url), [], threading.Event()
    async with PostgresBackend(postgres_url, namespace=schemas.get(), migrate=True) as backend:
        await backend.put([[Record(id="a", name="work", limits=(Limit("k", slots=1),))]])
        engine = backend._engine
        engine.lines.close()
        alone = engine.alone

        def slowly(db, action):
            tries.append(action)
            if len(tries) == 1:
                raise StaleLaneError
            if len(tries) == 2:
                second.set()
                threading.Event().wait(0.5)
            return alone(db, action)

        monkeypatch.setattr(engine, "alone", slowly)
        claiming = asyncio.create_task(backend.take(want(1)))
        assert await asyncio.to_thread(second.wait, 10)
        claiming.cancel()
        assert [record.id for record in (await backend.take(want(0))).records] == ["a"]
