"""The queue: where tasks go in and results come out."""

from sitq.queue.enqueuer import Enqueuer
from sitq.queue.flowing import BatchHandle
from sitq.queue.queue import TaskQueue

__all__ = ["BatchHandle", "Enqueuer", "TaskQueue"]
