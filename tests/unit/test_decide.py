import pytest

from sitq.exceptions import WorkerError
from sitq.move import Release, Retry, Settle
from sitq.policy import outcome as came_to
from sitq.policy.decide import decide
from sitq.policy.retry import RetryPolicy, as_data
from sitq.record import SECOND, Failure, Record, State

FAILURE = Failure(kind="raised", type="ValueError", message="no")
NOW = 1_000 * SECOND


def claimed(**fields) -> Record:
    return Record(**({"id": "a", "token": "t", "attempt": 1, "state": State.RUNNING} | fields))


def policy(**fields) -> dict:
    return as_data(
        RetryPolicy(**({"max_retries": 3, "backoff": "fixed", "base": 2.0, "jitter": False} | fields))
    )


def verdict(outcome, **fields):
    return decide(claimed(**fields), outcome, NOW, lambda: 1.0)


def test_a_task_that_returned_is_completed_with_its_result():
    assert verdict(came_to.Returned(b"r")) == Settle(id="a", token="t", state=State.COMPLETED, result=b"r")


def test_a_task_that_raised_fails_unless_it_was_to_be_retried():
    assert verdict(came_to.Raised(FAILURE)) == Settle(id="a", token="t", state=State.FAILED, failure=FAILURE)


@pytest.mark.parametrize(("failures", "again"), [(0, True), (1, True), (2, True), (3, False), (4, False)])
def test_a_task_that_raised_runs_again_as_often_as_its_policy_says(failures, again):
    move = verdict(came_to.Raised(FAILURE), retry=policy(), failures=failures)
    if again:
        assert move == Retry(id="a", token="t", delay=2 * SECOND, failure=FAILURE)
    else:
        assert move == Settle(id="a", token="t", state=State.FAILED, failure=FAILURE)


def test_crashes_do_not_count_against_the_retries():
    assert isinstance(verdict(came_to.Raised(FAILURE), retry=policy(), crashes=99, attempt=100), Retry)


def test_no_retry_is_planned_past_the_deadline():
    outcome = came_to.Raised(FAILURE)
    assert isinstance(verdict(outcome, retry=policy(), deadline=NOW + 2 * SECOND + 1), Retry)
    late = verdict(outcome, retry=policy(), deadline=NOW + 2 * SECOND)
    assert late == Settle(id="a", token="t", state=State.FAILED, failure=FAILURE)


def test_a_policy_that_cannot_be_read_costs_the_retries_and_nothing_else():
    assert verdict(came_to.Raised(FAILURE), retry={"max_retries": []}).state is State.FAILED


def test_a_task_that_asks_for_a_retry_gets_the_delay_that_it_asked_for():
    move = verdict(came_to.AskedRetry(7 * SECOND, FAILURE), retry=policy())
    assert move == Retry(id="a", token="t", delay=7 * SECOND, failure=FAILURE)


def test_a_task_that_asks_for_a_retry_at_once_gets_it_at_once():
    assert verdict(came_to.AskedRetry(0, FAILURE), retry=policy()).delay == 0


def test_a_task_that_asks_for_a_retry_and_no_delay_gets_that_of_its_policy():
    assert verdict(came_to.AskedRetry(None, FAILURE), retry=policy()).delay == 2 * SECOND


def test_asking_uses_the_budget_of_the_policy():
    assert isinstance(verdict(came_to.AskedRetry(0, FAILURE), retry=policy(), failures=2), Retry)
    assert verdict(came_to.AskedRetry(0, FAILURE), retry=policy(), failures=3).state is State.FAILED


def test_without_a_policy_a_task_may_ask_ten_times():
    assert isinstance(verdict(came_to.AskedRetry(0, FAILURE), failures=9), Retry)
    assert verdict(came_to.AskedRetry(0, FAILURE), failures=10).state is State.FAILED


def test_no_retry_is_planned_whose_time_would_not_be_over_at_the_deadline():
    outcome, limit = came_to.Raised(FAILURE), 30 * SECOND
    inside = NOW + 2 * SECOND + limit
    assert isinstance(verdict(outcome, retry=policy(), timeout=limit, deadline=inside), Retry)
    late = verdict(outcome, retry=policy(), timeout=limit, deadline=inside - 1)
    assert (late.state, late.failure) == (State.FAILED, FAILURE)
    assert (
        verdict(came_to.AskedRetry(SECOND, FAILURE), timeout=limit, deadline=inside - 2 * SECOND).state
        is State.FAILED
    )


def test_a_retry_that_was_asked_for_keeps_to_the_deadline():
    assert verdict(came_to.AskedRetry(SECOND, FAILURE), deadline=NOW).state is State.FAILED


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (came_to.Cancelled(FAILURE), State.CANCELLED),
        (came_to.Unstorable(FAILURE), State.FAILED),
        (came_to.Unrunnable(FAILURE), State.DEAD),
        (came_to.Condemned(FAILURE), State.DEAD),
    ],
)
def test_what_no_retry_can_mend_ends_whatever_the_policy(outcome, state):
    assert verdict(outcome, retry=policy()) == Settle(id="a", token="t", state=state, failure=FAILURE)


def test_a_snooze_is_a_release_for_so_long():
    assert verdict(came_to.Snoozed(5)) == Release(id="a", token="t", delay=5)


def test_what_was_handed_back_is_due_at_once():
    assert verdict(came_to.HandedBack()) == Release(id="a", token="t")


def test_a_throttled_task_freezes_its_key():
    assert verdict(came_to.Throttled(5, "k")) == Release(id="a", token="t", delay=5, freeze="k")


def test_snoozes_and_handing_back_spend_no_budget():
    for outcome in (came_to.Snoozed(1), came_to.HandedBack(), came_to.Throttled(1, None)):
        assert isinstance(verdict(outcome, retry=policy(), failures=3), Release)


def test_every_move_is_fenced_by_the_attempts_token():
    outcomes = [
        came_to.Returned(b""),
        came_to.Raised(FAILURE),
        came_to.AskedRetry(None, FAILURE),
        came_to.Cancelled(FAILURE),
        came_to.Unstorable(FAILURE),
        came_to.Unrunnable(FAILURE),
        came_to.Condemned(FAILURE),
        came_to.Snoozed(1),
        came_to.HandedBack(),
        came_to.Throttled(1, None),
    ]
    assert {verdict(outcome).token for outcome in outcomes} == {"t"}


def test_a_task_that_was_never_claimed_has_no_outcome():
    with pytest.raises(WorkerError, match="never claimed"):
        verdict(came_to.HandedBack(), token=None)
