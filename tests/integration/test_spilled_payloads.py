"""Payloads and results that lie in a folder or behind a URL instead of in the store."""

import asyncio
import os
import signal
import stat
import sys
import textwrap
import time
import uuid

import pytest

from sitq import (
    ConfigurationError,
    JSONSerializer,
    KeyRing,
    Secret,
    SerializationError,
    Spill,
    SQLiteBackend,
    TaskQueue,
    Unique,
    ValidationError,
    task,
)
from sitq.backends.memory import MemoryBackend
from sitq.exceptions import BackendError
from sitq.move import Delete
from sitq.parcel import Spilled
from sitq.spill import SpillRoom, file_name, owner_of

KEYS = KeyRing([("one", b"1" * 32)])
LARGE = "x" * 5000
LARGER = "y" * 3_000_000


@task(name="test_spill.double")
async def double(text: str, word: str = "") -> str:
    return text + text + word


@task(name="test_spill.length")
async def length(text: str) -> int:
    return len(text)


@task(name="test_spill.fail")
async def fail(text: str) -> int:
    raise ValueError(len(text))


@pytest.fixture(params=["folder", "url"])
def spill(request, tmp_path):
    if request.param == "folder":
        return Spill(tmp_path / "spilled", above=1000)
    return Spill(f"memory://sitq-{uuid.uuid4()}", above=1000)


@pytest.fixture
async def spilling(backend, spill):
    async with TaskQueue(backend, spill=spill) as queue:
        yield queue


@pytest.fixture
async def room(backend, spill):
    return SpillRoom(Spill(spill.where, above=1000, grace=0), backend)


async def names(room):
    files = await room._opened()
    return sorted(name for name, _ in files.listed())


async def value(queue, task_id):
    result = await queue.get_result(task_id, timeout=20)
    assert result.status == "success", result.error
    return queue.deserialize_result(result)


async def test_large_arguments_and_results_travel_beside_the_store(spilling, spill, room, working, stored):
    task_id = await spilling.enqueue(double, LARGER)
    assert len((await stored(task_id)).payload) < 1000
    assert [owner_of(each) for each in await names(room)] == [task_id]
    async with working(spill=spill):
        assert await value(spilling, task_id) == LARGER * 2
        assert (await spilling.get_results([task_id]))[0].value
    assert len((await stored(task_id)).result) < 1000
    assert [owner_of(each) for each in await names(room)] == [task_id] * 2


async def test_small_ones_stay_in_the_store(spilling, spill, room, working):
    task_id = await spilling.enqueue(double, "a")
    async with working(spill=spill):
        assert await value(spilling, task_id) == "aa"
    assert await names(room) == []


async def test_many_at_once_and_values_of_other_tasks_travel_too(spilling, spill, working):
    async with working(spill=spill):
        first = await spilling.submit(double, LARGE)
        last = await spilling.submit(length, first)
        assert await last == 2 * len(LARGE)


async def test_signed_ones_and_those_with_secrets_travel_too(backend, spill, room, working, stored):
    async with TaskQueue(backend, JSONSerializer(), keys=KEYS, spill=spill) as queue:
        task_id = await queue.enqueue(double, LARGE, Secret("hunter-2000"))
        files = await room._opened()
        (name,) = await names(room)
        assert b"hunter-2000" not in files.read(name, 100_000) + (await stored(task_id)).payload
        async with working(serializer=JSONSerializer(), keys=KEYS, spill=spill):
            assert await value(queue, task_id) == 2 * LARGE + "hunter-2000"


async def test_a_retry_has_a_file_of_its_own(spilling, spill, room, working, stored, backend):  # noqa: PLR0917 - fixtures
    task_id = await spilling.enqueue(fail, LARGE)
    async with working(spill=spill):
        await spilling.get_result(task_id, timeout=10)
        again = await spilling.retry(task_id)
        await backend.apply([Delete(id=task_id)])
        result = await spilling.get_result(again, timeout=10)
    assert result.error == f"ValueError: {len(LARGE)}"
    assert {owner_of(each) for each in await names(room)} == {
        task_id,
        again,
    }


async def test_a_missing_file_ends_the_task_with_a_reason(spilling, spill, room, working):
    task_id = await spilling.enqueue(double, LARGE)
    (name,) = await names(room)
    (await room._opened()).remove(name, time.time() + 10)
    async with working(spill=spill):
        result = await spilling.get_result(task_id, timeout=10)
    assert result.status == "dead"
    assert f"what was spilled as {name} is not in" in result.error


async def test_a_changed_file_is_not_loaded(spilling, spill, room, working):
    task_id = await spilling.enqueue(double, LARGE)
    (name,) = await names(room)
    files = await room._opened()
    body = bytearray(files.read(name, 100_000))
    body[100] ^= 1
    files.write(name, bytes(body))
    async with working(spill=spill):
        result = await spilling.get_result(task_id, timeout=10)
    assert result.status == "dead"
    assert "is not what was spilled" in result.error


@pytest.mark.parametrize("what", ["arguments", "the value of another task"])
async def test_a_worker_that_was_not_told_the_place_hands_back_and_another_one_runs_it(  # noqa: PLR0917 - fixtures
    spilling, spill, working, stored, eventually, caplog, what
):
    given = LARGE
    if what != "arguments":
        async with working(spill=spill):
            given = await spilling.submit(double, LARGE)
            await given
    task_id = await spilling.enqueue(length, given)

    async def handed_back():
        record = await stored(task_id)
        return record.attempt == 1 and record.state == "queued"

    async with working():
        await eventually(handed_back)
    assert "give it the spill=Spill(…) of its producer" in caplog.text
    await spilling.change(task_id, delay=0)
    async with working(spill=spill):
        assert await value(spilling, task_id) == (5000 if what == "arguments" else 10000)
    record = await stored(task_id)
    assert (record.attempt, record.failures, record.crashes) == (2, 0, 0)


async def test_purging_a_task_removes_its_files_and_no_others(spilling, spill, room, working):
    gone, kept, waits = [await spilling.enqueue(double, LARGE + each) for each in "abc"]
    await spilling.change(waits, delay=60)
    async with working(spill=spill):
        await asyncio.gather(value(spilling, gone), value(spilling, kept))
        assert len(await names(room)) == 5
        child = await spilling.options(delay=60).enqueue(double, spilling.handle(kept))
        assert await spilling.purge("completed") == 1
        assert {owner_of(each) for each in await names(room)} == {kept, waits}
        await spilling.change(child, delay=0)
        assert await value(spilling, child) == (LARGE + "b") * 4
        assert await spilling.purge("completed") == 2
        assert [owner_of(each) for each in await names(room)] == [waits]


async def test_a_purge_does_not_remove_the_file_of_a_put_of_the_same_id_that_is_under_way(
    spilling, spill, working, monkeypatch
):
    once, write = spilling.options(id="once"), SpillRoom.write
    async with working(spill=spill):
        await value(spilling, await once.enqueue(double, LARGE))

    async def purge_afterwards(self, pending):
        await write(self, pending)
        assert await spilling.purge("completed") == 1

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(SpillRoom, "write", purge_afterwards)
        await once.enqueue(double, LARGE)
    async with working(spill=spill):
        assert await value(spilling, "once") == LARGE * 2


async def test_a_place_that_is_away_does_not_hold_up_a_purge(  # noqa: PLR0917 - fixtures
    spilling, spill, room, working, monkeypatch, caplog
):
    async with working(spill=spill):
        await value(spilling, await spilling.enqueue(double, LARGE))
    with monkeypatch.context() as away:
        away.setattr(type(await room._opened()), "remove", lambda *_: (_ for _ in ()).throw(OSError("away")))
        assert await spilling.purge("completed") == 1
    assert "the files of deleted tasks are left to the sweep" in caplog.text
    assert await room.sweep() == 2


async def test_the_files_of_a_task_whose_result_is_not_kept_go_soon_after_it(  # noqa: PLR0917 - fixtures
    spilling, spill, room, working, stored, eventually, monkeypatch
):
    monkeypatch.setattr("sitq.worker.upkeep._EVERY", 0.05)
    async with working(spill=spill):
        kept = await spilling.enqueue(double, LARGE)
        task_id = await spilling.options(result_ttl=0).enqueue(double, LARGE)
        await value(spilling, kept)

        async def only_those_of_the_other():
            return {owner_of(each) for each in await names(room)} == {kept}

        assert await eventually(only_those_of_the_other)
        assert await stored(task_id) is None


async def test_the_sweep_looks_at_watched_files_whose_task_is_kept_again_and_again(
    spilling, spill, backend, monkeypatch
):
    monkeypatch.setattr("sitq.spill._LOOK_AGAIN", 0.0)
    own = SpillRoom(spill, backend)
    task_id = await spilling.enqueue(double, LARGE)
    own.watch(await names(own), task_id, 0)
    assert [await own.sweep() for _ in range(2)] == [0, 0]
    await backend.apply([Delete(id=task_id)])
    assert [await own.sweep() for _ in range(2)] == [1, 0]


async def test_what_a_repeated_enqueue_left_behind_is_swept_while_the_task_lives(
    spilling, spill, room, working
):
    once = spilling.options(id="once")
    for _ in range(3):
        await once.enqueue(double, LARGE)
    assert len(await names(room)) == 3
    assert await room.sweep() == 2
    async with working(spill=spill):
        assert await value(spilling, "once") == LARGE * 2


async def test_a_reference_to_the_file_of_another_task_removes_nothing(
    spilling, spill, room, working, backend
):
    victim = await spilling.options(delay=60).enqueue(double, LARGE)
    async with working(spill=spill):
        await value(spilling, await spilling.enqueue(double, LARGE))
    scan = backend.scan

    async def forged(*given):
        page = await scan(*given)
        (other,) = await backend.get([victim])
        for record in page.records:
            record.payload = record.result = other.payload
        return page

    backend.scan = forged
    assert await spilling.purge("completed") == 1
    assert victim in {owner_of(each) for each in await names(room)}


async def test_a_result_that_is_gone_is_an_error_of_its_reader(spilling, spill, room, working):
    task_id = await spilling.enqueue(double, "a" * 600)
    async with working(spill=spill):
        assert await value(spilling, task_id) == "a" * 1200
    (name,) = await names(room)
    (await room._opened()).remove(name, time.time() + 10)
    with pytest.raises(SerializationError, match="is not in"):
        await spilling.get_result(task_id)


async def test_the_sweep_removes_the_files_of_tasks_that_are_gone_and_no_other(
    spilling, spill, room, backend, working
):
    kept, gone = [await spilling.enqueue(double, LARGE + each) for each in "ab"]
    files = await room._opened()
    files.write(file_name("task", "never-stored", b"12345678"), b"an orphan of a crash")
    files.write("not-of-sitq", b"somebody else's")
    await backend.apply([Delete(id=gone)])
    assert await SpillRoom(spill, backend).sweep() == 0  # they are younger than the grace
    assert await room.sweep() == 2
    assert [owner_of(each) for each in await names(room)] == [None, kept]


async def test_the_sweep_takes_bounded_steps_and_comes_around(spilling, room):
    for number in range(7):
        await spilling.enqueue(double, LARGE + str(number))
    files = await room._opened()
    for number in range(5):
        files.write(file_name("task", f"orphan-{number}", b"12345678"), b"x")
    removed = [await room.sweep(most=3) for _ in range(10)]
    assert sum(removed) == 5
    assert max(removed) <= 3
    assert len(await names(room)) == 7


async def test_two_stores_that_share_a_place_leave_each_other_alone(spill, backend):
    async with (
        MemoryBackend() as other,
        TaskQueue(other, spill=spill) as queue,
        TaskQueue(backend, spill=spill) as own,
    ):
        await queue.enqueue(double, LARGE)
        await own.enqueue(double, LARGE)
        for store in (backend, other):
            assert await SpillRoom(Spill(spill.where, grace=0), store).sweep() == 0


async def test_workers_sweep(spilling, spill, backend, working, room, eventually, monkeypatch):  # noqa: PLR0917 - fixtures
    monkeypatch.setattr("sitq.worker.upkeep._EVERY", 0.05)
    files = await room._opened()
    files.write(file_name("task", "orphan", b"12345678"), b"x")
    async with working(spill=Spill(spill.where, grace=0)):

        async def swept():
            return await names(room) == []

        assert await eventually(swept)


async def test_what_cannot_be_written_is_not_enqueued(backend, tmp_path, monkeypatch):
    async with TaskQueue(backend, spill=Spill(tmp_path / "file" / "folder", above=10)) as queue:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(BackendError, match="did not take a payload"):
            await queue.enqueue(double, LARGE)
        assert await queue.stats() == {}


async def test_a_result_that_cannot_be_written_fails_its_task_and_runs_it_once(
    backend, tmp_path, working, stored
):
    spill = Spill(tmp_path / "file" / "folder", above=10)
    async with TaskQueue(backend) as queue:
        task_id = await queue.options(retry=3).enqueue(double, LARGE)
        (tmp_path / "file").write_text("in the way")
        async with working(spill=spill):
            result = await queue.get_result(task_id, timeout=10)
    assert result.status == "failed"
    assert "did not take a payload" in result.error
    assert (await stored(task_id)).attempt == 1


async def test_a_place_that_cannot_be_reached_now_lets_the_task_wait(  # noqa: PLR0917 - fixtures
    spilling, spill, room, working, stored, eventually, monkeypatch
):
    task_id = await spilling.enqueue(double, LARGE)
    files = type(await room._opened())
    monkeypatch.setattr(files, "read", lambda *_: (_ for _ in ()).throw(OSError("away")))
    async with working(spill=spill):

        async def handed_back():
            record = await stored(task_id)
            return record.attempt and record.state == "queued"

        await eventually(handed_back)
    assert (await stored(task_id)).failures == 0


async def test_arguments_that_may_replace_those_of_another_task_are_not_spilled(spilling, room):
    debounced = spilling.options(unique=Unique("key", clash="replace"))
    await debounced.enqueue(double, "small")
    with pytest.raises(ValidationError, match="are not spilled"):
        await debounced.enqueue(double, LARGE)
    assert await names(room) == []


# -- a folder ----------------------------------------------------------------------------------------------


async def test_files_and_folders_are_their_owners_alone_and_whole(tmp_path):
    async with MemoryBackend() as backend, TaskQueue(backend, spill=Spill(tmp_path / "s", above=10)) as queue:
        await queue.enqueue(double, LARGE)
    (home,) = (tmp_path / "s").iterdir()
    (file,) = home.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


async def test_what_a_write_left_unfinished_is_swept(tmp_path):
    async with MemoryBackend() as backend:
        room = SpillRoom(Spill(tmp_path / "s", grace=0), backend)
        files = await room._opened()
        (files._path / ".part-0123").write_bytes(b"half")
        assert await room.sweep() == 1


async def test_a_name_from_the_store_leads_nowhere_else(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "secret").write_text("x")
    async with MemoryBackend() as backend:
        room = SpillRoom(Spill(tmp_path / "s"), backend)
        for name in ("../../secret", "/etc/passwd", "task.i.a/../b.0123456789abcdef", ""):
            with pytest.raises(SerializationError, match="name is none of sitq's"):
                await room.read(Spilled(name, 1, b""), "a")
        with pytest.raises(SerializationError, match="more than"):
            await room.read(Spilled(file_name("task", "a", b"12345678"), 1 << 31, b""), "a")


@pytest.mark.parametrize("task_id", ["0190a-b_c", "ä ö/..", "../../etc", "x" * 128, "ü" * 64, ".", "a.b"])
def test_the_name_of_a_file_tells_its_task_and_fits_every_file_system(task_id):
    name = file_name("result", task_id, b"12345678")
    assert owner_of(name) == task_id
    assert len(name) < 255
    assert name.isascii()
    assert "/" not in name


CRASH = textwrap.dedent(
    """
    import asyncio, os, signal, sys
    from sitq import Spill, SQLiteBackend, TaskQueue
    from sitq.session import Session

    async def main():
        async with TaskQueue(SQLiteBackend(sys.argv[1]), spill=Spill(sys.argv[2], above=10)) as queue:
            session = await queue._session()
            submit = session._puts.submit
            session._puts.submit = lambda group: os.kill(os.getpid(), signal.SIGKILL)
            await queue.enqueue(len, "x" * 1000)

    asyncio.run(main())
    """
)


async def test_a_kill_between_file_and_store_leaves_an_orphan_that_is_swept(tmp_path):
    path, folder = tmp_path / "t.db", tmp_path / "s"
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", CRASH, str(path), str(folder))
    assert await killed.wait() == -signal.SIGKILL
    async with SQLiteBackend(path) as backend, TaskQueue(backend) as queue:
        assert await queue.stats() == {}
        left = [name for _, _, files in os.walk(folder) for name in files]
        assert len(left) == 1
        assert await SpillRoom(Spill(folder), backend).sweep() == 0
        assert await SpillRoom(Spill(folder, grace=0), backend).sweep() == 1


# -- settings ----------------------------------------------------------------------------------------------


def test_bad_settings_are_refused(tmp_path):
    for bad in ({"where": ""}, {"where": 3}, {"where": "x", "above": 0}, {"where": "x", "grace": -1}):
        with pytest.raises(ValidationError):
            Spill(**bad)
    with pytest.raises(ValidationError, match="spill must be a Spill"):
        TaskQueue("memory://", spill=str(tmp_path))


def test_a_url_without_fsspec_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'sitq-tasks\[file\]'"):
        Spill("s3://bucket/tasks")
    Spill("folder")


def test_a_password_in_the_url_is_not_shown():
    pytest.importorskip("fsspec")
    assert "hunter2" not in repr(Spill("memory://me:hunter2@host/x"))


async def test_the_error_of_a_large_payload_says_how_to_spill(queue):
    with pytest.raises(SerializationError, match=r"spill=Spill\(folder\)"):
        await queue.enqueue(double, LARGER)
