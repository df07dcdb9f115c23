"""A task in the hand of who enqueued it, for code without an event loop."""

from __future__ import annotations

from collections.abc import Generator
from typing import Generic, TypeVar

from sitq.core import Result
from sitq.handle import TaskHandle
from sitq.info import TaskInfo, TaskProgress, TaskUpdate
from sitq.parents import Parent
from sitq.sync.bridge import Bridge

R_co = TypeVar("R_co", covariant=True)


class SyncTaskHandle(Parent, Generic[R_co]):
    """A `TaskHandle` whose calls block. See there for what each does.

    Attributes:
        id: The task's id.
    """

    __slots__ = ("_bridge", "handle", "id")

    def __init__(self, handle: TaskHandle[R_co], bridge: Bridge) -> None:
        self.id = handle.id
        self.handle = handle
        self._bridge = bridge

    def result(self, timeout: float | None = None) -> R_co:
        """Wait until the task has ended, and return the value that it returned."""
        return self._bridge.call(self.handle.result(timeout))

    def outcome(self, timeout: float | None = None) -> Result:
        """Wait until the task has ended, and return what became of it, whatever that is."""
        return self._bridge.call(self.handle.outcome(timeout))

    def peek(self) -> Result:
        """What is known of the task now; its status is `pending` if it has not ended."""
        return self._bridge.call(self.handle.peek())

    def status(self) -> str:
        """`blocked`, `queued` or `running`, or how it ended."""
        return self._bridge.call(self.handle.status())

    def info(self) -> TaskInfo:
        """The task at a glance."""
        return self._bridge.call(self.handle.info())

    def progress(self) -> TaskProgress | None:
        """The newest note that the task left about itself, or None."""
        return self._bridge.call(self.handle.progress())

    def notes(self) -> tuple[TaskProgress, ...]:
        """The newest notes that the task left about itself, at most 20, the last one last."""
        return self._bridge.call(self.handle.notes())

    def updates(self) -> Generator[TaskUpdate]:
        """How it is now, then each change of its status and progress until its end."""
        return self._bridge.each(self.handle.updates)

    def cancel(self, reason: str = "") -> bool:
        """Cancel it if it waits, ask it to stop if it runs. False if it has ended or is unknown."""
        return self._bridge.call(self.handle.cancel(reason))

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, SyncTaskHandle) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<SyncTaskHandle {self.id}>"
