"""`sitq copy` as a user types it, and killed at any instant."""

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys

import pytest

from sitq import SQLiteBackend
from sitq.backends.base import Filter
from sitq.record import Edge, Record, State

TASKS = 6_000
KILLS = 4


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "sitq", "copy", *arguments]


def fill(path, records) -> None:
    async def put() -> None:
        async with SQLiteBackend(path) as backend:
            await backend.put([[record] for record in records])

    asyncio.run(put())


def look(path) -> dict[str, Record]:
    async def read() -> dict[str, Record]:
        async with SQLiteBackend(path) as backend:
            page = await backend.scan(Filter(), None, 100_000)
            return {one.id: one for one in page.records}

    return asyncio.run(read())


def stored(path) -> int:
    """How many tasks are in a file that may not be one yet."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        try:
            return db.execute("SELECT count(*) FROM sitq_task").fetchone()[0]
        except sqlite3.OperationalError:
            return 0


def runs_until_moved(running: subprocess.Popen, path, tasks: int) -> bool:
    """Wait until a copy has stored so many tasks more; False if it ended before that."""
    before = stored(path) if path.exists() else 0
    while running.poll() is None:
        if path.exists() and stored(path) >= before + tasks:
            return True
    return False


def test_it_moves_tasks_and_says_how_many(tmp_path):
    fill(tmp_path / "a.db", [Record(id=f"t{n}", name="work") for n in range(3)])
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in "ab"]
    done = subprocess.run(command(*urls, "--json"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["moved"] == 3
    assert sorted(look(tmp_path / "b.db")) == ["t0", "t1", "t2"]
    assert look(tmp_path / "a.db") == {}


def test_a_source_that_is_not_there_is_said_so(tmp_path):
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in "ab"]
    done = subprocess.run(command(*urls), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nothing to copy" in done.stderr


@pytest.mark.timeout(120)
def test_killed_again_and_again_it_loses_nothing_and_doubles_nothing(tmp_path):
    """Every task is in one of the stores after each kill, and may start in one of them at most."""
    chance = random.Random(7)
    records = [Record(id=f"t{n:05}", name="work", queue=f"q{n % 3}") for n in range(TASKS)]
    flow = [Record(id=f"f{n}", name="work", edges=(Edge(f"f{n - 1}"),) if n else ()) for n in range(40)]
    fill(tmp_path / "a.db", [*records, *flow])
    ids = {one.id for one in (*records, *flow)}
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in "ab"]
    kills = 0
    while True:
        running = subprocess.Popen(command(*urls), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if kills < KILLS and runs_until_moved(running, tmp_path / "b.db", chance.randrange(1, 700)):
            os.kill(running.pid, signal.SIGKILL)
            kills += 1
        _, errors = running.communicate(timeout=60)
        if running.returncode != -signal.SIGKILL:
            assert running.returncode == 0, errors
            break
        here, there = look(tmp_path / "a.db"), look(tmp_path / "b.db")
        assert here.keys() | there.keys() == ids
        may_start = [
            {id for id, one in store.items() if not one.queue.startswith("\x1e")} for store in (here, there)
        ]
        assert not may_start[0] & may_start[1]
    assert kills == KILLS
    after = look(tmp_path / "b.db")
    assert after.keys() == ids
    assert {one.state for one in after.values()} == {State.QUEUED, State.BLOCKED}
    assert {one.queue for one in after.values()} == {"q0", "q1", "q2", "default"}
    assert look(tmp_path / "a.db") == {}
