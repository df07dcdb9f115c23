"""The passage of waiting tasks from one store to the other, in steps that can be cut short anywhere.

    1. It is aside at the source: in a queue that nobody serves, where no producer replaces it either.
    2. It is aside at the destination, as it is now at the source, and is read back.
    3. It is deleted at the source, after its children.
    4. It is in its own queue at the destination.

A task is stored in one of them at any time, and may start in the other one only after it is gone from the
first. What a cut left is found by its queue: a task that is aside in both begins anew with the second step,
one that is aside at the destination alone goes home.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

import msgspec

from sitq.backends.base import Backend, Filter
from sitq.copying.carrier import Carrier, without_lost_parents
from sitq.copying.families import Families, parents_first, together
from sitq.copying.hold import Hold
from sitq.copying.report import Copied
from sitq.copying.transit import aside, home, is_aside
from sitq.exceptions import SitqError
from sitq.move import Change, Delete, Move, Restore, Settle
from sitq.record import TERMINAL, WAITING, Record, State

PAGE: Final = 500
"""How many tasks one call of a store is about; even, so that no pair of moves is torn apart."""


class Passage:
    """Moves waiting tasks from a source to a destination."""

    def __init__(
        self, source: Backend, destination: Backend, hold: Hold, carrier: Carrier, report: Copied
    ) -> None:
        self.source = source
        self.destination = destination
        self._hold = hold
        self._carrier = carrier
        self.report = report

    async def move(self, records: Sequence[Record]) -> int:
        """Move waiting tasks with all that wait for them; answers how many were moved.

        Those of a family of which a member runs, or cannot be carried, stay or go back.
        """
        run = self._hold.run
        await self._apply(
            self.source, [Change(id=one.id, queue=aside(run, home(one.queue))) for one in records]
        )
        found = [one for one in await get(self.source, [one.id for one in records]) if one is not None]
        here = [one for one in found if one.state in WAITING]
        parents = await self._parents(here)
        stay = {one.id for one in here if any(_lives(parents.get(edge.parent)) for edge in one.edges)}
        carried = await self._carried(here, parents, stay)
        stay = together(here, stay)
        await self._give_back([one for one in here if one.id in stay])
        go = parents_first([one for one in carried if one.id not in stay])
        return await self._pass_on(go, [one for one in parents.values() if one is not None])

    async def resume(self, families: Families) -> int:
        """Go on with what a cut left on its way, families aside; answers how many tasks were moved."""
        waiting = [one async for one in self._aside(self.destination) if one.state in WAITING]
        there = dict(
            zip([one.id for one in waiting], await get(self.source, [one.id for one in waiting]), strict=True)
        )
        moved = await self._go_home([one for one in waiting if there[one.id] is None])
        await self._end([one for one in there.values() if one is not None and one.state in TERMINAL])
        await self._drop([one.id for one in waiting if _lives(there[one.id])])
        left = [one async for one in self._aside(self.source)]
        await self._end([one for one in left if one.state in TERMINAL])
        again = [one for one in left if one.state in WAITING and one.id not in families]
        for start in range(0, len(again), PAGE):
            moved += await self.move(again[start : start + PAGE])
        return moved

    # -- the steps -----------------------------------------------------------------------------------------

    async def _parents(self, here: Sequence[Record]) -> dict[str, Record | None]:
        """The parents of tasks that are not among them."""
        known = {one.id for one in here}
        wanted = sorted({edge.parent for one in here for edge in one.edges} - known)
        return dict(zip(wanted, await get(self.source, wanted), strict=True))

    async def _carried(
        self, here: Sequence[Record], parents: dict[str, Record | None], stay: set[str]
    ) -> list[Record]:
        """The records as the destination is to have them; whose cannot be carried stay."""
        carried: list[Record] = []
        known = {**parents, **{one.id: one for one in here}}
        unfit: dict[str, str] = {}
        for id, parent in parents.items():
            if parent is not None and parent.state in TERMINAL:
                try:
                    parents[id] = await self._carrier.carry(parent)
                except SitqError as error:
                    unfit[id] = f"task {id}, which it depends on, cannot be copied: {error}"
        for one in here:
            try:
                carried.append(without_lost_parents(await self._carrier.carry(one), known))
                why = next((unfit[edge.parent] for edge in one.edges if edge.parent in unfit), None)
            except SitqError as error:
                why = str(error)
            if why is None:
                self.report.refused.pop(one.id, None)
            else:
                self.report.refused[one.id] = why
                stay.add(one.id)
        return carried

    async def _pass_on(self, go: Sequence[Record], parents: Iterable[Record]) -> int:
        if not go:
            return 0
        run = self._hold.run
        ended = [Restore(id=one.id, record=one) for one in parents if one.state in TERMINAL]
        parked = [msgspec.structs.replace(one, queue=aside(run, one.queue)) for one in go]
        bad = await self._place(parked, ended)
        if bad:
            stay = together(go, bad)
            await self._give_back([one for one in parked if one.id in stay])
            go = [one for one in go if one.id not in stay]
        await self._apply(self.source, [Delete(id=one.id, states=WAITING) for one in reversed(go)])
        left = [one for one in await get(self.source, [one.id for one in go]) if one is not None]
        await self._end([one for one in left if one.state in TERMINAL])
        stay = {one.id for one in left}
        # What is left has got a child meanwhile: it stays aside, and moves with that child the next time.
        return await self._go_home([one for one in go if one.id not in stay])

    async def _place(self, parked: Sequence[Record], ended: Sequence[Restore]) -> set[str]:
        """Store tasks aside at the destination, and see that they are there; which are not."""
        ids = [one.id for one in parked]
        wrong: dict[str, str] = {}
        for _ in range(2):
            moves: list[Move] = [*ended, *(Restore(id=one.id, record=one) for one in parked)]
            await self._apply(self.destination, moves)
            found = await get(self.destination, ids)
            wrong = {
                one.id: why for one, other in zip(parked, found, strict=True) if (why := _differs(one, other))
            }
            stale = [other.id for other in found if other is not None and other.id in wrong]
            if not stale:
                break
            await self._drop(stale)  # of an earlier run of the same steps: nothing of it has ever run
        self.report.refused.update(wrong)
        return set(wrong)

    async def _go_home(self, records: Sequence[Record]) -> int:
        await self._apply(self.destination, [Change(id=one.id, queue=home(one.queue)) for one in records])
        self.report.moved += len(records)
        return len(records)

    async def _end(self, records: Sequence[Record]) -> None:
        """Let what ended on its way end at the destination, too."""
        carried = [await self._ended(one) for one in records]
        await self._apply(self.destination, [Restore(id=one.id, record=one) for one in carried])
        found = await get(self.destination, [one.id for one in carried])
        moves: list[Move] = []
        for one, other in zip(carried, found, strict=True):
            if other is not None and other.state in WAITING and is_aside(other.queue, self._hold.run):
                failure = one.errors[-1] if one.errors else None
                moves.append(Change(id=one.id, queue=one.queue))
                moves.append(Settle(id=one.id, state=one.state, result=one.result, failure=failure))
        await self._apply(self.destination, moves)
        await self._apply(
            self.source, [Delete(id=one.id, states=TERMINAL) for one in records if is_aside(one.queue)]
        )

    async def _ended(self, record: Record) -> Record:
        """An ended task for the destination; what is not to be trusted in it stays behind."""
        try:
            return await self._carrier.carry(record)
        except SitqError:
            bare = msgspec.structs.replace(record, queue=home(record.queue), payload=b"", result=None)
            bare.steps = {}
            return bare

    async def _give_back(self, records: Sequence[Record]) -> None:
        """Let tasks go on at the source."""
        await self._drop([one.id for one in records])
        await self._apply(self.source, [Change(id=one.id, queue=home(one.queue)) for one in records])

    async def _drop(self, ids: Sequence[str]) -> None:
        """Delete what lies aside at the destination, children first."""
        left = list(ids)
        while left:
            found = await get(self.destination, left)
            mine = [
                one
                for one in found
                if one is not None and one.state in WAITING and is_aside(one.queue, self._hold.run)
            ]
            mine.sort(key=lambda one: one.sequence, reverse=True)
            kept = await self._apply(self.destination, [Delete(id=one.id, states=WAITING) for one in mine])
            left = [one.id for one, done in zip(mine, kept, strict=True) if not done]
            if len(left) == len(mine):
                return

    # -- calls of the stores -------------------------------------------------------------------------------

    async def _apply(self, backend: Backend, moves: Sequence[Move]) -> list[bool]:
        kept: list[bool] = []
        for start in range(0, len(moves), PAGE):
            self._hold.check()
            kept += await backend.apply(moves[start : start + PAGE])
        return kept

    async def _aside(self, backend: Backend) -> AsyncIterator[Record]:
        run = self._hold.run
        for queue in await backend.tally():
            if is_aside(queue, run):
                async for record in scan(backend, Filter(queue=queue)):
                    yield record


async def get(backend: Backend, ids: Sequence[str]) -> list[Record | None]:
    """Read any number of tasks by id."""
    found: list[Record | None] = []
    for start in range(0, len(ids), PAGE):
        found += await backend.get(ids[start : start + PAGE])
    return found


async def scan(backend: Backend, where: Filter) -> AsyncIterator[Record]:
    """Read all records that the filter is about."""
    after: int | None = None
    while True:
        page = await backend.scan(where, after, PAGE)
        for record in page.records:
            yield record
        if page.after is None:
            return
        after = page.after


def _lives(record: Record | None) -> bool:
    return record is not None and record.state not in TERMINAL


def _differs(wanted: Record, found: Record | None) -> str:
    """In what the stored record is another one than was meant, or "" if it is the same."""
    if found is None:
        return "the destination did not take it"
    if not is_aside(found.queue):
        return ""  # its producer has enqueued it there, too: the id says that it is the same task
    same = msgspec.structs.replace(found, sequence=wanted.sequence)
    if wanted.state is State.BLOCKED:  # its parents may have let it go, or ended it
        same = msgspec.structs.replace(
            same, state=wanted.state, due=wanted.due, ends=wanted.ends, delay=wanted.delay,
            expires=wanted.expires, finished=None, keep_until=None, errors=wanted.errors,
        )  # fmt: skip
    names = [name for name in wanted.__struct_fields__ if getattr(same, name) != getattr(wanted, name)]
    return f"the destination stored other values of {', '.join(names)}" if names else ""
