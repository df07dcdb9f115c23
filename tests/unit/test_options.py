from datetime import UTC, datetime, timedelta

import pytest

from sitq.exceptions import ValidationError
from sitq.options import NO_OPTIONS, Options, make_options
from sitq.policy.retry import RetryPolicy
from sitq.record import SECOND


def options(**given) -> Options:
    return make_options(NO_OPTIONS, given)


def test_nothing_given_is_the_base_itself():
    base = options(priority=5)
    assert make_options(base, {}) is base


def test_what_is_given_is_laid_over_the_base():
    base = options(priority=5, queue="slow")
    assert make_options(base, {"priority": 7}) == options(priority=7, queue="slow")


def test_durations_are_microseconds_from_seconds_or_timedeltas():
    made = options(delay=1.5, ttl=timedelta(minutes=1), timeout=2, result_ttl=0)
    assert (made.delay, made.ttl, made.timeout, made.result_ttl) == (1_500_000, 60 * SECOND, 2 * SECOND, 0)


def test_instants_are_microseconds_since_1970():
    made = options(eta=datetime(1970, 1, 2, tzinfo=UTC), deadline=datetime(1970, 1, 3, tzinfo=UTC))
    assert (made.eta, made.deadline) == (86_400 * SECOND, 2 * 86_400 * SECOND)


def test_retry_takes_a_number_or_a_policy():
    policy = RetryPolicy(max_retries=2, backoff="fixed")
    assert options(retry=3).retry == RetryPolicy(max_retries=3)
    assert options(retry=0).retry == RetryPolicy(max_retries=0)
    assert options(retry=policy).retry is policy


@pytest.mark.parametrize("name", ["id", "queue", "eta", "ttl", "deadline", "timeout", "retry", "result_ttl"])
def test_none_takes_an_option_back(name):
    base = options(id="a", queue="b", ttl=1, timeout=1, retry=1, result_ttl=1)
    assert getattr(make_options(base, {name: None}), name) is None


@pytest.mark.parametrize("name", ["priority", "delay", "tags"])
def test_none_is_no_value_for_what_has_a_plain_default(name):
    with pytest.raises(ValidationError, match=name):
        options(**{name: None})


def test_tags_are_kept_in_order():
    assert options(tags=["b", "a"]).tags == ("b", "a")


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("prioritty", "priority"),
        ("time_out", "timeout"),
        ("retries", "retry"),
        ("queues", "queue"),
        ("tag", "tags"),
    ],
)
def test_a_misspelt_option_names_the_nearest(wrong, meant):
    with pytest.raises(ValidationError, match=f"no option '{wrong}'; did you mean {meant}\\?"):
        options(**{wrong: 1})


def test_an_option_like_none_lists_them_all():
    with pytest.raises(ValidationError, match=r"there are: deadline, delay, eta, .*ttl"):
        options(zzzzzz=1)


def test_eta_and_delay_exclude_each_other():
    with pytest.raises(ValidationError, match="eta and delay"):
        options(eta=datetime.now(UTC), delay=1)


def test_eta_and_delay_exclude_each_other_when_they_come_one_after_the_other():
    with pytest.raises(ValidationError, match="eta and delay"):
        make_options(options(delay=1), {"eta": datetime.now(UTC)})
    with pytest.raises(ValidationError, match="eta and delay"):
        make_options(options(eta=datetime.now(UTC)), {"delay": 1})


def test_a_delay_of_nothing_goes_with_an_eta():
    assert options(eta=datetime.now(UTC), delay=0).eta is not None


def test_options_cannot_be_changed_behind_the_back():
    with pytest.raises(AttributeError):
        options(priority=1).priority = 2
