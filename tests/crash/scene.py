"""A process of a scene: uses the real SQLite store in all its ways while it is recorded.

Run by `record`; several of them share one file. What it does is drawn from its seed; how the processes get in
each other's way is not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

from recorder import Recorder
from tape import AnyEvent, Asked, Tape, Told, read

from sitq.backends.base import Lease, Placed, Share, Want
from sitq.backends.sqlite import SQLiteBackend, checkpoint, connection, schema, writer
from sitq.clock import wall_clock
from sitq.functions import python_version
from sitq.move import Cancel, Change, Delete, Move, Note, Retry, Settle
from sitq.record import SECOND, Edge, Progress, Record, State

FILE = "tasks.db"
TAPE = "tape"
SERVED = ("default", "emails")
PATIENCE = 100.0
"""Seconds that a scene may take."""

LATER = 3600 * SECOND
"""Microseconds for which the power is away."""

SHELF = "shelf"
"""The queue from which nobody takes."""

Effect = tuple[str, list[int], dict[str, Any]]
Answer = TypeVar("Answer")


def later() -> int:
    """The clock of a host whose power is back: every lease has run out."""
    return wall_clock() + LATER


class Scene:
    """What one process does.

    Args:
        backend: The store.
        tape: Where it is written down what was asked for and answered.
        seed: What is drawn.
        role: A number of its own among the processes.
    """

    def __init__(self, backend: SQLiteBackend, tape: Tape, seed: int, role: int) -> None:
        self.backend = backend
        self.tape = tape
        self.role = role
        self.draw = random.Random(f"{seed}/{role}")
        self.deeds = itertools.count(role << 20)
        self.numbers = itertools.count()
        self.effects: list[Effect] = []
        self.count = 0
        self.events = 0

    async def do(self, kind: str, asking: Awaitable[Answer]) -> tuple[int, Answer]:
        """Ask the store; what follows from its answer is then to be told."""
        deed = next(self.deeds)
        self.tape.write(Asked(deed, kind))
        return deed, await asking

    def tell(self, deed: int, effects: list[Effect]) -> None:
        self.tape.write(Told(deed, effects))

    # -- what producers do ---------------------------------------------------------------------------------

    def record(self, queue: str, **more: Any) -> Record:
        body = self.draw.randbytes(self.draw.choice((20, 20, 200, 200, 900, 6000)))
        return Record(id=f"p{self.role}-{next(self.numbers)}", queue=queue, name="work", payload=body, **more)

    async def put(self, *groups: list[Record]) -> None:
        deed, answers = await self.do("put", self.backend.put(groups))
        effects = []
        for record, answer in zip(itertools.chain(*groups), itertools.chain(*answers), strict=True):
            assert isinstance(answer, Placed), answer
            state = "blocked" if record.edges else "queued"
            what = {"state": state, "attempt": 0, "failures": 0, "notes": 0, "result": None}
            more = {"priority": record.priority, "parents": [edge.parent for edge in record.edges]}
            effects.append((record.id, [0, 0], what | more))
        self.tell(deed, effects)

    async def produce(self, turns: int) -> None:
        for _ in range(turns):
            queue = self.draw.choice(SERVED)
            kind = self.draw.choice(("one", "one", "one", "many", "flow", "twice"))
            if kind == "one":
                await self.put([self.record(queue, priority=self.draw.randint(-2, 2))])
            elif kind == "many":
                await self.put(*([self.record(queue)] for _ in range(self.draw.randint(2, 12))))
            elif kind == "flow":
                parents = [self.record(queue) for _ in range(self.draw.randint(1, 3))]
                edges = tuple(Edge(parent.id) for parent in parents)
                await self.put([*parents, *(self.record(queue, edges=edges) for _ in range(2))])
            else:
                record = self.record(queue)
                await self.put([record])
                await self.backend.put([[record]])  # the answer was lost, say

    # -- what workers do -----------------------------------------------------------------------------------

    async def work(self, turns: int) -> None:
        for turn in range(turns):
            token = f"c{self.role}-{self.draw.getrandbits(64):016x}"
            limit = self.draw.randint(1, 6)
            want = Want(
                claim=token,
                worker=f"w{self.role}",
                queues=tuple(Share(queue, limit) for queue in SERVED),
                limit=limit,
                lease=60 * SECOND,
                python=python_version(),
            )
            deed, taken = await self.do("take", self.backend.take(want))
            self.tell(
                deed,
                [
                    (one.id, [one.attempt, 0], {"state": "running", "attempt": one.attempt})
                    for one in taken.records
                ],
            )
            if turn % 4 == 3 and taken.records:
                held = [Lease(one.id, token) for one in taken.records]
                await asyncio.to_thread(self.renew, held)
            await self.run(taken.records, token)

    def renew(self, held: list[Lease]) -> None:
        """On a thread and a connection of its own, as a worker does."""
        channel = self.backend.lease_channel()
        with contextlib.closing(channel):
            assert {one.answer for one in channel.renew(held, 60 * SECOND)} == {"kept"}

    async def run(self, records: list[Record], token: str) -> None:
        moves: list[Move] = []
        effects: list[Effect] = []
        for one in records:
            notes = len(one.progress)
            for place in range(self.draw.choice((0, 0, 0, 1, 2))):
                notes += 1
                note = Note(id=one.id, token=token, progress=Progress(message=f"note {notes}"))
                await self.apply("note", [note], [(one.id, [one.attempt, 1, place], {"notes": notes})])
            end = [one.attempt, 2]
            how = self.draw.choices(("complete", "fail", "retry", "leave"), (75, 5, 12, 8))[0]
            if how == "fail":
                move = Settle(id=one.id, token=token, state=State.FAILED)
                effects.append((one.id, end, {"state": "failed"}))
            elif how == "retry":
                move = Retry(id=one.id, token=token)
                effects.append((one.id, end, {"state": "queued", "failures": one.failures + 1}))
            elif how == "leave":
                continue  # it runs on when the power goes
            else:
                result = f"{one.id}/{one.attempt}"
                move = Settle(id=one.id, token=token, state=State.COMPLETED, result=result.encode())
                effects.append((one.id, end, {"state": "completed", "result": result}))
            moves.append(move)
        if moves:
            await self.apply("settle", moves, effects)
            if self.draw.random() < 0.2:
                await self.backend.apply(moves)  # said again

    async def apply(self, kind: str, moves: list[Move], effects: list[Effect]) -> None:
        deed, kept = await self.do(kind, self.backend.apply(moves))
        assert all(kept), (kind, moves, kept)
        self.tell(deed, effects)

    # -- what operators do ---------------------------------------------------------------------------------

    async def operate(self, turns: int) -> None:
        for _ in range(turns):
            record = self.record(SHELF)
            await self.put([record])
            for place in range(self.draw.randint(0, 3)):
                priority = self.draw.randint(-100, 100)
                change = Change(id=record.id, priority=priority)
                await self.apply("change", [change], [(record.id, [0, place + 1], {"priority": priority})])
            if self.draw.random() < 0.5:
                cancelled = [(record.id, [0, 50], {"state": "cancelled"})]
                await self.apply("cancel", [Cancel(id=record.id)], cancelled)
            if self.draw.random() < 0.5:
                await self.apply(
                    "delete", [Delete(id=record.id)], [(record.id, [0, 99], {"state": "deleted"})]
                )
            await self.count_on()
            await self.log()
            await self.backend.tend(50)
            await self.backend.tally()

    async def count_on(self) -> None:
        cell = f"cell/{self.role}"
        seen = str(self.count).encode() if self.count else None
        self.count += 1
        deed, kept = await self.do("swap", self.backend.swap(cell, seen, str(self.count).encode()))
        assert kept
        self.tell(deed, [(cell, [self.count], {"value": self.count})])

    async def log(self) -> None:
        topic = f"log/{self.role}"
        lines = [f"{self.events + at + 1}".encode() for at in range(self.draw.randint(1, 3))]
        self.events += len(lines)
        deed, _ = await self.do("append", self.backend.append(topic, lines))
        self.tell(deed, [(topic, [self.events], {"events": self.events})])

    # -- what else happens to the file ---------------------------------------------------------------------

    async def disturb(self, turns: int) -> None:
        """A user's own tools, and a second store in the same file."""
        for turn in range(turns):
            await asyncio.sleep(0.05)
            await asyncio.to_thread(self._by_hand, turn)
        async with SQLiteBackend(self.backend.path, namespace=f"other_{self.role}") as other:
            await other.put([[Record(id="a", name="work")]])

    def _by_hand(self, turn: int) -> None:
        with contextlib.closing(sqlite3.connect(self.backend.path, timeout=20)) as tool:
            tool.execute("PRAGMA synchronous = FULL")
            tool.execute(
                ("PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(FULL)")[turn % 3]
            )

    async def play(self, turns: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(self.produce(turns))
            for _ in range(2):
                group.create_task(self.work(turns))
            group.create_task(self.operate(turns // 3))
            if self.role == 0:
                group.create_task(self.disturb(3))


def make_small() -> None:
    """Let the file be small, and what happens once in 1,000 pages happen all the time."""
    schema.BALLAST = writer.BALLAST = 8 << 10
    connection.LOG_KEPT = 64 << 10
    checkpoint.PAGES = 60


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--synchronous", default="FULL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--role", type=int, default=0)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--again", action="store_true", help="go on after a loss of power")
    given = parser.parse_args()
    tape = Tape(given.folder / TAPE)
    path = str(given.folder / FILE)
    Recorder(tape, path)
    if given.small:
        make_small()
    # Opened twice: the end of the last connection moves the log into the file, and removes it.
    for life in (2,) if given.again else (0, 1):
        clock = later if given.again else wall_clock
        async with SQLiteBackend(path, synchronous=given.synchronous, clock=clock) as backend:
            scene = Scene(backend, tape, given.seed, given.role + 100 * life)
            await scene.play(given.turns)


def record(folder: Path, synchronous: str, seed: int, *, again: bool = False) -> list[AnyEvent]:
    """Play a scene in processes of its own, and answer with its tape.

    Args:
        folder: Where it is played.
        synchronous: How the store is opened.
        seed: What is drawn.
        again: Whether the scene goes on after a loss of power, with the files and the tape that are there.
    """
    given = [f"--folder={folder}", f"--synchronous={synchronous}", f"--seed={seed}"]
    given.append(f"--turns={8 if again else 20}")
    if again:
        given.append("--again")
    if seed % 4:
        given.append("--small")
    deadline = time.monotonic() + PATIENCE
    running = [
        subprocess.Popen(
            [sys.executable, __file__, *given, f"--role={role}"], stderr=subprocess.PIPE, text=True
        )
        for role in range(2)
    ]
    try:
        while any(one.poll() is None for one in running) and time.monotonic() < deadline:
            _keep_index(folder)
            time.sleep(0.02)
    finally:
        for one in running:
            one.kill()
    errors = [one.communicate()[1] for one in running]
    if any(one.returncode for one in running):
        raise SystemExit(f"a process of the scene failed:\n{''.join(errors)}")
    return read(folder / TAPE)


def _keep_index(folder: Path) -> None:
    """Keep what the file of shared memory holds: a loss of power may leave any of it, old or new."""
    with contextlib.suppress(OSError):
        content = (folder / f"{FILE}-shm").read_bytes()
        if content:
            (folder / f"index-{len(list(folder.glob('index-*')))}").write_bytes(content)


if __name__ == "__main__":
    asyncio.run(main())
