"""Virtual time: an event loop whose clock jumps, nodes that can stand still, and threads that run in step.

Only one thing runs at a time, and what comes next is drawn from the seed. A node is what would be a process:
everything that it started carries its name in a context variable. The handles of one node run in their order,
those of several nodes in any order.
"""

from __future__ import annotations

import asyncio
import collections
import heapq
import os
import random
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from types import SimpleNamespace
from typing import Any, Self

from sitq import ids
from sitq.worker import leases

NODE: ContextVar[str] = ContextVar("node", default="")

BEGIN = 1_800_000_000 * 10**9
"""The time of day at which every simulation begins, in nanoseconds."""

_STEP = 1_000
"""Nanoseconds that each step takes, so that nothing spins for ever in one instant."""


class Ready:
    """What can be done now, by node; stands where an event loop has its deque."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._lines: dict[str, collections.deque[asyncio.Handle]] = {}
        self._open: list[str] = []
        self._frozen: set[str] = set()

    def append(self, handle: asyncio.Handle) -> None:
        node = handle._context.get(NODE, "")
        line = self._lines.get(node)
        if line is None:
            line = self._lines[node] = collections.deque()
        line.append(handle)
        if len(line) == 1 and node not in self._frozen:
            self._open.append(node)

    def __len__(self) -> int:
        return len(self._open)

    def pop(self) -> asyncio.Handle:
        at = int(self._dice.random() * len(self._open)) if len(self._open) > 1 else 0
        line = self._lines[self._open[at]]
        handle = line.popleft()
        if not line:
            del self._open[at]
        return handle

    def clear(self) -> None:
        self._lines.clear()
        self._open.clear()

    def freeze(self, node: str) -> None:
        self._frozen.add(node)
        if node in self._open:
            self._open.remove(node)

    def thaw(self, node: str) -> None:
        if node in self._frozen:
            self._frozen.discard(node)
            if self._lines.get(node):
                self._open.append(node)


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop that never waits: when nothing can be done now, it is the next timer's time."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self.elapsed = 0
        self.steps = 0
        self._ready = Ready(dice)
        self.slow_callback_duration = 3600.0

    def time(self) -> float:
        return self.elapsed / 1e9

    def freeze(self, node: str) -> None:
        """Let nothing of a node happen any more."""
        self._ready.freeze(node)

    def thaw(self, node: str) -> None:
        """Let a node go on where it stood."""
        self._ready.thaw(node)

    def _run_once(self) -> None:
        scheduled = self._scheduled
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not self._ready and not self._stopping:
            if not scheduled:
                raise RuntimeError("nothing can ever happen again, and something is still waited for")
            self.elapsed = max(self.elapsed, round(scheduled[0]._when * 1e9))
        while scheduled and round(scheduled[0]._when * 1e9) <= self.elapsed:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                self._ready.append(timer)
        if self._ready:
            handle = self._ready.pop()
            self.elapsed += _STEP
            self.steps += 1
            if not handle._cancelled:
                handle._run()

    def _process_events(self, event_list: Any) -> None:
        """There is nothing but timers and callbacks."""

    def _write_to_self(self) -> None:
        """Nobody waits in a system call."""


class Thread:
    """A thread that runs only while the event loop waits for it."""

    def __init__(self, target: Callable[[], None], name: str, *, daemon: bool) -> None:
        self.loop = asyncio.get_running_loop()
        self.context = copy_context()
        self._turn = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._waits = 0
        self._waiting = False
        self._ended = False
        self.discarded = False
        self._thread = threading.Thread(
            target=self.context.copy().run, args=(self._live, target), name=name, daemon=daemon
        )
        _threads[self._thread] = self

    def start(self) -> None:
        self._thread.start()
        self._back.acquire()

    def _live(self, target: Callable[[], None]) -> None:
        try:
            target()
        except SystemExit:
            pass
        finally:
            self._ended = True
            del _threads[self._thread]
            self._back.release()

    def is_alive(self) -> bool:
        return not self._ended

    def join(self, timeout: float | None = None) -> None:
        """Let it run as far as it comes without time passing."""
        if not self._ended:
            self.wake(self._waits)

    def pause(self, seconds: float) -> None:
        """In the thread: let `seconds` pass, or be woken."""
        self._waits += 1
        self._waiting = True
        timer = self.loop.call_later(seconds, self.wake, self._waits, context=self.context.copy())
        self._back.release()
        self._turn.acquire()
        timer.cancel()
        if self.discarded:
            raise SystemExit

    def wake_soon(self) -> None:
        if self._waiting:
            self.loop.call_soon(self.wake, self._waits, context=self.context.copy())

    def wake(self, wait: int) -> None:
        """In the event loop: let the thread run until it waits again."""
        if self._waiting and wait == self._waits:
            self._waiting = False
            self._turn.release()
            self._back.acquire()
            if self._ended:
                self._thread.join()

    def discard(self) -> None:
        """End it where it stands."""
        self.discarded = True
        self.wake(self._waits)


_threads: dict[threading.Thread, Thread] = {}


class Condition:
    """A condition between the event loop and one thread in step with it; nobody else ever runs."""

    def __init__(self) -> None:
        self._waiter: Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait(self, timeout: float) -> None:
        self._waiter = _threads[threading.current_thread()]
        self._waiter.pause(timeout)
        self._waiter = None

    def notify(self) -> None:
        if self._waiter is not None:
            self._waiter.wake_soon()


def pause_thread(seconds: float) -> None:
    """Let virtual time pass in a thread that runs in step."""
    _threads[threading.current_thread()].pause(seconds)


def discard_threads() -> None:
    """End the threads that are left over."""
    for thread in list(_threads.values()):
        thread.discard()


class Rule:
    """While it lasts, time, chance and threads are the simulation's."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.dice = random.Random(f"world {seed}")
        self.loop = VirtualLoop(random.Random(f"turns {seed}"))
        self._undo: list[tuple[Any, str, Any]] = []

    def now(self) -> int:
        """Microseconds since the epoch."""
        return (BEGIN + self.loop.elapsed) // 1000

    def __enter__(self) -> Self:
        loop = self.loop
        entropy = random.Random(f"entropy {self._seed}").randbytes
        self._set(time, "monotonic", loop.time)
        self._set(time, "monotonic_ns", lambda: loop.elapsed)
        self._set(time, "time", lambda: (BEGIN + loop.elapsed) / 1e9)
        self._set(time, "time_ns", lambda: BEGIN + loop.elapsed)
        self._set(time, "clock_gettime", lambda _: loop.time())
        self._set(os, "urandom", entropy)
        self._set(leases, "threading", SimpleNamespace(Condition=Condition, Thread=Thread))
        self._set(ids._sequence, "_clock", lambda: BEGIN + loop.elapsed)
        self._set(ids._sequence, "_entropy", entropy)
        ids._sequence.reset()
        random.seed(self._seed)
        asyncio.set_event_loop(loop)
        return self

    def __exit__(self, *_: object) -> None:
        discard_threads()
        for owner, name, before in reversed(self._undo):
            setattr(owner, name, before)
        ids._sequence.reset()
        asyncio.set_event_loop(None)
        self.loop.close()

    def _set(self, owner: Any, name: str, value: Any) -> None:
        self._undo.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)
