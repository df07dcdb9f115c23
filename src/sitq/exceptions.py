"""The errors of sitq: one shallow tree under `SitqError`.

Every error carries the context in which it was raised as keyword-only attributes, reads as a plain
sentence, and survives pickling with all of it, since errors travel between processes.
"""

import builtins
import pickle
from typing import Any

__all__ = [
    "BackendError",
    "ConfigurationError",
    "ConnectionError",
    "CopyError",
    "DependencyError",
    "DuplicateTaskError",
    "LifespanError",
    "QueueFullError",
    "ResourceExhaustionError",
    "SerializationError",
    "SignatureError",
    "SitqError",
    "SyncTaskQueueError",
    "TaskCancelledError",
    "TaskDeadError",
    "TaskExecutionError",
    "TaskExpiredError",
    "TaskQueueError",
    "TimeoutError",
    "UnknownFunctionError",
    "UnknownKeyError",
    "UnknownTaskError",
    "ValidationError",
    "WorkerError",
]


class SitqError(Exception):
    """What every error of sitq is.

    Attributes:
        message: What happened and what to do about it; also what `str` gives.
        task_id: The task concerned, if it was one.
        operation: What was being done, such as `enqueue`.
    """

    def __init__(
        self,
        message: str = "",
        *,
        task_id: str | None = None,
        operation: str | None = None,
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.task_id = task_id
        self.operation = operation
        self._cause = cause
        if cause is not None:
            self.__cause__ = cause

    @property
    def cause(self) -> BaseException | None:
        """The error behind this one: the one given, else the one of `raise … from`."""
        return self._cause if self._cause is not None else self.__cause__

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call the class with `args` alone, which a subclass with an `__init__` of its
        # own fails only at loading, in another process.
        state = self.__dict__ | {"_cause": _portable(self.cause)}
        return _restore, (type(self), self.args, state)


def put_in_context(error: SitqError, task_id: str, operation: str) -> None:
    """Say what an error is about that was raised where this is not known; what it says of itself stays."""
    error.task_id = error.task_id or task_id
    error.operation = error.operation or operation


def _restore(kind: type[SitqError], args: tuple[Any, ...], state: dict[str, Any]) -> SitqError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    error.__cause__ = state["_cause"]
    return error


def _portable(cause: BaseException | None) -> BaseException | None:
    """The cause if it survives pickling, else a description of it."""
    try:
        pickle.loads(pickle.dumps(cause))  # noqa: S301 - what was dumped here the moment before
    except Exception:  # noqa: BLE001 - a foreign error may raise anything when it is pickled
        return SitqError(describe(cause))
    return cause


def describe(error: BaseException | None) -> str:
    """Type and text of an error in one line, whatever its `__str__` does."""
    name = type(error).__qualname__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a foreign error may raise anything when it is printed
        return f"{name} (its text cannot be had)"
    return f"{name}: {text}" if text else name


class TaskQueueError(SitqError):
    """A queue could not do what was asked."""


class UnknownTaskError(TaskQueueError):
    """There is no task with this id: it never existed, or its record has been purged."""


class DuplicateTaskError(TaskQueueError):
    """A living task holds the same unique key.

    Attributes:
        existing_id: The id of that task.
    """

    def __init__(
        self,
        message: str = "",
        *,
        existing_id: str | None = None,
        task_id: str | None = None,
        operation: str | None = None,
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(message, task_id=task_id, operation=operation, cause=cause)
        self.existing_id = existing_id


class DependencyError(TaskQueueError):
    """The dependencies of a task cannot be met: a parent is unknown, or they form a cycle."""


class BackendError(SitqError):
    """A store failed, or refused what was asked of it."""


class ConnectionError(BackendError, builtins.ConnectionError):  # noqa: A001 - the API's own word
    """A store cannot be reached, or the connection to it broke."""


class ResourceExhaustionError(BackendError):
    """A store is full: no disk or no memory is left for new tasks."""


class QueueFullError(ResourceExhaustionError):
    """A bounded queue has as many waiting tasks as its `max_length` allows; nothing was stored."""


class CopyError(SitqError):
    """A copy from one store to another cannot be made now; nothing of it was done."""


class WorkerError(SitqError):
    """A worker could not do what was asked."""


class LifespanError(WorkerError):
    """A worker's lifespan failed, at its start or at its end; the cause is its own error."""


class UnknownFunctionError(WorkerError):
    """The name of a task stands for no function in this process."""


class ValidationError(SitqError, ValueError):
    """A value given by the caller is not acceptable; nothing was changed."""


class SerializationError(SitqError):
    """A value cannot be turned into bytes, or bytes not into a value."""


class SignatureError(SerializationError):
    """Stored bytes are not to be trusted; they were not interpreted."""


class UnknownKeyError(SignatureError):
    """Stored bytes are signed with a key that is not among those here; another process may have it."""


class ConfigurationError(SitqError):
    """A setting is missing, contradicts another one, or cannot be read."""


class SyncTaskQueueError(SitqError):
    """The synchronous queue was used where it cannot work, such as inside a running event loop."""


class TimeoutError(SitqError, builtins.TimeoutError):
    """What was waited for did not happen in time; it may still happen."""


class TaskExecutionError(SitqError):
    """A task did not complete.

    Attributes:
        error_type: The name of the exception's class, or the task's final state.
        error_message: The text of the exception.
        traceback: The traceback in the worker, as text.
    """

    def __init__(
        self,
        message: str = "",
        *,
        error_type: str | None = None,
        error_message: str | None = None,
        traceback: str | None = None,
        task_id: str | None = None,
        operation: str | None = None,
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(message, task_id=task_id, operation=operation, cause=cause)
        self.error_type = error_type
        self.error_message = error_message
        self.traceback = traceback


class TaskCancelledError(TaskExecutionError):
    """A task was cancelled: by somebody, by itself, or because one that it depends on did not complete."""


class TaskExpiredError(TaskExecutionError):
    """A task was not started in time, and will not be any more."""


class TaskDeadError(TaskExecutionError):
    """A task cannot run: it killed its workers, does not fit its function, or its record is corrupt."""
