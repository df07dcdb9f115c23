import asyncio
import os
import sqlite3
import sys

import pytest

from sitq import exceptions
from sitq.backends.base import Share, Want
from sitq.backends.sqlite import SQLiteBackend, location
from sitq.core import Task
from sitq.exceptions import BackendError, ConfigurationError, ResourceExhaustionError
from sitq.move import Settle
from sitq.queue import TaskQueue
from sitq.record import Record, State

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")


def want(claim, limit=10):
    return Want(
        claim=claim,
        worker="w",
        queues=(Share("default", limit),),
        limit=limit,
        lease=10_000_000,
        python="3.11",
    )


def tasks(n, prefix="t", size=10):
    return [[Record(id=f"{prefix}{number}", name="work", payload=b"x" * size)] for number in range(n)]


async def refusal(path, kind, **options):
    with pytest.raises(kind) as raised:
        await SQLiteBackend(path, **options).connect()
    assert str(path) in str(raised.value)
    return str(raised.value)


async def test_a_folder_is_no_database(tmp_path):
    assert "is a folder" in await refusal(tmp_path, exceptions.ConnectionError)


async def test_a_missing_folder_is_named(tmp_path):
    assert "does not exist" in await refusal(tmp_path / "missing" / "t.db", exceptions.ConnectionError)


async def test_a_tilde_is_not_expanded_silently():
    assert "expanduser" in await refusal("~/nowhere/t.db", exceptions.ConnectionError)


async def test_another_file_is_not_overwritten(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("these are notes\n" * 100)
    assert "not a SQLite database" in await refusal(path, ConfigurationError)
    assert path.read_text().startswith("these are notes")


async def test_a_newer_schema_says_what_to_do(tmp_path):
    path = tmp_path / "t.db"
    async with SQLiteBackend(path):
        pass
    with sqlite3.connect(path) as db:
        db.execute("UPDATE sitq_meta SET value = 99 WHERE key = 'schema'")
    db.close()
    assert "upgrade sitq" in await refusal(path, ConfigurationError)


async def test_a_network_mount_is_refused_unless_forced(tmp_path, monkeypatch):
    path = str(tmp_path / "t.db")
    with pytest.raises(ConfigurationError, match="nfs4"):
        location.prepare(path, force=False, lookup=lambda _: "nfs4")
    location.prepare(path, force=True, lookup=lambda _: "nfs4")
    assert (tmp_path / "t.db").exists()


def test_the_mount_of_a_path_is_the_innermost_one():
    assert location.mount_type("/proc/self") in {"proc", ""}


@pytest.mark.parametrize("left", ["half of it", "its header"])
async def test_a_corrupt_file_says_how_to_save_what_is_left(tmp_path, left):
    path = tmp_path / "t.db"
    async with TaskQueue(SQLiteBackend(path)) as queue:
        await queue.enqueue_many([Task(print, ("x" * 500,)) for _ in range(200)])
    data = path.read_bytes()
    noise = data[:100] + b"\xa5" * (len(data) - 100)
    path.write_bytes(data[: len(data) // 2] if left == "half of it" else noise)
    with pytest.raises(BackendError, match=r"t\.db is damaged: restore it, or save what can be read with"):
        async with TaskQueue(SQLiteBackend(path)) as queue:
            await queue.enqueue(print)


@POSIX
@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="needs another user")
@pytest.mark.parametrize("mode", [0o444, 0o000])
async def test_what_may_not_be_written_is_refused_with_the_reason(tmp_path, mode):
    path = tmp_path / "t.db"
    async with SQLiteBackend(path):
        pass
    path.chmod(mode)
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(exceptions.ConnectionError, match="permissions"):
            await SQLiteBackend(path).connect()
    finally:
        os.seteuid(0)


@POSIX
async def test_the_file_is_its_owners_alone(tmp_path):
    path = tmp_path / "t.db"
    async with SQLiteBackend(path) as backend:
        assert path.stat().st_mode & 0o777 == 0o600
        assert backend.traits.local


@POSIX
async def test_a_file_that_others_can_write_is_not_local(tmp_path):
    path = tmp_path / "t.db"
    async with SQLiteBackend(path):
        pass
    path.chmod(0o666)
    async with SQLiteBackend(path) as backend:
        assert not backend.traits.local


@pytest.mark.parametrize("namespace", ["", "A", "1a", "a-b", 'a"; DROP', "a" * 42])
def test_a_namespace_must_be_able_to_prefix_a_table(namespace):
    with pytest.raises(ConfigurationError, match="namespace"):
        SQLiteBackend("t.db", namespace=namespace)


def test_the_backend_shows_its_path():
    assert repr(SQLiteBackend("t.db")) == "SQLiteBackend('t.db')"
    assert repr(SQLiteBackend("t.db", namespace="other")) == "SQLiteBackend('t.db', namespace='other')"


async def test_use_after_close_is_an_error(tmp_path):
    backend = SQLiteBackend(tmp_path / "t.db")
    await backend.connect()
    channel = backend.lease_channel()
    await backend.close()
    await backend.close()
    with pytest.raises(BackendError):
        await backend.get(["a"])
    with pytest.raises(BackendError):
        channel.renew([], 1)
    await backend.connect()
    assert await backend.get(["a"]) == [None]
    await backend.close()


async def test_a_full_disk_refuses_tasks_stops_claims_and_lets_running_ones_be_settled(tmp_path):
    async with SQLiteBackend(tmp_path / "t.db") as backend:
        await backend.put(tasks(200, size=500))
        taken = await backend.take(want("c", 50))
        db = backend._engine.writer.db.raw
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages + 3}")

        async def fill():
            for number in range(20):
                await backend.put(tasks(20, f"u{number}-", 1000))

        with pytest.raises(ResourceExhaustionError):
            await fill()
        assert (await backend.take(want("d"))).records == []
        moves = [
            Settle(id=record.id, token="c", state=State.COMPLETED, result=b"y" * 1000)
            for record in taken.records
        ]
        assert all(await backend.apply(moves))
        with pytest.raises(ResourceExhaustionError):
            await backend.put(tasks(1, "v"))
        db.execute("PRAGMA max_page_count = 1000000")
        backend._engine.writer._full_since -= 10
        await backend.put(tasks(1, "w"))
        assert (await backend.take(want("e"))).records


async def test_a_corrupt_record_is_put_aside_and_the_others_are_returned(tmp_path):
    async with SQLiteBackend(tmp_path / "t.db") as backend:
        await backend.put(tasks(3))
        with sqlite3.connect(tmp_path / "t.db") as db:
            ours = "SELECT sequence FROM sitq_task WHERE id = 't1'"
            db.execute(f"UPDATE sitq_body SET body = x'ff' WHERE sequence = ({ours})")
        db.close()
        taken = await backend.take(want("c"))
        assert [record.id for record in taken.records] == ["t0", "t2"]
        (dead,) = await backend.get(["t1"])
        assert dead is not None
        assert dead.state is State.DEAD
        assert "corrupt" in dead.errors[0].message


async def test_a_job_that_fails_does_not_hurt_the_others_of_its_transaction(tmp_path):
    async with SQLiteBackend(tmp_path / "t.db") as backend:
        broken = Record(id="broken", name="work")
        broken.id = "\ud800"
        answers = await asyncio.gather(
            backend.put(tasks(1, "a")),
            backend.put([[broken]]),
            backend.put(tasks(1, "b")),
            return_exceptions=True,
        )
        assert isinstance(answers[1], Exception)
        assert [record is not None for record in await backend.get(["a0", "b0"])] == [True, True]
