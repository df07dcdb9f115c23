import copy
import math
import pickle
from datetime import timedelta

import pytest

from sitq.exceptions import SitqError, ValidationError
from sitq.signals import Cancel, Retry, Signal, Snooze, Throttled


@pytest.mark.parametrize("kind", [Retry, Snooze, Cancel, Throttled])
def test_a_signal_is_an_exception_and_no_error_of_sitq(kind):
    assert issubclass(kind, Signal)
    assert issubclass(kind, Exception)
    assert not issubclass(kind, SitqError)


def test_durations_are_seconds_whatever_they_were_given_as():
    assert Retry(after=1.5).after == 1.5
    assert Retry(after=timedelta(minutes=1)).after == 60.0
    assert Retry().after is None
    assert Snooze(timedelta(seconds=2)).seconds == 2.0
    assert Throttled(retry_after=3).retry_after == 3.0
    assert Retry(after=0).after == 0


@pytest.mark.parametrize("bad", [-1, math.inf, math.nan, True, "5", timedelta(seconds=-1), timedelta.max])
def test_impossible_durations_are_refused(bad):
    for make in (Retry, Snooze, Throttled):
        with pytest.raises(ValidationError):
            make(bad)


def test_a_snooze_needs_a_time():
    with pytest.raises(ValidationError, match="seconds must be a number"):
        Snooze(None)


def test_a_reason_is_text():
    with pytest.raises(ValidationError, match="reason must be text, not int"):
        Retry(reason=5)
    with pytest.raises(ValidationError):
        Cancel(ValueError("x"))


@pytest.mark.parametrize(
    "signal",
    [Retry(2.5, "busy"), Retry(), Snooze(timedelta(hours=1)), Cancel("enough"), Cancel(), Throttled(1)],
)
def test_signals_survive_pickling_and_copying(signal):
    for again in (pickle.loads(pickle.dumps(signal)), copy.copy(signal)):
        assert type(again) is type(signal)
        assert vars(again) == vars(signal)
        assert str(again) == str(signal)


def test_signals_read_as_what_they_ask_for():
    assert str(Retry(after=30)) == "retry after 30 s"
    assert str(Retry(after=30, reason="rate limit")) == "rate limit"
    assert str(Snooze(60)) == "snooze for 60 s"
    assert str(Cancel("duplicate")) == "duplicate"
    assert str(Throttled(5)) == "throttled for 5 s"
