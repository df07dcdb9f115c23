"""A server as a process of the tests' own: started on loopback, ended by its id, gone with its parent."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

LOOPBACK: Final = "127.0.0.1"
READY_WITHIN: Final = 60.0
"""Seconds within which a server that was started has to answer, on a machine with much to do."""

_parent: Final = ThreadPoolExecutor(1, thread_name_prefix="sitq-servers")
"""A thread for as long as this process: Linux sends the death signal when the *thread* that forked ends."""

_dice: Final = random.SystemRandom()
"""Not a seeded one: processes of one test run would all draw the same ports."""

_TRIES: Final = 1000

_given: Final[set[int]] = set()
"""Ports that this process has given out: their servers may not be there yet."""

_DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>


class ServerError(RuntimeError):
    """A server could not be started, or ended by itself; the message has the end of its log."""


class Login(Protocol):
    """Whom a process is to run as; `pwd` answers with such."""

    @property
    def pw_uid(self) -> int: ...
    @property
    def pw_gid(self) -> int: ...


class ServerProcess:
    """One process that can be started, killed, suspended and started again.

    Linux ends it with this process, also if that is killed.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        ready: Callable[[], bool],
        *,
        user: Login | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = [str(part) for part in command]
        self.log = log
        self._ready = ready
        self._user = user
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process's id.

        Raises:
            ServerError: It does not run.
        """
        if self._process is None:
            raise ServerError(f"{self.command[0]} does not run: start it first")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether there is a process that has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, within: float = READY_WITHIN) -> None:
        """Start it and wait until it is ready.

        Raises:
            ServerError: It ended by itself, or did not get ready within so many seconds.
        """
        if self.running:
            return
        process = self._process = _parent.submit(self._spawn).result()
        deadline = time.monotonic() + within
        while not self._ready():
            if process.poll() is not None:
                raise ServerError(f"{self.command[0]} ended with {process.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerError(f"{self.command[0]} was not ready within {within:g} s:\n{self.tail()}")
            time.sleep(0.01)

    def _spawn(self) -> subprocess.Popen[bytes]:
        parent = os.getpid()
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - the command is made of found binaries
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                env=None if self._environment is None else {**os.environ, **self._environment},
                user=self._user.pw_uid if self._user else None,
                group=self._user.pw_gid if self._user else None,
                extra_groups=[] if self._user else None,
                # After the change of the user, which would take the death signal back.
                preexec_fn=lambda: _end_with_parent(parent),  # noqa: PLW1509 - only calls what is loaded
            )

    def tail(self, most: int = 2000) -> str:
        """The end of what it said."""
        return self.log.read_text(errors="replace")[-most:] if self.log.exists() else ""

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing if it has ended."""
        if self.running:
            send(self.pid, number)

    def suspend(self) -> None:
        """Let it stand still, its connections open."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, without its knowing."""
        self.send(signal.SIGKILL)
        self._reap(10.0)

    def stop(self, number: signal.Signals = signal.SIGTERM, within: float = 10.0) -> None:
        """Ask it to end, and kill it if it has not within so many seconds."""
        if not self.running:
            return
        self.send(signal.SIGCONT)
        self.send(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._reap(within)
            return
        self.kill()

    def _reap(self, within: float) -> None:
        if self._process is not None:
            self._process.wait(within)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def send(pid: int, number: signal.Signals) -> bool:
    """Send a signal to a process of one's own; False if it is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def end(pid: int, within: float = 10.0) -> None:
    """Kill a process that is nobody's child any more, and wait until it is gone."""
    deadline = time.monotonic() + within
    send(pid, signal.SIGKILL)
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """Whether there is a process with that id which has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # In a container whose first process does not collect the dead, they stay for good.
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def free_port() -> int:
    """A port of the loopback that nobody listens on now.

    It is none of those that Linux gives to outgoing connections, from 32768 on by default: one of these would
    take it before the server is there, or while it is restarted.

    Raises:
        ServerError: None was found.
    """
    for _ in range(_TRIES):
        port = _dice.randrange(15_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError as error:
                if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                    raise
                continue
        if port not in _given:
            _given.add(port)
            return port
    raise ServerError("no free port was found on the loopback; end the servers of earlier tests")


_prctl: Callable[[int, int], int] | None = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def _end_with_parent(parent: int) -> None:
    if _prctl is not None:
        _prctl(_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # it died before this was asked for
            os._exit(1)
