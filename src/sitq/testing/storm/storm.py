"""A storm: a fleet at work, a nemesis that harms it by a plan, and the verdict when all is calm again."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from bisect import insort
from collections.abc import Callable
from typing import Final

import msgspec

from sitq.testing.storm.check import Rules
from sitq.testing.storm.clock import SteppedClock
from sitq.testing.storm.disk import Disk
from sitq.testing.storm.events import Fault, Over
from sitq.testing.storm.fleet import Member
from sitq.testing.storm.plan import KINDS, Action, make_plan
from sitq.testing.storm.producing import observe, produce
from sitq.testing.storm.progress import LONGEST, Progress
from sitq.testing.storm.setup import SERIAL, Setup
from sitq.testing.storm.stage import BEAT, Stage
from sitq.testing.storm.verdict import Verdict

_DISK: Final = 512
"""MiB of a disk of the storm's own."""

_BROKEN: Final = 2
"""Workers that stay suspended while the others work everything off."""

_WORKERS: Final = ("worker", "supervised", "serial")


class Storm(Stage):
    """One storm, from the first process to the verdict."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._disk = None if self.server else Disk(setup.disk, _DISK)
        self._clock = SteppedClock(setup.place / "clock")
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[0], False)
        self._open: int | None = None
        self._told = b""

    def run(self) -> Verdict:
        """Let it rage, heal a part, heal all, and judge."""
        setup = self.setup
        with self:
            try:
                self._muster()
                self.phase("storm")
                self._rage()
                self._heal_a_part()
                self._heal()
            finally:
                if self._disk:
                    self._disk.empty()
            return self.judge(Rules(lease=setup.lease, drain=LONGEST * setup.calm, after=setup.lease + 5))

    # -- the fleet -----------------------------------------------------------------------------------------

    def _muster(self) -> None:
        setup, fleet = self.setup, self.fleet
        self._common = {"lease": f"{setup.lease:g}", "concurrency": setup.concurrency}
        for _ in range(setup.workers):
            fleet.start("worker", self.work(**self._common))
        fleet.start("serial", self.work(lease=f"{setup.lease:g}", queues=SERIAL, concurrency=1))
        if setup.supervised:
            fleet.start("supervisor", self.work(**self._common, processes=setup.supervised))
        fleet.start("observer", lambda: observe(setup, self._pipe[1]))
        self._begin_to_produce(setup.seconds)

    def _begin_to_produce(self, seconds: float) -> None:
        path = self.setup.place / "enqueued"
        first = int(path.read_text() or 0) if path.exists() else 0
        if first < self.setup.tasks:
            self.fleet.start("producer", lambda: produce(self.setup, first, seconds), again=False)

    # -- the phases ----------------------------------------------------------------------------------------

    def _rage(self) -> None:
        setup = self.setup
        kinds = [kind for kind in KINDS if self._can_strike(kind)]
        plan = make_plan(setup.seed, setup.seconds, setup.kills, setup.lease, kinds)
        begun = time.monotonic()
        # All kills that are asked for are made, however long workers take to be there again for the next one.
        overtime = begun + 3 * setup.seconds + 2 * setup.calm
        while plan or not self._all_enqueued():
            now = time.monotonic()
            if now > overtime:
                break
            if plan and begun + plan[0].at <= now:
                action = plan.pop(0)
                if not self._strike(action):  # there is nobody to strike now
                    insort(plan, msgspec.structs.replace(action, at=now - begun + 0.2), key=_when)
            self._beat(seldom=not plan)
            if not self.fleet.of("producer") and not self._all_enqueued():
                self._begin_to_produce(max(0.0, begun + setup.seconds - now))

    def _all_enqueued(self) -> bool:
        path = self.setup.place / "enqueued"
        text = path.read_text() if path.exists() else ""
        return bool(text) and int(text) >= self.setup.tasks and not self.fleet.of("producer")

    def _heal_a_part(self) -> None:
        """Nothing is harmed any more, but some workers stay suspended with what they hold."""
        for _, over in self._later:
            over()
        self._later.clear()
        if self._disk:
            self._disk.empty()
        if self.server:
            self.server.settle()
        stopped = self.fleet.of("worker")[:_BROKEN]
        for member in stopped:
            self.suspend(member, without_lock=True)
        for _ in stopped:
            self.fleet.start("worker", self.work(**self._common))
        self.phase("part")
        self._open = None
        if self._wait_until_drained():
            self.phase("drained")

    def _heal(self) -> None:
        """All are well: the suspended wake up, and their late words are refused."""
        for member in [one for one in self.fleet.members.values() if one.stopped]:
            self.resume(member)
        self.phase("healed")
        deadline = time.monotonic() + 2 * self.setup.lease + 1
        while time.monotonic() < deadline:
            self._beat()

    def _wait_until_drained(self) -> bool:
        progress = Progress(self.setup.calm, time.monotonic())
        while not progress.done and progress.has_hope(time.monotonic()):
            self._beat(seldom=True)
            progress.see(self._open, time.monotonic())
        return progress.done

    def _beat(self, *, seldom: bool = False) -> None:
        time.sleep(BEAT * (3 if seldom else 0.5))
        self.fleet.tend()
        now = time.monotonic()
        due = [entry for entry in self._later if entry[0] <= now]
        self._later = [entry for entry in self._later if entry[0] > now]
        for _, over in due:
            over()
        with contextlib.suppress(BlockingIOError):
            self._told += os.read(self._pipe[0], 1 << 16)
            *lines, self._told = self._told.split(b"\n")
            if lines:
                self._open = int(lines[-1])

    # -- the nemesis ---------------------------------------------------------------------------------------

    def _strike(self, action: Action) -> bool:
        """Do harm; False if a kill that is asked for finds nobody."""
        match action.what:
            case "kill":
                victim = self._pick(action, *_WORKERS)
                self.kill(victim)
                return victim is not None
            case "supervisor" | "producer":
                self.kill(self._pick(action, action.what))
            case "term":
                self.harm("term", signal.SIGTERM, self._pick(action, *_WORKERS, "supervisor"))
            case "stop":
                member = self._pick(action, *_WORKERS)
                if member is not None:
                    self.suspend(member)
                    self._after(action.seconds, lambda: self.resume(member))
            case "hog":
                for _ in range(2):
                    self.fleet.start("hog", lambda: spin(action.seconds), again=False)
                self.done["hog"] += 1
            case "clock":
                if not self.server:  # the clocks of its clients explain nothing
                    self.journal.write(Fault(what="clock", by=action.seconds))
                self._clock.step(action.seconds)
                self.done["clock"] += 1
            case _:
                self._strike_store(action)
        return True

    def _strike_store(self, action: Action) -> None:
        if self._disk:
            self.journal.write(Fault(what="full"))
            self._disk.fill()
            self._after(action.seconds, self._give_room)
        elif self.server and action.what == "down":
            self.server.down()
        elif self.server:
            self.server.still(action.seconds)
        self.done[action.what] += 1

    def _can_strike(self, kind: str) -> bool:
        if kind == "full":
            return self._disk is not None and self._disk.small
        return self.server is not None or kind not in {"down", "still"}

    def _pick(self, action: Action, *roles: str) -> Member | None:
        """One of the elder half that is at work: those that were only just started have nothing to lose.

        A task that was there at two deaths runs alone, and a death then speaks against it. The nemesis cannot
        prove it innocent, so it spares those that run such a task.
        """
        found = [one for one in self.fleet.of(*roles) if one.role not in _WORKERS or self.has_worked(one)]
        elder = found[: max(1, len(found) // 2 + 1)]
        start = int(action.pick * len(elder))
        for member in elder[start:] + elder[:start]:
            if not self.runs_alone(member):
                return member
        return None

    def _give_room(self) -> None:
        if self._disk:
            self._disk.empty()
        self.journal.write(Over(what="full"))

    def _after(self, seconds: float, do: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, do))


def _when(action: Action) -> float:
    return action.at


def spin(seconds: float) -> None:
    """Keep a core busy."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
