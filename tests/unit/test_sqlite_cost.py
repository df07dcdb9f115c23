"""What a claim costs does not depend on how many tasks wait: counted in steps of SQLite's virtual machine."""

import pytest

from sitq.backends.base import PAUSE_KEY, PAUSE_NAME, Share, Want
from sitq.backends.sqlite import SQLiteBackend
from sitq.record import Fair, Limit, Record

FEW, MANY = 300, 6000


def plain(number):
    return {"name": "wanted"}


def paused_function(number):
    return {"name": "wanted" if number % 10 == 0 else "paused"}


def paused_key(number):
    return {"name": "wanted", "limits": () if number % 10 == 0 else (Limit("paused"),)}


def left_function(number):
    return {"name": "wanted" if number % 10 == 0 else "left"}


def over_a_limit(number):
    return {"name": "wanted", "limits": () if number % 10 == 0 else (Limit("shut", slots=0),)}


def many_keys_over_their_limit(number):
    return {
        "name": "wanted",
        "limits": () if number % 10 == 0 else (Limit(f"customer:{number // 10}", slots=0),),
    }


def a_tenant_each(number):
    return {"name": "wanted", "fair": Fair(f"tenant:{number}")}


def due_later(number):
    return {"name": "wanted", "delay": 0 if number % 10 == 0 else 3_600_000_000}


async def cost(path, n, kind):
    """Steps of one claim of 20 tasks, after earlier ones have put aside what may not start."""
    async with SQLiteBackend(path, synchronous="NORMAL") as backend:
        await backend.swap(PAUSE_NAME + "paused", None, b"x")
        await backend.swap(PAUSE_KEY + "paused", None, b"x")
        records = [Record(id=f"t{number}", **kind(number)) for number in range(n)]
        for start in range(0, n, 1000):
            await backend.put([[record] for record in records[start : start + 1000]])
        steps = 0

        def count():
            nonlocal steps
            steps += 1

        for number in range(6):
            want = Want(
                claim=f"c{number}",
                worker="w",
                queues=(Share("default", 4),),
                limit=4,
                lease=60_000_000,
                python="3.11",
                leave=frozenset({"left"}),
            )
            if number == 5:
                backend._engine.writer.db.raw.set_progress_handler(count, 10)
            assert len((await backend.take(want)).records) == 4
        backend._engine.writer.db.raw.set_progress_handler(None, 0)
        return steps


@pytest.mark.parametrize(
    "kind",
    [
        plain,
        paused_function,
        paused_key,
        left_function,
        over_a_limit,
        many_keys_over_their_limit,
        a_tenant_each,
        due_later,
    ],
)
async def test_a_claim_costs_the_same_whatever_waits_behind_it(tmp_path, kind):
    few = await cost(tmp_path / "few.db", FEW, kind)
    many = await cost(tmp_path / "many.db", MANY, kind)
    assert many <= 1.3 * few + 50, (few, many)
