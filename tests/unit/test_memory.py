import asyncio
import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitq.backends import open_backend, rules
from sitq.backends.base import Filter, Lease, Page, Placed, Share, Taken, Want
from sitq.backends.memory import MemoryBackend
from sitq.backends.memory.agenda import Agenda
from sitq.backends.memory.store import Store
from sitq.exceptions import BackendError, ValidationError
from sitq.move import Cancel, Change, Delete, Lapse, Move, Release, Retry, Settle
from sitq.record import DAY, SECOND, TERMINAL, Edge, Fair, Limit, Record, State, Unique


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1_000 * SECOND

    def __call__(self) -> int:
        return self.now


def want(claim: str, limit: int = 10, queues: tuple[str, ...] = ("default",), **fields) -> Want:
    shares = tuple(Share(queue, limit) for queue in queues)
    given = {"worker": "w", "lease": 10 * SECOND, "python": "3.11"} | fields
    return Want(claim=claim, queues=shares, limit=limit, **given)


def settle(record: Record, state: State = State.COMPLETED) -> Settle:
    return Settle(id=record.id, token=record.token, state=state)


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
async def backend(clock):
    async with MemoryBackend(clock=clock) as backend:
        yield backend


# -- who shares what ---------------------------------------------------------------------------------------


async def test_a_store_of_its_own_is_shared_with_nobody():
    async with MemoryBackend() as one, MemoryBackend() as other:
        await one.put([[Record(id="a")]])
        assert await other.get(["a"]) == [None]


async def test_data_outlives_close_and_is_found_by_the_next_connect():
    backend = MemoryBackend()
    async with backend:
        await backend.put([[Record(id="a")]])
    async with backend:
        assert (await backend.get(["a"]))[0] is not None


async def test_a_name_is_shared_within_its_namespace():
    async with (
        MemoryBackend.named("jobs") as one,
        open_backend("memory://jobs") as other,
        open_backend("memory://jobs?namespace=theirs") as foreign,
    ):
        await one.put([[Record(id="a")]])
        assert (await other.get(["a"]))[0] is not None
        assert await foreign.get(["a"]) == [None]


async def test_a_named_store_ends_with_the_last_backend_on_it():
    async with MemoryBackend.named("gone") as backend:
        await backend.put([[Record(id="a")]])
    del backend
    async with MemoryBackend.named("gone") as backend:
        assert await backend.get(["a"]) == [None]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
async def test_a_fork_gets_a_named_store_of_its_own(monkeypatch):
    parent = MemoryBackend.named("forked")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert MemoryBackend.named("forked")._store is not parent._store


@pytest.mark.parametrize("url", ["memory:///path", "memory://name/path", "memory://?color=red"])
def test_a_url_with_more_than_a_name_is_refused(url):
    with pytest.raises(ValidationError, match=r"has a path|unknown option"):
        open_backend(url)


def test_repr_says_how_to_make_it_again():
    assert repr(MemoryBackend()) == "MemoryBackend()"
    assert repr(MemoryBackend(namespace="n")) == "MemoryBackend(namespace='n')"
    assert repr(MemoryBackend.named("jobs", namespace="n")) == "MemoryBackend.named('jobs', namespace='n')"


async def test_use_without_connect_is_an_error_that_names_the_backend():
    with pytest.raises(BackendError, match=r"MemoryBackend\(\) is not connected"):
        await MemoryBackend().get(["a"])


async def test_a_closed_lease_channel_says_so(backend):
    channel = backend.lease_channel()
    channel.close()
    channel.close()
    with pytest.raises(BackendError, match="closed"):
        channel.renew([Lease("a", "t")], SECOND)


# -- threads and loops -------------------------------------------------------------------------------------


async def test_several_threads_claim_each_task_once():
    backend = MemoryBackend()
    await backend.connect()
    total = 2000
    await backend.put([[Record(id=str(number))] for number in range(total)])
    ran: list[str] = []

    async def work(worker: int) -> None:
        taken = Taken([], 0)
        for turn in range(total):
            taken = await backend.take(want(f"{worker}-{turn}", 7, worker=str(worker)))
            if not taken.records:
                return
            assert all(await backend.apply([settle(record) for record in taken.records]))
            ran.extend(record.id for record in taken.records)

    threads = [threading.Thread(target=asyncio.run, args=(work(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert sorted(ran, key=int) == [str(number) for number in range(total)]
    assert await backend.tally() == {"default": {State.COMPLETED: total}}


async def test_a_hint_of_another_thread_wakes_a_waiter(backend):
    listener = backend.listen(["queue/default"])
    thread = threading.Thread(target=asyncio.run, args=(backend.put([[Record(id="a")]]),))
    thread.start()
    assert await listener.wait(10)
    await asyncio.to_thread(thread.join)
    listener.close()


# -- what it costs -----------------------------------------------------------------------------------------


async def test_tasks_that_may_not_start_cost_a_claim_one_look_at_their_lane(backend, monkeypatch):
    await backend.put([[Record(id=f"u{number}", name="unknown")] for number in range(3000)])
    limit = (Limit("none", slots=0),)
    await backend.put([[Record(id=f"l{number}", name="limited", limits=limit)] for number in range(3000)])
    await backend.put([[Record(id="a", name="known")]])
    looks = 0
    peek = Agenda.peek

    def counting(agenda: Agenda) -> int | None:
        nonlocal looks
        looks += 1
        return peek(agenda)

    monkeypatch.setattr(Agenda, "peek", counting)
    taken = await backend.take(want("c", leave=frozenset({"unknown"})))
    assert [record.id for record in taken.records] == ["a"]
    assert looks < 50


async def test_agendas_do_not_grow_by_changing_the_same_tasks_again_and_again(backend, clock):
    await backend.put([[Record(id="a", ttl=DAY)]])
    for turn in range(20_000):
        await backend.apply([Change(id="a", due=clock.now + turn % 7 * SECOND, priority=turn % 5)])
    queue = backend._store.queues["default"]
    agendas = [queue.scheduled, queue.overdue, *(lane.ready for lane in queue.lanes.values())]
    assert all(len(agenda._run) + len(agenda._heap) < 2500 for agenda in agendas)


async def test_nothing_is_left_of_tasks_that_were_purged(backend, clock):
    for turn in range(30):
        clock.now += DAY
        parents = [Record(id=f"p{turn}-{number}", keep=0, keep_failed=0) for number in range(50)]
        children = [
            Record(
                id=f"c{turn}-{number}",
                queue=f"q{turn}",
                keep=0,
                keep_failed=0,
                edges=(Edge(f"p{turn}-{number}", "gaccc"),),
                limits=(Limit(f"k{turn}", slots=5, rate=100),),
                fair=Fair(f"t{turn}-{number}"),
                unique=Unique(f"u{turn}-{number}", scope="window", window=DAY // 2),
                ttl=SECOND,
            )
            for number in range(50)
        ]
        await backend.put([[*parents, *children]])
        taken = await backend.take(want(f"a{turn}", 50))
        states = [State.COMPLETED, State.FAILED]
        await backend.apply([settle(one, states[at % 2]) for at, one in enumerate(taken.records)])
        await backend.take(want(f"b{turn}", 3, (f"q{turn}",)))
        await backend.swap(f"cell{turn}", None, b"x", SECOND)
    clock.now += DAY  # the leases run out, and what was started once is beyond its ttl
    for turn in range(30):
        taken = await backend.take(want(f"c{turn}", 50, (f"q{turn}",)))
        await backend.apply([settle(one) for one in taken.records])
    clock.now += 100 * DAY
    while await backend.tend(70):
        clock.now += DAY
    store = backend._store
    rows = [store.records, store.by_sequence, store.queues, store.claims, store.numbered, store.keys]
    ties = [store.family.children, store.family.waits, store.meters.by_key, store.meters._idle]
    cells = [store.cells._cells, store.cells._keys, store.cells._mortal]
    assert [*rows, *ties, *cells] == [{}] * 9 + [set(), {}, [], set()]
    assert await backend.scan(Filter()) == Page([], None)
    assert len(store.order) <= 1000


# -- the indexes agree with the records --------------------------------------------------------------------


def assert_sound(store: Store) -> None:
    """Everything that is kept beside the records says what they say."""
    records = list(store.records.values())
    assert list(store.by_sequence) == [record.sequence for record in records]
    for queue in store.queues.values():
        here = [record for record in records if record.queue == queue.name]
        expected = {state: sum(one.state is state for one in here) for state in State}
        assert queue.counts() == {state: count for state, count in expected.items() if count}
    running = {record.id for record in records if record.state is State.RUNNING}
    assert {id for claim in store.claims.values() for id in claim.running} == running
    assert set(store.family.waits) == {one.id for one in records if one.state is State.BLOCKED}
    alive = [record for record in records if record.state not in TERMINAL]
    edges = {(edge.parent, one.id) for one in alive for edge in one.edges if edge.parent in store.records}
    assert {(parent, id) for parent, ids in store.family.children.items() for id in ids} == edges
    for key, meter in store.meters.by_key.items():
        using = [one for one in alive if any(limit.key == key for limit in one.limits)]
        assert meter.uses == len(using)
        assert meter.running == sum(one.id in running for one in using)
    for record in records:
        held = (record.lease_until, record.owner)
        assert (record.state is State.RUNNING) == (None not in held) == (held != (None, None))


NAMES = ["a", "b", "c", "d", "e"]
records = st.builds(
    Record,
    id=st.sampled_from(NAMES),
    queue=st.sampled_from(["default", "other"]),
    priority=st.integers(-1, 1),
    delay=st.sampled_from([0, 0, SECOND]),
    ttl=st.sampled_from([None, SECOND]),
    keep=st.sampled_from([0, 5 * SECOND]),
    room=st.sampled_from([None, 3]),
    edges=st.lists(
        st.builds(Edge, st.sampled_from(NAMES), st.sampled_from(["gcccc", "gaafc"])), max_size=2
    ).map(tuple),
    limits=st.sampled_from(
        [(), (Limit("k", slots=1),), (Limit("k"), Limit("r", rate=1), Limit("k", slots=2))]
    ),
    unique=st.none()
    | st.builds(
        Unique,
        st.sampled_from(["u", "v"]),
        scope=st.sampled_from(["waiting", "active", "window"]),
        window=st.just(2 * SECOND),
        clash=st.sampled_from(["keep", "refuse", "replace", "again"]),
    ),
    fair=st.none() | st.builds(Fair, st.sampled_from(["x", "y"])),
)
steps = st.one_of(
    st.tuples(st.just("put"), st.lists(records, max_size=3)),
    st.tuples(st.just("take"), st.integers(0, 3)),
    st.tuples(st.just("settle"), st.sampled_from(TERMINAL)),
    st.tuples(st.sampled_from(["retry", "release", "lapse"]), st.sampled_from([0, SECOND])),
    st.tuples(st.just("cancel"), st.sampled_from(NAMES)),
    st.tuples(st.just("change"), st.sampled_from(NAMES)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES)),
    st.tuples(st.just("pass"), st.sampled_from([SECOND, 11 * SECOND])),
    st.tuples(st.just("tend"), st.integers(0, 5)),
)


async def do(backend: MemoryBackend, step: str, detail, number: int) -> None:
    clock = backend._store.clock
    if step == "put":
        (answers,) = await backend.put([detail])
        assert len(answers) == len(detail)
    elif step == "take":
        taken = await backend.take(want(str(number), detail, ("default", "other")))
        assert len(taken.records) <= detail
        assert taken.next is None or taken.next >= taken.now
    elif step == "pass":
        clock.now += detail
    elif step == "tend":
        assert await backend.tend(detail) <= detail
    else:
        await backend.apply([move_of(backend, step, detail, number)])


def move_of(backend: MemoryBackend, step: str, detail, number: int) -> Move:
    later = backend._store.clock() + SECOND
    running = [id for claim in backend._store.claims.values() for id in claim.running]
    id = running[number % len(running)] if running else "a"
    record = backend._store.records.get(id)
    token = (record and record.token) or ""
    return {
        "cancel": lambda: Cancel(id=detail),
        "change": lambda: Change(id=detail, due=later, priority=number % 3),
        "delete": lambda: Delete(id=detail, end=None if number % 2 else State.COMPLETED),
        "settle": lambda: Settle(id=id, token=token, state=detail),
        "retry": lambda: Retry(id=id, token=token, delay=detail, freeze="k" if detail else None),
        "release": lambda: Release(id=id, token=token, delay=detail),
        "lapse": lambda: Lapse(id=id, token=token),
    }[step]()


@settings(max_examples=200, deadline=None)
@given(st.lists(steps, max_size=40))
async def test_whatever_happens_the_indexes_agree_with_the_records(history):
    async with MemoryBackend(clock=Hands()) as backend:
        for number, (step, detail) in enumerate(history):
            await do(backend, step, detail, number)
            assert_sound(backend._store)


# -- rules that the docstrings settle ----------------------------------------------------------------------


async def test_a_stop_is_not_lost_to_a_retry(backend):
    assert await backend.put([[Record(id="a")]]) == [[Placed("a")]]
    (record,) = (await backend.take(want("c"))).records
    assert await backend.apply(
        [Cancel(id="a", reason="enough"), Retry(id="a", token=record.token or "")]
    ) == [
        True,
        True,
    ]
    (after,) = await backend.get(["a"])
    assert (after.state, after.failures, after.errors[-1].message) == (State.CANCELLED, 1, "enough")


async def test_a_record_that_holds_its_window_is_not_purged(backend, clock):
    unique = Unique("u", scope="window", window=60 * SECOND)
    await backend.put([[Record(id="a", keep=0, unique=unique)]])
    (record,) = (await backend.take(want("c"))).records
    await backend.apply([settle(record)])
    clock.now += 59 * SECOND
    assert await backend.tend() == 0
    clock.now += SECOND
    assert await backend.tend() == 1


def test_a_cycle_is_named_by_a_task_that_is_on_it():
    downstream = Record(id="a", edges=(Edge("c"),))
    cycle = [Record(id="c", edges=(Edge("b"),)), Record(id="b", edges=(Edge("c"),))]
    assert rules.find_cycle([downstream, *cycle]) == "b"
    assert rules.find_cycle([Record(id="a"), Record(id="b", edges=(Edge("a"),))]) is None
