"""How a worker is: what a health probe asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

PATIENCE: Final = 10.0
"""Seconds without an answer of the store, or without a word of a process, that are nothing to worry about."""


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """A worker at some instant.

    Attributes:
        started: Whether it has opened its store and begun to claim.
        connected: Whether its store answered lately, to a claim or to a renewal of leases.
        last_claim: Seconds since the store last answered a claim, or None.
        stuck: Whether tasks that ran past their time hold all of its places.
    """

    started: bool = False
    connected: bool = False
    last_claim: float | None = None
    stuck: bool = False


class ProcessVitals(Vitals, frozen=True, kw_only=True):
    """The same of a worker process, as its supervisor sees it.

    Attributes:
        pid: Its process id.
        worker: The name under which it claims tasks.
    """

    pid: int
    worker: str


def vitals(
    *,
    started: bool,
    claimed: float | None,
    renewed: float | None,
    poll: float,
    now: float,
    stuck: bool = False,
) -> Vitals:
    """How a worker is, from when the store last answered a claim and a renewal."""
    answers = [instant for instant in (claimed, renewed) if instant is not None]
    return Vitals(
        started=started,
        connected=bool(answers) and now - max(answers) <= max(PATIENCE, 3 * poll),
        last_claim=None if claimed is None else now - claimed,
        stuck=stuck,
    )


def report(
    one: Vitals, *, stopping: bool = False, processes: Sequence[ProcessVitals] | None = None
) -> Health:
    """What a probe is told of a worker, or of a supervisor and its processes."""
    if not one.started:
        status = "starting"
    elif not one.connected:
        status = "unhealthy"
    elif one.stuck:
        status = "stuck"
    elif stopping:
        status = "stopping"
    elif processes is not None and not all(each.connected and not each.stuck for each in processes):
        status = "degraded"
    else:
        status = "ok"
    body = {"status": status, **_plain(one)}
    if processes is not None:
        body["processes"] = [_plain(each) for each in processes]
    return one.started and one.connected and not one.stuck, body


Health = tuple[bool, dict[str, Any]]
"""Whether it is well, and what there is to say."""


def together(processes: Sequence[ProcessVitals]) -> Vitals:
    """Several processes as one worker: it is there if one of them is."""
    claims = [each.last_claim for each in processes if each.last_claim is not None]
    return Vitals(
        started=any(each.started for each in processes),
        connected=any(each.connected for each in processes),
        last_claim=min(claims, default=None),
        stuck=bool(processes) and all(each.stuck for each in processes),
    )


def _plain(one: Vitals) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(one)
    if one.last_claim is not None:
        plain["last_claim"] = round(one.last_claim, 3)
    return plain
