"""The application that the workers of a storm run: `sitq worker sitq.testing.storm.app:make_worker`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from sitq.backends.base import Backend
from sitq.move import Move, Note
from sitq.testing.storm import bodies
from sitq.testing.storm.events import Alone
from sitq.testing.storm.setup import present
from sitq.worker import Worker


async def _lifespan(_worker: Worker) -> AsyncGenerator[None]:
    bodies.journal.open()
    bodies.watch_for_starvation()
    yield


def _telling(backend: Backend) -> Backend:
    """A store whose nemesis hears of runs alone before they are noted there."""
    apply = backend.apply

    async def tell_and_apply(moves: Sequence[Move]) -> list[bool]:
        for move in moves:
            if isinstance(move, Note) and move.alone:
                bodies.journal.write(Alone(task=move.id))
        return await apply(moves)

    backend.apply = tell_and_apply  # type: ignore[method-assign]
    return backend


def make_worker() -> Worker:
    """A worker on the storm's store."""
    return Worker(_telling(present().backend()), poll_interval=0.5, grace=3.0, lifespan=_lifespan)
