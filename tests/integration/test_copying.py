"""Copies between stores: nothing lost, nothing doubled, whatever happens meanwhile."""

import asyncio
import itertools

import msgspec
import pytest

import sitq.copying.copy as copying
from sitq import KeyRing, SQLiteBackend, TaskQueue, Worker, task
from sitq.backends.base import LIMIT_QUEUE, PAUSE_QUEUE, Backend, Filter, Share, Want
from sitq.backends.memory import MemoryBackend
from sitq.backends.postgres import PostgresBackend
from sitq.backends.redis import RedisBackend
from sitq.copying import CopyError, copy_tasks
from sitq.ids import token
from sitq.move import Cancel, Retry, Settle
from sitq.record import AFTER_ANY_END, WAITING, Edge, Failure, Fair, Limit, Record, State, Unique

HOUR = 3_600_000_000
RAN: list[int] = []
STORES = ["memory", "sqlite"]
PAIRS = [
    *itertools.product(STORES, STORES),
    ("sqlite", "postgres"),
    ("postgres", "redis"),
    ("redis", "memory"),
]


@task(name="test_copying.note")
async def note(number: int) -> int:
    RAN.append(number)
    return number


@pytest.fixture
async def stores(request, tmp_path):
    """A source and a destination, of the kinds that the test names."""
    made = [
        _made(kind, request, tmp_path / f"{place}.db")
        for place, kind in enumerate(getattr(request, "param", ("memory", "sqlite")))
    ]
    for each in made:
        await each.connect()
    yield made
    for each in made:
        await each.close()


def _made(kind: str, request, path) -> Backend:
    match kind:
        case "memory":
            return MemoryBackend()
        case "sqlite":
            return SQLiteBackend(path)
        case "redis":
            return RedisBackend(request.getfixturevalue("redis_url"), namespace=f"copy-{token()}")
        case _:
            url = request.getfixturevalue("postgres_url")
            return PostgresBackend(url, namespace=f"copy_{token()[:20].lower()}", migrate=True)


def want(claim: str, limit: int = 1, queue: str = "default") -> Want:
    return Want(
        claim=claim, worker="w", queues=(Share(queue, limit),), limit=limit, lease=HOUR, python="3.11"
    )


async def everything(backend: Backend) -> dict[str, Record]:
    page = await backend.scan(Filter(), None, 10_000)
    return {one.id: msgspec.structs.replace(one, sequence=0) for one in page.records}


def plain(id: str, **fields) -> Record:
    return Record(id=id, name="test_copying.work", **fields)


@pytest.mark.parametrize("stores", PAIRS, indirect=True, ids="-".join)
async def test_all_that_is_known_of_waiting_tasks_goes_along(stores):
    source, destination = stores
    await source.put(
        [
            [plain("tried", tags=("red",), batch="b", fair=Fair("x"), limits=(Limit("k", slots=3),))],
            [plain("later", delay=HOUR, priority=7, queue="other", unique=Unique("key"), ttl=HOUR)],
            [plain("parent", queue="other"), plain("child", edges=(Edge("parent"),), inputs=("parent",))],
        ]
    )
    (taken,) = (await source.take(want("c1"))).records
    failure = Failure(kind="raised", message="boom", attempt=1)
    await source.apply([Retry(id="tried", token=taken.token or "", failure=failure, delay=5)])
    before = await everything(source)

    report = await copy_tasks(source, destination)

    assert (report.moved, report.left, report.refused) == (4, 0, {})
    assert await everything(source) == {}
    after = await everything(destination)
    for each in (before, after):  # a blocked task's due time is set anew when it may start
        each["child"].due = 0
    assert after == before
    assert await destination.cells("copy/") == []


@pytest.mark.parametrize("stores", PAIRS, indirect=True, ids="-".join)
async def test_a_flow_moves_as_a_whole_and_its_values_with_it(stores):
    source, destination = stores
    await source.put(
        [
            [
                plain("a"),
                plain("b", edges=(Edge("a"),), inputs=("a",), queue="later"),
                plain("m", milestone=True, edges=(Edge("a", AFTER_ANY_END), Edge("b", AFTER_ANY_END))),
                plain("end", edges=(Edge("m"),), queue="later"),
            ]
        ]
    )
    (taken,) = (await source.take(want("c1"))).records
    await source.apply([Settle(id="a", token=taken.token, state=State.COMPLETED, result=b"")])
    report = await copy_tasks(source, destination)
    assert report.moved == 3
    assert (await destination.get(["a"]))[0].state is State.COMPLETED
    assert (await destination.get(["m"]))[0].ends == (1, 0, 0, 0, 0)
    (taken,) = (await destination.take(want("c2", queue="later"))).records
    assert taken.id == "b"
    await destination.apply([Settle(id="b", token=taken.token, state=State.FAILED)])
    states = [one.state for one in await destination.get(["m", "end"])]
    assert states == [State.COMPLETED, State.QUEUED]
    assert (await destination.get(["m"]))[0].ends == (1, 1, 0, 0, 0)


async def test_what_runs_at_the_source_ends_there_and_its_result_follows(stores):
    source, destination = stores
    await source.put([[plain("a"), plain("child", edges=(Edge("a"),))]])
    (taken,) = (await source.take(want("c1"))).records
    report = await copy_tasks(source, destination, wait=False)
    assert (report.moved, report.left) == (0, 2)
    copying = asyncio.create_task(copy_tasks(source, destination))
    await source.apply([Settle(id="a", token=taken.token, state=State.COMPLETED)])
    report = await asyncio.wait_for(copying, 20)
    assert report.left == 0
    assert [one.state for one in await destination.get(["a", "child"])] == [State.COMPLETED, State.QUEUED]


async def test_settings_are_copied_and_what_differs_stays(stores):
    source, destination = stores
    await source.swap(PAUSE_QUEUE + "mail", None, b"why")
    await source.swap(LIMIT_QUEUE + "mail", None, b"1")
    await source.swap("worker/x", None, b"here")
    await destination.swap(LIMIT_QUEUE + "mail", None, b"2")
    report = await copy_tasks(source, destination)
    assert (report.settings, report.kept) == (1, [LIMIT_QUEUE + "mail"])
    cells = {cell.key: cell.value for cell in await destination.cells("")}
    assert cells == {PAUSE_QUEUE + "mail": b"why", LIMIT_QUEUE + "mail": b"2"}


async def test_recent_results_are_copied_and_old_ones_are_not(stores):
    source, destination = stores
    await source.put([[plain("a")], [plain("b")]])
    for taken in (await source.take(want("c1", 2))).records:
        await source.apply([Settle(id=taken.id, token=taken.token, state=State.COMPLETED, result=b"")])
    assert (await copy_tasks(source, destination, results=None)).results == 0
    assert (await copy_tasks(source, destination, results=60)).results == 2
    assert await everything(destination) == await everything(source)
    assert (await copy_tasks(source, destination, results=60)).results == 0


async def test_a_store_is_not_copied_to_itself(tmp_path):
    async with SQLiteBackend(tmp_path / "a.db") as one:
        await one.put([[plain("a")]])
        with pytest.raises(CopyError, match="the same store"):
            await copy_tasks(one, SQLiteBackend(tmp_path / "a.db"))
        assert await one.cells("copy/") == []
        assert len((await one.take(want("c1"))).records) == 1


async def test_one_copy_at_a_time(stores):
    source, destination = stores
    await source.put([[plain("a")]])
    await source.take(want("c1"))
    first = asyncio.create_task(copy_tasks(source, destination))
    async with asyncio.timeout(10):
        while not await source.cells("copy/lock"):  # noqa: ASYNC110 - a store is looked at
            await asyncio.sleep(0)
    with pytest.raises(CopyError, match="under way"):
        await copy_tasks(source, destination)
    first.cancel()
    await asyncio.wait([first])
    await copy_tasks(source, destination, wait=False)


class Cut(Exception):
    """The process of the copy is gone."""


class Fragile:
    """A backend that is cut off after so many calls that write."""

    def __init__(self, backend: Backend, left: list[int]) -> None:
        self._backend = backend
        self._left = left

    def __getattr__(self, name: str):
        found = getattr(self._backend, name)
        if name != "apply":
            return found

        async def call(*args):
            if self._left[0] <= 0:
                raise Cut
            self._left[0] -= 1
            return await found(*args)

        return call


@pytest.mark.parametrize("stores", [("memory", "sqlite"), ("sqlite", "memory")], indirect=True, ids="-".join)
async def test_it_goes_on_after_a_cut_between_any_two_steps(stores, monkeypatch):
    """After each cut, no task can start in both stores, and each is in one of them at least."""
    source, destination = stores
    monkeypatch.setattr(copying, "open_backend", lambda given: given)
    await source.put([[plain(f"t{n}", queue=f"q{n % 3}")] for n in range(9)])
    await source.put([[plain("p"), plain("c", edges=(Edge("p"),)), plain("d", edges=(Edge("c"), Edge("p")))]])
    ids = [*(f"t{n}" for n in range(9)), "p", "c", "d"]
    cuts = 0
    for steps in itertools.count(1):
        left = [steps]
        try:
            report = await copy_tasks(Fragile(source, left), Fragile(destination, left))
        except Cut:
            cuts += 1
        else:
            break
        here, there = await everything(source), await everything(destination)
        open_in = [
            {id for id, one in store.items() if one.state in WAITING and not one.queue.startswith("\x1e")}
            for store in (here, there)
        ]
        assert not open_in[0] & open_in[1]
        assert set(ids) <= here.keys() | there.keys()
    assert cuts >= 4
    assert report.left == 0
    after = await everything(destination)
    assert sorted(after) == sorted(ids)
    assert {one.queue for one in after.values()} == {"q0", "q1", "q2", "default"}
    assert await everything(source) == {}
    assert await source.cells("copy/") == []


async def test_an_interrupted_copy_goes_to_no_other_store(stores, monkeypatch):
    source, destination = stores
    monkeypatch.setattr(copying, "open_backend", lambda given: given)
    await source.put([[plain("a")]])
    with pytest.raises(Cut):
        await copy_tasks(Fragile(source, [1]), destination)
    async with MemoryBackend() as other:
        with pytest.raises(CopyError, match="another store"):
            await copy_tasks(source, other)
    assert (await copy_tasks(source, destination)).moved == 1


async def test_a_task_cancelled_on_its_way_is_cancelled_there_too(stores, monkeypatch):
    source, destination = stores
    monkeypatch.setattr(copying, "open_backend", lambda given: given)
    await source.put([[plain("a")]])
    with pytest.raises(Cut):
        await copy_tasks(Fragile(source, [1]), Fragile(destination, [1]))
    assert await source.apply([Cancel(id="a", reason="no more")]) == [True]
    await copy_tasks(source, destination)
    (record,) = await destination.get(["a"])
    assert (record.state, record.queue) == (State.CANCELLED, "default")


async def test_producers_and_workers_of_both_stores_go_on(tmp_path):
    """Each task runs exactly once, in the one store or the other."""
    RAN.clear()
    source = TaskQueue(SQLiteBackend(tmp_path / "a.db"))
    destination = TaskQueue(MemoryBackend())
    async with source, destination:

        async def produce() -> None:
            for start in range(0, 600, 20):
                await asyncio.gather(*(source.enqueue(note, start + n) for n in range(20)))
                await asyncio.sleep(0.005)

        async with (
            Worker(source.backend, poll_interval=0.05),
            Worker(destination.backend, poll_interval=0.05),
        ):
            producing = asyncio.create_task(produce())
            moved = 0
            while not producing.done():
                moved += (await copy_tasks(source.backend, destination.backend, results=None)).moved
            await producing
            moved += (await copy_tasks(source.backend, destination.backend, results=None)).moved
            async with asyncio.timeout(30):
                while len(RAN) < 600:  # noqa: ASYNC110 - workers are looked at
                    await asyncio.sleep(0.02)
    assert sorted(RAN) == list(range(600))
    assert moved > 0


KEYS = KeyRing([("one", b"1" * 32)])


async def test_signed_tasks_go_to_another_namespace_with_a_new_signature(tmp_path):
    RAN.clear()
    source = TaskQueue(SQLiteBackend(tmp_path / "a.db"), keys=KEYS)
    destination = TaskQueue(SQLiteBackend(tmp_path / "b.db", namespace="other"), keys=KEYS)
    async with source, destination:
        await source.enqueue(note, 7)
        unsigned = await copy_tasks(source.backend, destination.backend, wait=False)
        (why,) = unsigned.refused.values()
        assert "SITQ_SECRET_KEYS" in why
        assert unsigned.moved == 0
        report = await copy_tasks(source.backend, destination.backend, keys=KEYS)
        assert report.refused == {}
        await Worker(destination.backend, keys=KEYS).run(burst=True)
    assert RAN == [7]
