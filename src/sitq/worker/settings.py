"""A worker's settings, validated once."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, cast

from sitq import validation
from sitq.exceptions import ValidationError
from sitq.ids import token
from sitq.record import SECOND
from sitq.worker.retirement import size

LEASE: Final = 10.0
"""Seconds that a lease lasts by default."""

RENEWALS_PER_LEASE: Final = 4
"""How often a lease is renewed before it could run out."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker was told, in the units of the engine.

    Attributes:
        worker: Its id: of its host, process and this very object, since hosts and process ids are used again.
        queues: The queues that it serves and their weights; all weights 0 is strict order.
        concurrency: How many tasks run at once.
        processes: How many of them run in processes of their own.
        poll: Seconds after which an idle worker looks at the store though nothing hinted at news.
        lease: Microseconds of a lease.
        grace: Seconds that running tasks get to end after a stop was asked for.
        tasks: It ends when it has claimed so many.
        memory: It ends when its process occupies more bytes.
    """

    worker: str
    queues: dict[str, float]
    concurrency: int
    processes: int
    poll: float
    lease: int
    grace: float
    tasks: int | None = None
    memory: int | None = None

    @property
    def renewal(self) -> float:
        """Seconds between two renewals."""
        return self.lease / SECOND / RENEWALS_PER_LEASE


def make_settings(
    *,
    queues: Mapping[str, float] | Iterable[str] | None,
    max_concurrency: int,
    process_concurrency: int | None,
    poll_interval: float | timedelta,
    lease: float | timedelta,
    grace: float | timedelta,
    worker_id: str | None,
    max_tasks: int | None = None,
    max_memory: int | str | None = None,
) -> Settings:
    """The settings, or a `ValidationError` that names the one at fault."""
    poll = validation.duration(poll_interval, "poll_interval") / SECOND
    if not poll:
        raise ValidationError("poll_interval must be longer than 0 s; new tasks are noticed at once anyway")
    lease_length = validation.duration(lease, "lease")
    if lease_length < SECOND // 10:
        raise ValidationError(
            f"lease must be at least 0.1 s, not {lease_length / SECOND:g} s; 10 s is a good one"
        )
    return Settings(
        worker=_new_worker() if worker_id is None else validation.name(worker_id, "worker id"),
        queues=_weights(queues),
        concurrency=validation.positive_int(max_concurrency, "max_concurrency", 100_000),
        processes=_processes(process_concurrency),
        poll=poll,
        lease=lease_length,
        grace=validation.duration(grace, "grace") / SECOND,
        tasks=None if max_tasks is None else validation.positive_int(max_tasks, "max_tasks", 1 << 60),
        memory=None if max_memory is None else size(max_memory, "max_memory"),
    )


def _processes(given: int | None) -> int:
    if given is not None:
        return validation.positive_int(given, "process_concurrency", 1_000)
    usable = getattr(os, "sched_getaffinity", None)  # what a container may use of the machine
    return len(usable(0)) if usable is not None else os.cpu_count() or 1


def _new_worker() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{token()[:8]}"


def _weights(queues: Mapping[str, float] | Iterable[str] | None) -> dict[str, float]:
    if queues is None:
        return {"default": 0.0}
    if isinstance(queues, str):
        raise ValidationError(f"queues must be a list of names, not the text {queues!r}; write [{queues!r}]")
    if not isinstance(queues, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
        raise ValidationError(f"queues must be a list of names, or names with weights, not {queues!r}")
    weights = cast("Mapping[str, float]", queues) if isinstance(queues, Mapping) else None
    given = {validation.name(queue): _weight(weights[queue]) if weights else 0.0 for queue in queues}
    if not given:
        raise ValidationError("queues is empty; leave it out to serve the queue 'default'")
    return given


def _weight(weight: object) -> float:
    if isinstance(weight, int | float) and not isinstance(weight, bool) and 0 < weight < float("inf"):
        return float(weight)
    raise ValidationError(f"the weight of a queue must be a number above 0, not {weight!r}")
