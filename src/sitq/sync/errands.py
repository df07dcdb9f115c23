"""Errands: what the event loop has done in the thread that called, since only that one may do it."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any

from sitq.exceptions import SyncTaskQueueError

_Errand = tuple[Coroutine[Any, Any, Any], "Future[Any]"]


class Errands:
    """Coroutines on their way from an event loop to the thread that does them. None may really wait."""

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[_Errand | None] = queue.SimpleQueue()

    async def do(self, errand: Coroutine[Any, Any, Any]) -> Any:
        """Have the thread do this, and answer what came of it."""
        answer: Future[Any] = Future()
        self._inbox.put((errand, answer))
        return await asyncio.wrap_future(answer)

    def end(self) -> None:
        """Let the thread go on with its own way."""
        self._inbox.put(None)

    def serve(self) -> None:
        """Do what comes, in this thread, until the end."""
        while (given := self._inbox.get()) is not None:
            _do(*given)


def _do(errand: Coroutine[Any, Any, Any], answer: Future[Any]) -> None:
    if not answer.set_running_or_notify_cancel():
        errand.close()
        return
    try:
        errand.send(None)
    except StopIteration as end:
        answer.set_result(end.value)
    except Exception as error:  # noqa: BLE001 - it belongs to whoever sent the errand
        answer.set_exception(error)
    except BaseException:
        answer.set_exception(SyncTaskQueueError("the call was interrupted"))
        raise
    else:
        errand.close()
        answer.set_exception(
            SyncTaskQueueError("this connection waits in an event loop: use a TaskQueue there")
        )
