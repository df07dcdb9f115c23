"""The processes of a storm, forked from one that has imported everything: so hundreds of deaths are cheap."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sitq.testing.storm.events import Exited
from sitq.testing.storm.journal import Journal

_PR_SET_PDEATHSIG: Final = 1

APP: Final = "sitq.testing.storm.app:make_worker"


@dataclass(slots=True)
class Member:
    """A process that the storm started, or a worker that a supervisor of the storm's started.

    Attributes:
        main: What to start in its place when it ends; None is nothing.
        parent: Its supervisor, if it has one.
        stopped: Whether it is suspended.
        doomed: Whether it was sent a SIGKILL.
    """

    pid: int
    role: str
    main: Callable[[], Any] | None
    born: float
    parent: int = 0
    stopped: bool = False
    doomed: bool = False


class Fleet:
    """Starts, watches and replaces processes; only ever signals those that it knows to be its own.

    The process that owns it must have no threads, as it forks.
    """

    def __init__(self, journal: Journal, log: Path) -> None:
        self._journal = journal
        self._log = log
        self._owner = os.getpid()
        self.members: dict[int, Member] = {}
        self.replacing = True

    def start(self, role: str, main: Callable[[], Any], *, again: bool = True) -> Member:
        """Fork a process; `again` replaces it whenever it ends."""
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if not pid:
            self._become(main)
        member = Member(pid, role, main if again else None, time.monotonic())
        self.members[pid] = member
        return member

    def _become(self, main: Callable[[], Any]) -> None:
        """In the fork: do its work, and end without what the parent would do at its end."""
        code: object = 1
        try:
            end_with_parent(self._owner)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            random.seed()
            code = main() or 0
        except SystemExit as end:
            code = end.code
        except BaseException:  # noqa: BLE001 - the fork must not go on as its parent
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stderr.flush()
            os._exit(code if isinstance(code, int) else 1)

    def tend(self) -> None:
        """Notice who has ended, replace them, and look which workers the supervisors have."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            self._ended(pid, os.waitstatus_to_exitcode(status))
        for supervisor in [one for one in self.members.values() if one.role == "supervisor"]:
            self._look_at_workers(supervisor)

    def _ended(self, pid: int, code: int) -> None:
        member = self.members.pop(pid, None)
        if member is None:
            return
        self._journal.write(Exited(pid=pid, code=code))
        if member.role == "supervisor":
            for child in [one for one in self.members.values() if one.parent == pid]:
                self._forget(child)
        if self.replacing and member.main is not None:
            self.start(member.role, member.main)

    def _look_at_workers(self, supervisor: Member) -> None:
        children = children_of(supervisor.pid)
        for child in [one for one in self.members.values() if one.parent == supervisor.pid]:
            if child.pid not in children:
                self._forget(child)
        for pid in children:
            if pid not in self.members:
                self.members[pid] = Member(pid, "supervised", None, time.monotonic(), supervisor.pid)

    def _forget(self, child: Member) -> None:
        del self.members[child.pid]
        self._journal.write(Exited(pid=child.pid, code=-1))

    def signal(self, member: Member, number: signal.Signals) -> bool:
        """Send a signal, if it is still there."""
        if self.members.get(member.pid) is not member:
            return False
        if member.parent and member.pid not in children_of(member.parent):
            self._forget(member)
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(member.pid, number)
            member.doomed = member.doomed or number == signal.SIGKILL
            return True
        return False

    def of(self, *roles: str) -> list[Member]:
        """Those of some roles that are neither suspended nor about to be gone, eldest first."""
        return sorted(
            (one for one in self.members.values() if one.role in roles and not (one.stopped or one.doomed)),
            key=lambda one: one.born,
        )

    def end(self, patience: float = 10.0) -> None:
        """End all that is left: politely, then at once."""
        if os.getpid() != self._owner:
            return
        self.replacing = False
        for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 5.0)):
            for member in list(self.members.values()):
                if number == signal.SIGKILL or not member.parent:  # a supervisor tells its own
                    self.signal(member, signal.SIGCONT)
                    self.signal(member, number)
            deadline = time.monotonic() + seconds
            while self.members and time.monotonic() < deadline:
                self.tend()
                time.sleep(0.02)


def end_with_parent(parent: int) -> None:
    """Have this process killed when its parent dies, however that happens; only Linux does so."""
    library = ctypes.CDLL(None)
    if hasattr(library, "prctl"):
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before this was asked for
        os._exit(1)


def children_of(pid: int) -> set[int]:
    """The processes that a process has started and that have not ended; only Linux tells."""
    with contextlib.suppress(OSError):
        return {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    return set()
