"""The verdict: from a task and what its attempt came to, to the move that a store carries out."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from sitq.exceptions import WorkerError
from sitq.move import Release, Retry, Settle
from sitq.policy import crash
from sitq.policy import outcome as came_to
from sitq.policy.retry import DEFAULT_ASKED, RetryPolicy, from_data, is_worth_it, next_delay
from sitq.record import Failure, Record, State


def decide(
    record: Record, outcome: came_to.Outcome, now: int, dice: Callable[[], float] = random.random
) -> Settle | Retry | Release:
    """The move for an attempt's outcome.

    Args:
        record: The task as it was claimed.
        outcome: What its attempt came to.
        now: The store's time, as far as it is known; only compared with the task's deadline.
        dice: For the jitter of delays.
    """
    if type(outcome) is came_to.Returned:  # the frequent case; a match costs twice as much
        return _settle(record, State.COMPLETED, result=outcome.result)
    match outcome:
        case came_to.Returned():
            return _settle(record, State.COMPLETED, result=outcome.result)
        case came_to.Raised(failure, kinds):
            return _again(record, failure, _after(record, kinds, dice), now)
        case came_to.AskedRetry(delay, failure):
            return _again(record, failure, _as_asked(record, delay, dice), now)
        case (
            came_to.Cancelled(failure)
            | came_to.Unstorable(failure)
            | came_to.Unrunnable(failure)
            | came_to.Condemned(failure)
        ):
            return _settle(record, _ENDS[type(outcome)], failure)
        case came_to.Snoozed(delay) | came_to.HandedBack(delay):
            return Release(id=record.id, token=_token(record), delay=delay)
        case came_to.Throttled(delay, key):
            return Release(id=record.id, token=_token(record), delay=delay, freeze=key)
        case came_to.Crashed(failure):
            return _crashed(record, failure, now)


_ENDS: Final = {
    came_to.Cancelled: State.CANCELLED,
    came_to.Unstorable: State.FAILED,
    came_to.Unrunnable: State.DEAD,
    came_to.Condemned: State.DEAD,
}
"""The ends that nothing can change."""


def hook(record: Record, verdict: Settle) -> tuple[str, str] | None:
    """The function to be enqueued since a task failed for good, and the error that it is told; or None."""
    if verdict.state is not State.FAILED or verdict.failure is None or record.retry is None:
        return None
    policy = from_data(record.retry)
    if policy is None or not isinstance(policy.on_exhausted, str):
        return None
    failure = verdict.failure
    return policy.on_exhausted, ": ".join(part for part in (failure.type, failure.message) if part)


def _crashed(record: Record, failure: Failure, now: int) -> Settle | Release:
    """What follows from the death of a process that nothing else ran in: as much as from one run alone."""
    crashes, alone = record.crashes + 1, record.alone + 1
    if crash.is_condemned(crashes, alone):
        return _settle(record, State.DEAD, crash.sentence(record, crashes, alone, now, failure.message))
    return Release(id=record.id, token=_token(record), failure=failure, crashes=crashes, alone=alone)


def _after(record: Record, kinds: Sequence[str], dice: Callable[[], float]) -> int | None:
    """When a task that raised runs again, if it does."""
    policy = from_data(record.retry)
    return next_delay(policy, record.failures, dice) if is_worth_it(policy, kinds) else None


def _as_asked(record: Record, delay: int | None, dice: Callable[[], float]) -> int | None:
    """When a task that asked for it runs again, if anything of its budget is left."""
    policy = from_data(record.retry) or RetryPolicy(max_retries=DEFAULT_ASKED)
    allowed = next_delay(policy, record.failures, dice)
    return allowed if delay is None or allowed is None else delay


def _again(record: Record, failure: Failure, delay: int | None, now: int) -> Settle | Retry:
    if delay is None or (record.deadline is not None and _is_too_late(record, record.deadline, now + delay)):
        return _settle(record, State.FAILED, failure)
    return Retry(id=record.id, token=_token(record), delay=delay, failure=failure)


def _is_too_late(record: Record, deadline: int, start: int) -> bool:
    """Whether an attempt that starts then would be on its way at the deadline if it took all of its time."""
    return start >= deadline or start + (record.timeout or 0) > deadline


def _settle(
    record: Record, state: State, failure: Failure | None = None, result: bytes | None = None
) -> Settle:
    return Settle(id=record.id, token=_token(record), state=state, result=result, failure=failure)


def _token(record: Record) -> str:
    if record.token is None:
        raise WorkerError(f"task {record.id} was never claimed, so it has no outcome", task_id=record.id)
    return record.token
