"""Parents: edges of what a caller says, and places in calls of each serializer."""

import copy
import pickle

import pytest

from sitq import After, SerializationError, Task, ValidationError, value_of
from sitq.handle import TaskHandle
from sitq.parents import ParentMetError, edges_of
from sitq.policy.cycle import cycle_through
from sitq.preview import preview
from sitq.record import Edge, Record
from sitq.serialization import (
    CloudpickleSerializer,
    JSONSerializer,
    MsgpackSerializer,
    dumps_call,
    dumps_call_with_parents,
    loads_call,
)

BUILT_IN = [CloudpickleSerializer(), JSONSerializer(), MsgpackSerializer()]


class Repr:
    """A serializer of somebody's own, for plain data, which does not say that it carries no code."""

    def dumps(self, value, /):
        if "Task" in repr(value):
            raise TypeError("plain data only")
        return repr(value).encode()

    def loads(self, data, /):
        return eval(data)


def work(*args, **kwargs):
    """Nothing."""


def handle(task_id):
    return TaskHandle(task_id, None)


# -- edges -------------------------------------------------------------------------------------------------


def test_ids_tasks_handles_and_after_become_edges_in_their_order():
    one = Task(work, id="b")
    edges = edges_of(["a", one, handle("c"), After("d", on_failure="fail"), After(one, on_failure="ignore")])
    assert edges == (
        Edge("a"),
        Edge("b"),
        Edge("c"),
        Edge("d", "gffff"),
        Edge("b", "ggggg"),
    )


def test_one_dependency_needs_no_list_and_a_repeated_one_counts_once():
    assert edges_of("a") == edges_of(["a", "a"]) == edges_of(handle("a")) == (Edge("a"),)
    assert edges_of(()) == ()


@pytest.mark.parametrize(
    ("said", "effects"),
    [
        ({}, "gcccc"),
        ({"on_failure": "skip"}, "gcccc"),
        ({"on_failure": "fail"}, "gffff"),
        ({"on_failure": "ignore"}, "ggggg"),
        ({"on_failure": "ignore", "on_success": "skip"}, "cgggg"),
    ],
)
def test_each_word_has_its_letters(said, effects):
    assert After("a", **said).effects == effects


@pytest.mark.parametrize("wrong", [5, [5], [None], {1: 2}.items(), [""], [["a"]]])
def test_what_is_no_dependency_is_refused(wrong):
    with pytest.raises(ValidationError):
        edges_of(wrong)


def test_options_take_dependencies_of_each_kind():
    one = Task(work, id="one")
    two = Task(work, depends_on=[one, "other"])
    assert two.options.depends_on == (Edge("one"), Edge("other"))


# -- places ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("serializer", BUILT_IN, ids=lambda one: one.name)
def test_values_come_into_their_places_and_nothing_else_changes(serializer):
    a, b = Task(work, id="a"), handle("b")
    args = (a, [1, [b, None], {"k": [a]}], None, [["a", "b"]])
    with pytest.raises(ParentMetError):
        dumps_call(serializer, args, {"key": b})
    data, met = dumps_call_with_parents(serializer, args, {"key": b, "none": None})
    assert met == {"a": "gcccc", "b": "gcccc"}
    call = loads_call(serializer, data, {"a": "A", "b": {"B": 1}})
    assert call.args == ("A", [1, [{"B": 1}, None], {"k": ["A"]}], None, [["a", "b"]])
    assert call.kwargs == {"key": {"B": 1}, "none": None}


@pytest.mark.parametrize("serializer", BUILT_IN, ids=lambda one: one.name)
@pytest.mark.parametrize("turn", [1, -1])
def test_what_after_says_of_a_parent_holds_wherever_else_it_stands(serializer, turn):
    one = Task(work, id="a")
    args = (After(one, on_failure="ignore"), [one])[::turn]
    assert dumps_call_with_parents(serializer, args, {})[1] == {"a": "ggggg"}


def test_a_serializer_of_somebodys_own_for_plain_data_takes_parents():
    data, met = dumps_call_with_parents(Repr(), ((Task(work, id="a"), 1),), {"k": [Task(work, id="b")]})
    assert {*met} == {"a", "b"}
    assert loads_call(Repr(), data, {"a": 5, "b": None}) == (None, ((5, 1),), {"k": [None]})


def test_a_function_that_travels_by_value_goes_along_and_takes_parents_in_its_closure():
    one = Task(work, id="a")
    data, met = dumps_call_with_parents(CloudpickleSerializer(), (1,), {}, lambda two: (one, two))
    assert met == {"a": "gcccc"}
    call = loads_call(CloudpickleSerializer(), data, {"a": "A"})
    assert call.function(*call.args) == ("A", 1)


@pytest.mark.parametrize("serializer", BUILT_IN, ids=lambda one: one.name)
def test_what_cannot_be_serialized_beside_a_parent_is_named(serializer):
    with pytest.raises(SerializationError, match=r"argument 2 .*cannot be serialized"):
        dumps_call_with_parents(serializer, (Task(work), (each for each in ())), {})


@pytest.mark.parametrize("serializer", BUILT_IN, ids=lambda one: one.name)
def test_a_call_with_places_needs_their_values(serializer):
    data, _ = dumps_call_with_parents(serializer, (Task(work, id="lost"),), {})
    for values in (None, {}, {"other": 1}):
        with pytest.raises(SerializationError, match="lost"):
            loads_call(serializer, data, values)


@pytest.mark.parametrize(
    "places",
    [
        5,
        [5],
        [[[0, 0]]],
        [[[0, 9], "a"]],
        [[[9], "a"]],
        [[["x"], "a"]],
        [[[], "a"]],
        [[[1, "k", "deeper"], "a"]],
        [[[1, "missing"], "a"]],
        [[[0, 0, 0, 0], "a"]],
        [["text", "a"]],
        [[[0, 0], {}]],
    ],
)
def test_places_that_fit_nothing_are_damage(places):
    serializer = JSONSerializer()
    data = serializer.dumps([[None], {"k": None}, places])
    with pytest.raises(SerializationError):
        loads_call(serializer, data, {"a": 1})


def test_a_value_of_a_user_is_never_taken_for_a_place():
    serializer = JSONSerializer()
    tricky = [[0], {}, [[[0, 0], "a"]]]
    data, _ = dumps_call_with_parents(serializer, (Task(work, id="a"), tricky), {})
    assert loads_call(serializer, data, {"a": 1}).args == (1, tricky)


@pytest.mark.parametrize("dump", [pickle.dumps, copy.deepcopy])
def test_a_parent_travels_in_calls_only(dump):
    with pytest.raises(ParentMetError, match="pass its id"):
        dump([handle("a")])


def test_the_preview_names_whose_value_is_taken():
    assert preview((Task(work, id="a"), [handle("b")]), {"k": After("c")}) == (
        "<value of a>, [<value of b>], k=<value of c>"
    )


def test_value_of_is_the_handle_itself():
    one = handle("a")
    assert value_of(one) is one
    with pytest.raises(ValidationError, match="value_of takes"):
        value_of("a")


# -- cycles ------------------------------------------------------------------------------------------------


def test_the_way_of_a_cycle_is_told_from_one_of_its_tasks_back_to_it():
    def record(id, *parents):
        return Record(id=id, edges=tuple(map(Edge, parents)))

    group = [record("a", "b", "x"), record("b", "c"), record("c", "d", "a"), record("d"), record("e", "e")]
    assert cycle_through("a", group) == ["a", "b", "c", "a"]
    assert cycle_through("c", group) == ["c", "a", "b", "c"]
    assert cycle_through("e", group) == ["e", "e"]
    assert cycle_through("d", group) == ["d"]
