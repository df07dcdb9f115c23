"""An async-first task queue with pluggable stores."""

import logging

from sitq.backends.base import Backend
from sitq.backends.memory import MemoryBackend
from sitq.backends.sqlite import SQLiteBackend
from sitq.context import current_task
from sitq.core import ReservedTask, Result, Task
from sitq.exceptions import (
    BackendError,
    ConfigurationError,
    ConnectionError,  # noqa: A004 - the documented name
    DependencyError,
    DuplicateTaskError,
    ResourceExhaustionError,
    SerializationError,
    SignatureError,
    SitqError,
    SyncTaskQueueError,
    TaskExecutionError,
    TaskQueueError,
    TimeoutError,
    UnknownFunctionError,
    UnknownKeyError,
    ValidationError,
    WorkerError,
)
from sitq.functions import task
from sitq.keys import KeyRing
from sitq.policy.retry import RetryPolicy
from sitq.queue import TaskQueue
from sitq.serialization import CloudpickleSerializer, JSONSerializer, MsgpackSerializer, Serializer
from sitq.signals import Cancel, Retry, Snooze, Throttled
from sitq.sync import SyncTaskQueue
from sitq.worker import Worker

__version__ = "0.1.0"

logging.getLogger("sitq").addHandler(logging.NullHandler())  # a library says nothing where nobody listens

__all__ = [
    "Backend",
    "BackendError",
    "Cancel",
    "CloudpickleSerializer",
    "ConfigurationError",
    "ConnectionError",
    "DependencyError",
    "DuplicateTaskError",
    "JSONSerializer",
    "KeyRing",
    "MemoryBackend",
    "MsgpackSerializer",
    "ReservedTask",
    "ResourceExhaustionError",
    "Result",
    "Retry",
    "RetryPolicy",
    "SQLiteBackend",
    "SerializationError",
    "Serializer",
    "SignatureError",
    "SitqError",
    "Snooze",
    "SyncTaskQueue",
    "SyncTaskQueueError",
    "Task",
    "TaskExecutionError",
    "TaskQueue",
    "TaskQueueError",
    "Throttled",
    "TimeoutError",
    "UnknownFunctionError",
    "UnknownKeyError",
    "ValidationError",
    "Worker",
    "WorkerError",
    "__version__",
    "current_task",
    "task",
]
