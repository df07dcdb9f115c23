"""What a worker says at its start of what may be a mistake: its store, and the queues that it serves."""

from __future__ import annotations

import logging
from pathlib import Path

from sitq import functions
from sitq.backends.base import Backend
from sitq.backends.sqlite import SQLiteBackend
from sitq.decorator import TaskFunction
from sitq.queue import TaskQueue
from sitq.worker import Worker

# pyright: reportPrivateUsage=false

logger = logging.getLogger("sitq.worker")


def say_where(backend: Backend) -> None:
    """Log which file the store is, and warn of one that is about to be made."""
    missing = backend.missing()
    if isinstance(backend, SQLiteBackend):
        logger.info("the store is the file %s", Path(backend.path).resolve())
    if missing is not None:
        logger.warning(
            "%s: it is made now, without any tasks; if they are enqueued already, they are in another one",
            missing,
        )


def say_unserved(worker: Worker, *, told: bool) -> None:
    """Log that functions of the application go to queues that the worker does not serve.

    Args:
        worker: The worker.
        told: Whether somebody chose its queues for this very start; then it is no surprise.
    """
    unserved = sorted(_queues(worker.backend) - set(worker._settings.queues))  # noqa: SLF001 - one package
    if unserved:
        logger.log(
            logging.INFO if told else logging.WARNING,
            "functions of this application go to %s, which this worker does not serve%s",
            ", ".join(map(repr, unserved)),
            "" if told else "; add --queues",
        )


def _queues(backend: Backend) -> set[str]:
    """The queues of one store that the functions which are known here go to."""
    found: set[str] = set()
    for each in functions.registered().values():
        if not isinstance(each, TaskFunction):
            continue
        queue = each.queue
        if isinstance(queue, TaskQueue) and queue.backend is not backend:
            continue
        if each.defaults.queue is not None:
            found.add(each.defaults.queue)
        elif isinstance(queue, TaskQueue):
            found.add(queue.queue)
    return found
