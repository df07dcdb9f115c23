"""Usual tasks are made from moulds: what they come to is what the long way makes of them."""

import contextlib
import pickle

import pytest

from sitq import After, Task, functions
from sitq.backends.memory import MemoryBackend
from sitq.codec import Codec
from sitq.exceptions import SerializationError, ValidationError
from sitq.options import NO_OPTIONS, make_options
from sitq.record import Edge
from sitq.serialization import CloudpickleSerializer, JSONSerializer, MsgpackSerializer, loads_call
from sitq.spill import Spill, SpillRoom


def pair(first, password):
    return first, password


def nothing():
    return None


def typed(number: int):
    return number


def renamed(one):
    return one


SERIALIZERS = [CloudpickleSerializer(), MsgpackSerializer(), JSONSerializer()]


def made(codec, function, *args, queue="default", options=NO_OPTIONS):
    return codec.record("id", function, args, {}, options, queue=queue, reply="topic")


def long_way(serializer, function, *args, queue="default"):
    """Options that say what holds anyway keep the codec from using a mould."""
    return made(
        Codec(serializer), function, *args, queue=queue, options=make_options(NO_OPTIONS, {"priority": 0})
    )


@pytest.mark.parametrize("serializer", SERIALIZERS, ids=lambda one: one.name)
@pytest.mark.parametrize(
    ("function", "args"),
    [(nothing, ()), (pair, (1, "secret")), (pair, ([1, {"a": None}], b"x")), (typed, (1,)), (len, ("x",))],
)
def test_a_task_is_the_same_in_both_ways(serializer, function, args):
    if serializer.name == "json" and b"x" in args:
        args = (args[0], "x")
    codec = Codec(serializer)
    expected = long_way(serializer, function, *args)
    assert made(codec, function, *args) == made(codec, function, *args) == expected
    assert "secret" not in expected.preview


@pytest.mark.parametrize("serializer", SERIALIZERS, ids=lambda one: one.name)
@pytest.mark.parametrize("condition", [None, "ignore"])
@pytest.mark.parametrize("deep", [False, True], ids=["direct", "deep"])
def test_a_task_that_takes_values_is_the_same_in_both_ways(serializer, condition, deep):
    parent = Task(nothing)
    taken = parent if condition is None else After(parent, on_failure=condition)
    args = (1, [taken]) if deep else (taken, taken)
    codec = Codec(serializer)
    expected = long_way(serializer, pair, *args)
    assert made(codec, pair, *args) == made(codec, pair, *args) == expected
    assert expected.inputs == (parent.id,)
    assert expected.edges == (Edge(parent.id, taken.effects),)
    body = codec.wrapper.plain(expected.payload, "task", expected)
    assert loads_call(serializer, body, {parent.id: 7}).args == ((1, [7]) if deep else (7, 7))


def test_a_task_that_takes_a_value_and_is_spilled_waits_for_its_parent(tmp_path):
    codec = Codec(CloudpickleSerializer(), room=SpillRoom(Spill(tmp_path, above=1024), MemoryBackend()))
    made(codec, nothing)
    parent = Task(nothing)
    record = made(codec, pair, parent, "x" * 2000)
    assert record.id in codec.contents.pending
    assert (record.inputs, record.edges) == ((parent.id,), (Edge(parent.id),))


def test_each_queue_has_its_own_envelopes():
    codec = Codec(CloudpickleSerializer())
    for queue in ("one", "two", "one"):
        record = made(codec, nothing, queue=queue)
        assert record == long_way(CloudpickleSerializer(), nothing, queue=queue)
        assert codec.call(record)[0] is nothing


def test_a_function_that_gets_another_name_goes_by_it_from_then_on():
    codec = Codec(CloudpickleSerializer())
    assert made(codec, renamed, 1).name.endswith(":renamed")
    functions.register(renamed, name="test_mould.another")
    assert made(codec, renamed, 1).name == "test_mould.another"


def test_what_is_not_usual_about_a_call_is_noticed():
    codec = Codec(CloudpickleSerializer())
    made(codec, pair, 1, 2)
    with pytest.raises(ValidationError, match="password"):
        made(codec, pair, 1)
    with pytest.raises(SerializationError, match=r"argument 1 \('first'\)"):
        made(codec, pair, (one for one in "x"), 2)
    with pytest.raises(SerializationError, match="more than the limit"):
        made(Codec(CloudpickleSerializer(), most=100), pair, 1, "x" * 200)
    parent = Task(nothing)
    for args in ((parent, 1), ([parent], 1)):
        assert [edge.parent for edge in made(codec, pair, *args).edges] == [parent.id]


class Ending:
    def __reduce__(self):
        raise SystemExit("bye")


class Counting:
    """A serializer that catches nothing, and counts."""

    name = "counting"
    carries_code = True
    dumped = 0

    def dumps(self, value):
        self.dumped += 1
        return pickle.dumps(value)

    def loads(self, data):
        return pickle.loads(data)


def test_an_argument_that_ends_the_program_when_it_is_serialized_does_not():
    with pytest.raises(SerializationError, match=r"argument 1 \('first'\)"):
        made(Codec(Counting()), pair, Ending(), 1)


def test_what_is_too_large_for_its_record_is_serialized_once():
    serializer = Counting()
    codec = Codec(serializer)
    codec._most_inside = 100
    with contextlib.suppress(Exception):  # there is no place beside the record here
        made(codec, pair, 1, "x" * 200)
    assert serializer.dumped == 1


def test_no_more_moulds_are_kept_than_make_sense(monkeypatch):
    monkeypatch.setattr("sitq.codec._MOST_MOULDS", 2)
    codec = Codec(CloudpickleSerializer())
    for function, args in ((nothing, ()), (pair, (1, 2)), (typed, (1,))) * 2:
        assert made(codec, function, *args) == long_way(CloudpickleSerializer(), function, *args)
        assert len(codec._moulds) <= 2
