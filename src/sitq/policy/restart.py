"""When a worker process that died is replaced, and when no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

QUICKLY: Final = 10.0
"""A process that lived for fewer seconds died quickly."""

GIVEN_UP_AFTER: Final = 5
"""After so many processes in a row that died before they were ready, no more are started."""

_FIRST: Final = 0.5
_LONGEST: Final = 10.0


@dataclass(frozen=True, slots=True)
class Deaths:
    """The deaths in a row at one worker process's place.

    Attributes:
        quick: How many lived for a short time only.
        unready: How many were never ready to work.
    """

    quick: int = 0
    unready: int = 0

    def after(self, age: float, *, ready: bool) -> Deaths:
        """One more: of a process that lived for `age` seconds."""
        return Deaths(self.quick + 1 if age < QUICKLY else 0, 0 if ready else self.unready + 1)

    @property
    def pause(self) -> float:
        """Seconds until the next start: none after the first quick death, then ever more."""
        if self.quick <= 1:
            return 0.0
        return min(_LONGEST, _FIRST * 2.0 ** min(self.quick - 2, 60))

    @property
    def hopeless(self) -> bool:
        """Whether starting another one makes no sense."""
        return self.unready >= GIVEN_UP_AFTER
