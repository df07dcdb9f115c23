"""Goals: the figures to reach, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on a figure, or on its ratio to the figure that it stands beside."""

    bound: float
    sense: Literal["least", "most"]
    of: Literal["figure", "ratio"] = "figure"

    def met(self, figure: float, ratio: float | None) -> bool | None:
        """Whether it is reached; None if there is no ratio to judge by."""
        value = ratio if self.of == "ratio" else figure
        if value is None:
            return None
        return value >= self.bound if self.sense == "least" else value <= self.bound

    def text(self, unit: str, beside: str) -> str:
        """How the table says it."""
        sign = "≥" if self.sense == "least" else "≤"
        if self.of == "ratio":
            return f"{sign} {self.bound:.2g} of {beside}"
        return f"{sign} {self.bound:,g} {unit}"


def at_least(bound: float) -> Goal:
    """The figure is at least this."""
    return Goal(bound, "least")


def at_most(bound: float) -> Goal:
    """The figure is at most this."""
    return Goal(bound, "most")


def of_the_other(bound: float) -> Goal:
    """The figure is at least this share of the one that it stands beside."""
    return Goal(bound, "least", "ratio")


EVERYWHERE = {
    "io": of_the_other(0.9),
    "idle-cpu": at_most(0.3),
    "idle-calls": at_most(2.0),
    "rss-started": at_most(60.0),
    "rss-draining": at_most(60.0),
    "rss-growth": at_most(5.0),
    # Noise between two measurements of the same thing is about 1.3.
    "backlog-100k": of_the_other(1 / 1.3),
    "backlog-1m": of_the_other(1 / 1.3),
    "backlog-1m-just-loaded": of_the_other(1 / 1.3),
    "backlog-key-paused": of_the_other(1 / 1.3),
    "backlog-paused": of_the_other(1 / 1.3),
    "backlog-left": of_the_other(1 / 1.3),
    "backlog-limited": of_the_other(1 / 1.3),
}
"""What is to be reached on every store."""
