"""The checker of storms finds each kind of broken promise in made-up histories, and passes clean ones."""

import itertools

import pytest

from sitq.testing.storm import events
from sitq.testing.storm.check import Rules, check
from sitq.testing.storm.history import gather
from sitq.testing.storm.journal import Journal, read_all
from sitq.testing.storm.verdict import percentile

LEASE = 10.0


class Fleet:
    """Journals that are made up, with the instants told."""

    def __init__(self) -> None:
        self.journals: dict[str, list[events.AnyEvent]] = {"nemesis": [], "producer": [], "reader": []}
        for pid, name in enumerate(("one", "two"), start=101):
            self.journals[name] = [events.Born(at=0.0, pid=pid, parent=100)]
        self.clock = itertools.count(1)

    def enqueue(self, task, at=1.0, *, acked=True, **said):
        self.journals["producer"].append(events.Invoked(at=at, task=task, **said))
        if acked:
            self.journals["producer"].append(events.Acked(at=at + 0.1, task=task))

    def run(  # noqa: PLR0917 - so that a line tells a run
        self, task, number=1, source="one", at=2.0, until=3.0, how="returned", tick=""
    ):
        self.journals[source].append(events.Started(at=at, task=task, attempt=number, tick=tick))
        if until is not None:
            value = f"{task}/{number}" if how == "returned" else ""
            self.journals[source].append(
                events.Ended(at=until, task=task, attempt=number, how=how, value=value)
            )

    def final(self, task, attempt=1, state="completed", at=100.0, **said):
        said = {"value": f"{task}/{attempt}" if state == "completed" else "", "final": True} | said
        seen = events.Seen(at=at, task=task, state=state, attempt=attempt, **said)
        self.journals["reader"].append(seen)

    def fault(self, what, at, pid=101, until=None, by=0.0):
        self.journals["nemesis"].append(events.Fault(at=at, what=what, pid=pid, until=until, by=by))

    def phase(self, name, at):
        self.journals["nemesis"].append(events.Phase(at=at, name=name))

    def verdict(self, **rules):
        return check(gather(self.journals), Rules(**({"lease": LEASE} | rules)))

    def broken(self, **rules):
        return [(violation.rule, violation.what) for violation in self.verdict(**rules).violations]


@pytest.fixture
def fleet():
    return Fleet()


class TestClean:
    def test_a_task_that_ran_once(self, fleet):
        fleet.enqueue("a")
        fleet.run("a")
        fleet.final("a")
        verdict = fleet.verdict()
        assert verdict.clean
        assert verdict.counts["acknowledged"] == verdict.counts["ended as expected"] == 1
        assert verdict.counts["lost"] == verdict.counts["ran more than once"] == 0
        assert "every promise was kept" in verdict.text()

    def test_a_task_whose_worker_was_killed(self, fleet):
        fleet.enqueue("a")
        fleet.run("a", until=None)
        fleet.fault("kill", 2.5)
        fleet.run("a", 2, "two", 12.0, 13.0)
        fleet.final("a", 2)
        verdict = fleet.verdict(recovery=15)
        assert verdict.clean
        assert verdict.explained == {"its worker died": 1}
        assert verdict.recovery == [9.5]

    def test_a_result_that_was_not_stored_before_the_kill(self, fleet):
        fleet.enqueue("a")
        fleet.run("a", until=2.4)
        fleet.fault("kill", 2.5)
        fleet.run("a", 2, "two", 12.0, 13.0)
        fleet.final("a", 2)
        assert fleet.verdict().clean

    def test_a_suspended_worker_whose_late_finish_was_refused(self, fleet):
        fleet.enqueue("a")
        fleet.run("a", until=31.0)
        fleet.fault("stop", 2.5)
        fleet.journals["nemesis"].append(events.Over(at=30.0, what="stop", pid=101))
        fleet.run("a", 2, "two", 12.0, 13.0)
        fleet.final("a", 2)
        verdict = fleet.verdict()
        assert verdict.clean
        assert verdict.counts["late finishes refused"] == 1
        assert verdict.explained == {"its worker stood still, at the same time": 1}

    def test_a_task_that_asked_for_a_retry(self, fleet):
        fleet.enqueue("a", retries=1)
        fleet.run("a", how="raised")
        fleet.run("a", 2, at=4.0, until=5.0)
        fleet.final("a", 2, failures=1)
        assert fleet.verdict().explained == {"it asked for it": 1}
        assert fleet.verdict().clean

    def test_a_worker_that_was_told_to_end(self, fleet):
        fleet.enqueue("a")
        fleet.fault("term", 2.5)
        fleet.run("a", until=3.0, how="interrupted")
        fleet.run("a", 2, "two", at=4.0, until=5.0)
        fleet.final("a", 2)
        assert fleet.verdict().clean

    def test_the_death_of_a_supervisor_is_that_of_its_workers(self, fleet):
        fleet.enqueue("a")
        fleet.run("a", how="interrupted")
        fleet.fault("kill", 2.5, pid=100)
        fleet.run("a", 2, "two", at=4.0, until=5.0)
        fleet.final("a", 2)
        assert fleet.verdict().clean

    def test_a_worker_of_the_same_process_id_is_another_one(self, fleet):
        fleet.journals["three"] = [events.Born(at=20.0, pid=101)]
        fleet.enqueue("a", 21.0)
        fleet.fault("kill", 3.0)
        fleet.run("a", 1, "three", 22.0, None)
        fleet.run("a", 2, "two", 40.0, 41.0)
        fleet.final("a", 2)
        assert ("C5", "two attempts at the same time") in fleet.broken()

    def test_an_unanswered_enqueue_that_is_not_there_or_there_once(self, fleet):
        fleet.enqueue("a", acked=False)
        fleet.enqueue("b", acked=False)
        fleet.run("b")
        fleet.final("b")
        verdict = fleet.verdict()
        assert verdict.clean
        assert verdict.counts["enqueued without an answer"] == 2

    def test_a_producer_that_asked_again(self, fleet):
        fleet.enqueue("a", 1.0, acked=False)
        fleet.run("a")
        fleet.enqueue("a", 5.0)  # the first one was killed before it heard the answer
        fleet.final("a")
        assert fleet.verdict().clean

    def test_claims_of_workers_that_were_killed_before_the_run(self, fleet):
        fleet.enqueue("a")
        fleet.fault("kill", 1.5, pid=102)
        fleet.run("a", 3, at=12.0, until=13.0)
        fleet.final("a", 3)
        verdict = fleet.verdict()
        assert verdict.clean
        assert verdict.counts["claims without a run"] == 1

    def test_a_planted_poison_that_was_quarantined(self, fleet):
        fleet.enqueue("a", expect=("dead",))
        fleet.run("a", until=None)
        fleet.fault("poison", 2.1)
        fleet.final("a", 1, "dead")
        assert fleet.verdict().clean
        assert fleet.verdict().counts["quarantined, as expected"] == 1

    def test_a_clock_that_was_stepped(self, fleet):
        fleet.enqueue("a")
        fleet.run("a", until=9.0)
        fleet.fault("clock", 2.5, pid=0)
        fleet.run("a", 2, "two", at=4.0, until=5.0)
        fleet.final("a", 2)
        assert fleet.verdict().clean

    def test_the_journals_of_real_processes_are_read_back(self, tmp_path):
        journal = Journal(tmp_path, "worker")
        journal.write(events.Started(task="a", attempt=1))
        journal.write(events.Fault(what="hold", until=5.0))
        (path,) = tmp_path.glob("worker-*.jsonl")
        with path.open("ab") as file:
            file.write(b'{"event":"started","task":"cut sho')  # its process was killed
        ((name, told),) = read_all(tmp_path).items()
        assert name == path.stem
        assert [type(event).__name__ for event in told] == ["Born", "Started", "Fault"]


class TestLost:
    def test_an_acknowledged_task_that_is_not_there(self, fleet):
        fleet.enqueue("a")
        assert fleet.broken() == [("C1", "lost")]
        assert fleet.verdict().counts["lost"] == 1

    def test_one_that_never_ended(self, fleet):
        fleet.enqueue("a")
        fleet.final("a", 0, "queued")
        assert fleet.broken() == [("C1", "has not ended")]

    def test_an_innocent_one_that_was_quarantined(self, fleet):
        fleet.enqueue("a")
        fleet.final("a", 4, "dead")
        assert fleet.broken() == [("C1", "quarantined")]

    def test_one_that_ended_otherwise(self, fleet):
        fleet.enqueue("a", expect=("failed", "dead"))
        fleet.run("a")
        fleet.final("a")
        assert fleet.broken() == [("C1", "ended otherwise")]

    def test_one_that_was_refused_and_stored_all_the_same(self, fleet):
        fleet.enqueue("a", acked=False)
        fleet.journals["producer"].append(events.Refused(at=2.0, task="a", why="full"))
        assert fleet.broken() == []
        fleet.run("a")
        fleet.final("a")
        assert fleet.broken() == [("C1", "refused and yet stored")]

    def test_one_that_nobody_enqueued(self, fleet):
        fleet.run("a")
        fleet.final("a")
        assert fleet.broken() == [("C1", "nobody enqueued it")]

    def test_one_that_ran_and_vanished(self, fleet):
        fleet.enqueue("a", acked=False)
        fleet.run("a")
        assert fleet.broken() == [("C1", "ran and is not stored")]


class TestEnds:
    def test_two_ends(self, fleet):
        fleet.enqueue("a")
        fleet.run("a", how="raised", until=2.5)
        fleet.run("a", 2)
        fleet.final("a", 1, "failed", 50.0, final=False)
        fleet.final("a", 2)
        assert ("C2", "two ends") in fleet.broken()

    def test_another_result_than_before(self, fleet):
        fleet.enqueue("a")
        fleet.run("a")
        fleet.final("a", at=50.0, final=False, value="another")
        fleet.final("a")
        assert fleet.broken() == [("C2", "two ends")]

    def test_an_end_that_was_undone(self, fleet):
        fleet.enqueue("a")
        fleet.run("a")
        fleet.final("a", at=50.0, final=False)
        fleet.final("a", 1, "running", 60.0, final=False)
        fleet.final("a")
        assert fleet.broken() == [("C2", "an end was undone")]

    def test_a_late_finish_that_was_taken(self, fleet):
        fleet.enqueue("a")
        fleet.run("a", until=31.0)
        fleet.fault("stop", 2.5, until=30.0)
        fleet.run("a", 2, "two", 13.0, 14.0)
        fleet.final("a", 1)
        assert fleet.broken() == [("C3", "ran on after its end")]
        assert not fleet.verdict().counts["late finishes refused"]

    def test_the_result_of_another_attempt(self, fleet):
        fleet.enqueue("a")
        fleet.run("a", until=31.0)
        fleet.fault("stop", 2.5, until=30.0)
        fleet.run("a", 2, "two", 13.0, 14.0)
        fleet.final("a", 2, value="a/1")
        assert fleet.broken() == [("C3", "a result of another attempt")]

    def test_a_result_of_nobody(self, fleet):
        fleet.enqueue("a")
        fleet.final("a")
        assert fleet.broken() == [("C3", "a result of nobody")]


class TestAgain:
    def test_without_a_reason(self, fleet):
        fleet.enqueue("a")
        fleet.run("a")
        fleet.run("a", 2, "two", 13.0, 14.0)
        fleet.final("a", 2)
        assert fleet.broken() == [("C5", "run again without a reason")]

    def test_because_of_the_death_of_another_worker(self, fleet):
        fleet.enqueue("a")
        fleet.run("a")
        fleet.fault("kill", 2.5, pid=102)
        fleet.run("a", 2, "two", 13.0, 14.0)
        fleet.final("a", 2)
        assert ("C5", "run again without a reason") in fleet.broken()

    def test_at_the_same_time(self, fleet):
        fleet.enqueue("a")
        fleet.run("a", until=14.0)
        fleet.run("a", 2, "two", 13.0, 14.0)
        fleet.final("a", 2)
        assert fleet.broken() == [("C5", "two attempts at the same time")]

    @pytest.mark.parametrize("what", ["lock", "stop"])
    def test_at_the_same_time_as_another_one_stood_still(self, fleet, what):
        """With the file's lock it keeps all from renewing, and without it nobody but itself."""
        fleet.enqueue("a")
        fleet.run("a", until=14.0)
        fleet.fault(what, 2.5, pid=102)
        fleet.journals["nemesis"].append(events.Over(at=12.0, what=what, pid=102))
        fleet.run("a", 2, "two", 13.0, 14.0)
        fleet.final("a", 2)
        same_time = [("C5", "two attempts at the same time")]
        assert fleet.broken() == ([] if what == "lock" else same_time)

    @pytest.mark.parametrize(
        "death",
        [events.Fault(at=4.0, what="kill", pid=102), events.Exited(at=4.0, pid=102, code=-1)],
        ids=["killed", "gone with its supervisor"],
    )
    def test_a_lock_is_held_no_longer_than_its_holder_lives(self, fleet, death):
        fleet.enqueue("a")
        fleet.run("a", until=14.0)
        fleet.fault("lock", 2.5, pid=102)
        fleet.journals["nemesis"].append(death)
        fleet.run("a", 2, "one", 13.0, 14.0)
        fleet.final("a", 2)
        assert ("C5", "two attempts at the same time") in fleet.broken()

    def test_at_the_same_time_after_a_pause_shorter_than_the_lease(self, fleet):
        fleet.enqueue("a")
        fleet.run("a", until=14.0)
        fleet.fault("stop", 2.5, until=4.0)
        fleet.run("a", 2, "two", 13.0, 14.0)
        fleet.final("a", 2)
        assert fleet.broken() == [("C5", "two attempts at the same time")]

    def test_at_the_same_time_after_two_pauses_of_one_piece(self, fleet):
        fleet.enqueue("a")
        fleet.run("a", until=14.0)
        fleet.fault("stop", 2.5, until=7.0)
        fleet.fault("stop", 7.05, until=12.0)
        fleet.run("a", 2, "two", 13.0, 14.0)
        fleet.final("a", 2)
        verdict = fleet.verdict()
        assert verdict.clean
        assert verdict.explained == {"its worker stood still, at the same time": 1}

    @pytest.mark.parametrize(("since", "pid"), [(7.5, 101), (7.05, 102)], ids=["with time between", "of two"])
    def test_at_the_same_time_after_two_pauses_that_are_none_of_one_piece(self, fleet, since, pid):
        fleet.enqueue("a")
        fleet.run("a", until=14.0)
        fleet.fault("stop", 2.5, until=7.0)
        fleet.fault("stop", since, pid=pid, until=12.0)
        fleet.run("a", 2, "two", 13.0, 14.0)
        fleet.final("a", 2)
        assert fleet.broken() == [("C5", "two attempts at the same time")]

    @pytest.mark.parametrize(
        ("short", "long", "broken"),
        [("stop", "starved", [("C5", "two attempts at the same time")]), ("starved", "stop", [])],
    )
    def test_where_load_explains_nothing_it_makes_no_pause_longer_and_hides_none(
        self, fleet, short, long, broken
    ):
        fleet.enqueue("a")
        fleet.run("a", until=14.0)
        fleet.fault(short, 2.5, until=3.5)
        fleet.fault(long, 3.5, until=12.0)
        fleet.run("a", 2, "two", 13.0, 14.0)
        fleet.final("a", 2)
        assert fleet.broken() == []
        assert fleet.broken(starvation=False) == broken

    def test_at_the_same_time_as_one_that_asked_for_it(self, fleet):
        fleet.enqueue("a", retries=1)
        fleet.run("a", until=14.0, how="raised")
        fleet.run("a", 2, "two", 13.0, 14.0)
        fleet.final("a", 2)
        assert fleet.broken() == [("C5", "two attempts at the same time")]

    def test_one_attempt_twice(self, fleet):
        fleet.enqueue("a")
        fleet.run("a")
        fleet.run("a", 1, "two")
        fleet.final("a")
        assert fleet.broken() == [("C4", "one attempt ran twice")]

    def test_attempts_that_skip(self, fleet):
        fleet.enqueue("a")
        fleet.run("a")
        fleet.run("a", 3, "two", 13.0, 14.0)
        fleet.final("a", 3)
        assert fleet.broken() == [("C4", "attempts skip")]

    def test_a_first_run_that_is_no_first_attempt(self, fleet):
        fleet.enqueue("a")
        fleet.run("a", 2)
        fleet.final("a", 2)
        assert fleet.broken() == [("C4", "attempts skip")]

    def test_more_retries_than_allowed(self, fleet):
        fleet.enqueue("a", retries=1)
        fleet.run("a")
        fleet.final("a", failures=2)
        assert fleet.broken() == [("C4", "more retries than its budget")]

    def test_a_late_recovery(self, fleet):
        fleet.enqueue("a")
        fleet.run("a", until=None)
        fleet.fault("kill", 2.5)
        fleet.run("a", 2, "two", 20.0, 21.0)
        fleet.final("a", 2)
        assert fleet.broken(recovery=15) == [("C7", "recovered late")]
        assert fleet.broken(recovery=20) == []


class TestOrder:
    def test_a_later_task_of_a_lane_that_starts_first(self, fleet):
        fleet.enqueue("a", 1.0, lane="x")
        fleet.enqueue("b", 1.5, lane="x")
        fleet.enqueue("c", 1.2, lane="y")
        fleet.run("b", at=2.0, until=2.1)
        fleet.run("a", at=2.2, until=2.3)
        fleet.run("c", at=2.4, until=2.5)
        for task in "abc":
            fleet.final(task)
        assert fleet.broken() == [("C6", "started before one that was enqueued earlier")]

    def test_what_was_claimed_in_order_and_killed_before_its_run(self, fleet):
        fleet.enqueue("a", 1.0, lane="x")
        fleet.enqueue("b", 1.5, lane="x")
        fleet.fault("kill", 1.6, pid=102)
        fleet.run("b", at=2.0, until=2.1)
        fleet.run("a", 2, at=12.2, until=12.3)
        fleet.final("a", 2)
        fleet.final("b")
        assert fleet.broken() == []


class TestSchedules:
    def _tick(self, fleet, *fired, due):
        for number, tick in enumerate(fired):
            task = f"{tick}#{number}"
            fleet.enqueue(task)
            fleet.run(task, tick=tick)
            fleet.final(task)
        fleet.journals["nemesis"] += [events.Due(at=1.0, tick=tick) for tick in due]
        return fleet.broken()

    def test_each_instant_once(self, fleet):
        assert self._tick(fleet, "x/1", "x/2", due=["x/1", "x/2"]) == []

    def test_a_missed_one(self, fleet):
        assert self._tick(fleet, "x/1", due=["x/1", "x/2"]) == [("C8", "an instant was missed")]

    def test_a_doubled_one(self, fleet):
        assert self._tick(fleet, "x/1", "x/1", due=["x/1"]) == [("C8", "an instant fired twice")]

    def test_one_of_its_own(self, fleet):
        assert self._tick(fleet, "x/1", "x/9", due=["x/1"]) == [("C8", "fired at no instant of its own")]


class TestLimits:
    def _runs(self, fleet, *spans, limit=1):
        for number, (at, until) in enumerate(spans):
            task = f"t{number}"
            fleet.enqueue(task, key="k", limit=limit)
            fleet.run(task, at=at, until=until)
            fleet.final(task)

    def test_one_after_another(self, fleet):
        self._runs(fleet, (2.0, 3.0), (3.0, 4.0), (5.0, 6.0))
        assert fleet.broken() == []

    def test_too_many_at_once(self, fleet):
        self._runs(fleet, (2.0, 3.0), (2.5, 4.0), (2.6, 6.0), limit=2)
        assert fleet.broken() == [("C9", "a limit was exceeded")]

    def test_a_suspended_worker_does_not_count(self, fleet):
        self._runs(fleet, (2.0, 30.5), (12.5, 14.0))
        fleet.fault("stop", 2.2, until=30.0)
        assert fleet.broken() == []


class TestRates:
    def _starts(self, fleet, *starts, rate=1.0, burst=2):
        for number, at in enumerate(starts):
            task = f"t{number}"
            fleet.enqueue(task, key="k", rate=rate, burst=burst)
            fleet.run(task, at=at, until=at + 0.01)
            fleet.final(task)
        return fleet

    def test_a_burst_and_then_one_after_another(self, fleet):
        self._starts(fleet, 2.0, 2.0, 3.0, 4.0, 5.0, 9.0, 9.0)
        assert fleet.broken() == []
        assert fleet.verdict().counts["starts under a rate"] == 7

    def test_starts_that_come_a_moment_late(self, fleet):
        assert self._starts(fleet, 2.0, 2.0, 3.9, 4.0, 4.0).broken() == []

    def test_too_many_in_a_time(self, fleet):
        self._starts(fleet, 2.0, 2.0, 2.1, 2.2, 2.3)
        assert fleet.broken() == [("C9", "a rate was exceeded")]

    def test_a_few_more_each_second_for_long(self, fleet):
        self._starts(fleet, *(2.0 + 0.7 * n for n in range(20)))
        assert fleet.broken() == [("C9", "a rate was exceeded")]

    def test_a_clock_that_was_set_forward(self, fleet):
        fleet.fault("clock", 2.05, pid=0, by=5.0)
        assert self._starts(fleet, 2.0, 2.0, 2.1, 2.2, 2.3).broken() == []

    def test_starts_of_a_worker_that_stood_still(self, fleet):
        fleet.fault("stop", 1.5, until=1.9)
        assert self._starts(fleet, 2.0, 2.0, 2.1, 2.2, 2.3).broken() == []


class TestLiveness:
    @pytest.mark.parametrize(
        ("drained", "broken"),
        [(20.0, []), (41.0, ["in 31.0 s"]), (None, ["never"])],
    )
    def test_the_part_that_is_well_works_everything_off_in_time(self, fleet, drained, broken):
        fleet.phase("part", 10.0)
        if drained is not None:
            fleet.phase("drained", drained)
        assert [one.detail for one in fleet.verdict(drain=30).found("C10")] == broken


def lost(fleet):
    fleet.enqueue("a")
    fleet.run("a", until=None)
    fleet.fault("kill", 2.5)


def ended_twice(fleet):
    fleet.enqueue("a")
    fleet.run("a")
    fleet.final("a", state="failed", at=50.0, final=False)
    fleet.final("a")


def result_of_another(fleet):
    fleet.enqueue("a")
    fleet.run("a")
    fleet.final("a", value="b/1")


def skipped(fleet):
    fleet.enqueue("a")
    fleet.run("a", 2)
    fleet.final("a", 2)


def together(fleet):
    fleet.enqueue("a")
    fleet.run("a", until=14.0)
    fleet.fault("stop", 2.5, until=4.0)
    fleet.run("a", 2, "two", 13.0, 14.0)
    fleet.final("a", 2)


def out_of_order(fleet):
    for task, at, started in (("a", 1.0, 2.2), ("b", 1.5, 2.0), ("c", 1.7, 3.0)):
        fleet.enqueue(task, at, lane="x")
        fleet.run(task, at=started, until=started + 0.1)
        fleet.final(task)


def late(fleet):
    fleet.enqueue("a")
    fleet.run("a", until=None)
    fleet.fault("kill", 2.5)
    fleet.run("a", 2, "two", 20.0, 21.0)
    fleet.final("a", 2)


def fired_twice(fleet):
    fleet.journals["nemesis"].append(events.Due(at=1.0, tick="x/1"))
    for task in "ab":
        fleet.enqueue(task)
        fleet.run(task, tick="x/1")
        fleet.final(task)


def crowded(fleet):
    for task, at, until in (("a", 2.0, 3.0), ("b", 2.5, 4.0), ("c", 5.0, 6.0)):
        fleet.enqueue(task, key="k", limit=1)
        fleet.run(task, at=at, until=until)
        fleet.final(task)


def stalled(fleet):
    fleet.enqueue("a")
    fleet.run("a")
    fleet.enqueue("b")
    fleet.phase("part", 10.0)
    fleet.run("b", at=55.0, until=56.0)
    fleet.phase("drained", 60.0)
    fleet.final("a")
    fleet.final("b")


@pytest.mark.parametrize(
    ("rule", "happen", "told"),
    [
        ("C1", lost, ["0.000 enqueued", "0.100 acknowledged", "1.000 attempt 1 starts in one",
                      "1.500 attempt 1 ended with its process", "1.500 kill of one"]),
        ("C2", ended_twice, ["0.000 enqueued", "0.100 acknowledged", "1.000 attempt 1 starts in one",
                             "2.000 attempt 1 returned a/1", "49.000 seen failed after attempt 1",
                             "99.000 at the end seen completed after attempt 1 a/1"]),
        ("C3", result_of_another, ["0.000 enqueued", "0.100 acknowledged", "1.000 attempt 1 starts in one",
                                   "2.000 attempt 1 returned a/1",
                                   "99.000 at the end seen completed after attempt 1 b/1"]),
        ("C4", skipped, ["0.000 enqueued", "0.100 acknowledged", "1.000 attempt 2 starts in one",
                         "2.000 attempt 2 returned a/2",
                         "99.000 at the end seen completed after attempt 2 a/2"]),
        ("C5", together, ["0.000 enqueued", "0.100 acknowledged", "1.000 attempt 1 starts in one",
                          "1.500 stop of one for 1.50 s", "12.000 attempt 2 starts in two",
                          "13.000 attempt 1 returned a/1", "13.000 attempt 2 returned a/2",
                          "99.000 at the end seen completed after attempt 2 a/2"]),
        ("C6", out_of_order, ["0.000 a: enqueued", "0.100 a: acknowledged", "0.500 b: enqueued",
                              "0.600 b: acknowledged", "1.000 b: attempt 1 starts in one",
                              "1.100 b: attempt 1 returned b/1", "1.200 a: attempt 1 starts in one",
                              "1.300 a: attempt 1 returned a/1",
                              "99.000 a: at the end seen completed after attempt 1 a/1",
                              "99.000 b: at the end seen completed after attempt 1 b/1"]),
        ("C7", late, ["0.000 enqueued", "0.100 acknowledged", "1.000 attempt 1 starts in one",
                      "1.500 attempt 1 ended with its process", "1.500 kill of one",
                      "19.000 attempt 2 starts in two", "20.000 attempt 2 returned a/2",
                      "99.000 at the end seen completed after attempt 2 a/2"]),
        ("C8", fired_twice, ["0.000 a: enqueued", "0.000 b: enqueued", "0.000 x/1 is due",
                             "0.100 a: acknowledged", "0.100 b: acknowledged",
                             "1.000 a: attempt 1 starts in one", "1.000 b: attempt 1 starts in one",
                             "2.000 a: attempt 1 returned a/1", "2.000 b: attempt 1 returned b/1",
                             "99.000 a: at the end seen completed after attempt 1 a/1",
                             "99.000 b: at the end seen completed after attempt 1 b/1"]),
        ("C9", crowded, ["0.000 a: enqueued", "0.000 b: enqueued", "0.100 a: acknowledged",
                         "0.100 b: acknowledged", "1.000 a: attempt 1 starts in one",
                         "1.500 b: attempt 1 starts in one", "2.000 a: attempt 1 returned a/1",
                         "3.000 b: attempt 1 returned b/1",
                         "99.000 a: at the end seen completed after attempt 1 a/1",
                         "99.000 b: at the end seen completed after attempt 1 b/1"]),
        ("C10", stalled, ["0.000 enqueued", "0.100 acknowledged", "9.000 phase: part",
                          "54.000 attempt 1 starts in one", "55.000 attempt 1 returned b/1",
                          "59.000 phase: drained", "99.000 at the end seen completed after attempt 1 b/1"]),
    ],
)  # fmt: skip
def test_each_broken_promise_comes_with_the_timeline_of_those_concerned_and_of_nobody_else(
    fleet, rule, happen, told
):
    happen(fleet)
    fleet.enqueue("sound")
    fleet.run("sound", source="two")
    fleet.final("sound")
    verdict = fleet.verdict(recovery=15, drain=30)
    (violation,) = verdict.violations
    assert violation.rule == rule
    assert [" ".join(line.split()) for line in violation.timeline] == told
    assert "PROMISES WERE BROKEN" in verdict.text()
    assert violation.timeline[-1] in verdict.text()


def test_percentiles_are_values_that_occurred():
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([3.0, 1.0, 2.0], 100) == 3.0
    assert percentile([float(n) for n in range(1, 101)], 99) == 99.0
