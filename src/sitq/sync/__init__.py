"""The queue for code without an event loop."""

from sitq.sync.flows import SyncBatchHandle
from sitq.sync.handle import SyncTaskHandle
from sitq.sync.queue import SyncEnqueuer, SyncTaskQueue

__all__ = ["SyncBatchHandle", "SyncEnqueuer", "SyncTaskHandle", "SyncTaskQueue"]
