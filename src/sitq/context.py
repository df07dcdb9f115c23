"""What a running task can know of itself."""

from __future__ import annotations

from contextvars import ContextVar

from sitq.exceptions import WorkerError


class CurrentTask:
    """The task that is running here.

    Attributes:
        id: Its id.
        name: The name of its function.
        queue: The queue that it came from.
        attempt: The number of this run, counted from 1.
        cancelled: Whether it was asked to stop; a function in a thread looks here, since nobody can stop it.
    """

    __slots__ = ("attempt", "cancelled", "id", "name", "queue")

    def __init__(self, task_id: str, name: str, queue: str, attempt: int) -> None:
        self.id = task_id
        self.name = name
        self.queue = queue
        self.attempt = attempt
        self.cancelled = False

    def __repr__(self) -> str:
        return f"<CurrentTask {self.id} {self.name} attempt {self.attempt}>"


current: ContextVar[CurrentTask] = ContextVar("sitq_current_task")


def current_task() -> CurrentTask:
    """The task that the calling code runs in; in a thread of the worker's pool, too.

    Raises:
        WorkerError: No task is running here.
    """
    try:
        return current.get()
    except LookupError:
        raise WorkerError("current_task() was called outside of a task", operation="current_task") from None
