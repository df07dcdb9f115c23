"""Settling: outcomes become moves in the store, in batches, behind the runs that they belong to."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from sitq import exceptions
from sitq.backends.base import Backend
from sitq.exceptions import BackendError, ResourceExhaustionError, describe
from sitq.move import Release, Retry, Settle
from sitq.record import Failure, State
from sitq.worker.failures import plain
from sitq.worker.run import Run

Verdict = Settle | Retry | Release

_BATCH: Final = 500
_TRIES: Final = 5
"""How often a store may refuse one move by itself before it is given up for a plainer one, and that too."""

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0

_LAST_MOMENT: Final = 1.0
"""Seconds that a call of the store gets to end that is cancelled."""

logger = logging.getLogger("sitq.worker")


class Settler:
    """Takes verdicts without making their runs wait, and does not let go of one before the store answered.

    A store that is away is asked again until it is back: the moves are idempotent, and the token decides
    whether they still count.
    """

    def __init__(
        self, backend: Backend, settled: Callable[[Sequence[tuple[Run, Verdict]], Sequence[bool]], None]
    ) -> None:
        self._backend = backend
        self._settled = settled
        self._waiting: deque[tuple[Run, Verdict]] = deque()
        self._flushing: asyncio.Task[None] | None = None
        self.unsettled = 0

    def add(self, run: Run, verdict: Verdict) -> None:
        """Store a verdict soon."""
        self._waiting.append((run, verdict))
        self.unsettled += 1
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())

    async def drain(self, patience: float) -> bool:
        """Wait until everything is settled; False if that took longer than `patience` seconds."""
        while self._flushing is not None:
            done, _ = await asyncio.wait([self._flushing], timeout=patience)
            if not done:
                self._flushing.cancel()
                await asyncio.wait([self._flushing], timeout=_LAST_MOMENT)
                return False
            if self._flushing in done:  # cancelled before it had begun, so it could not say that it ended
                self._flushing = None
                return False
        return True

    async def _flush(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                await self._apply(batch)
        finally:
            self._flushing = None

    async def _apply(self, batch: list[tuple[Run, Verdict]]) -> None:
        pause, tries = _FIRST_PAUSE, 0
        while True:
            try:
                kept = _all(await self._backend.apply([verdict for _, verdict in batch]), len(batch))
            except Exception as error:
                away = isinstance(error, exceptions.ConnectionError | ResourceExhaustionError)
                tries += not away
                if tries and len(batch) > 1:
                    # One of them may be at fault, and the others are not to wait for it.
                    for entry in batch:
                        await self._apply([entry])
                    return
                if tries == _TRIES:
                    batch = [(run, _unstorable(verdict, error)) for run, verdict in batch]
                elif tries == 2 * _TRIES:
                    ids = ", ".join(verdict.id for _, verdict in batch)
                    logger.exception("the store refuses any outcome of %s; its lease will run out", ids)
                    self._answered(batch, [False] * len(batch))
                    return
                logger.warning("the store did not take %d outcomes, trying again: %s", len(batch), error)
                await asyncio.sleep(pause * (0.5 + random.random()))
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._answered(batch, kept)
                return

    def _answered(self, batch: Sequence[tuple[Run, Verdict]], kept: Sequence[bool]) -> None:
        self.unsettled -= len(batch)
        self._settled(batch, kept)


def _all(answers: list[bool], moves: int) -> list[bool]:
    if len(answers) == moves:
        return answers
    raise BackendError(f"the store gave {len(answers)} answers to {moves} moves", operation="apply")


def _unstorable(verdict: Verdict, error: Exception) -> Verdict:
    """What is stored of an outcome that the store refuses: that it could not be stored."""
    failure = Failure(kind="unstorable", message=plain(f"its outcome could not be stored: {describe(error)}"))
    return Settle(id=verdict.id, token=verdict.token, state=State.FAILED, failure=failure)
