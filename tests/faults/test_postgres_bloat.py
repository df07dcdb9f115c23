"""Tables of a PostgreSQL store that tasks pass through all the time take at most twice what is in them.

`make bloat` lets them do so for an hour, with the settings that a server has by default, and prints sizes.
"""

import asyncio
import contextlib
import os
import sys
import time

import psycopg
import pytest

from sitq.backends.base import Share, Want
from sitq.backends.postgres import PostgresBackend
from sitq.functions import python_version
from sitq.move import Note, Retry, Settle
from sitq.record import DAY, Limit, Progress, Record, State
from sitq.testing.servers import PostgresServer

TIME = float(os.environ.get("SITQ_TEST_BLOAT", "20"))
KEPT = TIME * 0.4 if TIME < 60 else TIME / 6
"""Seconds in which a day passes, for which results are kept, if the machine keeps pace."""

NAP = max(1, round(KEPT / 10))
"""Seconds between turns of autovacuum: a minute if it goes on for an hour."""

RATE = 300
"""Tasks per second."""

MOST = 2.0
NAMESPACE = "churned"
PACE = 0.5
"""Seconds of a turn. The clock of the store goes by turns, so what is kept does not depend on the machine."""


class Clock:
    turn = 0

    def __call__(self):
        return 10**15 + round(self.turn * PACE / KEPT * DAY)


def records(turn, n):
    for at in range(n):
        # Most take the short way, some the long one.
        limits = (Limit(f"key{at % 7}", slots=1000),) if at % 5 == 0 else ()
        yield Record(id=f"{turn}-{at}", name=f"f{at % 3}", payload=b"p" * 300, limits=limits)


async def churn(store, turn, n):
    """Let tasks come, fail once, tell something and complete; and those go that are old."""
    await store.put([[one] for one in records(turn, n)])
    while True:
        shares = (Share("default", 50),)
        want = Want(
            claim=os.urandom(8).hex(),
            worker="w",
            queues=shares,
            limit=50,
            lease=DAY,
            python=python_version(),
        )
        taken = (await store.take(want)).records
        if not taken:
            break
        moves = []
        for at, one in enumerate(taken):
            if at % 10 == 0:
                moves.append(Note(id=one.id, token=one.token, progress=Progress(0.5), step=("s", b"1")))
            if at % 10 == 1 and one.attempt == 1:
                moves.append(Retry(id=one.id, token=one.token))
            else:
                moves.append(Settle(id=one.id, token=one.token, state=State.COMPLETED, result=b"r" * 100))
        await store.apply(moves)
    await store.append("events", [b"e" * 50] * n, 500)
    while await store.tend(2000) >= 2000:
        pass


def sizes(db):
    """By table: bytes that it takes with its indexes, and what its rows take in a table that is new."""
    found = {}
    names = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (NAMESPACE,)).fetchall()
    for (name,) in names:
        table = f"{NAMESPACE}.{name}"
        with db.transaction(force_rollback=True):
            db.execute(f"CREATE TABLE public.copied (LIKE {table} INCLUDING ALL)".encode())
            db.execute(f"INSERT INTO public.copied SELECT * FROM {table}".encode())
            found[name] = db.execute(
                "SELECT pg_total_relation_size(%s), pg_total_relation_size('public.copied')", (table,)
            ).fetchone()
    return found


def ratio(found):
    return sum(size for size, _ in found.values()) / sum(live for _, live in found.values())


@pytest.fixture
def server(postgres_binaries):
    with PostgresServer({"autovacuum_naptime": NAP}, binaries=postgres_binaries) as server:
        yield server


@pytest.mark.timeout(60 + 4 * TIME)
async def test_tables_take_at_most_twice_what_is_in_them(server, capsys):
    samples, clock = [], Clock()
    begun = time.monotonic()
    backend = PostgresBackend(server.url(), namespace=NAMESPACE, migrate=True, clock=clock)
    with contextlib.closing(psycopg.connect(server.url(), autocommit=True)) as db:
        async with backend as store:
            while True:
                passed = time.monotonic() - begun
                clock.turn += 1
                await churn(store, clock.turn, round(RATE * PACE))
                await asyncio.sleep(max(0.0, begun + clock.turn * PACE - time.monotonic()))
                if clock.turn * PACE < 2 * KEPT or clock.turn % max(4, NAP):
                    continue
                found = await asyncio.to_thread(sizes, db)
                samples.append(ratio(found))
                if "SITQ_TEST_BLOAT" in os.environ:
                    with capsys.disabled():
                        told(passed, found)
                # A machine with much to do may keep autovacuum from its turns for a while.
                if passed > TIME and samples[-1] <= MOST:
                    break
                assert passed < 3 * TIME, f"times what is in them: {samples}\n{found}"
        (vacuums,) = db.execute(
            "SELECT autovacuum_count FROM pg_stat_user_tables WHERE schemaname = %s AND relname = 'task'",
            (NAMESPACE,),
        ).fetchone()
    assert vacuums > 0
    assert found["task"][1] > 500_000, "there was hardly anything in it"


def told(passed, found):
    largest = sorted(found.items(), key=lambda item: -item[1][0])[:4]
    parts = ", ".join(f"{name} {size >> 10:,} of {live >> 10:,} KiB" for name, (size, live) in largest)
    sys.stdout.write(f"{passed:6.0f} s  {ratio(found):.2f} times the live data: {parts}\n")
