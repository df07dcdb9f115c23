"""The stories: what was asked of the store and answered, thing by thing, and what of it a disk must hold.

A thing is a task, a cell or a log. Its story is the steps that it took, one after another, each with when it
was asked for and when it was acknowledged. On a disk the thing is as one of its steps left it. So it is known
from which to which step that may be:

- nothing that was acknowledged is missing (with synchronous=FULL),
- nothing is there that nobody asked for,
- whatever is missing, all that came after its acknowledgement is missing, too: at most a suffix is lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tape import AnyEvent, Asked, Told

from sitq.testing.storm.verdict import Violation

FOUND = "found"
"""The kind of the first steps of stories that go on after a loss of power."""

NOBODY = -1
"""The deed of steps that nobody asked for by themselves."""


@dataclass(frozen=True, slots=True)
class Step:
    """What was asked for at one place of the tape, acknowledged at another, and holds since."""

    kind: str
    deed: int
    asked: float
    told: float
    holds: dict[str, Any]


@dataclass(slots=True)
class Story:
    """What became of one thing. `states`: None while it is not there, then what holds after each step."""

    name: str
    steps: list[Step]
    parents: list[str]
    states: list[dict[str, Any] | None] = field(init=False)

    def __post_init__(self) -> None:
        self.states = [None]
        for step in self.steps:
            holds = (self.states[-1] or {}) | step.holds
            self.states.append(None if holds.get("state") == "deleted" else holds)

    def asked(self, cut: int) -> int:
        """How many steps were asked for before the cut."""
        return sum(step.asked <= cut for step in self.steps)


def stories(events: Iterable[AnyEvent]) -> dict[str, Story]:
    """The stories that a tape tells."""
    asked: dict[int, tuple[str, int]] = {}
    found: dict[str, list[tuple[list[int], Step]]] = {}
    parents: dict[str, list[str]] = {}
    for when, event in enumerate(events, 1):
        if isinstance(event, Asked):
            asked[event.deed] = event.kind, when
        elif isinstance(event, Told):
            kind, since = asked[event.deed]
            for name, place, told in event.effects:
                holds = told.copy()
                waits = holds.pop("parents", None)
                if waits:
                    parents[name] = waits
                step = Step(kind, event.deed, since, when, holds)
                if holds.pop("perhaps", False):  # it may happen by itself, at any time
                    step = Step(kind, NOBODY, since, math.inf, holds)
                found.setdefault(name, []).append((place, step))
    for child, waits in parents.items():
        step = _let_go([_end(found[parent]) for parent in waits])
        if step is not None:
            found[child].append(([0, 1], step))
    return {
        name: Story(name, [step for _, step in sorted(steps, key=lambda one: one[0])], parents.get(name, []))
        for name, steps in found.items()
    }


def _end(steps: list[tuple[list[int], Step]]) -> Step | None:
    ends = (step for _, step in steps if step.holds.get("state") in {"completed", "failed", "cancelled"})
    return next(ends, None)


def _let_go(ends: list[Step | None]) -> Step | None:
    """When a task's parents let it go, or one of them took it along; None if they never did."""
    bad = [end for end in ends if end is not None and end.holds["state"] != "completed"]
    if bad:
        first = min(end.asked for end in bad), min(end.told for end in bad)
        return Step("a parent's end", NOBODY, *first, {"state": "cancelled"})
    good = [end for end in ends if end is not None]
    if len(good) < len(ends):
        return None
    last = max(end.asked for end in good), max(end.told for end in good)
    return Step("the parents' ends", NOBODY, *last, {"state": "queued"})


@dataclass(slots=True)
class Finding:
    """How far each thing has come on a disk, and what is wrong with that."""

    steps: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    violations: list[Violation] = field(default_factory=list)


def compare(told: dict[str, Story], seen: dict[str, dict[str, Any]], cut: int, *, full: bool) -> Finding:
    """Judge what was found on a disk after a loss of power at `cut`."""
    finding = Finding()
    latest = 0.0
    missing: list[tuple[Step, str]] = []
    taken: set[int] = set()
    for name, story in told.items():
        asked = story.asked(cut)
        matches = [n for n in range(asked + 1) if story.states[n] == seen.get(name)]
        if not matches:
            detail = f"{seen.get(name)} is none of what it was: {story.states[: asked + 1]}"
            finding.violations.append(Violation("C2", "a state that never was", name, detail))
            continue
        least, most = matches[0], matches[-1]  # some steps change nothing that can be seen
        finding.steps[name] = most
        latest = max([latest, *(step.asked for step in story.steps[:least])])
        taken.update(step.deed for step in story.steps[:least])
        missing += [(step, name) for step in story.steps[most:asked]]
    for step, name in missing:
        why = f"{step.kind}, asked for at {step.asked:g} and acknowledged at {step.told:g}; "
        if step.told <= cut:
            finding.lost += 1
        if (full or step.kind == FOUND) and step.told <= cut:
            finding.violations.append(Violation("C1", "lost", name, f"{why}the power went at {cut}"))
        elif step.told < latest:
            there = f"what was asked for at {latest:g} is there"
            finding.violations.append(Violation("C1", "a hole", name, why + there))
        elif step.deed != NOBODY and step.deed in taken:
            finding.violations.append(Violation("C1", "half done", name, f"{why}the rest of it is there"))
    finding.violations += [
        Violation("C1", "nobody asked for it", name, str(seen[name])) for name in seen.keys() - told.keys()
    ]
    finding.violations += _children(told, seen)
    return finding


def _children(told: dict[str, Story], seen: dict[str, dict[str, Any]]) -> Iterable[Violation]:
    """A task is let go by the same commit that its last parent ends with."""
    for name in seen.keys() & told.keys():
        if not told[name].parents:
            continue
        parents = [seen.get(parent, {}).get("state") for parent in told[name].parents]
        bad = any(state in {"failed", "cancelled"} for state in parents)
        waits = not bad and any(state != "completed" for state in parents)
        if waits != (seen[name]["state"] == "blocked"):
            detail = f"it is {seen[name]['state']}, and those it waits for are {parents}"
            yield Violation("C2", "held back and let go", name, detail)
