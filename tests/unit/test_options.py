from datetime import UTC, datetime, timedelta

import pytest

from sitq.exceptions import ValidationError
from sitq.fairness import Fair
from sitq.limits import ConcurrencyLimit, RateLimit
from sitq.options import NO_OPTIONS, Options, make_options, overlay
from sitq.policy.retry import RetryPolicy
from sitq.record import SECOND
from sitq.uniqueness import Unique, debounce, throttle


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


@pytest.mark.parametrize(("name", "value"), [("tags", ["a"]), ("limits", RateLimit(1)), ("depends_on", "a")])
def test_none_empties_a_list(name, value):
    assert getattr(make_options(options(**{name: value}), {name: None}), name) == ()


@pytest.mark.parametrize("name", ["priority", "delay"])
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
        ("max_retries", "retry"),
        ("countdown", "delay"),
        ("expires", "ttl"),
        ("_job_id", "id"),
        ("_defer_by", "delay"),
        ("job_timeout", "timeout"),
        ("queueing_lock", "unique"),
        ("keep_result", "result_ttl"),
        ("rate_limit", "limits"),
        ("time_limit", "timeout"),
        ("alias", "aliases"),
    ],
)
def test_a_misspelt_option_names_the_nearest(wrong, meant):
    with pytest.raises(ValidationError, match=f"no option '{wrong}'; did you mean {meant}\\?"):
        options(**{wrong: 1})


def test_an_option_like_none_lists_them_all():
    with pytest.raises(ValidationError, match=r"there are: deadline, delay, depends_on, .*ttl"):
        options(zzzzzz=1)


def test_eta_and_delay_exclude_each_other():
    with pytest.raises(ValidationError, match="eta and delay"):
        options(eta=datetime.now(UTC), delay=1)


def test_the_later_word_about_the_start_counts():
    assert make_options(options(delay=1), {"eta": datetime.now(UTC)}).delay == 0
    assert make_options(options(eta=datetime.now(UTC)), {"delay": 1}).eta is None


def test_a_delay_of_nothing_goes_with_an_eta():
    assert options(eta=datetime.now(UTC), delay=0).eta is not None


def test_options_cannot_be_changed_behind_the_back():
    with pytest.raises(AttributeError):
        options(priority=1).priority = 2


def test_what_was_given_is_known_and_laid_over_what_a_function_has():
    function = options(priority=5, retry=3, delay=60)
    assert overlay(function, options(retry=None, priority=0)) == options(delay=60, priority=0, retry=None)
    assert overlay(function, NO_OPTIONS) is function
    late = overlay(function, options(eta=datetime.now(UTC)))
    assert (late.delay, late.priority) == (0, 5)
    over = options(priority=1)
    assert overlay(NO_OPTIONS, over) is over


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"limits": "5"}, r"limits must be a list of limits.*RateLimit\(100, per=60\)"),
        ({"limits": [5]}, r"a limit must be a RateLimit or a ConcurrencyLimit, not 5"),
        ({"limits": [ConcurrencyLimit(1)] * 17}, "at most 16"),
        ({"fair": 7}, "the key of fair must be text.*str"),
        ({"fair": ""}, "empty"),
        ({"fair": Fair()}, "fair has no key"),
        ({"unique": 7}, "the key of unique must be text"),
        ({"max_length": 0}, "max_length must be from 1"),
        ({"executor": "gpu"}, "executor must be"),
        ({"retry": -1}, "retry must be from 0 to"),
        ({"tags": 5}, r"list of names, not 5; write \['name'\]"),
        ({"depends_on": 5}, r"list of tasks, not 5; await queue.enqueue\(…\) gives an id"),
        ({"name": "x"}, r"name belongs to the function.*@task\(name="),
    ],
)
def test_what_is_not_acceptable_is_told_with_the_remedy(given, says):
    with pytest.raises(ValidationError, match=says):
        options(**given)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: RateLimit(-1), "0 blocks, None lifts it"),
        (lambda: RateLimit(1.5), "whole number"),
        (lambda: RateLimit(rate=True), "whole number"),
        (lambda: RateLimit(5, per=0), "per must be longer"),
        (lambda: RateLimit(10**6), "too fast"),
        (lambda: RateLimit(5, burst=0), "burst must be from 1"),
        (lambda: RateLimit(5, key=7), "must be text or a function"),
        (lambda: ConcurrencyLimit("5"), "whole number"),
        (lambda: Fair("a", weight=0), "from 0.001 to 1000"),
        (lambda: Fair("a", weight=float("nan")), "must be a number"),
        (lambda: Fair("a", weight=True), "must be a number"),
        (lambda: Unique("a", scope="always"), "scope must be one of waiting, active"),
        (lambda: Unique("a", clash="explode"), "clash must be one of keep, raise, replace, again"),
        (lambda: Unique("a", window=0), "window must be longer"),
        (lambda: Unique("a", fields=()), "use clash='keep'"),
        (lambda: Unique("a", fields=("queue",)), "fields must be one of payload, due"),
        (lambda: debounce(0), "longer than 0 s"),
        (lambda: throttle(-1), "not negative"),
        (lambda: throttle(0), "throttle must be longer than 0 s"),
        (lambda: Unique("a", fields=5), "payload or due, or both in a list, not 5"),
        (lambda: RetryPolicy(max_retries=-1), "max_retries must be from 0 to"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(make, says):
    with pytest.raises(ValidationError, match=says):
        make()


@pytest.mark.parametrize(
    ("limit", "burst"),
    [
        (RateLimit(100), 6),
        (RateLimit(1000), 51),
        (RateLimit(20), 2),
        (RateLimit(10), 1),
        (RateLimit(100, per=60), 1),
        (RateLimit(100, burst=1), 1),
        (RateLimit(1, per=60, burst=5), 5),
        (RateLimit(0), 1),
        (RateLimit(None), 1),
    ],
)
def test_a_fast_rate_makes_up_for_starts_that_come_late(limit, burst):
    assert limit.tolerance == burst
