"""What the tasks of a storm do. Each writes down when it starts and when it ends, outside the store."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Generator
from typing import Any, Final

from sitq import current_task
from sitq.testing.storm.events import Ended, Fault, Started, now
from sitq.testing.storm.journal import Journal

_MOST_MEMORY: Final = 2 << 30
"""Bytes of a process whose memory is limited."""

_TICK: Final = 0.05
_LATE: Final = 0.3
"""Seconds between two ticks from which on a process was kept from running."""

journal = Journal(None, "worker")


@contextlib.contextmanager
def attempt() -> Generator[str]:
    """One attempt of the current task, written down; the value that it and no other returns."""
    task = current_task()
    value = f"{task.id}/{task.attempt}/{os.getpid()}"
    journal.write(Started(task=task.id, attempt=task.attempt))
    try:
        yield value
    except Exception:
        journal.write(Ended(task=task.id, attempt=task.attempt, how="raised"))
        raise
    except BaseException:
        journal.write(Ended(task=task.id, attempt=task.attempt, how="interrupted"))
        raise
    journal.write(Ended(task=task.id, attempt=task.attempt, value=value))


# -- harmless ----------------------------------------------------------------------------------------------


async def quick() -> str:
    """Return."""
    with attempt() as value:
        return value


async def pause(seconds: float) -> str:
    """Wait, and let others run."""
    with attempt() as value:
        await asyncio.sleep(seconds)
        return value


def thread(seconds: float) -> str:
    """Wait in a thread, which nobody can interrupt."""
    with attempt() as value:
        time.sleep(seconds)
        return value


async def slow_at_first(seconds: float, then: float = 0.0) -> str:
    """Take long at the first attempt, and perhaps for a while at the others."""
    with attempt() as value:
        await asyncio.sleep(seconds if current_task().attempt == 1 else then)
        return value


def slow_at_first_in_thread(seconds: float, then: float = 0.0) -> str:
    """The same in a thread."""
    with attempt() as value:
        time.sleep(seconds if current_task().attempt == 1 else then)
        return value


async def flaky() -> str:
    """Fail at the first attempt."""
    with attempt() as value:
        if current_task().attempt == 1:
            raise RuntimeError("the first attempt fails")
        return value


# -- a burden ----------------------------------------------------------------------------------------------


async def block(seconds: float) -> str:
    """Keep the event loop from running, in pure Python."""
    with attempt() as value:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        return value


async def hold(seconds: float) -> str:
    """Hold the interpreter's lock, as C code does that never lets go of it."""
    with attempt() as value:
        journal.write(Fault(what="hold", pid=os.getpid(), until=now() + seconds))
        ctypes.PyDLL(None).usleep(round(seconds * 1_000_000))
        return value


def memory() -> str:
    """Ask for more memory than there may be."""
    with attempt() as value:
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, before[1]))
        try:
            return value + str(len(bytes(2 * _MOST_MEMORY)))
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)


# -- poison ------------------------------------------------------------------------------------------------


def poison(how: str) -> str:
    """End the process."""
    with attempt() as value:
        journal.write(Fault(what="poison", pid=os.getpid()))
        _POISONS[how]()
        os.abort()
        return value  # type: ignore[unreachable]  # pyright: ignore[reportUnreachable]


def _segfault() -> None:
    ctypes.string_at(0)


def _exit() -> None:
    os._exit(9)


def _overflow() -> None:
    sys.setrecursionlimit(1 << 30)
    kind = ctypes.CFUNCTYPE(None)

    def deeper() -> None:
        again()

    again: Any = kind(deeper)
    again()


def _cpu_limit() -> None:
    used = time.process_time()
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + 1, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    end = time.monotonic() + 10
    while time.monotonic() < end:
        pass


def _bad_alloc() -> None:
    """Ask for more memory than the process may have, in C++ that does not catch what this throws."""
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    try:
        library = ctypes.CDLL("libstdc++.so.6")
    except OSError:  # what the kernel does when the machine has no memory left
        _killed()
        return
    new = getattr(library, "_Znwm")  # noqa: B009 - operator new, which is not private
    new.argtypes, new.restype = [ctypes.c_size_t], ctypes.c_void_p
    new(2 * _MOST_MEMORY)


def _killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


_POISONS: Final = {
    "segfault": _segfault,
    "exit": _exit,
    "abort": os.abort,
    "overflow": _overflow,
    "memory": _bad_alloc,
    "killed": _killed,
    "cpu": _cpu_limit,
}
POISONS: Final = tuple(_POISONS)
"""The names of the ways in which a task ends its process."""


# -- the process -------------------------------------------------------------------------------------------


def watch_for_starvation() -> None:
    """Write down whenever this process did not run for a while: only then may load explain a lost lease."""
    threading.Thread(target=_tick, name="storm-ticks", daemon=True).start()


def _tick() -> None:
    before = now()
    while True:
        time.sleep(_TICK)
        after = now()
        if after - before > _LATE:
            journal.write(Fault(at=before, what="starved", pid=os.getpid(), until=after))
        before = after
