"""The verdict: from a task and what its attempt came to, to the move that a store carries out."""

from __future__ import annotations

import random
from collections.abc import Callable

from sitq.exceptions import WorkerError
from sitq.move import Release, Retry, Settle
from sitq.policy import outcome as came_to
from sitq.policy.retry import DEFAULT_ASKED, RetryPolicy, from_data, next_delay
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
        case came_to.Raised(failure):
            return _again(record, failure, next_delay(from_data(record.retry), record.failures, dice), now)
        case came_to.AskedRetry(delay, failure):
            policy = from_data(record.retry) or RetryPolicy(max_retries=DEFAULT_ASKED)
            allowed = next_delay(policy, record.failures, dice)
            return _again(record, failure, allowed if delay is None or allowed is None else delay, now)
        case came_to.Cancelled(failure):
            return _settle(record, State.CANCELLED, failure)
        case came_to.Unstorable(failure):
            return _settle(record, State.FAILED, failure)
        case came_to.Unrunnable(failure) | came_to.Condemned(failure):
            return _settle(record, State.DEAD, failure)
        case came_to.Snoozed(delay) | came_to.HandedBack(delay):
            return Release(id=record.id, token=_token(record), delay=delay)
        case came_to.Throttled(delay, key):
            return Release(id=record.id, token=_token(record), delay=delay, freeze=key)


def _again(record: Record, failure: Failure, delay: int | None, now: int) -> Settle | Retry:
    if delay is None or (record.deadline is not None and now + delay > record.deadline):
        return _settle(record, State.FAILED, failure)
    return Retry(id=record.id, token=_token(record), delay=delay, failure=failure)


def _settle(
    record: Record, state: State, failure: Failure | None = None, result: bytes | None = None
) -> Settle:
    return Settle(id=record.id, token=_token(record), state=state, result=result, failure=failure)


def _token(record: Record) -> str:
    if record.token is None:
        raise WorkerError(f"task {record.id} was never claimed, so it has no outcome", task_id=record.id)
    return record.token
