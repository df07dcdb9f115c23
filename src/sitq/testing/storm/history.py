"""What happened in a storm, put together from its journals: task by task, and who was harmed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sitq.testing.storm.events import (
    Acked,
    AnyEvent,
    Born,
    Due,
    Ended,
    Exited,
    Fault,
    Invoked,
    Over,
    Phase,
    Refused,
    Seen,
    Started,
)

FOREVER: Final = float("inf")


@dataclass(slots=True)
class Process:
    """A process of the fleet; `gone` is when it certainly was no more."""

    source: str
    pid: int = 0
    parent: int = 0
    role: str = ""
    born: float = 0.0
    last: float = 0.0
    gone: float = FOREVER


@dataclass(slots=True)
class Harm:
    """A fault from its beginning to its end; `source` is the process that suffered it, None is everyone.

    `by` is how far a clock was stepped.
    """

    what: str
    since: float
    until: float
    source: str | None
    by: float = 0.0


@dataclass(slots=True)
class Attempt:
    """One run of a task; without `ended` it never came to its end, and was over when its process was."""

    task: str
    number: int
    source: str
    started: float
    tick: str = ""
    ended: float | None = None
    how: str = ""
    value: str = ""
    over: float = FOREVER


@dataclass(slots=True)
class Story:
    """All that is known of one task."""

    task: str
    invoked: Invoked | None = None
    acked: float | None = None
    refused: float | None = None
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    """By number, then by their start."""
    seen: list[Seen] = field(default_factory=list[Seen])
    """In order of time, what was read at the end last."""

    @property
    def final(self) -> Seen | None:
        """What was read at the end, if the task was there."""
        return self.seen[-1] if self.seen and self.seen[-1].final else None


@dataclass(slots=True)
class History:
    """All stories of a storm, and the faults by the process that suffered them (None: everyone)."""

    stories: dict[str, Story] = field(default_factory=dict[str, Story])
    processes: dict[str, Process] = field(default_factory=dict[str, Process])
    harms: dict[str | None, list[Harm]] = field(default_factory=dict[str | None, list[Harm]])
    phases: dict[str, float] = field(default_factory=dict[str, float])
    due: dict[str, float] = field(default_factory=dict[str, float])
    """The instants of schedules, and when they became known."""

    def harms_of(self, source: str) -> Iterable[Harm]:
        """What this process suffered, alone or with all others."""
        yield from self.harms.get(source, ())
        yield from self.harms.get(None, ())

    @property
    def all_harms(self) -> list[Harm]:
        """Every fault, in order of time."""
        return sorted((harm for some in self.harms.values() for harm in some), key=lambda harm: harm.since)


def gather(journals: Mapping[str, Sequence[AnyEvent]]) -> History:
    """Put the journals of a storm together."""
    history = History()
    for source, events in journals.items():
        _meet(history, source, events)
    _harm(history, journals)
    _bury(history, journals)
    running: dict[tuple[str, int, str], Attempt] = {}
    for source, events in journals.items():
        for event in events:
            _tell(history, source, event, running)
    for story in history.stories.values():
        story.attempts.sort(key=lambda attempt: (attempt.number, attempt.started))
        story.seen.sort(key=lambda seen: (seen.final, seen.at))
        for attempt in story.attempts:
            gone = history.processes[attempt.source].gone
            attempt.over = gone if attempt.ended is None else attempt.ended
    return history


def _meet(history: History, source: str, events: Sequence[AnyEvent]) -> None:
    process = Process(source)
    for event in events:
        if isinstance(event, Born):
            process.pid, process.parent, process.role = event.pid, event.parent, event.role
            process.born = event.at
        process.last = max(process.last, event.at)
    history.processes[source] = process


def _harm(history: History, journals: Mapping[str, Sequence[AnyEvent]]) -> None:
    everything = sorted((event for events in journals.values() for event in events), key=lambda one: one.at)
    open_harms: dict[tuple[str, int], list[Harm]] = {}
    for event in everything:
        if isinstance(event, Fault):
            # A suspended process is no more when it is killed; its death is looked at elsewhere.
            lasting = event.what in {"stop", "lock", "full", "server"}
            if event.what == "kill":
                _end(open_harms, "lock", event)
            until = event.until if event.until is not None else FOREVER if lasting else event.at
            for source in _sufferers(history, event):
                harm = Harm(event.what, event.at, until, source, event.by)
                history.harms.setdefault(source, []).append(harm)
                if until == FOREVER:
                    open_harms.setdefault((event.what, event.pid), []).append(harm)
        elif isinstance(event, Over):
            _end(open_harms, event.what, event)
        elif isinstance(event, Exited):
            _end(open_harms, "lock", event)
        elif isinstance(event, Phase):
            history.phases.setdefault(event.name, event.at)
        elif isinstance(event, Due):
            history.due.setdefault(event.tick, event.at)


def _end(open_harms: dict[tuple[str, int], list[Harm]], what: str, event: Fault | Over | Exited) -> None:
    for harm in open_harms.pop((what, event.pid), ()):
        harm.until = event.at


def _sufferers(history: History, fault: Fault) -> list[str | None]:
    """The journals of the process that a fault was done to, and of those that depend on it."""
    if not fault.pid or fault.what == "lock":
        return [None]
    found = _alive(history, fault.pid, fault.at)
    sources: list[str | None] = [] if found is None else [found.source]
    # A supervisor's processes end with it.
    if fault.what in {"kill", "term"}:
        sources += [
            process.source
            for process in history.processes.values()
            if process.parent == fault.pid and process.born <= fault.at
        ]
    return sources


def _alive(history: History, pid: int, at: float) -> Process | None:
    """The youngest process of this id that was there already: ids are used again."""
    found = [process for process in history.processes.values() if process.pid == pid and process.born <= at]
    return max(found, key=lambda process: process.born, default=None)


def _bury(history: History, journals: Mapping[str, Sequence[AnyEvent]]) -> None:
    """Find out when each process was no more."""
    ends = [event for events in journals.values() for event in events if isinstance(event, Exited)]
    ends.sort(key=lambda event: event.at)
    for event in ends:
        process = _alive(history, event.pid, event.at)
        if process is not None and process.gone == FOREVER:
            process.gone = event.at
    for source, harms in history.harms.items():
        if source is None:
            continue
        process = history.processes[source]
        deaths = [harm.since for harm in harms if harm.what in {"kill", "poison"}]
        # The fault is written down a moment before it takes effect. A process that its supervisor's death
        # left behind writes on.
        if deaths and process.last <= min(deaths) + 1.0:
            process.gone = min(process.gone, max(min(deaths), process.last))


def _tell(
    history: History, source: str, event: AnyEvent, running: dict[tuple[str, int, str], Attempt]
) -> None:
    match event:
        case Invoked():
            story = _story(history, event.task)  # a producer may have asked again: the first time counts
            if story.invoked is None or event.at < story.invoked.at:
                story.invoked = event
        case Acked():
            story = _story(history, event.task)
            story.acked = event.at if story.acked is None else min(story.acked, event.at)
        case Refused():
            _story(history, event.task).refused = event.at
        case Seen():
            _story(history, event.task).seen.append(event)
        case Started():
            attempt = Attempt(event.task, event.attempt, source, event.at, event.tick)
            _story(history, event.task).attempts.append(attempt)
            running[event.task, event.attempt, source] = attempt
        case Ended():
            begun = running.get((event.task, event.attempt, source))
            if begun is not None:
                begun.ended, begun.how, begun.value = event.at, event.how, event.value
        case _:
            pass


def _story(history: History, task: str) -> Story:
    return history.stories.setdefault(task, Story(task))
