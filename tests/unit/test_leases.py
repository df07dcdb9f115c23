import logging
import queue
import threading
import time

import pytest

from sitq.backends.base import Lease, Renewal
from sitq.worker import leases
from sitq.worker.leases import LeaseKeeper

A, B = Lease("a", "t1"), Lease("b", "t1")


class Channel:
    """A store's side of renewals: tells of each one, and answers as it is told to."""

    def __init__(self) -> None:
        self.renewals: queue.Queue[list[Lease]] = queue.Queue()
        self.answers: dict[str, Renewal] = {}
        self.broken: list[Exception] = []
        self.opened = 0
        self.closed = 0
        self.close_error: Exception | None = None

    def open(self):
        self.opened += 1
        return self

    def renew(self, held, lease):
        if self.broken:
            raise self.broken.pop()
        self.renewals.put(list(held))
        return [self.answers.get(each.id, Renewal(each.id, "kept")) for each in held]

    def close(self):
        self.closed += 1
        if self.close_error is not None:
            raise self.close_error

    def next(self) -> list[Lease]:
        return self.renewals.get(timeout=5)


class Clock:
    """Real time that can jump."""

    def __init__(self) -> None:
        self.jumped = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.jumped


@pytest.fixture
def channel() -> Channel:
    return Channel()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heard() -> queue.Queue:
    return queue.Queue()


@pytest.fixture
def make(channel, clock, heard):
    made: list[LeaseKeeper] = []

    def keeper(period=0.01, open_=channel.open):
        made.append(LeaseKeeper(open_, 1_000_000, period, heard.put, clock))
        made[-1].start()
        return made[-1]

    yield keeper
    for one in made:
        one.close()
        assert not one._thread.is_alive()


def eventually(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.002)


def test_what_is_held_is_renewed_again_and_again(make, channel):
    make().hold([A, B])
    assert [channel.next() for _ in range(3)] == [[A, B]] * 3


def test_what_was_dropped_is_renewed_no_more(make, channel):
    keeper = make()
    keeper.hold([A, B])
    assert A in channel.next()
    keeper.drop([A])
    eventually(lambda: channel.next() == [B])


def test_a_worker_without_tasks_does_not_talk_to_the_store(make, channel):
    keeper = make(period=0.001)
    beat = keeper._beat
    eventually(lambda: keeper._beat > beat + 0.02)
    assert channel.opened == 0


def test_dropping_a_lease_leaves_a_later_one_of_the_same_task(make, channel):
    keeper = make()
    later = Lease("a", "t2")
    keeper.hold([A])
    keeper.hold([later])
    keeper.drop([A])
    eventually(lambda: channel.next() == [later])


def test_a_lost_lease_is_told_and_renewed_no_more(make, channel, heard):
    channel.answers["a"] = Renewal("a", "lost")
    make().hold([A, B])
    assert heard.get(timeout=5) == [(A, Renewal("a", "lost"))]
    eventually(lambda: channel.next() == [B])


def test_a_stop_is_told_and_the_lease_is_kept(make, channel, heard):
    channel.answers["a"] = Renewal("a", "stop", "enough")
    make().hold([A])
    assert heard.get(timeout=5) == [(A, Renewal("a", "stop", "enough"))]
    assert channel.next() == [A]
    assert channel.next() == [A]


def test_a_hint_brings_the_next_renewal_forward(make, channel, monkeypatch):
    monkeypatch.setattr(leases, "_SOONEST", 0.0)
    keeper = make(period=3600)
    keeper.hold([A])
    eventually(lambda: keeper._held)
    keeper.renew_soon()
    assert channel.next() == [A]


def test_many_hints_are_few_renewals(make, channel, monkeypatch):
    monkeypatch.setattr(leases, "_SOONEST", 0.1)
    keeper = make(period=3600)
    keeper.hold([A])
    begun = time.monotonic()
    while time.monotonic() < begun + 0.25:
        keeper.renew_soon()
        threading.Event().wait(0.001)
    assert 1 <= channel.renewals.qsize() <= 3


def test_a_store_that_is_away_is_asked_again_over_a_new_connection(make, channel, caplog):
    channel.broken = [OSError("gone"), OSError("gone")]
    with caplog.at_level(logging.WARNING, "sitq.worker"):
        make().hold([A])
        assert channel.next() == [A]
    assert channel.opened == 3
    assert channel.closed == 2
    assert "could not be renewed" in caplog.text


def test_a_store_that_cannot_be_reached_at_all_is_asked_again(make, channel):
    failures = [OSError("no"), OSError("no")]

    def open_():
        if failures:
            raise failures.pop()
        return channel.open()

    make(open_=open_).hold([A])
    assert channel.next() == [A]


def test_a_connection_that_cannot_even_be_closed_ends_no_renewals(make, channel):
    channel.broken = [OSError("gone")]
    channel.close_error = OSError("gone, really")
    make().hold([A])
    assert channel.next() == [A]


def test_who_hears_of_it_and_fails_ends_no_renewals(make, channel, heard):
    def broken(news):
        raise RuntimeError("the loop is closed")

    channel.answers["a"] = Renewal("a", "stop")
    keeper = make()
    keeper._heard = broken
    keeper.hold([A])
    assert [channel.next() for _ in range(2)] == [[A]] * 2


def test_a_period_of_centuries_is_no_error(make, channel, monkeypatch):
    monkeypatch.setattr(leases, "_SOONEST", 0.0)
    keeper = make(period=1e11)
    keeper.hold([A])
    keeper.renew_soon()
    assert channel.next() == [A]


# -- when others' leases may be taken ----------------------------------------------------------------------


def test_a_worker_is_sure_from_its_start(make):
    assert make().sure


def test_after_the_store_was_away_it_is_unsure_for_two_periods(make, channel, clock):
    channel.broken = [OSError("gone")]
    keeper = make(period=0.05)
    keeper.hold([A])
    channel.next()
    keeper.drop([A])
    assert not keeper.sure
    clock.jumped += 0.1
    assert keeper.sure


def test_a_renewal_that_was_answered_after_failures_begins_the_two_periods(make, channel, clock):
    keeper = make(period=0.5)
    channel.broken = [OSError("gone")]
    renew, channel.renew = channel.renew, lambda *_: go_on(clock, renew(*_))
    keeper.hold([A])
    channel.next()
    keeper.drop([A])
    eventually(lambda: not keeper.sure)


def go_on(clock, answer):
    """The store was away for so long meanwhile."""
    clock.jumped += 60
    return answer


def test_a_worker_that_stood_still_is_unsure_before_its_thread_noticed(make, clock):
    keeper = make(period=3600)
    assert keeper.sure
    clock.jumped += 4000
    assert not keeper.sure
    clock.jumped += 7199
    assert not keeper.sure


def test_a_worker_that_stood_still_with_tasks_says_so(make, channel, clock, caplog):
    keeper = make(period=0.05)
    keeper.hold([A])
    channel.next()
    with caplog.at_level(logging.WARNING, "sitq.worker"):
        clock.jumped += 60
        eventually(lambda: "late" in caplog.text)


def test_a_long_idle_time_is_no_standstill(make, channel, monkeypatch, caplog):
    monkeypatch.setattr(leases, "_HELD_UP", 0.4)
    keeper = make(period=0.02)
    begun = keeper._beat
    eventually(lambda: keeper._beat > begun + 0.6)
    with caplog.at_level(logging.WARNING, "sitq.worker"):
        keeper.hold([A])
        channel.next()
        channel.next()
    assert "late" not in caplog.text
    assert keeper.sure


def test_doubt_lasts_two_periods(make, clock):
    keeper = make(period=5)
    keeper.doubt.begin()
    clock.jumped += 6  # within what counts as normal for the thread
    assert not keeper.sure
    keeper._beat = clock()
    clock.jumped += 5
    assert keeper.sure


def test_the_thread_ends_with_the_keeper(make):
    keeper = make(period=3600)
    keeper.hold([A])
    keeper.close()
    assert not keeper._thread.is_alive()


def test_time_goes_on_while_the_host_sleeps_where_the_platform_can_tell():
    first = leases.uptime()
    assert leases.uptime() >= first > 0


def test_a_hint_together_with_the_first_task_after_a_long_idle_time_is_no_standstill(
    make, channel, clock, caplog
):
    keeper = make(period=60)
    keeper.renew_soon()
    threading.Event().wait(0.02)
    clock.jumped += 5  # as if it had been idle for so long, with its thread awake
    keeper.hold([A])
    keeper.renew_soon()
    assert channel.next() == [A]
    assert "late" not in caplog.text
