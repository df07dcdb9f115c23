"""Batches and graphs for code without an event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sitq.batch import BatchInfo
from sitq.core import Task
from sitq.graph import Graph
from sitq.parents import Parent
from sitq.queue import BatchHandle, TaskQueue
from sitq.sync.bridge import Bridge
from sitq.sync.handle import SyncTaskHandle


class SyncFlows:
    """Enqueues batches and draws graphs."""

    _queue: TaskQueue
    _bridge: Bridge

    def batch(
        self,
        tasks: Iterable[Task],
        *,
        on_success: Task | Callable[..., Any] | None = None,
        on_failure: Task | Callable[..., Any] | None = None,
        on_finish: Task | Callable[..., Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        id: str | None = None,
    ) -> SyncBatchHandle:
        """Enqueue tasks that are watched as one, with callbacks for their end. See `TaskQueue.batch`."""
        call = self._queue.batch(
            tasks, on_success=on_success, on_failure=on_failure, on_finish=on_finish, metadata=metadata, id=id
        )
        return SyncBatchHandle(self._bridge.call(call), self._bridge)

    def batch_info(self, batch_id: str) -> BatchInfo | None:
        """What is known of a batch now. See `TaskQueue.batch_info`."""
        return self._bridge.call(self._queue.batch_info(batch_id))

    def graph(self, task_id: str | Parent, *, limit: int = 500) -> Graph:
        """The tasks that are connected with one by dependencies. See `TaskQueue.graph`."""
        return self._bridge.call(self._queue.graph(task_id, limit=limit))


class SyncBatchHandle(Parent):
    """A `BatchHandle` whose calls block.

    Attributes:
        id: The batch.
        handles: Its members, in order.
        callbacks: The handles of its callbacks, by `success`, `failure` and `finish`.
    """

    __slots__ = ("_batch", "_bridge", "callbacks", "handles", "id")

    def __init__(self, batch: BatchHandle, bridge: Bridge) -> None:
        self._batch = batch
        self._bridge = bridge
        self.id = batch.id
        self.handles = [SyncTaskHandle(each, bridge) for each in batch.handles]
        self.callbacks = {kind: SyncTaskHandle(each, bridge) for kind, each in batch.callbacks.items()}

    def result(self, timeout: float | None = None) -> BatchInfo:
        """Wait until all members have ended, and return what is known then. See `BatchHandle.result`."""
        return self._bridge.call(self._batch.result(timeout))

    def info(self) -> BatchInfo:
        """What is known of the batch now. See `BatchHandle.info`."""
        return self._bridge.call(self._batch.info())

    def cancel(self, reason: str = "") -> int:
        """Cancel all members. See `BatchHandle.cancel`."""
        return self._bridge.call(self._batch.cancel(reason))

    def __repr__(self) -> str:
        return f"<SyncBatchHandle {self.id} of {len(self.handles)} tasks>"
