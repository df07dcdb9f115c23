"""Workers made from what the user named and the options of the command."""

from __future__ import annotations

from typing import Any, Final

from sitq.backends.base import Backend
from sitq.cli.complaint import Complaint
from sitq.cli.target import Target
from sitq.middleware import both_sides
from sitq.record import SECOND
from sitq.worker import Worker

# pyright: reportPrivateUsage=false
# A worker made for a queue, or in the place of one, takes over its serializer and keys.
# ruff: noqa: SLF001

_ARGUMENTS: Final = {"concurrency": "max_concurrency", "task_processes": "process_concurrency"}
"""How `Worker` calls what the command calls otherwise."""


def check_settings(given: dict[str, Any]) -> None:
    """Find what is wrong with the settings, without an application.

    Raises:
        ValidationError: One of them is not acceptable.
    """
    Worker("memory://", **_arguments(given))


def check_store(backend: Backend) -> None:
    """Find out whether a worker in a process of its own makes sense.

    Raises:
        Complaint: Nobody else sees the store.
    """
    if not backend.traits.shared:
        raise Complaint(
            f"{backend!r} lives in one process, so a worker in another one never sees its tasks; "
            "use a store that can be shared, such as SQLiteBackend('tasks.db')"
        )


def make_worker(target: Target, given: dict[str, Any]) -> Worker:
    """A worker of this queue, worker or backend, with the settings laid over what it says itself."""
    if isinstance(target, Backend):
        return Worker(target, **_arguments(given))
    own: dict[str, Any] = _settings_of(target) if isinstance(target, Worker) else {"queues": [target.queue]}
    made = Worker(
        target.backend,
        target._serializer,
        keys=target._keys,
        trust_store=target._trust_store,
        spill=target._spill,
        lifespan=target._lifespan,
        middleware=target._middleware if isinstance(target, Worker) else both_sides(target._middleware),
        overrides=target._overrides if isinstance(target, Worker) else None,
        keep_events=target._listeners.keep,
        **(own | _arguments(given)),
    )
    made._listeners = target._listeners  # who listens to a queue hears what its workers tell, too
    return made


def _settings_of(worker: Worker) -> dict[str, Any]:
    settings = worker._settings
    return {
        "queues": settings.queues if any(settings.queues.values()) else list(settings.queues),
        "max_concurrency": settings.concurrency,
        "process_concurrency": settings.processes,
        "poll_interval": settings.poll,
        "lease": settings.lease / SECOND,
        "grace": settings.grace,
        "max_tasks": settings.tasks,
        "max_memory": settings.memory,
        "worker_id": settings.worker,
    }


def _arguments(given: dict[str, Any]) -> dict[str, Any]:
    return {_ARGUMENTS.get(name, name): value for name, value in given.items()}
