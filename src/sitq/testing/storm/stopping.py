"""A scene: workers are told to end at random instants, again and again, while there is much to do."""

from __future__ import annotations

import itertools
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
from sitq.testing.storm.stage import BEAT, Stage
from sitq.testing.storm.verdict import Verdict, Violation

_WORKERS: Final = 5
_SLOTS: Final = 8
_GROUP: Final = 200
_BACKLOG: Final = 150
"""Tasks that wait at the least."""

_GRACE: Final = 0.3
"""Seconds that tasks get to end; some take longer, and are handed back."""

_LATEST: Final = 0.4
"""Seconds after its beginning from which on a worker is told to end."""

_ENDS: Final = 15.0
"""Seconds within which a worker ends that was told to."""

_PATIENCE: Final = 60.0


def stops(setup: Setup) -> Verdict:
    """So many workers are told to end, each at a random instant of its life: no task is lost, none dies.

    A task that was cut short starts again, but not because its lease ran out: nothing explains a second run
    here but that its worker was stopped.
    """
    with Stopping(setup) as stage:
        stage.run()
        verdict = stage.judge(Rules(lease=setup.lease))
        late = [f"worker {pid} after {took:.1f} s" for pid, took in stage.took if took > _ENDS]
        verdict.violations += [Violation("C7", "ended late", detail=one) for one in late]
        deaths = [why for why in verdict.explained if not why.startswith("its worker was stopped")]
        verdict.violations += [Violation("C5", "ran again for another reason", detail=why) for why in deaths]
        return verdict


class Stopping(Stage):
    """Workers that come and go."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.took: list[tuple[int, float]] = []
        """Who ended, and how many seconds after it was told to."""
        self._dice = random.Random(setup.seed)
        self._numbers = itertools.count()
        self._due: dict[int, tuple[Member, float]] = {}
        self._told: dict[int, tuple[Member, float]] = {}

    def run(self) -> None:
        """Stop so many workers, then let all tasks end."""
        setup, wanted = self.setup, 0
        for _ in range(_WORKERS):
            self.fleet.start(
                "worker", self.work(lease=f"{setup.lease:g}", concurrency=_SLOTS, grace=f"{_GRACE:g}")
            )
        while self.done["term worker"] < setup.kills:
            if wanted - len(self.returned) < _BACKLOG:
                self.enqueue(list(itertools.islice(self._tasks(), _GROUP)))
                wanted += _GROUP
            time.sleep(BEAT / 4)
            self.fleet.tend()
            self.look()
            self._look_around()
        self.wait(lambda: len(self.returned) == wanted, _PATIENCE)
        self.wait(lambda: not self._unended(), _ENDS)

    def _look_around(self) -> None:
        """Tell those whose time has come to end, and note who has ended."""
        for member in self.fleet.of("worker"):
            if member.pid not in self._due and member.pid not in self._told and self.works(member):
                self._due[member.pid] = member, time.monotonic() + self._dice.uniform(0, _LATEST)
        for pid, (member, at) in list(self._due.items()):
            if time.monotonic() >= at and self.done["term worker"] < self.setup.kills:
                del self._due[pid]
                self.harm("term", signal.SIGTERM, member)
                self._told[pid] = member, time.monotonic()
        self._unended()

    def _unended(self) -> bool:
        """Whether somebody that was told to end has not."""
        for pid, (member, at) in list(self._told.items()):
            if self.fleet.members.get(pid) is not member:
                del self._told[pid]
                self.took.append((pid, time.monotonic() - at))
        return bool(self._told)

    def _tasks(self) -> Iterator[tuple[Task, Invoked]]:
        while True:
            task_id = f"t{next(self._numbers):07d}"
            draw, seconds = self._dice.random(), self._dice.uniform(0, 2 * _GRACE)
            if draw < 0.3:
                yield Task(bodies.pause, (seconds,), id=task_id), Invoked(task=task_id)
            elif draw < 0.4:
                yield Task(bodies.thread, (seconds / 4,), id=task_id), Invoked(task=task_id)
            else:
                yield Task(bodies.quick, id=task_id), Invoked(task=task_id)
