"""What happened, as seen beside the store and inside the functions, and whether it may have happened."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sitq.backends.memory import MemoryBackend
from sitq.record import TERMINAL, Record, State


@dataclass
class Attempt:
    """One claim of a task, from the store's side and from its function's."""

    number: int
    token: str
    owner: str
    at: int
    lease_until: int
    ended: str = ""
    ended_at: int = 0
    begun_at: int | None = None
    done_at: int | None = None
    value: Any = None


@dataclass
class Seen:
    """A task as it was at the last look."""

    state: State
    number: int
    token: str | None
    lease_until: int | None
    result: bytes | None
    attempts: dict[int, Attempt] = field(default_factory=dict)
    stopped_at: int | None = None


@dataclass(frozen=True)
class Claim:
    """What a producer was told about a task."""

    task_id: str
    key: int
    answered: bool


class Ledger:
    """Compares the store after every call with what it was before."""

    def __init__(self, store: MemoryBackend, now: Callable[[], int], lease: int) -> None:
        self._store = store._store
        self._now = now
        self._lease = lease
        self._seen: dict[str, Seen] = {}
        self._excuses: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self.slots: dict[str, int] = {}
        self.paused: dict[str, int] = {}
        self.nodes: dict[str, str] = {}
        """The node of each worker by the worker's id."""
        self.stopping: dict[str, int] = {}
        self.twice = False
        self.lapses = 0
        self.claims = 0
        self.runs = 0
        self.broken: str | None = None
        self.log: list[str] = []
        self.told: dict[str, Claim] = {}
        self.steps: dict[tuple[str, str], list[Any]] = defaultdict(list)

    # -- what is written down --------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        self.log.append(f"{self._now() / 1e6 - 1_800_000_000:10.4f}  {text}")

    def excuse(self, node: str, why: str) -> None:
        """Note a fault: it may explain that a lease ran out."""
        self._excuses[node].append((self._now(), why))
        self.say(f"[{node}] ! {why}")

    def excused(self, node: str, since: int, until: int) -> bool:
        return any(since <= at <= until for at, _ in self._excuses[node])

    def begun(self, task_id: str, number: int, node: str) -> Attempt:
        """A function begins."""
        self.runs += 1
        self.say(f"[{node}] {task_id[-6:]} attempt {number} begins")
        attempt = self._seen[task_id].attempts.get(number)
        self.demand(attempt is not None, f"{task_id} runs attempt {number}, which nobody claimed")
        assert attempt is not None
        self.demand(attempt.begun_at is None, f"attempt {number} of {task_id} runs twice")
        self.demand(
            self.nodes.get(attempt.owner) == node, f"{task_id} is {attempt.owner}'s and runs on {node}"
        )
        attempt.begun_at = self._now()
        for other in self._seen[task_id].attempts.values():
            if other.number < number and other.begun_at is not None and other.done_at is None:
                explained = other.ended in {"lapsed", "overstayed"} or other.owner in self.stopping
                self.demand(explained, f"attempts {other.number} and {number} of {task_id} overlap")
        return attempt

    def attempt(self, task_id: str, number: int) -> Attempt:
        """A claim of a task."""
        return self._seen[task_id].attempts[number]

    def done(self, attempt: Attempt, value: Any = None) -> None:
        """A function has ended."""
        attempt.done_at = self._now()
        attempt.value = value

    def tokens(self, ids: Sequence[str]) -> list[str | None]:
        """Under which tokens tasks run, or ran last."""
        return [record and record.token for record in map(self._store.records.get, ids)]

    def check_fences(self, words: Sequence[Any], under: Sequence[str | None], kept: Sequence[bool]) -> None:
        """Whatever an attempt says counts under its own token only."""
        for word, token, counts in zip(words, under, kept, strict=True):
            said = getattr(word, "token", None)
            self.demand(
                not counts or said is None or said == token, f"{word} counted for the attempt under {token}"
            )

    # -- the look after each call ----------------------------------------------------------------------------

    def look(self, operation: str, node: str) -> None:
        """Compare the store with what it was."""
        now = self._now()
        seen = self._seen
        claimed = False
        for record in self._store.records.values():
            before = seen.get(record.id)
            if before is None:
                before = seen[record.id] = Seen(record.state, 0, None, None, None)
                self.say(f"[{node}] {record.id[-6:]} placed as {record.state}")
            if record.attempt != before.number:
                self._claimed(record, before, now, operation, node)
                claimed = True
            elif record.state is not before.state:
                self._moved(record, before, now, operation, node)
            elif record.state is State.RUNNING and record.lease_until != before.lease_until:
                self._renewed(record, before, now, operation)
            if record.state in TERMINAL and record.result != before.result:
                self.demand(before.state not in TERMINAL, f"the result of {record.id} changed after its end")
            before.state, before.number, before.token = record.state, record.attempt, record.token
            before.lease_until, before.result = record.lease_until, record.result
        if claimed:
            self._check_slots(now)

    def _claimed(self, record: Record, before: Seen, now: int, operation: str, node: str) -> None:
        self.claims += 1
        task = record.id
        self.say(f"[{node}] {task[-6:]} attempt {record.attempt} claimed by {record.owner}")
        self.demand(operation == "take", f"{task} was claimed by a {operation}")
        self.demand(record.attempt == before.number + 1, f"{task} skipped attempts")
        self.demand(before.state not in TERMINAL, f"{task} was {before.state} and was claimed")
        self.demand(record.state is State.RUNNING, f"{task} was claimed and is {record.state}")
        self.demand(before.stopped_at is None, f"{task} was cancelled, and claimed after that")
        self.demand(record.due <= now or before.state is State.RUNNING, f"{task} was claimed early")
        self.demand(record.deadline is None or now <= record.deadline, f"{task} was claimed too late")
        self.demand(
            self.paused.get(record.queue, now) >= now, f"{task} was claimed from a queue that is paused"
        )
        for edge in record.edges:
            parent = self._store.records[edge.parent]
            self.demand(parent.state in TERMINAL, f"{task} was claimed before {edge.parent} had ended")
        if before.state is State.RUNNING:
            self._lapsed(record.id, before, now)
        for attempt in before.attempts.values():
            # A claim whose answer was lost may be repeated when all that it took is gone: nobody has heard of
            # those attempts, so nobody can say a word under their token.
            unheard = attempt.begun_at is None
            self.demand(
                attempt.token != record.token or unheard or self.twice,
                f"{task} was claimed twice under one token",
            )
        before.attempts[record.attempt] = Attempt(
            record.attempt, record.token or "", record.owner or "", now, record.lease_until or 0
        )

    def _moved(self, record: Record, before: Seen, now: int, operation: str, node: str) -> None:
        task = record.id
        self.say(f"[{node}] {task[-6:]} {before.state} -> {record.state} by {operation}")
        self.demand(before.state not in TERMINAL, f"{task} was {before.state} and became {record.state}")
        self.demand(record.state is not State.RUNNING, f"{task} runs under an old attempt")
        if before.state is not State.RUNNING:
            return
        if operation in {"take", "tend"}:
            self._lapsed(task, before, now)
            return
        attempt = before.attempts[before.number]
        attempt.ended, attempt.ended_at = "settled", now
        if attempt.begun_at is not None and attempt.done_at is None:
            # A function that does not end when it is told to keeps its place, and its task ends without it.
            overstays = bool(record.errors) and record.errors[-1].kind in {"timeout", "cancelled"}
            attempt.ended = "overstayed" if overstays else "settled"
            self.demand(
                overstays or attempt.owner in self.stopping,
                f"{task} was settled while attempt {attempt.number} ran",
            )

    def _lapsed(self, task: str, before: Seen, now: int) -> None:
        attempt = before.attempts[before.number]
        attempt.ended, attempt.ended_at = "lapsed", now
        self.lapses += 1
        self.say(f"{task[-6:]} attempt {attempt.number} lapsed")
        until = before.lease_until or 0
        self.demand(until <= now, f"the lease of {task} was taken {(until - now) / 1e6} s before its end")
        node = self.nodes.get(attempt.owner, attempt.owner)
        self.demand(
            self.excused(node, attempt.at, now), f"attempt {attempt.number} of {task} lapsed for no reason"
        )

    def _renewed(self, record: Record, before: Seen, now: int, operation: str) -> None:
        if operation == "renew":
            self.demand(record.lease_until == now + self._lease, f"{record.id}: an odd renewal")
        elif operation == "apply":
            self.demand(record.lease_until == now, f"{record.id}: an odd end of a lease")
        else:
            self.broke(f"the lease of {record.id} was changed by a {operation}")

    def _check_slots(self, now: int) -> None:
        running: dict[str, int] = defaultdict(int)
        for record in self._store.records.values():
            if record.state is State.RUNNING:
                for limit in record.limits:
                    running[limit.key] += 1
        for key, most in self.slots.items():
            self.demand(running[key] <= most, f"{running[key]} tasks of {key} run, more than {most}")

    def stop_acknowledged(self, task_id: str) -> None:
        """A cancel was answered: no attempt may be claimed from now on."""
        seen = self._seen.get(task_id)
        if seen is not None and seen.stopped_at is None:
            seen.stopped_at = self._now()

    def demand(self, holds: bool, promise: str) -> None:  # noqa: FBT001 - as `assert` has it
        """Note the first promise that was broken; the engine would take an exception for a fault."""
        if not holds:
            self.broke(promise)

    def broke(self, promise: str) -> None:
        """Note that a promise was broken."""
        if self.broken is None:
            self.broken = promise
            self.say(f"BROKEN: {promise}")

    # -- the verdict -----------------------------------------------------------------------------------------

    def open_tasks(self) -> list[Record]:
        """Tasks that have not ended."""
        return [record for record in self._store.records.values() if record.state not in TERMINAL]

    def judge(self, deeds: dict[str, Any], *, quiet: bool) -> None:
        """Look at the end: nothing is lost, nothing is there that nobody asked for."""
        records = self._store.records
        for claim in self.told.values():
            self.demand(
                claim.task_id in records or not claim.answered,
                f"{claim.task_id} was acknowledged and is lost",
            )
        for task_id, record in records.items():
            self.demand(record.state in TERMINAL, f"{task_id} is still {record.state}")
            self._judge_end(record, self._seen[task_id], deeds.get(task_id))
            if quiet:
                seen = self._seen[task_id]
                for attempt in seen.attempts.values():
                    self.demand(
                        attempt.ended in {"settled", "overstayed"},
                        f"{task_id} lapsed though nothing went wrong",
                    )
                self.demand(record.crashes == 0, f"{task_id} crashed though nothing went wrong")

    def _judge_end(self, record: Record, seen: Seen, deed: Any) -> None:
        task = record.id
        last = seen.attempts.get(record.attempt)
        lapsed = sum(attempt.ended == "lapsed" for attempt in seen.attempts.values())
        if record.state is State.COMPLETED:
            self.demand(last is not None and last.done_at is not None, f"{task} completed without a run")
            assert last is not None
            self.demand(record.token == last.token, f"{task} was completed by an older attempt")
            self.demand(last.value is not None, f"{task} completed, and its last run failed")
        elif record.state is State.DEAD:
            self.demand(lapsed >= 4, f"{task} was condemned after {lapsed} deaths: {record.errors}")
        elif record.state is State.FAILED:
            self.demand(bool(record.errors), f"{task} failed and does not say why")
            if deed is not None and record.errors[-1].kind != "unstorable":
                self.demand(deed.may_fail, f"{task} failed though nothing in it fails: {record.errors}")
        elif record.state is State.CANCELLED:
            cancelled_parent = any(
                self._store.records[edge.parent].state is not State.COMPLETED for edge in record.edges
            )
            self.demand(
                cancelled_parent or deed is None or deed.may_cancel, f"{task} was cancelled by nobody"
            )
        elif record.state is State.EXPIRED:
            self.demand(record.ttl is not None or record.deadline is not None, f"{task} expired for nothing")
        if last is not None and record.state in {State.COMPLETED, State.FAILED}:
            self.demand(last.ended in {"settled", "overstayed"}, f"{task} is {record.state} by nobody's word")
