import pytest

from sitq.worker.doubt import Doubt

PERIOD = 2.5


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def doubt(clock):
    return Doubt(PERIOD, clock)


def fail(doubt):
    with pytest.raises(OSError, match="gone"), doubt.asking():
        raise OSError("gone")


def test_a_worker_is_sure_while_the_store_answers(doubt, clock):
    assert doubt.sure
    with doubt.asking():
        clock.now += PERIOD - 0.1
        assert doubt.sure
    assert doubt.sure


def test_doubt_lasts_for_two_periods(doubt, clock):
    doubt.begin()
    clock.now += 2 * PERIOD - 0.1
    assert not doubt.sure
    clock.now += 0.1
    assert doubt.sure


def test_after_a_failure_the_two_periods_begin_when_the_store_answers_again(doubt, clock):
    """An outage may last for long after the last call that noticed it."""
    fail(doubt)
    clock.now += 3600
    assert not doubt.sure
    with doubt.asking():
        pass
    clock.now += 2 * PERIOD - 0.1
    assert not doubt.sure
    clock.now += 0.1
    assert doubt.sure


def test_a_call_without_an_answer_for_a_period_is_an_outage_while_it_lasts_and_when_it_ends(doubt, clock):
    """Otherwise what is asked beside it might take the tasks of those whose renewal hangs as well."""
    with doubt.asking():
        clock.now += PERIOD
        assert not doubt.sure
    assert not doubt.sure
    clock.now += 2 * PERIOD
    assert doubt.sure


def test_an_answer_to_one_call_says_nothing_of_another_that_hangs(doubt, clock):
    hangs = doubt.asking()
    hangs.__enter__()
    clock.now += PERIOD
    with doubt.asking():
        pass
    clock.now += 2 * PERIOD
    assert not doubt.sure
    hangs.__exit__(None, None, None)


def test_a_call_that_was_cancelled_says_nothing(doubt, clock):
    with pytest.raises(KeyboardInterrupt), doubt.asking():
        raise KeyboardInterrupt
    assert doubt.sure
