"""Ids of tasks and tokens of leases."""

import hashlib
import os
import threading
import time
from array import array
from collections.abc import Callable

__all__ = ["derived_id", "new_id", "token"]

_RANDOM_WORDS = 256
_COUNTER_BITS = 48


class Sequence:
    """A source of UUIDv7 ids that rise strictly, also within a millisecond and when the clock steps back.

    Of the 74 random bits the last 48 are a counter as in RFC 9562, section 6.2, method 2: random at the start
    of each millisecond, then raised by a random step for each id. The 26 before are drawn once a millisecond.
    """

    def __init__(
        self, clock: Callable[[], int] = time.time_ns, entropy: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._clock = clock
        self._entropy = entropy
        self.reset()

    def reset(self) -> None:
        """Start afresh; a forked child must, or it would repeat its parent's ids."""
        self._lock = threading.Lock()
        self._random = array("I")
        self._millisecond = -1
        self._prefix = ""
        self._counter = 0

    def next(self) -> str:
        """The next id."""
        with self._lock:
            millisecond = self._clock() // 1_000_000
            if millisecond > self._millisecond:
                self._begin(millisecond)
            else:
                # As `_draw` does: a call of its own would be a quarter of the price of an id.
                counter = self._counter + 1 + ((self._random.pop() if self._random else self._draw()) >> 8)
                if counter >> _COUNTER_BITS:
                    self._begin(self._millisecond + 1)
                else:
                    self._counter = counter
            return "%s%012x" % (self._prefix, self._counter)  # noqa: UP031 - takes half as long

    def _begin(self, millisecond: int) -> None:
        self._millisecond = millisecond
        high = self._draw()
        self._prefix = (
            f"{millisecond >> 16:08x}-{millisecond & 0xFFFF:04x}"
            f"-{0x7000 | high & 0xFFF:04x}-{0x8000 | high >> 12 & 0x3FFF:04x}-"
        )
        # The counter's top bit starts at zero, so that it has room to rise.
        self._counter = self._draw() << 15 | self._draw() >> 17

    def _draw(self) -> int:
        # One system call for many ids: each costs as much as all the rest of an id.
        if not self._random:
            self._random.frombytes(self._entropy(self._random.itemsize * _RANDOM_WORDS))
        return self._random.pop()


_sequence = Sequence()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_sequence.reset)

new_id = _sequence.next
"""A new task id: a UUIDv7 of 36 characters.

Ids of one process rise strictly in the order of the calls, across its threads too; ids of several processes
are ordered by the millisecond of their clocks. Safe in threads and after a fork.
"""


def token() -> str:
    """128 random bits as 32 hexadecimal characters; nobody can guess one."""
    return os.urandom(16).hex()


def derived_id(purpose: str, *parts: str) -> str:
    """An id that the same parts always give, as a UUIDv8 (RFC 9562, section 5.8)."""
    text = "\0".join((purpose, *parts)).encode("utf-8", "surrogatepass")
    digits = hashlib.blake2b(text, digest_size=16).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"
