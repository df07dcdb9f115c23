"""The plan of a run: how much is measured, and how often."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Plan:
    """The sizes of a run.

    Attributes:
        reps: How often each side of a workload is measured, in turns; the median counts.
        quick: Everything small, to see that it works rather than how fast it is.
        uvloop: Whether all processes run uvloop's event loop instead of asyncio's.
        named: Whether the workload was asked for by name, so that a long one may take its time.
    """

    reps: int = 3
    quick: bool = False
    uvloop: bool = False
    named: bool = False

    def size(self, full: int, quick: int) -> int:
        """How many, in a full run or a quick one."""
        return quick if self.quick else full

    def as_data(self) -> dict[str, Any]:
        """To be given to another process."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Self:
        """The plan that `as_data` made."""
        return cls(**data)
