import pytest

from sitq.follow import changes, new_notes
from sitq.record import Progress, Record, State


def note(at, fraction=None):
    return Progress(fraction, f"note {at}", at=at)


def seen(state=State.RUNNING, attempt=1, notes=()):
    return Record(id="a", state=state, attempt=attempt, progress=tuple(note(at) for at in notes))


def told(before, now):
    return [
        (each.status, each.progress and each.progress.message, each.ended) for each in changes(before, now)
    ]


def test_the_first_look_tells_how_it_is_with_its_newest_note_only():
    assert told(None, seen(State.QUEUED, 0)) == [("queued", None, False)]
    assert told(None, seen(notes=(1, 2))) == [("running", "note 2", False)]
    assert told(None, seen(State.COMPLETED, notes=(1,))) == [("success", "note 1", True)]


def test_nothing_new_is_nothing_told():
    assert told(seen(notes=(1,)), seen(notes=(1,))) == []


def test_each_new_note_is_told_in_order():
    assert told(seen(notes=(1,)), seen(notes=(1, 2, 3))) == [
        ("running", "note 2", False),
        ("running", "note 3", False),
    ]


def test_notes_come_before_the_end():
    assert told(seen(notes=(1,)), seen(State.FAILED, notes=(1, 2))) == [
        ("running", "note 2", False),
        ("failed", "note 2", True),
    ]


def test_a_start_that_was_missed_is_told_by_its_notes_or_by_itself():
    assert told(seen(State.QUEUED, 0), seen(notes=(1,))) == [("running", "note 1", False)]
    assert told(seen(State.QUEUED, 0), seen()) == [("running", None, False)]


def test_another_attempt_is_a_change():
    (update,) = changes(seen(attempt=1), seen(attempt=2))
    assert (update.status, update.attempt) == ("running", 2)


@pytest.mark.parametrize(
    ("before", "now", "fresh"),
    [
        ((), (), ()),
        ((), (1, 2), (1, 2)),
        ((1, 2), (1, 2), ()),
        ((1, 2), (1, 2, 3), (3,)),
        ((1, 2, 3), (2, 3, 4), (4,)),  # the oldest one made way
        ((1, 2), (3, 4), (3, 4)),  # all of them did
        ((1, 1), (1, 1, 1), (1,)),
    ],
)
def test_new_notes_are_those_behind_the_ones_that_were_seen(before, now, fresh):
    notes = [tuple(map(note, each)) for each in (before, now, fresh)]
    assert new_notes(notes[0], notes[1]) == notes[2]
