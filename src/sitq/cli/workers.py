"""Workers made from what the user named and the options of the command."""

from __future__ import annotations

from typing import Any, Final

from sitq.backends.base import Backend
from sitq.cli.target import Target
from sitq.record import SECOND
from sitq.worker import Worker

# pyright: reportPrivateUsage=false
# A worker made for a queue, or in the place of one, takes over its serializer and keys.
# ruff: noqa: SLF001

_ARGUMENTS: Final = {"concurrency": "max_concurrency"}
"""How `Worker` calls what the command calls otherwise."""


def check_settings(given: dict[str, Any]) -> None:
    """Find what is wrong with the settings, without an application.

    Raises:
        ValidationError: One of them is not acceptable.
    """
    Worker("memory://", **_arguments(given))


def make_worker(target: Target, given: dict[str, Any]) -> Worker:
    """A worker of this queue, worker or backend, with the settings laid over what it says itself."""
    if isinstance(target, Backend):
        return Worker(target, **_arguments(given))
    own: dict[str, Any] = _settings_of(target) if isinstance(target, Worker) else {"queues": [target.queue]}
    return Worker(
        target.backend,
        target._serializer,
        keys=target._keys,
        trust_store=target._trust_store,
        **(own | _arguments(given)),
    )


def _settings_of(worker: Worker) -> dict[str, Any]:
    settings = worker._settings
    return {
        "queues": settings.queues if any(settings.queues.values()) else list(settings.queues),
        "max_concurrency": settings.concurrency,
        "poll_interval": settings.poll,
        "lease": settings.lease / SECOND,
        "grace": settings.grace,
        "worker_id": settings.worker,
    }


def _arguments(given: dict[str, Any]) -> dict[str, Any]:
    return {_ARGUMENTS.get(name, name): value for name, value in given.items()}
