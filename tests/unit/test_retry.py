from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitq.exceptions import ValidationError
from sitq.policy.retry import RetryPolicy, as_data, from_data, next_delay
from sitq.record import SECOND


def delays(policy: RetryPolicy, dice=lambda: 1.0) -> list[float]:
    found = [next_delay(policy, failures, dice) for failures in range(policy.max_retries)]
    return [delay / SECOND for delay in found]


def test_without_a_policy_nothing_runs_again():
    assert next_delay(None, 0) is None


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_so_many_retries_run_and_not_one_more(retries):
    policy = RetryPolicy(max_retries=retries)
    answers = [next_delay(policy, failures) is not None for failures in range(retries + 2)]
    assert answers == [True] * retries + [False] * 2


def test_fixed_delays_do_not_grow():
    assert delays(RetryPolicy(max_retries=4, backoff="fixed", base=2.0)) == [2, 2, 2, 2]


def test_linear_delays_grow_by_the_base():
    assert delays(RetryPolicy(max_retries=4, backoff="linear", base=2.0)) == [2, 4, 6, 8]


def test_exponential_delays_double():
    assert delays(RetryPolicy(max_retries=4, backoff="exponential", base=2.0)) == [2, 4, 8, 16]


def test_no_delay_is_longer_than_the_cap():
    assert delays(RetryPolicy(max_retries=4, base=2.0, cap=5.0)) == [2, 4, 5, 5]


def test_a_thousand_failures_do_not_overflow():
    policy = RetryPolicy(max_retries=10_000, cap=86_400.0)
    assert next_delay(policy, 9_999, lambda: 1.0) == 86_400 * SECOND


def test_jitter_draws_between_half_of_the_delay_and_all_of_it():
    policy = RetryPolicy(base=10.0)
    assert next_delay(policy, 0, lambda: 0.0) == 5 * SECOND
    assert next_delay(policy, 0, lambda: 0.5) == 7.5 * SECOND
    assert next_delay(policy, 0, lambda: 1.0) == 10 * SECOND


def test_jitter_is_drawn_anew_each_time():
    assert len({next_delay(RetryPolicy(base=1000.0), 0) for _ in range(20)}) > 10


def test_without_jitter_no_dice_are_thrown():
    policy = RetryPolicy(base=10.0, jitter=False)
    assert next_delay(policy, 0, lambda: 0.0) == 10 * SECOND


@given(
    st.builds(
        RetryPolicy,
        max_retries=st.integers(0, 10_000),
        backoff=st.sampled_from(["fixed", "linear", "exponential"]),
        base=st.floats(0, 1e6),
        cap=st.floats(1e6, 1e9),
        jitter=st.booleans(),
    ),
    st.integers(0, 10_000),
    st.floats(0, 1),
)
def test_a_delay_is_never_negative_nor_above_the_cap(policy, failures, dice):
    delay = next_delay(policy, failures, lambda: dice)
    assert (delay is None) == (failures >= policy.max_retries)
    assert delay is None or 0 <= delay <= policy.cap * SECOND


@given(
    st.builds(
        RetryPolicy, max_retries=st.integers(1, 10_000), base=st.floats(0, 1e6), cap=st.floats(1e6, 1e9)
    )
)
def test_a_policy_comes_back_from_its_data_also_through_json(policy):
    assert from_data(as_data(policy)) == policy
    assert from_data(msgspec.json.decode(msgspec.json.encode(as_data(policy)))) == policy


def test_a_policy_without_retries_is_not_the_same_as_none():
    assert from_data(as_data(RetryPolicy(max_retries=0))) == RetryPolicy(max_retries=0)
    assert as_data(None) is None
    assert from_data(None) is None


@pytest.mark.parametrize(
    "data",
    [{"max_retries": "three"}, {"backoff": "fibonacci"}, {"base": -1.0}, {"max_retries": -5}, {"cap": None}],
)
def test_data_that_cannot_be_read_is_no_policy_and_no_error(data):
    assert from_data(data) is None


def test_data_of_a_newer_version_is_read_as_far_as_it_is_known():
    assert from_data({"max_retries": 2, "colour": "blue"}) == RetryPolicy(max_retries=2)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"max_retries": -1}, "max_retries"),
        ({"max_retries": 10_001}, "max_retries"),
        ({"max_retries": "3"}, "max_retries"),
        ({"max_retries": 1.5}, "max_retries"),
        ({"base": -1.0}, "base"),
        ({"base": float("nan")}, "base"),
        ({"base": float("inf"), "cap": float("inf")}, "base"),
        ({"cap": 1e300}, "cap"),
        ({"cap": "long"}, "cap"),
        ({"base": 10.0, "cap": 5.0}, "cap"),
        ({"backoff": "fibonacci"}, "backoff"),
        ({"backoff": []}, "backoff"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(fields, names):
    with pytest.raises(ValidationError, match=names):
        RetryPolicy(**fields)


def test_durations_may_be_timedeltas():
    policy = RetryPolicy(base=timedelta(seconds=2), cap=timedelta(minutes=1))
    assert (policy.base, policy.cap) == (2.0, 60.0)
