"""What the deaths of workers say about the tasks that were there.

A death says nothing of one task among many. A task that was there at several is run alone, and only deaths
during such solo runs condemn it: so a healthy task that was unlucky comes through.
"""

from __future__ import annotations

from typing import Final, Literal

from sitq.record import Failure, Record

SUSPECT_AFTER: Final = 2
"""From so many deaths on a task runs alone."""

CONDEMNED_AFTER: Final = 2
"""After so many runs alone that never came back, a task is quarantined."""


def judge(record: Record) -> Literal["clear", "suspect", "condemned"]:
    """How a claimed task is to be treated: among others, alone, or not at all any more."""
    if record.crashes < SUSPECT_AFTER:
        return "clear"
    return "condemned" if is_condemned(record.crashes, record.alone) else "suspect"


def is_condemned(crashes: int, alone: int) -> bool:
    """Whether so many deaths and so many runs alone are enough."""
    return crashes >= SUSPECT_AFTER and alone >= CONDEMNED_AFTER


def verdict(record: Record, now: int) -> Failure:
    """Why a condemned task is quarantined."""
    return sentence(record, record.crashes, record.alone, now)


def sentence(record: Record, crashes: int, alone: int, now: int, last: str = "") -> Failure:
    """Why a task is quarantined after so many deaths; `last` tells of the last one, where it is known."""
    return Failure(
        kind="crashed",
        message=(
            f"quarantined: its process died {crashes} times while it ran, and it did not come back from "
            f"{alone} runs alone; {last}{'; ' if last else ''}find what kills the process (memory, a native "
            f"extension, os._exit), then enqueue it again"
        ),
        attempt=record.attempt,
        at=now,
    )
