"""Scenes beside the storm, each of which proves one promise with real processes and real signals."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Final

from sitq import Task
from sitq.testing.storm import bodies
from sitq.testing.storm.check import Rules
from sitq.testing.storm.events import Invoked
from sitq.testing.storm.fleet import Member
from sitq.testing.storm.setup import Setup
from sitq.testing.storm.stage import Stage
from sitq.testing.storm.storm import spin
from sitq.testing.storm.verdict import Verdict

_PATIENCE: Final = 60.0
_TERM: Final = signal.SIGTERM
_AT_ONCE: Final = 600
_STOPPED: Final = 8.0
"""Seconds for which a worker is suspended, at the least."""

_BOTH: Final = 10.0
"""Seconds for which some tasks run elsewhere, too, when it goes on."""

_WAVE: Final = 20
"""Workers that are killed in one wave."""

_EACH: Final = 2
"""Tasks that each of them holds."""

_WELL: Final = 3
"""Processes of a supervisor that are there when one of them is killed."""

_LOAD: Final = 4
"""Busy processes for each core."""

_BLOCKED: Final = 8.0
"""Seconds for which event loops are blocked."""


def zombies(setup: Setup) -> Verdict:
    """Late finishes: each worker is suspended beyond its leases, and goes on when others have done its tasks.

    Some of the tasks are coroutines, which may be interrupted before they finish, and most are threads. Half
    of each have ended elsewhere by then, and half still run there. All late finishes are refused.
    """
    numbers = itertools.count()
    with Stage(setup) as stage:
        for round_ in range(-(-setup.tasks // _AT_ONCE)):
            tasks = [_late(next(numbers)) for _ in range(min(_AT_ONCE, setup.tasks - round_ * _AT_ONCE))]
            _zombie_round(stage, tasks)
        return stage.judge(Rules(lease=setup.lease, after=setup.lease + 5))


def _late(number: int) -> tuple[Task, Invoked]:
    function = bodies.slow_at_first if number % 8 == 0 else bodies.slow_at_first_in_thread
    return _task(number, function, _STOPPED, _BOTH if number % 2 else 0.0)


def _zombie_round(stage: Stage, tasks: list[tuple[Task, Invoked]]) -> None:
    lease = f"{stage.setup.lease:g}"
    ends, first, second = stage.ends, stage.starts[1], stage.starts[2]
    victim = stage.fleet.start("worker", stage.work(lease=lease, concurrency=_AT_ONCE), again=False)
    stage.enqueue(tasks)
    stage.wait(lambda: stage.starts[1] >= first + len(tasks), _PATIENCE)
    begun = time.monotonic()
    stage.suspend(victim, without_lock=True)
    heir = stage.fleet.start("worker", stage.work(lease=lease, concurrency=_AT_ONCE), again=False)
    stage.wait(lambda: stage.starts[2] >= second + len(tasks), _PATIENCE)
    stage.wait(
        lambda: time.monotonic() > begun + _STOPPED, 10
    )  # the suspended ones have nothing left to wait for
    stage.resume(victim)
    stage.wait(lambda: stage.ends >= ends + 2 * len(tasks), _PATIENCE)
    for member in (victim, heir):
        stage.harm("term", _TERM, member)
    stage.wait(lambda: not stage.fleet.of("worker"), 20)


def recovery(setup: Setup) -> Verdict:
    """Kills without a supervisor at random instants: by default settings all start again within 15 s."""
    dice = random.Random(setup.seed)
    numbers = itertools.count()
    with Stage(setup) as stage:
        for wave in range(-(-setup.kills // _WAVE)):
            _recovery_wave(stage, min(_WAVE, setup.kills - wave * _WAVE), numbers, dice)
        return stage.judge(Rules(lease=10.0, recovery=setup.within or 15.0))


def _recovery_wave(stage: Stage, kills: int, numbers: Iterator[int], dice: random.Random) -> None:
    first, second = stage.starts[1], stage.starts[2]
    wanted = kills * _EACH
    stage.enqueue([_task(next(numbers), bodies.slow_at_first, 600.0) for _ in range(wanted)])
    victims = [stage.fleet.start("worker", stage.work(concurrency=_EACH), again=False) for _ in range(kills)]
    stage.wait(lambda: stage.starts[1] >= first + wanted, _PATIENCE)
    heirs = [stage.fleet.start("worker", stage.work(), again=False) for _ in range(2)]
    begun = time.monotonic()
    for at, victim in zip(sorted(dice.uniform(0, 5) for _ in victims), victims, strict=True):
        stage.wait(lambda at=at: time.monotonic() >= begun + at, 10)  # type: ignore[misc]
        stage.kill(victim)
    stage.wait(lambda: stage.starts[2] >= second + wanted, _PATIENCE)
    for heir in heirs:
        stage.harm("term", _TERM, heir)
    stage.wait(lambda: not stage.fleet.of("worker"), 30)


def supervised(setup: Setup) -> Verdict:
    """Kills under a supervisor: the tasks start again within a second."""
    numbers = itertools.count()
    dice = random.Random(setup.seed)
    with Stage(setup) as stage:
        stage.fleet.start("supervisor", stage.work(processes=4), again=False)
        for _ in range(setup.kills):
            _kill_one(stage, numbers, dice)
        return stage.judge(Rules(lease=10.0, recovery=setup.within or 1.0))


def _kill_one(stage: Stage, numbers: Iterator[int], dice: random.Random) -> None:
    """Kill a worker process that runs something, while another one is there."""
    first, second = stage.starts[1], stage.starts[2]

    def there() -> list[Member]:
        return [one for one in stage.fleet.of("supervised") if stage.works(one)]

    stage.wait(lambda: len(there()) >= _WELL, _PATIENCE)
    stage.enqueue([_task(next(numbers), bodies.slow_at_first, 600.0) for _ in range(4)])
    stage.wait(lambda: stage.starts[1] >= first + 4, _PATIENCE)
    victim = dice.choice([one for one in there() if stage.busy(one)])
    held = len(stage.busy(victim))
    stage.kill(victim)
    stage.wait(lambda: stage.starts[2] >= second + held, _PATIENCE)


def load(setup: Setup) -> Verdict:
    """Four busy processes for each core, and event loops blocked for 8 s: nobody loses a lease.

    Nothing explains it here if a task runs twice, not even that a process did not run for a while.
    """
    numbers = itertools.count()
    with Stage(setup) as stage:
        for _ in range(3):
            stage.fleet.start("worker", stage.work(), again=False)
        for _ in range(_LOAD * (os.cpu_count() or 1)):
            stage.fleet.start("hog", lambda: spin(setup.seconds + _PATIENCE), again=False)
        begun, wanted = time.monotonic(), 0
        while time.monotonic() < begun + setup.seconds:
            tasks = [_task(next(numbers), bodies.block, _BLOCKED) for _ in range(2)]
            tasks += [_task(next(numbers), bodies.pause, 5.0) for _ in range(6)]
            tasks += [_task(next(numbers), bodies.quick) for _ in range(50)]
            stage.enqueue(tasks)
            wanted += len(tasks)
            stage.wait(lambda: False, _BLOCKED)
        stage.wait(lambda: stage.ends >= wanted, 2 * _PATIENCE)
        for hog in stage.fleet.of("hog"):
            stage.kill(hog)
        return stage.judge(Rules(lease=10.0, starvation=False))


def _task(number: int, function: object, *args: object) -> tuple[Task, Invoked]:
    task_id = f"t{number:07d}"
    return Task(function, args, id=task_id), Invoked(task=task_id)  # type: ignore[arg-type]
