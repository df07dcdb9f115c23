"""An async-first task queue with pluggable stores."""

import logging

from sitq.backends.base import Backend
from sitq.backends.memory import MemoryBackend
from sitq.backends.sqlite import SQLiteBackend
from sitq.batch import BatchInfo
from sitq.context import current_task
from sitq.core import ReservedTask, Result, Task
from sitq.decorator import TaskFunction, task
from sitq.dependencies import INJECTED, Depends, FromLifespan
from sitq.events import TaskEvent
from sitq.exceptions import (
    BackendError,
    ConfigurationError,
    ConnectionError,  # noqa: A004 - the documented name
    DependencyError,
    DuplicateTaskError,
    LifespanError,
    QueueFullError,
    ResourceExhaustionError,
    SerializationError,
    SignatureError,
    SitqError,
    SyncTaskQueueError,
    TaskCancelledError,
    TaskDeadError,
    TaskExecutionError,
    TaskExpiredError,
    TaskQueueError,
    TimeoutError,
    UnknownFunctionError,
    UnknownKeyError,
    UnknownTaskError,
    ValidationError,
    WorkerError,
)
from sitq.fairness import Fair
from sitq.flow import Flow, chain, group
from sitq.graph import Graph, GraphEdge, GraphNode
from sitq.handle import TaskHandle, value_of
from sitq.info import Pause, TaskFailure, TaskInfo, TaskPage, TaskProgress, TaskUpdate
from sitq.keys import KeyRing
from sitq.limits import ConcurrencyLimit, RateLimit
from sitq.middleware import Middleware
from sitq.parents import After
from sitq.policy.retry import RetryPolicy
from sitq.queue import BatchHandle, TaskQueue
from sitq.router import TaskRouter
from sitq.secret import Secret
from sitq.serialization import CloudpickleSerializer, JSONSerializer, MsgpackSerializer, Serializer
from sitq.signals import Cancel, Retry, Snooze, Throttled
from sitq.spill import Spill
from sitq.sync import SyncTaskHandle, SyncTaskQueue
from sitq.uniqueness import Unique, debounce, throttle
from sitq.worker import Worker

__version__ = "0.1.0"

logging.getLogger("sitq").addHandler(logging.NullHandler())  # a library says nothing where nobody listens

__all__ = [
    "INJECTED",
    "After",
    "Backend",
    "BackendError",
    "BatchHandle",
    "BatchInfo",
    "Cancel",
    "CloudpickleSerializer",
    "ConcurrencyLimit",
    "ConfigurationError",
    "ConnectionError",
    "DependencyError",
    "Depends",
    "DuplicateTaskError",
    "Fair",
    "Flow",
    "FromLifespan",
    "Graph",
    "GraphEdge",
    "GraphNode",
    "JSONSerializer",
    "KeyRing",
    "LifespanError",
    "MemoryBackend",
    "Middleware",
    "MsgpackSerializer",
    "Pause",
    "QueueFullError",
    "RateLimit",
    "ReservedTask",
    "ResourceExhaustionError",
    "Result",
    "Retry",
    "RetryPolicy",
    "SQLiteBackend",
    "Secret",
    "SerializationError",
    "Serializer",
    "SignatureError",
    "SitqError",
    "Snooze",
    "Spill",
    "SyncTaskHandle",
    "SyncTaskQueue",
    "SyncTaskQueueError",
    "Task",
    "TaskCancelledError",
    "TaskDeadError",
    "TaskEvent",
    "TaskExecutionError",
    "TaskExpiredError",
    "TaskFailure",
    "TaskFunction",
    "TaskHandle",
    "TaskInfo",
    "TaskPage",
    "TaskProgress",
    "TaskQueue",
    "TaskQueueError",
    "TaskRouter",
    "TaskUpdate",
    "Throttled",
    "TimeoutError",
    "Unique",
    "UnknownFunctionError",
    "UnknownKeyError",
    "UnknownTaskError",
    "ValidationError",
    "Worker",
    "WorkerError",
    "__version__",
    "chain",
    "current_task",
    "debounce",
    "group",
    "task",
    "throttle",
    "value_of",
]
