"""Batches: tasks that are watched as one, with callbacks for their end.

In the store a batch is a milestone with an edge to each member: it counts how they end, and completes with
the last of them. Callbacks are tasks with edges to all members and to the milestone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import msgspec

from sitq import validation
from sitq.clock import as_datetime
from sitq.core import Task
from sitq.exceptions import ValidationError
from sitq.functions import register
from sitq.ids import new_id
from sitq.record import AFTER_ANY_END, AFTER_SUCCESS, DAY, TERMINAL, Edge, Record, State, Unique

Kind = Literal["success", "failure", "finish"]
"""What a callback is for: all members completed, one did not, or both."""

AFTER_A_FAILURE: Final = "gaaaa"
"""The edge of a callback of failure: it waits for all, and is wanted if one did not complete."""

_EFFECTS: Final[dict[Kind, str]] = {
    "success": AFTER_SUCCESS,
    "failure": AFTER_A_FAILURE,
    "finish": AFTER_ANY_END,
}
_MOST: Final = 50_000
"""How many members a batch has at the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchInfo:
    """A batch at a glance.

    Attributes:
        id: The batch.
        metadata: What its tasks share, as it was given.
        task_ids: Its members, in order.
        callbacks: The ids of its callbacks, by `success`, `failure` and `finish`.
        completed: How many members completed.
        failed: How many failed.
        cancelled: How many were cancelled.
        expired: How many were not started in time.
        dead: How many could not run.
        created_at: When it was enqueued.
        finished_at: When its last member ended, or None.
    """

    id: str
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    task_ids: tuple[str, ...] = field(default=(), repr=False)
    callbacks: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    dead: int = 0
    created_at: datetime | None = None
    finished_at: datetime | None = None

    def __reduce__(self) -> tuple[Any, ...]:  # a view of a dictionary cannot be pickled
        fields = {one: getattr(self, one) for one in self.__slots__}
        return _info, (fields | {"metadata": dict(self.metadata), "callbacks": dict(self.callbacks)},)

    @property
    def total(self) -> int:
        """How many members it has."""
        return len(self.task_ids)

    @property
    def ended(self) -> int:
        """How many members have ended, in whatever way."""
        return self.completed + self.failed + self.cancelled + self.expired + self.dead

    @property
    def pending(self) -> int:
        """How many members have not ended."""
        return self.total - self.ended

    @property
    def finished(self) -> bool:
        """Whether all members have ended."""
        return not self.pending

    @property
    def succeeded(self) -> bool:
        """Whether all members completed."""
        return self.completed == self.total


class Plan(NamedTuple):
    """A batch to be enqueued: its tasks, and what the milestone's record is made of."""

    id: str
    named: bool
    tasks: list[Task]
    members: tuple[str, ...]
    callbacks: dict[str, str]
    metadata: dict[str, Any]


def batch(metadata: dict[str, Any], callbacks: dict[str, str]) -> None:
    """The function of the milestone, which is never run; its arguments are what the batch knows."""


register(batch, name="sitq.batch")


def plan_batch(
    tasks: Iterable[Task],
    callbacks: Mapping[Kind, Task | Callable[..., Any] | None],
    metadata: Mapping[str, Any] | None = None,
    batch_id: str | None = None,
) -> Plan:
    """What is to be enqueued for a batch: members and callbacks, labelled and wired.

    Raises:
        ValidationError: A member is no `Task` or there twice, or there are too many of them.
    """
    id = new_id() if batch_id is None else validation.task_id(batch_id)
    members = _members(tasks)
    ids = tuple(member.id for member in members)
    known: dict[str, str] = {}
    every = [_labelled(member, id) for member in members]
    for kind, given in callbacks.items():
        if given is None or (kind == "failure" and not members):
            continue  # of no member none can fail
        callback = given if isinstance(given, Task) else Task(validation.function(given, f"on_{kind}={{}}"))
        edges = (Edge(id, AFTER_ANY_END), *(Edge(one, _EFFECTS[kind]) for one in ids))
        every.append(_labelled(callback, id, edges))
        known[kind] = callback.id
    if len({one.id for one in every}) < len(every) or id in known.values() or id in ids:
        raise ValidationError(f"a task is in batch {id} twice; make a Task for each place")
    return Plan(id, batch_id is not None, every, ids, known, _metadata(metadata))


def milestone(record: Record, members: Sequence[str]) -> Record:
    """The record of the milestone, made of that of a call of `batch`."""
    record.milestone = True
    record.batch = record.id
    record.edges = tuple(Edge(member, AFTER_ANY_END) for member in members)
    return record


def guards(plan: Plan, record: Record) -> list[Record]:
    """What keeps a batch with the caller's own id from being enqueued twice at the same time.

    A known id is no ground to refuse a group, and the members of the second one have new ids. A unique key
    is: a second milestone holds it.
    """
    if not plan.named:
        return []
    unique = Unique(f"sitq.batch/{plan.id}", "window", DAY, "refuse")
    return [Record(id=new_id(), queue=record.queue, name=record.name, milestone=True, unique=unique)]


def is_callback(record: Record) -> bool:
    """Whether a task of a batch is one of its callbacks."""
    return bool(record.edges) and record.edges[0].parent == record.batch


def info_of_batch(record: Record, known: Mapping[str, Any]) -> BatchInfo:
    """A batch as people see it.

    Args:
        record: That of the milestone.
        known: The keyword arguments in it.
    """
    counts = dict(zip(TERMINAL, record.ends, strict=False))
    created = as_datetime(record.created)
    return BatchInfo(
        id=record.id,
        metadata=MappingProxyType(known.get("metadata") or {}),
        task_ids=tuple(dict.fromkeys(edge.parent for edge in record.edges)),
        callbacks=MappingProxyType(known.get("callbacks") or {}),
        completed=counts.get(State.COMPLETED, 0),
        failed=counts.get(State.FAILED, 0),
        cancelled=counts.get(State.CANCELLED, 0),
        expired=counts.get(State.EXPIRED, 0),
        dead=counts.get(State.DEAD, 0),
        created_at=created,
        finished_at=as_datetime(record.finished),
    )


def _info(fields: dict[str, Any]) -> BatchInfo:
    views: dict[str, Any] = {one: MappingProxyType(fields[one]) for one in ("metadata", "callbacks")}
    return BatchInfo(**fields | views)


def _members(given: Iterable[Task]) -> list[Task]:
    if not isinstance(given, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
        raise ValidationError(f"a batch takes a list of tasks, not {type(given).__name__}; write [task]")
    members = list(given)
    if len(members) > _MOST:
        raise ValidationError(f"a batch takes at most {_MOST:,} tasks, not {len(members):,}; split it")
    for member in members:
        if not isinstance(member, Task):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
            raise ValidationError(
                f"a batch takes Task objects, not {type(member).__name__}; write Task(function, args)"
            )
    return members


def _metadata(given: Mapping[str, Any] | None) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
        raise ValidationError(f"metadata must be a dictionary, not {type(given).__name__}")
    return dict(given)


def _labelled(one: Task, batch_id: str, edges: tuple[Edge, ...] = ()) -> Task:
    options = one.options
    changes: dict[str, Any] = {"batch": batch_id}
    if edges:
        said = {edge.parent for edge in options.depends_on}
        own = tuple(edge for edge in edges[1:] if edge.parent not in said)
        changes["depends_on"] = (edges[0], *own, *options.depends_on)
    other = one.replace()
    other.options = msgspec.structs.replace(options, **changes, given=options.given.union(changes))
    return other
