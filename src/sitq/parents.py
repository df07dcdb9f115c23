"""Parents: the tasks that another one waits for, what their ends mean for it, and their values in its call.

A `Parent` among the arguments of a call stands for the value that its task will return. Where a call is
stored, the parent's place is kept; where the call is read to be run, the value is put there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Final, Generic, Literal, NoReturn, TypeVar

from sitq import validation
from sitq.exceptions import SerializationError, ValidationError
from sitq.record import AFTER_SUCCESS, Edge

T = TypeVar("T")

OnFailure = Literal["skip", "fail", "ignore"]
"""What becomes of a task whose parent did not complete: it is cancelled, it fails, or it runs anyway."""

OnSuccess = Literal["run", "skip"]
"""What becomes of a task whose parent completed: it runs, or it is cancelled."""

_ON_FAILURE: Final[dict[object, str]] = {"skip": "c", "fail": "f", "ignore": "g"}
_ON_SUCCESS: Final[dict[object, str]] = {"run": "g", "skip": "c"}


KINDS: Final[set[type]] = set()
"""All classes of parents."""


class Parent:
    """A task that others can depend on, and whose value they can take as an argument.

    As an argument, at any depth, it makes its task a dependency, and the function gets the value. Nowhere
    else can it be pickled.

    Attributes:
        id: The task's id.
    """

    __slots__ = ()

    id: str

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        KINDS.add(cls)

    @property
    def effects(self) -> str:
        """What the end of this task means for the one that takes its value (see `Edge`)."""
        return AFTER_SUCCESS

    def met(self, parents: dict[str, str]) -> None:
        """Note it among the parents that a call holds; what `After` says of one of them holds."""
        parents.setdefault(self.id, self.effects)

    def __reduce_ex__(self, protocol: Any, /) -> tuple[Any, ...]:
        places = _places.get()
        if places is None:
            raise ParentMetError(
                f"{type(self).__name__} stands for the value of task {self.id} and travels only as an "
                f"argument of a task; elsewhere pass its id",
                task_id=self.id,
            )
        self.met(places)
        return value_at, (self.id,)


class After(Parent):
    """A dependency that says what the parent's end means: `depends_on=[After(a, on_failure="ignore")]`.

    Args:
        task: The parent: its id, its `Task` or its handle.
        on_failure: What becomes of the child when the parent fails, is cancelled, expires or dies: `skip`
            cancels it, `fail` lets it fail, `ignore` lets it run all the same.
        on_success: What becomes of the child when the parent completed: `run`, or `skip`, which cancels it.

    As an argument it stands for the parent's value, or for None if the parent did not complete.

    Raises:
        ValidationError: A value is not acceptable.
    """

    __slots__ = ("_effects", "id")

    def __init__(
        self, task: str | Parent, *, on_failure: OnFailure = "skip", on_success: OnSuccess = "run"
    ) -> None:
        self.id = _id_of(task)
        failure, success = _ON_FAILURE.get(on_failure), _ON_SUCCESS.get(on_success)
        if failure is None:
            raise ValidationError(f"on_failure must be skip, fail or ignore, not {on_failure!r}")
        if success is None:
            raise ValidationError(f"on_success must be run or skip, not {on_success!r}")
        if failure != "g" and success != "g":
            raise ValidationError(
                f"a task after {self.id} would run neither if it completes nor if it fails; "
                f'say on_failure="ignore" or on_success="run"'
            )
        self._effects = success + 4 * failure

    def met(self, parents: dict[str, str]) -> None:
        """Note it, also where the same parent stands elsewhere without conditions."""
        parents[self.id] = self._effects

    @property
    def effects(self) -> str:
        """One letter for each terminal state of the parent."""
        return self._effects

    def __repr__(self) -> str:
        return f"<After {self.id} {self._effects}>"


def edges_of(given: Any) -> tuple[Edge, ...]:
    """The dependencies that a caller asked for: ids, `Task` objects, handles, or `After` one of them.

    One alone needs no list, and None is no dependency.

    Raises:
        ValidationError: It is none of these.
    """
    if given is None:
        return ()
    if isinstance(given, str | Parent):
        given = [given]
    if not isinstance(given, Iterable):
        raise ValidationError(
            f"depends_on must be a list of tasks, not {given!r}; await queue.enqueue(…) gives an id"
        )
    edges: dict[Edge, None] = {}
    every: Iterable[Any] = given  # pyright: ignore[reportUnknownVariableType] - the edge
    for one in every:
        if isinstance(one, Edge):
            edges[one] = None
        else:
            edges[Edge(_id_of(one), one.effects if isinstance(one, Parent) else AFTER_SUCCESS)] = None
    return tuple(edges)


def id_of(task: object) -> str:
    """The id of a task that is named by it, or by its handle or `Task`.

    Raises:
        ValidationError: It is none of these.
    """
    return validation.task_id(task.id if isinstance(task, Parent) else task)


def _id_of(task: object) -> str:
    if isinstance(task, Parent):
        return task.id
    if isinstance(task, str):
        return validation.task_id(task)
    raise ValidationError(
        f"a dependency must be a task's id, a Task or a handle, not {type(task).__name__}; "
        f"await queue.enqueue(…) gives an id"
    )


# -- places in a call --------------------------------------------------------------------------------------


class ParentMetError(SerializationError):
    """A value holds a parent where only plain values can be stored."""


_places: ContextVar[dict[str, str] | None] = ContextVar("sitq_places", default=None)
_values: ContextVar[Mapping[str, Any] | None] = ContextVar("sitq_values", default=None)


class _Setting(Generic[T]):
    """A context variable that has a value for as long as a block lasts; a generator would take longer."""

    __slots__ = ("_token", "_value", "_variable")

    def __init__(self, variable: ContextVar[T], value: T) -> None:
        self._variable = variable
        self._value = value

    def __enter__(self) -> None:
        self._token = self._variable.set(self._value)

    def __exit__(self, *_: object) -> None:
        self._variable.reset(self._token)


def noting_places(places: dict[str, str]) -> AbstractContextManager[None]:
    """Let parents be pickled as their places, and note in `places` whose they are, with their effects."""
    return _Setting(_places, places)


def giving_values(values: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Let places be unpickled as the values of these tasks."""
    return _Setting(_values, values)


def value_at(task_id: str) -> Any:
    """The value that stands in a pickled place; payloads name this function.

    Raises:
        SerializationError: The value is not at hand here.
    """
    values = _values.get()
    if values is None or task_id not in values:
        lacking(task_id)
    return values[task_id]


def lacking(task_id: str) -> NoReturn:
    """Raise the error for a place whose value is not at hand."""
    raise SerializationError(
        f"the call takes the value of task {task_id}, which is not at hand here; only a worker has it"
    )
