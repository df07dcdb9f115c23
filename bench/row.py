"""Rows: what a workload measured on a store."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of sitq and the one that it stands beside.

    Attributes:
        workload: What was measured.
        store: On which store.
        unit: Of both figures.
        figure: Of sitq.
        other: What it stands beside, or None.
        beside: What the other one is: the raw store, or another row.
        spread: The least and the greatest of the repetitions of sitq.
        error: Why there is no figure.
        detail: More that was measured, for the JSON file.
    """

    workload: str
    store: str
    unit: str
    figure: float | None
    other: float | None = None
    beside: str = "raw"
    spread: tuple[float, float] | None = None
    error: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Figure to other."""
        return self.figure / self.other if self.figure is not None and self.other else None

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"ratio": self.ratio}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Self:
        """The row that `as_data` made."""
        return cls(**{key: value for key, value in data.items() if key != "ratio"})


def side_by_side(
    workload: str, store: str, unit: str, figures: Sequence[float], others: Sequence[float], **more: Any
) -> Row:
    """The row of repetitions: the median of each side."""
    return Row(
        workload,
        store,
        unit,
        statistics.median(figures),
        statistics.median(others) if others else None,
        spread=(min(figures), max(figures)),
        **more,
    )


def percentile(samples: Sequence[float], share: float) -> float:
    """The sample below which this share of all lies."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
