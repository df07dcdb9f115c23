"""Logs: bounded and durable."""

from __future__ import annotations

import asyncio

from sitq.testing.conformance.store import Store


async def numbers(store: Store, topic: str, after: int = 0, n: int = 100_000) -> list[int]:
    """The numbers of the entries that a read finds."""
    return [event.number for event in await store.backend.read(topic, after, n)]


class LogPromises:
    """Logs."""

    async def test_entries_are_read_in_order_with_their_time(self, store: Store) -> None:
        before = await store.now()
        await store.backend.append("log", [b"one", b"\0two"])
        await store.backend.append("log", [b""])
        events = await store.backend.read("log")
        assert [event.data for event in events] == [b"one", b"\0two", b""]
        assert all(before <= event.at for event in events)

    async def test_numbers_rise_from_one_without_gaps(self, store: Store) -> None:
        for _ in range(5):
            await store.backend.append("log", [b"x", b"y"])
        assert await numbers(store, "log") == list(range(1, 11))

    async def test_a_read_goes_on_after_a_number(self, store: Store) -> None:
        await store.backend.append("log", [b"x"] * 10)
        assert await numbers(store, "log", after=4) == [5, 6, 7, 8, 9, 10]
        assert await numbers(store, "log", after=4, n=2) == [5, 6]
        assert await numbers(store, "log", after=10) == []
        assert await numbers(store, "log", after=99) == []

    async def test_the_newest_entries_are_kept(self, store: Store) -> None:
        for _ in range(10):
            await store.backend.append("log", [b"x"] * 3, most=7)
        kept = await numbers(store, "log")
        assert kept[-7:] == list(range(24, 31))
        # A store may trim lazily, but not without bound.
        assert len(kept) <= 2 * 7 + 3

    async def test_numbers_go_on_after_trimming(self, store: Store) -> None:
        await store.backend.append("log", [b"x"] * 100, most=1)
        await store.backend.append("log", [b"y"], most=1)
        assert (await numbers(store, "log"))[-1] == 101

    async def test_topics_are_apart(self, store: Store) -> None:
        await store.backend.append("one", [b"1"])
        await store.backend.append("other", [b"2", b"3"])
        assert [event.data for event in await store.backend.read("one")] == [b"1"]
        assert await numbers(store, "other") == [1, 2]
        assert await numbers(store, "on") == []

    async def test_appending_nothing_does_nothing(self, store: Store) -> None:
        await store.backend.append("log", [])
        await store.backend.append("log", [b"x"])
        assert await numbers(store, "log") == [1]

    async def test_an_unknown_topic_is_empty(self, store: Store) -> None:
        assert await store.backend.read("unknown") == []

    async def test_concurrent_appends_leave_no_gaps_and_tear_nothing_apart(self, store: Store) -> None:
        await asyncio.gather(*(store.backend.append("log", [b"%d-a" % k, b"%d-b" % k]) for k in range(40)))
        events = await store.backend.read("log", 0, 1000)
        assert [event.number for event in events] == list(range(1, 81))
        for first, second in zip(events[::2], events[1::2], strict=True):
            assert first.data[:-1] == second.data[:-1]
