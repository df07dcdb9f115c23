"""Images of a tape: drawn, laid out, judged, counted."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from disk import POLICIES, Disk
from judge import Ruling, files_of, judge, lay_out, survey
from scene import FILE, TAPE, record
from stories import FOUND, stories
from tape import AnyEvent, Asked, Tape, Told, read

SHOWN = 5
"""How many broken images of a tape are told of."""

ENOUGH = 10
"""How many broken images of a tape are looked for."""

AGAIN = 5
"""Each fifth image is of a second tape, which goes on after a loss of power."""

BEFORE = -2
"""The deed under which a second tape tells what it began with."""


@dataclass(frozen=True)
class Task:
    """What is to be done with one tape.

    Attributes:
        seed: What is drawn.
        numbers: Which images.
        synchronous: How the store was opened.
        thorough: Each n-th disk is worked off, too.
        tape: The folder of a tape that was kept; None records one.
        keep: Where tapes with broken images stay; None is the folder for temporary files.
    """

    seed: int
    numbers: tuple[int, ...]
    synchronous: str = "FULL"
    thorough: int = 1
    tape: Path | None = None
    keep: Path | None = None


@dataclass(frozen=True)
class Report:
    """What was counted, and what there is to say about broken promises."""

    counts: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)


def examine(task: Task) -> Report:
    """Record a tape, unless there is one, and judge images of it."""
    room = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None  # where a sync costs nothing
    place = Path(tempfile.mkdtemp(prefix="sitq-crash-", dir=room))
    folder = task.tape or Path(tempfile.mkdtemp(prefix="sitq-tape-", dir=task.keep))
    report = Report()
    try:
        events = read(folder / TAPE) if task.tape else record(folder, task.synchronous, task.seed)
        asyncio.run(_examine(task, folder, events, place, report))
        return report
    finally:
        shutil.rmtree(place)
        if not task.tape and not report.lines:
            shutil.rmtree(folder)


async def _examine(task: Task, folder: Path, events: list[AnyEvent], place: Path, report: Report) -> None:
    once = [number for number in task.numbers if number % AGAIN]
    await _judge(task, report, place, folder=folder, events=events, numbers=once)
    twice = [number for number in task.numbers if not number % AGAIN]
    if twice and not report.lines:  # nothing is to be learnt from what follows a broken disk
        again = folder / "again"
        if not (again / TAPE).exists():
            await _go_on(task, folder, events, again)
        await _judge(task, report, place, folder=again, events=read(again / TAPE), numbers=twice)


async def _go_on(task: Task, folder: Path, events: list[AnyEvent], again: Path) -> None:
    """Let the scene go on after a loss of power."""
    ((_, cut, _, image),) = images(task.seed, folder, events, [-1])
    effects = await survey(again, image, stories(events[:cut]))
    lay_out(again / "base", image)
    lay_out(again, image, keep="base")
    tape = Tape(again / TAPE)
    tape.write(Asked(BEFORE, FOUND))
    tape.write(Told(BEFORE, effects))
    await asyncio.to_thread(record, again, task.synchronous, task.seed, again=True)


async def _judge(
    task: Task, report: Report, place: Path, *, folder: Path, events: list[AnyEvent], numbers: list[int]
) -> None:
    told = stories(events)
    steps = [step.told for story in told.values() for step in story.steps]
    names = Counter(type(event).__name__ for event in events)
    counts = report.counts
    counts.update(tapes=1, written=names["Write"], truncated=names["Truncate"], synced=names["Synced"])
    for number, cut, policy, image in images(task.seed, folder, events, numbers):
        ruling = await judge(
            place,
            image,
            told,
            cut,
            full=task.synchronous == "FULL",
            thorough=number // AGAIN % task.thorough == 0,
            history=bool(number % AGAIN),
        )
        counts["images"] += 1
        counts[policy] += 1
        counts["acknowledged"] += sum(step <= cut for step in steps)
        counts["lost"] += ruling.lost
        counts["lossy"] += ruling.lost > 0
        counts["drained"] += ruling.drained
        if ruling.violations:
            counts["broken"] += 1
            if counts["broken"] <= SHOWN:
                what = f"{policy} of what was not synced at {cut} of {len(events)}"
                report.lines.extend(told_of(task, folder, number, what, ruling))
            if counts["broken"] == ENOUGH:
                return


def images(
    seed: int, folder: Path, events: list[AnyEvent], numbers: list[int]
) -> Iterator[tuple[int, int, str, dict[str, bytes]]]:
    """Draw disks, in order of time: number, when the power went, what of the rest was there, their files."""
    answers = [at for at, event in enumerate(events, 1) if isinstance(event, Told) and event.deed >= 0]
    first = next(at for at, event in enumerate(events, 1) if isinstance(event, Asked) and event.deed >= 0)
    begin = 1 + sum(isinstance(event, Asked | Told) and event.deed < 0 for event in events)
    indexes = sorted(folder.glob("index-*"))
    drawn: list[tuple[int, int, random.Random]] = []
    for number in numbers:
        draw = random.Random(f"{seed}/{number}")
        # Most is to be lost right after an answer. Before the first question the tables are made.
        cuts = draw.choice(answers), draw.randint(begin, len(events)), draw.randint(begin, first)
        drawn.append((draw.choices(cuts, (50, 40, 10))[0], number, draw))
    disk, at = Disk(files_of(folder / "base")), 0
    for cut, number, draw in sorted(drawn, key=lambda one: one[:2]):
        while at < cut:
            disk.follow(events[at])
            at += 1
        policy = draw.choice(list(POLICIES))
        image = disk.image(draw, policy)
        if indexes and draw.random() < 0.5:
            image[f"{FILE}-shm"] = draw.choice(indexes).read_bytes()
        yield number, cut, policy, image


def told_of(task: Task, folder: Path, number: int, what: str, ruling: Ruling) -> Iterator[str]:
    """What is wrong with an image, in lines for people, and how to see it again."""
    yield f"image {number}, {what}: {len(ruling.violations)} violations"
    for one in ruling.violations[:SHOWN]:
        yield f"  {one.rule} {one.what}: {one.task} {one.detail}"[:600]
        yield from (f"      {line}" for line in one.timeline[-12:])
    kept = folder if number % AGAIN else folder.parent
    again = f"--tape={kept} --seed={task.seed} --image={number} --synchronous={task.synchronous}"
    yield f"  again: make crash ARGS='{again}'"


def summary(counts: Counter[str], seconds: float) -> str:
    """What was counted, in lines for people."""
    policies = ", ".join(f"{name} {counts[name]}" for name in POLICIES)
    return (
        f"{counts['images']} images of {counts['tapes']} tapes with {counts['written']} writes, "
        f"{counts['truncated']} truncations and {counts['synced']} syncs ({seconds:.1f} s)\n"
        f"what else had reached the disk: {policies}\n"
        f"{counts['acknowledged']} acknowledged steps, {counts['lost']} lost, by {counts['lossy']} lossy "
        f"disks; {counts['drained']} tasks worked off\n"
        f"{counts['broken']} broken"
    )
