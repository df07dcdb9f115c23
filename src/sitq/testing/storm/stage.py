"""What every scene needs: a fleet, a nemesis' journal, an eye on what the others write, and the verdict."""

from __future__ import annotations

import importlib
import os
import re
import runpy
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sitq import Task
from sitq.testing.storm.check import Rules, check
from sitq.testing.storm.events import Alone, AnyEvent, Ended, Fault, Invoked, Over, Phase, Started, What, now
from sitq.testing.storm.fleet import APP, Fleet, Member
from sitq.testing.storm.history import gather
from sitq.testing.storm.journal import VARIABLE, Journal, decode, read_all
from sitq.testing.storm.producing import enqueue, read_everything
from sitq.testing.storm.server import Server
from sitq.testing.storm.setup import Setup
from sitq.testing.storm.verdict import Verdict

BEAT: Final = 0.02
_RECENT: Final = 16 << 10
"""Bytes at the end of a journal that tell what its process does now."""

_SLOW: Final = 5.0
"""Seconds after which a worker has begun, or does not get that far."""

_DEATHS: Final = 2
_SETTLED: Final = 2.0
"""Seconds after which the outcome of an attempt is certainly stored."""
_LATE: Final = 8.0
"""The same where the store is on a server that is away at times."""

_WRITER: Final = "120"
"""The byte of a SQLite file's shared memory that its writer has locked, and the first that anybody locks
(sqlite.org/walformat.html). A checkpoint beside the commits locks others, and keeps nobody from writing."""

_REFUSED: Final = re.compile(rb"its outcome (came too late and was refused|is dropped)")


class Stage:
    """A folder, a fleet, and the nemesis that harms it. Everything on it is bounded."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        setup.save()
        os.environ[VARIABLE] = setup.folder
        importlib.import_module("sitq.cli")  # once, for all forks
        importlib.import_module("sitq.testing.storm.app")
        self.server = Server(setup) if setup.served else None
        if self.server:
            importlib.import_module(f"sitq.backends.{setup.served}")
        self.journal = Journal(setup.journals, "nemesis")
        self.fleet = Fleet(self.journal, setup.place / "log")
        self.done: Counter[str] = Counter()
        self._read: dict[Path, int] = {}
        self.running: dict[str, dict[str, int]] = {}
        """By the name of a journal: the tasks that run in its process, and their attempts."""
        self.starts: Counter[int] = Counter()
        """How many attempts of each number have started."""
        self.ends = 0
        self.returned: set[str] = set()
        """The tasks of which an attempt has returned."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.fleet.end()
        if self.server:
            self.server.close()

    def work(self, **options: object) -> Callable[[], Any]:
        """What a process does that is `sitq worker` with these options."""
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]

        def main() -> None:
            sys.argv = ["sitq", "worker", APP, "--log-level=warning", *arguments]
            runpy.run_module("sitq", run_name="__main__")

        return main

    def enqueue(self, tasks: Sequence[tuple[Task, Invoked]]) -> None:
        """Enqueue tasks, in a process of their own."""
        self.fleet.start("producer", lambda: enqueue(self.setup, tasks), again=False)
        self.wait(lambda: not self.fleet.of("producer"), 60)

    # -- look ----------------------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], object], seconds: float) -> bool:
        """Wait for something that the others do; False if it did not happen in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(BEAT)
            self.fleet.tend()
            self.look()
        return True

    def look(self) -> None:
        """Read on in the journals of the workers."""
        for path in self.setup.journals.glob("worker-*.jsonl"):
            known = self._read.get(path, 0)
            if path.stat().st_size > known:
                with path.open("rb") as file:
                    file.seek(known)
                    whole = file.read().rpartition(b"\n")[0]
                self._read[path] = known + len(whole) + bool(whole)
                for line in whole.split(b"\n"):
                    if line:
                        self._note(path.stem, decode(line))

    def _note(self, source: str, event: AnyEvent) -> None:
        match event:
            case Started():
                self.starts[event.attempt] += 1
                self.running.setdefault(source, {})[event.task] = event.attempt
            case Ended():
                self.ends += 1
                if event.how == "returned":
                    self.returned.add(event.task)
                self.running.get(source, {}).pop(event.task, None)
            case _:
                pass

    def busy(self, member: Member) -> dict[str, int]:
        """The tasks that run in a process."""
        prefix = f"worker-{member.pid}-"
        found = [tasks for source, tasks in self.running.items() if source.startswith(prefix)]
        return found[-1] if found else {}

    def works(self, member: Member) -> bool:
        """Whether a worker process has begun to work."""
        return any(self.setup.journals.glob(f"worker-{member.pid}-*.jsonl"))

    def has_worked(self, member: Member) -> bool:
        """Whether a worker process has begun with a task, or had the time for it."""
        return time.monotonic() > member.born + _SLOW or any(
            b'"started"' in path.open("rb").read(_RECENT)
            for path in self.setup.journals.glob(f"worker-{member.pid}-*.jsonl")
        )

    def runs_alone(self, member: Member) -> bool:
        """Whether a worker runs, or has only just run, a task at its third attempt or a later one."""
        for path in self.setup.journals.glob(f"worker-{member.pid}-*.jsonl"):
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _RECENT))
                lines = file.read().split(b"\n")
            suspects: set[str] = set()
            for line in lines[1:-1]:  # the first one may be cut, and is of no task otherwise
                event = decode(line)
                if isinstance(event, Alone) or (isinstance(event, Started) and event.attempt > _DEATHS):
                    suspects.add(event.task)
                elif isinstance(event, Ended) and event.at < now() - (_LATE if self.server else _SETTLED):
                    suspects.discard(event.task)
            if suspects:
                return True
        return False

    # -- harm ----------------------------------------------------------------------------------------------

    def harm(self, what: What, number: signal.Signals, member: Member | None) -> None:
        """Send a signal, and write down before that it is about to be sent."""
        if member is None:
            return
        self.journal.write(Fault(what=what, pid=member.pid))
        self.done[f"{what} {member.role}"] += self.fleet.signal(member, number)

    def kill(self, member: Member | None) -> None:
        """End a process at once."""
        self.harm("kill", signal.SIGKILL, member)

    def suspend(self, member: Member, *, without_lock: bool = False) -> None:
        """Stop a process until `resume`.

        A process that is stopped while it writes to a file keeps all others from writing to a store in that
        file. `without_lock` lets it go on until it has none.
        """
        self.harm("stop", signal.SIGSTOP, member)
        member.stopped = True
        deadline = time.monotonic() + 10
        while without_lock and holds_lock(member.pid) and time.monotonic() < deadline:
            self.fleet.signal(member, signal.SIGCONT)
            time.sleep(BEAT / 4)
            self.fleet.signal(member, signal.SIGSTOP)
        if holds_lock(member.pid):
            self.journal.write(Fault(what="lock", pid=member.pid))

    def resume(self, member: Member) -> None:
        """Let a stopped process go on."""
        self.fleet.signal(member, signal.SIGCONT)
        self.journal.write(Over(what="stop", pid=member.pid))
        self.journal.write(Over(what="lock", pid=member.pid))
        member.stopped = False

    def phase(self, name: str) -> None:
        """Write down that the next part begins."""
        self.journal.write(Phase(name=name))

    # -- judge ---------------------------------------------------------------------------------------------

    def judge(self, rules: Rules) -> Verdict:
        """End all processes, read what is stored, and judge what happened."""
        self.fleet.end()
        self.fleet.start("reader", lambda: read_everything(self.setup), again=False)
        self.wait(lambda: not self.fleet.of("reader"), 120)
        self.fleet.end()
        self.phase("end")
        verdict = check(gather(read_all(self.setup.journals)), rules)
        log = self.setup.place / "log"
        told = Counter(one.decode() for one in _REFUSED.findall(log.read_bytes() if log.exists() else b""))
        verdict.counts.update({f"a worker said: its outcome {what}": n for what, n in sorted(told.items())})
        verdict.counts.update({f"faults: {name}": count for name, count in sorted(self.done.items())})
        return verdict


def holds_lock(pid: int) -> bool:
    """Whether a process has the lock that all writers of a file need; where the system does not tell, no."""
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return False
    held = ["WRITE", str(pid), _WRITER]
    return any([*fields[3:5], *fields[6:7]] == held for fields in map(str.split, lines))
