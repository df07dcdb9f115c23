"""Keeping leases: a thread of its own with its own connection, so that a blocked event loop loses none."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from sitq.backends.base import Lease, LeaseChannel, Renewal
from sitq.worker.blocked import LOOK, LoopWatch
from sitq.worker.doubt import Doubt

_HELD_UP: Final = 2.0
"""Seconds of lateness from which on the thread must have been kept from running."""

_SOONEST: Final = 0.4
"""Seconds between two renewals that hints ask for; a cancelled task hears of it within a second."""

_LONGEST_WAIT: Final = 3600.0
"""Seconds that the thread waits at a time; a condition refuses to wait for centuries."""

_PARTING: Final = 2.0
"""Seconds for which the end of a worker waits for a renewal that is under way."""

logger = logging.getLogger("sitq.worker")

News = tuple[Lease, Renewal]
"""What became of a lease other than being kept. A task may meanwhile be held anew, under another token."""


def uptime() -> float:
    """Seconds that pass while the host sleeps, too, where the platform can tell."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)  # Linux; its monotonic clock stands still meanwhile
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class LeaseKeeper:
    """Renews the leases of a worker's tasks.

    Args:
        open_channel: Opens the thread's connection to the store.
        lease: Microseconds that a renewal makes a lease last.
        period: Seconds between renewals.
        heard: Told, in this thread, of leases that were lost and of tasks that are to stop.
        clock: Answers with seconds.
        watch: Looks at the event loop while tasks are held.
    """

    def __init__(
        self,
        open_channel: Callable[[], LeaseChannel],
        lease: int,
        period: float,
        heard: Callable[[Sequence[News]], None],
        clock: Callable[[], float] = uptime,
        *,
        watch: LoopWatch | None = None,
    ) -> None:
        self._watch = watch
        self._open_channel = open_channel
        self._lease = lease
        self._period = period
        self._heard = heard
        self._held: dict[str, Lease] = {}
        self._changed = threading.Condition()
        self._asked: float | None = None
        self._renewed = float("-inf")
        self.answered: float | None = None
        """When the store last answered a renewal, by the monotonic clock."""
        self._closed = False
        self._clock = clock
        self._beat = clock()
        self.doubt = Doubt(period, clock)
        """Of leases of others that ran out: the store may have been away, or this process stood still."""
        self._thread = threading.Thread(target=self._run, name="sitq-leases", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def hold(self, leases: Iterable[Lease]) -> None:
        """Renew these from now on."""
        with self._changed:
            idle = not self._held
            self._held.update((lease.id, lease) for lease in leases)
            if idle:
                self._changed.notify()

    def drop(self, leases: Iterable[Lease]) -> None:
        """Renew these no more."""
        with self._changed:
            for lease in leases:
                if self._held.get(lease.id) == lease:
                    del self._held[lease.id]

    def renew_soon(self) -> None:
        """Renew before it is time: somebody may have asked a task to stop."""
        with self._changed:
            if self._asked is None:
                self._asked = self._clock()
            self._changed.notify()

    @property
    def sure(self) -> bool:
        """Whether the worker may claim leases of others that ran out.

        Not for two periods after it was suspended or had lost the store: the others may have been as badly
        off, and want a chance to renew theirs first.
        """
        now = self._clock()
        if now - self._beat > self._period + _HELD_UP:  # the thread has not even noticed yet
            self.doubt.begin()
        return self.doubt.sure

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=_PARTING)

    def _run(self) -> None:
        channel: LeaseChannel | None = None
        due = self._clock() + self._period
        while (wanted := self._wait(due)) is not None:
            late = self._clock() - wanted
            if late > _HELD_UP:
                self.doubt.begin()
                logger.warning(
                    "leases are renewed %.1f s late: the process was suspended, or code held the "
                    "interpreter's lock; such code belongs into a process of its own",
                    late,
                )
            try:
                with self.doubt.asking():
                    channel = channel or self._open_channel()
                    self._renew(channel)
                due = self._clock() + self._period * (0.9 + 0.2 * random.random())
            except Exception as error:  # noqa: BLE001 - the store is away; nothing else may end this thread
                logger.warning("leases could not be renewed, trying again: %s", error)
                _close(channel)
                channel = None
                due = self._clock() + self._period / 5
        _close(channel)

    def _wait(self, due: float) -> float | None:
        """Wait until leases are to be renewed: when that was to be, or None when the thread is to end."""
        with self._changed:
            while not self._closed:
                now = self._clock()
                if now - self._beat > self._period + _HELD_UP:
                    self.doubt.begin()
                self._beat = now
                wake = due if self._asked is None else min(due, max(self._asked, self._renewed + _SOONEST))
                if not self._held:
                    self._asked = None
                    self._changed.wait(min(self._period, _LONGEST_WAIT))
                    due = self._clock() + self._period
                elif now >= wake:
                    self._asked = None
                    return wake
                else:
                    longest = _LONGEST_WAIT
                    if self._watch is not None:
                        self._watch.look()
                        longest = LOOK
                    self._changed.wait(min(wake - now, self._period, longest))
        return None

    def _renew(self, channel: LeaseChannel) -> None:
        with self._changed:
            leases = list(self._held.values())
        if not leases:
            return
        self._renewed = self._clock()
        answers = zip(leases, channel.renew(leases, self._lease), strict=True)
        self.answered = time.monotonic()
        news = [(lease, one) for lease, one in answers if one.answer != "kept"]
        self.drop(lease for lease, one in news if one.answer == "lost")
        if news:
            self._heard(news)


def _close(channel: LeaseChannel | None) -> None:
    if channel is not None:
        with contextlib.suppress(Exception):  # a broken connection is as good as a closed one
            channel.close()
