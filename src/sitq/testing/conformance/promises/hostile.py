"""Names and bytes that mean something to somebody else."""

from __future__ import annotations

import pytest

from sitq.backends.base import PAUSE_NAME, PAUSE_QUEUE, Duplicate, Filter
from sitq.move import Note
from sitq.record import NEVER, Edge, Fair, Limit, Progress, State, Unique
from sitq.testing.conformance.store import Store, task

NAMES = {
    "quotes": """'; DROP TABLE tasks; --" `""",
    "wildcards": "%_*?[a-z]>.",
    "separators": "a/b:c.d|e,f;g{h}\\i",
    "unicode": "größe-日本語-😀-\u0301",
    "spaces": "  two  spaces  ",
    "dots": "../../etc/passwd",
    "markup": "<b>&amp;{{7*7}}</b>",
    "long": "x" * 255,
    "long unicode": "ü" * 127,
    "number": "0123",
    "null": "None",
}


class HostilePromises:
    """Names and bytes that mean something to somebody else."""

    @pytest.mark.parametrize("kind", NAMES)
    async def test_a_name_is_only_a_name(self, store: Store, kind: str) -> None:
        name = NAMES[kind]
        id = name.encode()[:128].decode(errors="ignore")
        hostile = task(
            id,
            queue=name,
            name=name,
            preview=name,
            unique=Unique(name),
            limits=(Limit(name, slots=1),),
            fair=Fair(name),
            batch=name,
            reply=name,
            tags=(name,),
        )
        await store.place(hostile, task("other", queue=name, limits=(Limit(name, slots=1),)))
        assert await store.put(task("second", unique=Unique(name))) == [Duplicate(id)]
        assert await store.take_ids(9, queues=(name,), leave=(name,)) == ["other"]
        (other,) = await store.scan_all(Filter(owner="w1"))
        await store.settle(other)
        (running,) = await store.take(9, queues=(name,), worker=name, claim=name[:100])
        assert (running.id, running.queue, running.owner) == (id, name, name)
        step = Note(id=id, token=running.token or "", step=(name, b"x"), progress=Progress(None, name))
        assert await store.apply(step)
        assert [record.id for record in await store.scan_all(Filter(queue=name, name=name, batch=name))] == [
            id
        ]
        assert [renewal.answer for renewal in await store.renew(running)] == ["kept"]
        await store.place(task("child", edges=(Edge(id),)))
        assert await store.settle(running)
        assert await store.states(id, "child") == [State.COMPLETED, State.QUEUED]
        assert (await store.get(id)).steps == {name: b"x"}
        assert (await store.tally())[name] == {State.COMPLETED: 2}

    @pytest.mark.parametrize("kind", NAMES)
    async def test_a_pause_of_a_name_is_only_a_pause(self, store: Store, kind: str) -> None:
        name = NAMES[kind]
        await store.place(task("a", queue=name, name=name), task("b", queue=name, name="free"))
        await store.backend.swap(PAUSE_NAME + name, None, b"")
        assert await store.take_ids(9, queues=(name,)) == ["b"]
        await store.backend.swap(PAUSE_QUEUE + name, None, b"")
        await store.backend.swap(PAUSE_NAME + name, b"", None)
        assert await store.take_ids(9, queues=(name,)) == []
        await store.backend.swap(PAUSE_QUEUE + name, b"", None)
        assert await store.take_ids(9, queues=(name,)) == ["a"]

    @pytest.mark.parametrize("kind", NAMES)
    async def test_a_log_and_a_cell_may_have_any_name(self, store: Store, kind: str) -> None:
        name = NAMES[kind]
        await store.backend.append(name, [b"x"])
        await store.backend.swap(name, None, b"y")
        assert [event.data for event in await store.backend.read(name)] == [b"x"]
        assert [cell.key for cell in await store.backend.cells(name)] == [name]

    async def test_ids_that_differ_only_in_case_or_spaces_are_different(self, store: Store) -> None:
        ids = ["a", "A", " a", "a ", "ä", "a\u0308", "\u00c5", "\u212b"]
        await store.place(*(task(id) for id in ids))
        assert await store.take_ids(20) == ids

    async def test_queues_that_differ_only_in_case_or_spaces_are_different(self, store: Store) -> None:
        queues = ["q", "Q", " q", "q ", "q\u0308"]
        await store.place(*(task(queue=queue) for queue in queues))
        for queue in queues:
            assert [record.queue for record in await store.take(9, queues=(queue,))] == [queue]

    async def test_payloads_may_hold_any_byte(self, store: Store) -> None:
        payloads = [b"\0", b"\0" * 1000, bytes(range(256)), "ü😀".encode(), b"\xff\xfe", b"'\"\\\n", b"null"]
        await store.place(*(task(f"{n}", payload=payload) for n, payload in enumerate(payloads)))
        assert [record.payload for record in await store.take(20)] == payloads

    async def test_text_for_people_may_hold_any_character(self, store: Store) -> None:
        text = "\0 \x1b[31m \u202e \U0001f600 \n\t ' \" \\ %s {0}"
        running = await store.start(task("a", preview=text, trace={text: text}, tags=(text,)))
        await store.settle(running, State.FAILED, message=text)
        stored = await store.get("a")
        assert (stored.preview, stored.trace, stored.tags) == (text, {text: text}, (text,))
        assert stored.errors[0].message == text

    async def test_instants_and_durations_reach_to_the_year_9999(self, store: Store) -> None:
        await store.place(
            task("a", due=NEVER, ttl=NEVER, keep=NEVER, deadline=NEVER),
            task("b", delay=NEVER),
            task("c", keep=NEVER, keep_failed=NEVER, timeout=NEVER),
        )
        assert (await store.get("a")).due == NEVER
        assert await store.settle(await store.start())
        assert await store.take() == []
        assert await store.tend() == 0
        assert await store.states("a", "b", "c") == [State.QUEUED, State.QUEUED, State.COMPLETED]

    async def test_numbers_survive_whole(self, store: Store) -> None:
        retry = {"big": 2**53 + 1, "small": -(2**60), "float": 0.1, "deep": [[[{"x": None}]]], "flag": True}
        await store.place(task("a", retry=retry, instant=2**60))
        stored = await store.get("a")
        assert (stored.retry, stored.instant) == (retry, 2**60)
