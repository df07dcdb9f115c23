import msgspec

from sitq.policy import again as module
from sitq.policy.again import again, id_of_retry
from sitq.record import DAY, Edge, Fair, Limit, Record, Unique

NEW = {"id", "payload", "reply", "deadline", "unique", "edges", "retry_of"}
DROPPED = {"payload_of", "due", "delay", "room", "schedule", "instant", "milestone"}


def retried(known=("p",), now=1000, **fields):
    old = Record(id="old", **fields)
    return again(old, payload=b"anew", reply="topic", known=known, now=now)


def test_each_field_that_a_producer_says_is_kept_made_anew_or_dropped():
    fields = [field.name for field in msgspec.structs.fields(Record)]
    said = {*fields[: fields.index("state")]}
    assert said == {*module._KEPT} | NEW | DROPPED


def test_it_is_run_as_the_old_one_was():
    kept = {
        "queue": "q",
        "name": "f",
        "preview": "p",
        "priority": 5,
        "ttl": 7,
        "timeout": 8,
        "retry": {"max_retries": 2},
        "limits": (Limit("key", slots=1),),
        "fair": Fair("tenant"),
        "inputs": ("p",),
        "batch": "b",
        "executor": "process",
        "tags": ("a",),
        "keep": DAY // 2,
        "keep_failed": DAY * 2,
        "trace": {"a": "b"},
        "python": "3.11",
        "version": 2,
    }
    assert kept.keys() == {*module._KEPT}
    new = retried(**kept)
    assert {name: getattr(new, name) for name in kept} == kept
    assert (new.retry_of, new.payload, new.reply) == ("old", b"anew", "topic")


def test_what_was_about_its_first_time_is_left_behind():
    new = retried(due=5, delay=6, room=1, schedule="s", instant=7, attempt=3, failures=2)
    assert new == Record(id=new.id, payload=b"anew", reply="topic", retry_of="old")


def test_a_deadline_that_is_over_is_dropped_and_one_to_come_is_kept():
    assert retried(deadline=1000).deadline is None
    assert retried(deadline=1001).deadline == 1001


def test_parents_that_are_gone_are_left_out():
    edges = (Edge("p", "ggggg"), Edge("gone"))
    assert retried(edges=edges).edges == (Edge("p", "ggggg"),)


def test_a_key_that_is_held_for_a_time_does_not_hold_up_a_retry():
    assert retried(unique=Unique("k", "window", 5)).unique is None
    assert retried(unique=Unique("k")).unique == Unique("k")


def test_its_id_is_made_of_the_old_one():
    assert id_of_retry("a") == id_of_retry("a") == retried().id.replace(id_of_retry("old"), id_of_retry("a"))
    ids = {id_of_retry(each) for each in ("a", "b", "", id_of_retry("a"))}
    assert len(ids) == 4
    assert all(len(each) == 36 and each[14] == each[19] == "8" for each in ids)
