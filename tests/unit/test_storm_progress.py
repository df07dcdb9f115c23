"""When a storm waits on for a fleet, and when it gives it up."""

from sitq.testing.storm.progress import LONGEST, Progress


def test_a_fleet_that_has_done_everything_is_done():
    progress = Progress(60, 0)
    progress.see(3, 1)
    assert not progress.done
    progress.see(0, 2)
    assert progress.done


def test_a_slow_fleet_is_waited_for_as_long_as_it_gets_on():
    progress = Progress(60, 0)
    for now, left in ((50, 30), (100, 20), (150, 10)):
        assert progress.has_hope(now)
        progress.see(left, now)
    assert progress.has_hope(200)


def test_a_fleet_that_stands_still_is_given_up():
    progress = Progress(60, 0)
    progress.see(30, 50)
    for now in range(51, 110):
        progress.see(30, now)
    assert progress.has_hope(109)
    assert not progress.has_hope(110)


def test_tasks_that_come_back_are_no_progress():
    progress = Progress(60, 0)
    progress.see(10, 10)
    progress.see(12, 40)
    progress.see(10, 60)
    assert not progress.has_hope(70)


def test_a_fleet_of_which_nothing_is_heard_is_given_up():
    progress = Progress(60, 0)
    progress.see(None, 59)
    assert not progress.has_hope(60)


def test_no_fleet_is_waited_for_without_end():
    progress = Progress(60, 0)
    for second in range(0, 60 * LONGEST, 10):
        progress.see(1000 - second, second)
    assert not progress.has_hope(60 * LONGEST)
