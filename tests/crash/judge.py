"""The judge: opens a disk with the real store, compares it with what was told, and works off what is left."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scene import FILE, SERVED, SHELF, Effect, later
from stories import Story, compare

from sitq.backends.base import Filter, Share, Want
from sitq.backends.sqlite import SQLiteBackend
from sitq.functions import python_version
from sitq.move import Settle
from sitq.record import SECOND, Record, State
from sitq.testing.storm.check import Rules, check
from sitq.testing.storm.events import Acked, AnyEvent, Born, Ended, Fault, Invoked, Seen, Started
from sitq.testing.storm.history import gather
from sitq.testing.storm.verdict import Violation

ENDS = ("completed", "failed", "cancelled")


@dataclass(slots=True)
class Ruling:
    """What was found on one disk."""

    violations: list[Violation] = field(default_factory=list)
    lost: int = 0
    drained: int = 0


async def judge(
    folder: Path,
    image: dict[str, bytes],
    told: dict[str, Story],
    cut: int,
    *,
    full: bool,
    thorough: bool,
    history: bool = True,
) -> Ruling:
    """Judge one disk.

    Args:
        folder: Where it is laid out; what is there goes.
        image: Its files.
        told: What the store was asked for and answered.
        cut: When the power went.
        full: Whether all that was acknowledged must be there, or a suffix of it may be lost.
        thorough: Whether to work off what is left, too.
        history: Whether the tape has the whole history, so that the checker of storms can judge it, too.
    """
    lay_out(folder, image)
    topics = [name for name in told if name.startswith("log/")]
    ruling = Ruling()
    try:
        async with SQLiteBackend(folder / FILE, clock=later) as store:
            ruling.violations += await _integrity(store)
            seen = await _look(store, topics)
            finding = compare(told, seen.things, cut, full=full)
            ruling.lost = finding.lost
            ruling.violations += finding.violations
            ruling.violations += await _count(store, seen.records)
            if finding.violations or not thorough:
                return ruling
            attempts = await _drain(store, ruling)
            ruling.violations += _numbers(seen.records, attempts)
            after = await _look(store, topics)
            ruling.violations += await _count(store, after.records)
            ruling.violations += await _integrity(store)
            if history:
                journals = _journals(told, finding.steps, seen, attempts, after, cut=cut)
                ruling.violations += check(gather(journals), Rules()).violations
    except Exception as error:  # noqa: BLE001 - whatever it is, a user would meet it too
        lines = tuple(line for part in traceback.format_exception(error) for line in part.splitlines())
        ruling.violations.append(Violation("C10", "the store does not work", "", f"{error!r}", lines))
    return ruling


async def survey(folder: Path, image: dict[str, bytes], told: dict[str, Story]) -> list[Effect]:
    """What is on a disk, as the beginning of stories that go on from there."""
    lay_out(folder, image)
    async with SQLiteBackend(folder / FILE, clock=later) as store:
        seen = await _look(store, [name for name in told if name.startswith("log/")])
    effects: list[Effect] = []
    for name, holds in seen.things.items():
        waits = {"parents": told[name].parents} if holds.get("state") == "blocked" else {}
        effects.append((name, [-2], holds | waits))
        if holds.get("state") == "running":
            effects.append((name, [-1], {"state": "queued", "perhaps": True}))
    return effects


def lay_out(folder: Path, image: dict[str, bytes], *, keep: str = "") -> None:
    """Make a folder that holds these files and nothing else, but for a folder that is to be kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name != keep:
            path.unlink()
    for name, content in image.items():
        (folder / name).write_bytes(content)


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a disk that was laid out; none if there is no such folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


# -- what is there -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Reading:
    """What was read from a disk."""

    records: dict[str, Record]
    things: dict[str, dict[str, Any]]


async def _look(store: SQLiteBackend, topics: list[str]) -> Reading:
    records: dict[str, Record] = {}
    after: int | None = None
    while True:
        page = await store.scan(Filter(), after, 1000)
        records |= {one.id: one for one in page.records}
        if (after := page.after) is None:
            break
    things = {one.id: _thing(one) for one in records.values()}
    for cell in await store.cells("cell/"):
        things[cell.key] = {"value": int(cell.value)}
    for topic in topics:
        numbers = [(event.number, int(event.data)) for event in await store.read(topic, 0, 1000)]
        if numbers:
            assert numbers == [(n + 1, n + 1) for n in range(len(numbers))], f"{topic} has {numbers}"
            things[topic] = {"events": len(numbers)}
    return Reading(records, things)


def _thing(record: Record) -> dict[str, Any]:
    return {
        "state": str(record.state),
        "attempt": record.attempt,
        "failures": record.failures,
        "notes": len(record.progress),
        "result": record.result.decode() if record.result is not None else None,
        "priority": record.priority,
    }


async def _integrity(store: SQLiteBackend) -> list[Violation]:
    """SQLite's own word on the file, on a connection beside the store's."""

    def ask() -> list[tuple[str]]:
        assert store._engine is not None
        with contextlib.closing(store._engine.connect()) as db:
            return db.raw.execute("PRAGMA integrity_check").fetchall()

    answer = await asyncio.to_thread(ask)
    return [] if answer == [("ok",)] else [Violation("C2", "corrupt", detail=str(answer[:3]))]


async def _count(store: SQLiteBackend, records: dict[str, Record]) -> list[Violation]:
    counted: dict[str, dict[State, int]] = {}
    for one in records.values():
        queue = counted.setdefault(one.queue, {})
        queue[one.state] = queue.get(one.state, 0) + 1
    told = {queue: {s: n for s, n in states.items() if n} for queue, states in (await store.tally()).items()}
    told = {queue: states for queue, states in told.items() if states}
    return [] if told == counted else [Violation("C2", "miscounted", detail=f"{told}, there are {counted}")]


# -- going on ----------------------------------------------------------------------------------------------


async def _drain(store: SQLiteBackend, ruling: Ruling) -> list[tuple[str, int]]:
    """Take and settle all that is left, and something new; which attempts that took."""
    attempts: list[tuple[str, int]] = []
    await store.put([[Record(id="after", queue=SHELF, name="work")]])
    for turn in range(100):
        want = Want(
            claim=f"after-{turn}",
            worker="after",
            queues=tuple(Share(queue, 200) for queue in (*SERVED, SHELF)),
            limit=200,
            lease=60 * SECOND,
            python=python_version(),
        )
        records = (await store.take(want)).records
        if not records:
            break
        attempts += [(one.id, one.attempt) for one in records]
        kept = await store.apply(
            [
                Settle(
                    id=one.id,
                    token=want.claim,
                    state=State.COMPLETED,
                    result=f"{one.id}/{one.attempt}".encode(),
                )
                for one in records
            ]
        )
        assert all(kept), "a settle was lost that had the only lease"
    ruling.drained = len(attempts)
    return attempts


def _numbers(before: dict[str, Record], attempts: list[tuple[str, int]]) -> list[Violation]:
    """No attempt has a number that was used, and none leaves one out."""
    next_one = {name: record.attempt + 1 for name, record in before.items()} | {"after": 1}
    return [
        Violation("C4", "a number used again or left out", name, f"attempt {attempt}")
        for name, attempt in attempts
        if attempt != next_one[name]
    ]


def _journals(
    told: dict[str, Story],
    steps: dict[str, int],
    seen: Reading,
    attempts: list[tuple[str, int]],
    after: Reading,
    *,
    cut: int,
) -> dict[str, list[AnyEvent]]:
    """The history as a storm tells it: the power loss kills the workers, and another one goes on.

    Of what was there before, that counts which the disk still knows; `compare` has judged the rest.
    """
    before: dict[int, list[AnyEvent]] = {}
    producer: list[AnyEvent] = []
    for name, story in told.items():
        if name not in seen.records:
            continue
        attempt = 0
        for step in story.steps[: steps[name]]:
            state = step.holds.get("state")
            worker = before.setdefault(step.deed >> 20, [])
            if step.kind == "put":
                producer.append(Invoked(at=step.asked, task=name, expect=ENDS, retries=99))
                if step.told <= cut:
                    producer.append(Acked(at=step.told, task=name))
            elif state == "running":
                attempt = step.holds["attempt"]
                worker.append(Started(at=min(step.told, cut), task=name, attempt=attempt))
            elif step.kind == "settle":
                how = "raised" if state == "queued" else "returned"
                value = step.holds.get("result") or ""
                worker.append(Ended(at=step.asked, task=name, attempt=attempt, how=how, value=value))
    for pid, worker in enumerate(before.values(), 1):
        worker.insert(0, Born(at=0, pid=pid))
        worker.append(Fault(at=cut, what="kill", pid=pid))
    reader = [_seen(one, cut + 1) for one in seen.records.values()]
    now = cut + 2.0
    worker = [Born(at=now, pid=10**6)]
    producer += [Invoked(at=now, task="after"), Acked(at=now, task="after")]
    for name, attempt in attempts:
        now += 1
        worker.append(Started(at=now, task=name, attempt=attempt))
        worker.append(Ended(at=now, task=name, attempt=attempt, value=f"{name}/{attempt}"))
    reader += [_seen(one, now + 1, final=True) for one in after.records.values()]
    journals = {f"worker-{source}": events for source, events in before.items()}
    return journals | {"producer": producer, "worker-after": worker, "reader": reader}


def _seen(record: Record, at: float, *, final: bool = False) -> Seen:
    return Seen(
        at=at,
        task=record.id,
        state=str(record.state),
        attempt=record.attempt,
        value=record.result.decode() if record.result is not None else "",
        failures=record.failures,
        final=final,
    )
