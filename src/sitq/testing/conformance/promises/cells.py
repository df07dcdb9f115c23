"""Cells: small named values that are compared and set."""

from __future__ import annotations

import asyncio

from sitq.backends.base import Cell
from sitq.testing.conformance.store import Store


class CellPromises:
    """Cells."""

    async def test_a_cell_is_made_where_none_was(self, store: Store) -> None:
        assert await store.backend.swap("key", None, b"value")
        assert await store.backend.cells("key") == [Cell("key", b"value")]

    async def test_a_cell_is_not_made_where_one_was(self, store: Store) -> None:
        await store.backend.swap("key", None, b"first")
        assert not await store.backend.swap("key", None, b"second")
        assert await store.backend.cells("") == [Cell("key", b"first")]

    async def test_a_cell_changes_only_from_what_was_seen(self, store: Store) -> None:
        await store.backend.swap("key", None, b"1")
        assert not await store.backend.swap("key", b"0", b"2")
        assert await store.backend.swap("key", b"1", b"2")
        assert not await store.backend.swap("key", b"1", b"3")
        assert await store.backend.cells("") == [Cell("key", b"2")]

    async def test_an_absent_cell_does_not_change(self, store: Store) -> None:
        assert not await store.backend.swap("key", b"1", b"2")
        assert not await store.backend.swap("key", b"", b"2")
        assert await store.backend.cells("") == []

    async def test_a_cell_is_removed_only_from_what_was_seen(self, store: Store) -> None:
        await store.backend.swap("key", None, b"1")
        assert not await store.backend.swap("key", b"2", None)
        assert await store.backend.swap("key", b"1", None)
        assert await store.backend.cells("") == []
        assert await store.backend.swap("key", None, b"again")

    async def test_an_empty_value_is_told_from_none(self, store: Store) -> None:
        await store.backend.swap("key", None, b"")
        assert not await store.backend.swap("key", None, b"x")
        assert await store.backend.cells("") == [Cell("key", b"")]
        assert await store.backend.swap("key", b"", b"x")

    async def test_values_are_bytes_of_any_kind(self, store: Store) -> None:
        value = bytes(range(256)) * 40
        await store.backend.swap("key", None, value)
        assert await store.backend.swap("key", value, value[::-1])
        assert await store.backend.cells("key") == [Cell("key", value[::-1])]

    async def test_cells_are_read_by_prefix_in_order_of_their_keys(self, store: Store) -> None:
        for key in ("b/2", "a/1", "b/1", "b", "c", "B/1", "b/10"):
            await store.backend.swap(key, None, key.encode())
        assert [cell.key for cell in await store.backend.cells("b/")] == ["b/1", "b/10", "b/2"]
        assert [cell.key for cell in await store.backend.cells("")] == sorted(
            ["b/2", "a/1", "b/1", "b", "c", "B/1", "b/10"]
        )

    async def test_a_prefix_is_literal(self, store: Store) -> None:
        keys = ["a%b", "a_b", "a*b", "aXb", "a[b", "a\\b", "é/ü", "e/u", "\U0001f600x", "\uffffy"]
        for key in keys:
            await store.backend.swap(key, None, b"")
        for prefix in ("a%", "a_", "a*", "a[", "a\\", "é", "\U0001f600", "\uffff"):
            expected = [key for key in keys if key.startswith(prefix)]
            assert [cell.key for cell in await store.backend.cells(prefix)] == expected

    async def test_a_cell_vanishes_at_its_time(self, store: Store) -> None:
        await store.backend.swap("key", None, b"value", store.span(3))
        (cell,) = await store.backend.cells("key")
        assert cell.until is not None
        assert cell.until <= await store.now() + store.span(3)
        await store.advance(4)
        assert await store.backend.cells("key") == []

    async def test_a_cell_that_vanished_is_absent(self, store: Store) -> None:
        await store.backend.swap("key", None, b"old", store.span(1))
        await store.advance(2)
        assert not await store.backend.swap("key", b"old", b"new")
        assert await store.backend.swap("key", None, b"new")
        assert await store.backend.cells("") == [Cell("key", b"new")]

    async def test_a_swap_gives_a_cell_its_time_anew(self, store: Store) -> None:
        await store.backend.swap("key", None, b"beat", store.span(4))
        await store.advance(2)
        assert await store.backend.swap("key", b"beat", b"beat", store.span(4))
        await store.advance(3)
        assert [cell.value for cell in await store.backend.cells("key")] == [b"beat"]

    async def test_a_swap_without_a_time_makes_a_cell_stay(self, store: Store) -> None:
        await store.backend.swap("key", None, b"1", store.span(1))
        await store.backend.swap("key", b"1", b"2")
        await store.advance(2)
        assert await store.backend.cells("key") == [Cell("key", b"2")]

    async def test_of_many_concurrent_swaps_one_succeeds(self, store: Store) -> None:
        results = await asyncio.gather(
            *(store.backend.swap("key", None, b"%d" % number) for number in range(50))
        )
        assert sum(results) == 1
        (cell,) = await store.backend.cells("key")
        assert cell.value == b"%d" % results.index(True)

    async def test_concurrent_counting_loses_nothing(self, store: Store) -> None:
        async def count() -> None:
            for _ in range(5):
                while True:
                    cells = await store.backend.cells("count")
                    seen = cells[0].value if cells else None
                    if await store.backend.swap("count", seen, b"%d" % (int(seen or b"0") + 1)):
                        break

        await asyncio.gather(*(count() for _ in range(8)))
        assert [cell.value for cell in await store.backend.cells("count")] == [b"40"]
