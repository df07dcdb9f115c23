"""The verdict on a storm: what was counted, and each promise that was broken, with its timeline."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from sitq.testing.storm.history import FOREVER, History, Story

_SHOWN = 20


class Violation(msgspec.Struct, frozen=True):
    """A broken promise.

    Attributes:
        rule: `C1` to `C10`.
        what: What happened, in a word or two; equal ones are counted together.
        task: Whose, or "".
        detail: What there is to say about it.
        timeline: All that is known of the task, a line for each event.
    """

    rule: str
    what: str
    task: str = ""
    detail: str = ""
    timeline: tuple[str, ...] = ()


@dataclass(slots=True)
class Verdict:
    """What a storm proved.

    Attributes:
        counts: How many tasks were acknowledged, ended well, ran twice and so on.
        explained: Why attempts were followed by others, by the fault that explains it.
        recovery: Seconds from each death of a worker until a task that ran there started again.
        violations: What broke a promise.
    """

    counts: Counter[str] = field(default_factory=Counter[str])
    explained: Counter[str] = field(default_factory=Counter[str])
    recovery: list[float] = field(default_factory=list[float])
    violations: list[Violation] = field(default_factory=list[Violation])

    @property
    def clean(self) -> bool:
        """Whether every promise was kept."""
        return not self.violations

    def found(self, rule: str) -> list[Violation]:
        """What broke one promise."""
        return [violation for violation in self.violations if violation.rule == rule]

    def text(self) -> str:
        """The verdict in lines for people."""
        lines = [f"{count:8,}  {name}" for name, count in self.counts.items()]
        lines += [f"{count:8,}  run again: {why}" for why, count in sorted(self.explained.items())]
        if self.recovery:
            lines.append(
                f"recovery   p50 {percentile(self.recovery, 50):.2f} s, p99 "
                f"{percentile(self.recovery, 99):.2f} s, p100 {max(self.recovery):.2f} s "
                f"of {len(self.recovery):,} tasks of dead workers"
            )
        for violation in self.violations[:_SHOWN]:
            lines.append(f"{violation.rule} {violation.what}: {violation.task} {violation.detail}".rstrip())
            lines += [f"      {line}" for line in violation.timeline]
        if len(self.violations) > _SHOWN:
            lines.append(f"… and {len(self.violations) - _SHOWN:,} more")
        kinds = Counter(f"{violation.rule} {violation.what}" for violation in self.violations)
        lines += [f"{count:8,}  BROKEN {kind}" for kind, count in sorted(kinds.items())]
        lines.append("every promise was kept" if self.clean else "PROMISES WERE BROKEN")
        return "\n".join(lines)


def percentile(values: list[float], part: float) -> float:
    """The smallest value that `part` percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * part / 100) - 1)]


_Lines = Iterator[tuple[float, str]]


def timeline(history: History, *stories: Story, others: Iterable[tuple[float, str]] = ()) -> tuple[str, ...]:
    """What is known of tasks, with what their workers suffered, and of `others`, in order of time."""
    lines = set(others)
    for story in stories:
        whose = f"{story.task}: " if len(stories) > 1 else ""
        own = (_of_producer(story), _of_attempts(story), _of_readers(story))
        lines |= {(at, whose + what) for part in own for at, what in part}
        lines |= set(_of_harms(history, story))
    ordered = sorted(lines)
    return tuple(f"{at - ordered[0][0]:9.3f}  {what}" for at, what in ordered)


def _of_producer(story: Story) -> _Lines:
    if story.invoked is not None:
        yield story.invoked.at, "enqueued"
    if story.acked is not None:
        yield story.acked, "acknowledged"
    if story.refused is not None:
        yield story.refused, "refused"


def _of_attempts(story: Story) -> _Lines:
    for attempt in story.attempts:
        yield attempt.started, f"attempt {attempt.number} starts in {attempt.source}"
        if attempt.ended is not None:
            yield attempt.ended, f"attempt {attempt.number} {attempt.how} {attempt.value}".rstrip()
        elif attempt.over < FOREVER:
            yield attempt.over, f"attempt {attempt.number} ended with its process"


def _of_harms(history: History, story: Story) -> _Lines:
    for source in {attempt.source for attempt in story.attempts}:
        for harm in history.harms_of(source):
            if any(harm.since <= one.over and harm.until >= one.started - 5 for one in story.attempts):
                end = "" if harm.until in {FOREVER, harm.since} else f" for {harm.until - harm.since:.2f} s"
                yield harm.since, f"{harm.what} of {harm.source or 'everyone'}{end}"


def _of_readers(story: Story) -> _Lines:
    for seen in story.seen:
        how = "at the end " if seen.final else ""
        yield seen.at, f"{how}seen {seen.state} after attempt {seen.attempt} {seen.value}".rstrip()
