"""The checker: from the history of a storm to its verdict.

The rules are those of a history checker in the manner of Jepsen: partition by task, then judge each story.

C1  An acknowledged task comes to an end; one of which nobody knows is there once or not at all.
C2  An end, once seen, never changes.
C3  What is stored is what the last attempt returned.
C4  Attempts go up by one. Numbers without a run are explained by faults, and no run by a spent budget.
C5  A task runs again only since it asked for it or since a fault explains it, and runs at the same time as
    itself only if a fault made its lease run out.
C6  Tasks of a lane start in the order in which they were acknowledged.
C7  A dead worker's tasks start again soon.
C8  A schedule fires once for each of its instants.
C9  A concurrency limit holds over the runs whose lease is valid, and a rate over the starts.
C10 A part of the fleet that is well works off everything while the rest stays broken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from sitq.testing.storm.history import FOREVER, Attempt, Harm, History, Story
from sitq.testing.storm.verdict import Verdict, Violation, timeline

ENDED: Final = ("completed", "failed", "cancelled", "expired", "dead")

_DEADLY: Final = frozenset({"kill", "poison"})
_STANDING: Final = frozenset({"stop", "hold", "starved"})
_STORE: Final = frozenset({"lock", "full", "server"})

_SHOWN: Final = 3
"""Tasks that are shown of those that were not worked off."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the verdict is measured by.

    Attributes:
        lease: Seconds of the workers' leases.
        recovery: Seconds within which a dead worker's tasks start again; None is not judged.
        drain: Seconds within which the part of the fleet that is well works off everything.
        lapse: The share of a lease that a worker must have stood still at the least for its lease to run out:
            it was renewed up to a quarter before.
        moment: Seconds that pass between a claim and the first line of the task.
        breath: Seconds between two stops of a process in which it cannot be asked to have renewed its leases.
        back: Seconds within which all use a server again that was away.
        starvation: Whether a process that was kept from running by load is an explanation.
        after: Seconds for which a fault still explains what follows from it, beyond a lease.
    """

    lease: float = 10.0
    recovery: float | None = None
    drain: float = FOREVER
    lapse: float = 0.6
    moment: float = 1.0
    breath: float = 0.1
    back: float = 5.0
    after: float = 2.0
    starvation: bool = True


def check(history: History, rules: Rules | None = None) -> Verdict:
    """Judge a storm."""
    judge = _Judge(history, rules or Rules())
    for story in history.stories.values():
        judge.story(story)
    judge.order()
    judge.schedules()
    judge.limits()
    judge.liveness()
    return judge.verdict


class _Judge:
    def __init__(self, history: History, rules: Rules) -> None:
        self._history = history
        self._rules = rules
        self._harms = history.all_harms
        self.verdict = Verdict()
        self.verdict.counts.update(
            dict.fromkeys(("acknowledged", "ended as expected", "lost", "ran more than once"), 0)
        )

    def story(self, story: Story) -> None:
        """Judge one task."""
        self._end(story)
        self._same_end(story)
        self._value(story)
        self._numbers(story)
        for before, after in pairwise(story.attempts):
            if after.number == before.number:
                self._broken("C4", "one attempt ran twice", story, f"attempt {after.number}")
            elif after.number == before.number + 1:
                self._again(story, before, after)
            else:
                self._gap(story, before.started, after)
        if story.attempts and story.attempts[0].number > 1:
            self._gap(story, story.invoked.at if story.invoked else 0.0, story.attempts[0])
        if len(story.attempts) > 1:
            self.verdict.counts["ran more than once"] += 1

    # -- C1 ------------------------------------------------------------------------------------------------

    def _end(self, story: Story) -> None:
        counts, final = self.verdict.counts, story.final
        if story.invoked is None:
            self._broken("C1", "nobody enqueued it", story)
            return
        if story.refused is not None and story.acked is None:
            counts["refused"] += 1
            if final is not None or story.attempts:
                self._broken("C1", "refused and yet stored", story)
            return
        if story.acked is None:
            counts["enqueued without an answer"] += 1
            if final is None:
                if story.attempts:
                    self._broken("C1", "ran and is not stored", story)
                return
        counts["acknowledged"] += story.acked is not None
        if final is None:
            counts["lost"] += 1
            self._broken("C1", "lost", story)
        elif final.state not in ENDED:
            self._broken("C1", "has not ended", story, f"it is {final.state}")
        elif final.state not in story.invoked.expect:
            what = "quarantined" if final.state == "dead" else "ended otherwise"
            self._broken("C1", what, story, f"{final.state} instead of {' or '.join(story.invoked.expect)}")
        else:
            counts["ended as expected"] += 1
            counts["quarantined, as expected"] += final.state == "dead"

    # -- C2, C3 --------------------------------------------------------------------------------------------

    def _same_end(self, story: Story) -> None:
        ends = [seen for seen in story.seen if seen.state in ENDED]
        for seen in ends[1:]:
            if (seen.state, seen.attempt, seen.value) != (ends[0].state, ends[0].attempt, ends[0].value):
                self._broken("C2", "two ends", story, f"first {ends[0].state}, then {seen.state}")
                return
        self.verdict.counts["ends seen again"] += max(0, len(ends) - 1)
        for seen in story.seen:
            if ends and seen.at > ends[0].at and seen.state not in ENDED:
                self._broken("C2", "an end was undone", story, f"{ends[0].state}, then {seen.state}")
                return

    def _value(self, story: Story) -> None:
        final = story.final
        for before, after in pairwise(story.attempts):
            if before.ended is not None and before.how != "interrupted" and before.ended > after.started:
                self.verdict.counts["late finishes refused"] += final is None or final.attempt > before.number
        if final is None or final.state not in ENDED:
            return
        last = story.attempts[-1] if story.attempts else None
        if last is not None and last.number > final.attempt:
            self._broken(
                "C3", "ran on after its end", story, f"it ended after {final.attempt}, ran {last.number}"
            )
        if final.state != "completed":
            return
        own = [one for one in story.attempts if one.number == final.attempt and one.how == "returned"]
        if not own:
            self._broken("C3", "a result of nobody", story, f"of attempt {final.attempt}")
        elif final.value not in {one.value for one in own}:
            self._broken("C3", "a result of another attempt", story, final.value)

    # -- C4, C5, C7 ----------------------------------------------------------------------------------------

    def _numbers(self, story: Story) -> None:
        final = story.final
        if final is not None and story.invoked is not None and final.failures > story.invoked.retries:
            self._broken("C4", "more retries than its budget", story, f"{final.failures}")

    def _gap(self, story: Story, since: float, after: Attempt) -> None:
        """Claims between two runs that never came to a run: only faults make such."""
        reach = self._rules.lease + self._rules.after
        if any(harm.since <= after.started and harm.until >= since - reach for harm in self._harms):
            self.verdict.counts["claims without a run"] += 1
        else:
            self._broken("C4", "attempts skip", story, f"to {after.number}, and there was no fault")

    def _again(self, story: Story, before: Attempt, after: Attempt) -> None:
        together = after.started < before.over
        why = self._why(before, after, together=together)
        if why is None:
            what = "two attempts at the same time" if together else "run again without a reason"
            self._broken("C5", what, story, f"attempts {before.number} and {after.number}")
            return
        self.verdict.explained[f"{why}, at the same time" if together else why] += 1
        if before.ended is None and before.over < FOREVER and why == "its worker died":
            self._recovered(story, before, after)

    def _why(self, before: Attempt, after: Attempt, *, together: bool) -> str | None:
        """What explains that a task ran again; None if nothing does."""
        if before.how == "raised" and not together:
            return "it asked for it"
        found: set[str] = set()
        for harm in _joined(self._history.harms_of(before.source), self._rules):
            if harm.since > after.started:
                continue
            if self._lapsed(harm, before, after):
                found.add("its worker stood still" if harm.source else f"the {harm.what} of everyone")
            elif not together and harm.since >= before.started - self._rules.moment:
                if harm.what in _DEADLY:
                    found.add("its worker died")
                elif harm.what == "term":
                    found.add("its worker was stopped")
            elif not together and harm.what == "term" and before.how == "interrupted":
                found.add("its worker was stopped")
        gone = self._history.processes[before.source].gone
        if not found and not together and before.ended is None and gone <= after.started:
            # It ended though nobody is known to have done it: the tasks beside it may have been poison.
            return "its worker ended"
        order = ("its worker died", "its worker was stopped", "its worker stood still")
        return min(found, key=lambda why: order.index(why) if why in order else len(order), default=None)

    def _lapsed(self, harm: Harm, before: Attempt, after: Attempt) -> bool:
        """Whether this fault made the lease of an attempt run out before the next one started."""
        until = harm.until + self._rules.back if harm.what == "server" else harm.until
        if until < before.started - self._rules.moment:
            return harm.what == "clock" and harm.since >= before.started - self._rules.lease
        if harm.what == "clock":
            return True
        if harm.what not in _STANDING | _STORE:
            return False
        if harm.what == "starved" and not self._rules.starvation:
            return False
        return min(until, after.started) - harm.since >= self._rules.lapse * self._rules.lease

    def _recovered(self, story: Story, before: Attempt, after: Attempt) -> None:
        took = after.started - before.over
        self.verdict.recovery.append(took)
        bound = self._rules.recovery
        if bound is not None and took > bound:
            self._broken("C7", "recovered late", story, f"after {took:.2f} s, and {bound:g} s are promised")

    # -- C6 ------------------------------------------------------------------------------------------------

    def order(self) -> None:
        """Judge the order of each lane's first starts."""
        lanes: dict[str, list[tuple[float, float, Story]]] = {}
        for story in self._history.stories.values():
            if story.invoked is None or not story.invoked.lane or story.acked is None or not story.attempts:
                continue
            if story.attempts[0].number == 1:  # a first attempt that never ran may have been claimed in order
                lanes.setdefault(story.invoked.lane, []).append(
                    (story.invoked.at, story.attempts[0].started, story)
                )
        for entries in lanes.values():
            entries.sort(key=lambda entry: entry[0])
            latest = entries[0]
            for entry in entries:
                if entry[1] < latest[1]:
                    what = "started before one that was enqueued earlier"
                    self._found("C6", what, latest[2], entry[2], task=entry[2].task, detail=latest[2].task)
                latest = max(latest, entry, key=lambda one: one[1])
            self.verdict.counts["started in order"] += len(entries)

    # -- C8 ------------------------------------------------------------------------------------------------

    def schedules(self) -> None:
        """Judge that each instant of a schedule was fired once."""
        fired: dict[str, list[Story]] = {}
        for story in self._history.stories.values():
            for tick in {attempt.tick for attempt in story.attempts if attempt.tick}:
                fired.setdefault(tick, []).append(story)
        due = self._history.due
        for tick, at in due.items():
            if tick not in fired:
                self._found("C8", "an instant was missed", detail=tick, others=[(at, f"{tick} is due")])
        for tick, stories in fired.items():
            others = [(due[tick], f"{tick} is due")] if tick in due else []
            if len(stories) > 1:
                self._found("C8", "an instant fired twice", *stories, detail=tick, others=others)
            if tick not in due:
                self._found("C8", "fired at no instant of its own", *stories, detail=tick)

    # -- C9 ------------------------------------------------------------------------------------------------

    def limits(self) -> None:
        """Judge that no key had more runs at once, or more starts in a time, than it may."""
        keys: dict[str, list[Story]] = {}
        for story in self._history.stories.values():
            if story.invoked is not None and story.invoked.key:
                keys.setdefault(story.invoked.key, []).append(story)
        for key, stories in keys.items():
            told = [story.invoked for story in stories if story.invoked is not None]
            most, rate = max(one.limit for one in told), max(one.rate for one in told)
            if most:
                self._at_once(key, most, stories)
            if rate:
                self._in_a_time(key, rate, max(one.burst for one in told), stories)

    def _at_once(self, key: str, most: int, stories: list[Story]) -> None:
        changes: list[tuple[float, int, str]] = []
        for story in stories:
            for attempt, following in pairwise((*story.attempts, None)):
                assert attempt is not None
                end = self._valid_until(attempt, following)
                if end > attempt.started:
                    changes += [(attempt.started, 1, story.task), (end, -1, story.task)]
        running: Counter[str] = Counter()
        crowd: set[str] = set()
        for _, step, task in sorted(changes):  # at one instant an end counts before a start
            running[task] += step
            now = set(running.elements())
            crowd = max(crowd, now, key=len)
        self.verdict.counts["runs under a limit"] += len(changes) // 2
        if len(crowd) > most:
            detail = f"{key}: {len(crowd)} at once, and {most} may be"
            found = [story for story in stories if story.task in crowd]
            self._found("C9", "a limit was exceeded", *found, detail=detail)

    def _in_a_time(self, key: str, rate: float, burst: int, stories: list[Story]) -> None:
        """A leaky bucket over the starts, which come up to a moment later than the claims that count."""
        starts = [
            (attempt.started, 0.0, story)
            for story in stories
            for attempt in story.attempts
            if not self._was_late(attempt)
        ]
        steps = [(harm.since, harm.by, None) for harm in self._harms if harm.what == "clock" and harm.by > 0]
        level, last = 0.0, 0.0
        recent: list[Story] = []
        for at, by, story in sorted([*starts, *steps], key=lambda entry: entry[0]):
            level = max(0.0, level - rate * (at - last + by))
            last = at
            if story is not None:
                recent = [*recent, story] if level else [story]
                level += 1
                if level > burst + rate * self._rules.moment:
                    detail = f"{key}: {len(recent)} in {at - recent[0].attempts[0].started:.1f} s"
                    self._found("C9", "a rate was exceeded", *recent[-burst - 1 :], detail=detail)
                    break
        self.verdict.counts["starts under a rate"] += len(starts)

    def _was_late(self, attempt: Attempt) -> bool:
        """Whether its process may have stood still between the claim and the start."""
        since = attempt.started - self._rules.lease
        return any(
            harm.what in _STANDING | _STORE and harm.since <= attempt.started and harm.until >= since
            for harm in self._history.harms_of(attempt.source)
        )

    def _valid_until(self, attempt: Attempt, following: Attempt | None) -> float:
        """Until when the run's lease was certainly valid."""
        end = attempt.over
        if following is not None:
            end = min(end, following.started)
        for harm in self._history.harms_of(attempt.source):
            lapses = harm.what in _STANDING | _STORE or harm.what == "clock"
            if lapses and harm.since < end and harm.until > attempt.started - self._rules.moment:
                end = min(end, max(harm.since, attempt.started))
        return end

    # -- C10 -----------------------------------------------------------------------------------------------

    def liveness(self) -> None:
        """Judge that the part of the fleet that was well worked off everything."""
        phases = self._history.phases
        if "part" not in phases:
            return
        took = phases.get("drained", FOREVER) - phases["part"]
        if took > self._rules.drain:
            detail = "never" if took == FOREVER else f"in {took:.1f} s"
            limit = phases["part"] + self._rules.drain
            open_ = [story for story in self._history.stories.values() if _is_open(story, limit)]
            others = [(at, f"phase: {name}") for name, at in phases.items()]
            what = "a part that is well did not work everything off"
            self._found("C10", what, *open_[:_SHOWN], detail=detail, others=others)

    def _broken(self, rule: str, what: str, story: Story, detail: str = "") -> None:
        self._found(rule, what, story, task=story.task, detail=detail)

    def _found(
        self,
        rule: str,
        what: str,
        *stories: Story,
        task: str = "",
        detail: str = "",
        others: Sequence[tuple[float, str]] = (),
    ) -> None:
        lines = timeline(self._history, *stories, others=others)
        self.verdict.violations.append(Violation(rule, what, task, detail, lines))


def _joined(harms: Iterable[Harm], rules: Rules) -> list[Harm]:
    """The faults, with what a process stood still for in one piece as one."""
    standing = _STANDING if rules.starvation else _STANDING - {"starved"}
    found: list[Harm] = []
    last: Harm | None = None
    for harm in sorted(harms, key=lambda one: one.since):
        if harm.source is None or harm.what not in standing:
            found.append(harm)
        elif last is not None and harm.since <= last.until + rules.breath:
            last.until = max(last.until, harm.until)
        else:
            last = replace(harm)
            found.append(last)
    return found


def _is_open(story: Story, at: float) -> bool:
    """Whether a task that was to complete had not done so by then."""
    if story.invoked is None or "completed" not in story.invoked.expect:
        return False
    return not any(one.how == "returned" and one.over <= at for one in story.attempts)
