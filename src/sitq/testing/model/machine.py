"""The state machine: its rules, and what must hold after each."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from sitq.backends.base import Filter, Lease, Placed, Share, Want
from sitq.move import Change, Delete, Move, Release, Retry, Settle
from sitq.record import TERMINAL, Edge, Limit, Record, State
from sitq.testing.conformance.harness import Harness, ManualClock
from sitq.testing.model import strategies as draw
from sitq.testing.model.pair import Pair

LONG = 10**9
"""A lease in microseconds that seldom runs out."""


class BackendModel(RuleBasedStateMachine):
    """Does the same to a store and to the memory store, and finds where they differ.

    Attributes:
        harness: Makes the harness of the store under test from an empty folder and the clock.
    """

    harness: ClassVar[Callable[[Path, ManualClock], Harness]]

    tasks: Bundle[str] = Bundle("tasks")
    leases: Bundle[Lease] = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(type(self).harness)
        self.count = 0
        self.known: dict[str, Record] = {}
        self.figures: dict[str, Limit] = {}
        self.removed: set[str] = set()

    def teardown(self) -> None:
        """Let go of both stores."""
        self.pair.close()

    def fresh(self, prefix: str) -> str:
        """An id that nobody had before."""
        self.count += 1
        return f"{prefix}{self.count}"

    def record(self, id: str, said: Mapping[str, Any], parents: Sequence[tuple[str, str]] = ()) -> Record:
        """A record as the producer says it, with instants counted from now."""
        said = dict(said)
        for instant in ("due", "deadline"):
            if instant in said:
                said[instant] += self.pair.clock.now
        return Record(id=id, edges=tuple(Edge(parent, effect) for parent, effect in parents), **said)

    def placed(self, record: Record) -> None:
        """Remember a record that was placed."""
        self.known.pop(record.id, None)
        self.figures.update({limit.key: limit for limit in record.limits})

    # -- putting -------------------------------------------------------------------------------------------

    @rule(
        target=tasks,
        groups=st.lists(
            st.lists(
                st.tuples(draw.fields, st.lists(st.tuples(st.integers(-3, 3), draw.effects), max_size=2)),
                min_size=1,
                max_size=3,
            ),
            min_size=1,
            max_size=2,
        ),
        one=tasks,
        other=tasks | st.just("unknown"),
    )
    def put_groups(
        self, groups: list[list[tuple[Mapping[str, Any], list[tuple[int, str]]]]], one: str, other: str
    ) -> MultipleResults[str]:
        """Put groups whose tasks have parents in the store, in the group, or nowhere."""
        parents = [one, other]
        batch: list[list[Record]] = []
        for group in groups:
            ids = [self.fresh("t") for _ in group]
            batch.append(
                [
                    self.record(
                        id,
                        said,
                        # Negative numbers are tasks of the store, others those of the group.
                        [
                            ((parents if n < 0 else ids)[n % len(parents if n < 0 else ids)], effect)
                            for n, effect in edges
                        ],
                    )
                    for id, (said, edges) in zip(ids, group, strict=True)
                ]
            )
        return self.put_batch(batch)

    @rule(target=tasks, said=draw.fields, parent=tasks, effect=draw.effects)
    def put_behind(self, said: Mapping[str, Any], parent: str, effect: str) -> MultipleResults[str]:
        """Put a task behind another one."""
        return self.put_batch([[self.record(self.fresh("t"), said, [(parent, effect)])]])

    @initialize(target=tasks, said=st.lists(draw.fields, min_size=3, max_size=8))
    def begin(self, said: list[Mapping[str, Any]]) -> MultipleResults[str]:
        """Begin with some tasks."""
        return self.put_many(said)

    @rule(target=tasks, said=st.lists(draw.fields, min_size=3, max_size=8))
    def put_more(self, said: list[Mapping[str, Any]]) -> MultipleResults[str]:
        """Put tasks that have nothing to do with each other."""
        return self.put_many(said)

    def put_many(self, said: list[Mapping[str, Any]]) -> MultipleResults[str]:
        """Put tasks, each a group of its own."""
        return self.put_batch([[self.record(self.fresh("t"), one)] for one in said])

    @rule(target=tasks, id=tasks, said=draw.fields, other=draw.fields)
    def put_again(self, id: str, said: Mapping[str, Any], other: Mapping[str, Any]) -> MultipleResults[str]:
        """Put a known id once more, beside a new one."""
        return self.put_batch([[self.record(id, said), self.record(self.fresh("t"), other)]])

    def put_batch(self, batch: list[list[Record]]) -> MultipleResults[str]:
        """Put, and remember what was placed."""
        placed: list[str] = []
        for group, answers in zip(batch, self.pair.put(batch), strict=True):
            for record, answer in zip(group, answers, strict=True):
                if isinstance(answer, Placed):
                    assert answer.id == record.id
                    self.placed(record)
                    placed.append(record.id)
        return multiple(*placed)

    # -- claiming ------------------------------------------------------------------------------------------

    @rule(target=leases, want=st.integers(1, 6), lease=st.sampled_from((5, 50, LONG)))
    def take(self, want: int, lease: int) -> MultipleResults[Lease]:
        """Claim from both queues."""
        shares = tuple(Share(queue, want) for queue in draw.QUEUES)
        return self.claim(shares, self.fresh("claim-"), want, lease)

    @rule(target=leases, passed=st.sampled_from((5, 50)))
    def take_over(self, passed: int) -> MultipleResults[Lease]:
        """Let leases run out, and claim what they held."""
        self.pair.clock.advance(passed)
        shares = tuple(Share(queue, 6) for queue in draw.QUEUES)
        return self.claim(shares, self.fresh("claim-"), 6, passed)

    @rule(
        target=leases,
        claim=st.sampled_from(("repeated-1", "repeated-2")),
        shares=draw.shares,
        limit=st.integers(0, 5),
        leave=st.sampled_from((frozenset[str](), frozenset({"f"}))),
        python=st.sampled_from(("3.11", "3.12")),
        reclaim=st.booleans(),
    )
    def take_again(  # noqa: PLR0917 - drawn by name
        self,
        claim: str,
        shares: tuple[Share, ...],
        limit: int,
        leave: frozenset[str],
        python: str,
        reclaim: bool,  # noqa: FBT001 - as above
    ) -> MultipleResults[Lease]:
        """Claim under an id that may have been used before, and not everything."""
        return self.claim(shares, claim, limit, 10, leave=leave, python=python, reclaim=reclaim)

    def claim(
        self, shares: tuple[Share, ...], claim: str, limit: int, lease: int, **rest: Any
    ) -> MultipleResults[Lease]:
        """Claim, and see that no limit is exceeded by it."""
        rest.setdefault("python", "3.11")
        want = Want(claim=claim, worker="w1", queues=shares, limit=limit, lease=lease, **rest)
        taken = self.pair.take(want)
        started = [
            record
            for record in taken.records
            if record.id not in self.known or self.known[record.id].attempt < record.attempt
        ]
        assert len(started) <= limit
        if started:
            running = self.pair.get(sorted(self.known.keys() | {record.id for record in taken.records}))
            for key in {limit.key for record in started for limit in record.limits}:
                holders = [
                    one
                    for one in running
                    if one is not None
                    and one.state is State.RUNNING
                    and any(limit.key == key for limit in one.limits)
                ]
                slots = self.figures[key].slots
                assert slots is None or len(holders) <= slots
                assert self.figures[key].rate != 0
        return multiple(*(Lease(record.id, claim) for record in taken.records))

    @rule(first=leases, more=st.lists(leases, max_size=3), length=st.sampled_from((1, 10, 50)))
    def renew(self, first: Lease, more: list[Lease], length: int) -> None:
        """Renew leases, live and stale ones."""
        self.pair.renew([first, *more], length)

    # -- moves ---------------------------------------------------------------------------------------------

    @rule(lease=leases, word=draw.words)
    def say(self, lease: Lease, word: Move) -> None:
        """One word of an attempt, live or stale."""
        self.apply([msgspec.structs.replace(word, id=lease.id, token=lease.token)])

    @rule(lease=leases, state=st.sampled_from(TERMINAL))
    def settle(self, lease: Lease, state: State) -> None:
        """The end of an attempt, which is what most often happens."""
        self.apply([Settle(id=lease.id, token=lease.token, state=state)])

    @rule(lease=leases, delay=draw.spans, freeze=st.sampled_from(("x", "y", None)))
    def hand_back(self, lease: Lease, delay: int, freeze: str | None) -> None:
        """A task goes back to its queue, and may hold others of its limit key up."""
        self.apply([Release(id=lease.id, token=lease.token, delay=delay, freeze=freeze)])

    @rule(one=leases, other=leases, said=st.lists(draw.words, min_size=2, max_size=4))
    def say_more(self, one: Lease, other: Lease, said: list[Move]) -> None:
        """Words of two attempts, or of one, in a call."""
        self.apply(
            [
                msgspec.structs.replace(word, id=lease.id, token=lease.token)
                for word, lease in zip(said, (one, other, one, other), strict=False)
            ]
        )

    @rule(target=tasks, lease=leases, word=draw.words, follow=st.lists(draw.fields, min_size=1, max_size=2))
    def say_with_follow_ups(
        self, lease: Lease, word: Move, follow: list[Mapping[str, Any]]
    ) -> MultipleResults[str]:
        """A word that brings new tasks with it."""
        if not isinstance(word, Settle | Retry | Release):
            return multiple(*())
        records = [
            self.record(self.fresh("t"), said, [(lease.id, "ggggg")][: n % 2])
            for n, said in enumerate(follow)
        ]
        move = msgspec.structs.replace(word, id=lease.id, token=lease.token, follow=tuple(records))
        self.apply([move])
        stored = [
            record
            for record, found in zip(records, self.pair.get([one.id for one in records]), strict=True)
            if found is not None
        ]
        for record in stored:
            self.placed(record)
        self.look()
        return multiple(*(record.id for record in stored))

    @rule(one=tasks, other=tasks, given=st.lists(draw.orders, min_size=1, max_size=3))
    def order(self, one: str, other: str, given: list[Move]) -> None:
        """An operator's words."""
        moves: list[Move] = []
        for id, drawn in zip((one, other, one), given, strict=False):
            move = msgspec.structs.replace(drawn, id=id)
            if isinstance(move, Change) and move.due is not None:
                move = msgspec.structs.replace(move, due=self.pair.clock.now + move.due)
            moves.append(move)
        self.apply(moves)

    def apply(self, moves: list[Move]) -> None:
        """Carry out moves, and remember what was deleted."""
        for move, kept in zip(moves, self.pair.apply(moves), strict=True):
            if kept and isinstance(move, Delete):
                self.removed.add(move.id)

    # -- everything else -----------------------------------------------------------------------------------

    @rule(microseconds=draw.jumps)
    def advance(self, microseconds: int) -> None:
        """Let time pass."""
        self.pair.clock.advance(microseconds)

    @rule(budget=st.sampled_from((1, 2, 1000, 1000)))
    def tend(self, budget: int) -> None:
        """Do upkeep."""
        self.pair.tend(budget)

    @rule(key=draw.pauses, value=st.sampled_from((None, b"", None)), ttl=st.sampled_from((5, 10, None)))
    def pause(self, key: str, value: bytes | None, ttl: int | None) -> None:
        """Pause something, or resume it, whether or not it is paused."""
        self.pair.swap(key, value, ttl, self.pair.cell(key))

    @rule(
        seen=st.sampled_from((None, b"1", b"2")),
        value=st.sampled_from((None, b"1", b"2")),
        ttl=draw.optional_spans,
        most=st.integers(1, 5),
    )
    def note_down(self, seen: bytes | None, value: bytes | None, ttl: int | None, most: int) -> None:
        """Compare and set a cell, and add to a log."""
        self.pair.swap("cell", value, ttl, seen)
        self.pair.cell("cell")
        self.pair.append("log", [b"", b"e", b"f"][:most], most)

    @rule(where=draw.filters, n=st.sampled_from((1, 3, 100)))
    def scan(self, where: Filter, n: int) -> None:
        """Read a scan to its end."""
        self.pair.scan(where, n)

    @precondition(lambda self: self.pair.tested.traits.durable)
    @rule()
    def reopen(self) -> None:
        """Close the store under test and open it again."""
        self.pair.reopen()

    # -- what must hold after each step --------------------------------------------------------------------

    @invariant()
    def look(self) -> None:
        """Both stores hold the same; ends are final, attempts only rise, nothing is lost."""
        everything = self.pair.scan(Filter(), 100)
        counted = sum(sum(states.values()) for states in self.pair.tally().values())
        assert counted == len(everything)
        ids = sorted({*everything, *self.known})
        now: dict[str, Record] = {}
        for id, record in zip(ids, self.pair.get(ids), strict=True):
            before = self.known.get(id)
            if record is not None:
                assert before is None or _may_follow(before, record)
                now[id] = record
            elif before is not None:
                assert id in self.removed or _may_be_purged(before, self.pair.clock.now), f"{id} is lost"
        self.known = now
        self.removed.clear()


def _may_follow(before: Record, after: Record) -> bool:
    """Whether a stored record can have become the other one."""
    if before.state in TERMINAL:
        return before == after
    return before.attempt <= after.attempt and before.sequence == after.sequence


def _may_be_purged(record: Record, now: int) -> bool:
    if record.state not in TERMINAL:
        return record.keep == 0  # it may have ended and vanished in the same step
    return record.keep_until is not None and record.keep_until <= now


def as_test_case(
    model: type[BackendModel], *, max_examples: int = 100, stateful_step_count: int = 40
) -> type[unittest.TestCase]:
    """The test case of a model, with so many examples of at most so many steps."""
    case = model.TestCase
    case.settings = settings(
        max_examples=max_examples,
        stateful_step_count=stateful_step_count,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    return case
