"""Whether a fleet gets on: how fast it does is the machine's business, but it must not stand still."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 4
"""How many times as long as it may stand still a fleet may take to work everything off."""


class Progress:
    """What is left to do, as it was last heard of.

    Args:
        still: Seconds for which nothing may be done while something is left.
        now: Seconds by any clock.
    """

    def __init__(self, still: float, now: float) -> None:
        self._still = still
        self._ends_by = now + LONGEST * still
        self._since = now
        self._fewest: int | None = None

    def see(self, left: int | None, now: float) -> None:
        """Hear how much is left; None if that is not known yet."""
        if left is not None and (self._fewest is None or left < self._fewest):
            self._fewest, self._since = left, now

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return self._fewest == 0

    def has_hope(self, now: float) -> bool:
        """Whether it is worth it to wait on."""
        return now < min(self._since + self._still, self._ends_by)
