"""Graphs of records, and their drawing."""

import pytest

from sitq.graph import graph_of
from sitq.record import Edge, Record, State


def record(id, *edges, name="work", state=State.QUEUED):
    return Record(id=id, name=name, edges=edges, state=state)


def test_a_graph_has_the_records_as_nodes_and_their_edges():
    graph = graph_of("b", [record("b", Edge("a"), state=State.BLOCKED), record("a")], complete=True)
    assert [(node.id, node.state) for node in graph.nodes] == [("b", State.BLOCKED), ("a", State.QUEUED)]
    (edge,) = graph.edges
    assert (edge.parent, edge.child) == ("a", "b")
    assert edge.effects[State.COMPLETED] == "go"
    assert edge.effects[State.FAILED] == "cancel"


def test_a_parent_without_a_record_is_gone_and_beyond_the_limit_it_is_left_out():
    one = record("b", Edge("a"))
    assert [node.state for node in graph_of("b", [one], complete=True).nodes] == [State.QUEUED, None]
    cut = graph_of("b", [one], complete=False)
    assert len(cut.nodes) == 1
    assert cut.edges == ()


@pytest.mark.parametrize(
    ("effects", "condition"),
    [
        ("gcccc", "success"),
        ("gffff", "success, or it fails too"),
        ("ggggg", "any end"),
        ("cgggg", "failure"),
        ("gaaaa", "any failure"),
        ("gcfgg", "completed: go, failed: cancel, cancelled: fail, expired: go, dead: go"),
    ],
)
def test_a_condition_says_in_short_when_the_child_runs(effects, condition):
    graph = graph_of("b", [record("b", Edge("a", effects)), record("a")], complete=True)
    assert graph.edges[0].condition == condition


def test_the_drawing_names_states_and_conditions():
    records = [record("b", Edge("a", "ggggg"), Edge("gone")), record("a", state=State.FAILED)]
    assert graph_of("b", records, complete=True).mermaid() == (
        "flowchart TD\n"
        '    n0["work<br/>b<br/>queued"]:::queued\n'
        '    n1["work<br/>a<br/>failed"]:::failed\n'
        '    n2["gone<br/>gone"]:::gone\n'
        "    n1 -->|any end| n0\n"
        "    n2 --> n0\n"
        "    classDef queued fill:#dbeafe,color:#111\n"
        "    classDef failed fill:#fee2e2,color:#111\n"
        "    classDef gone fill:#fff,color:#666,stroke-dasharray:3\n"
        "    style n0 stroke-width:3px\n"
    )


@pytest.mark.parametrize(
    "name", ['"]:::x', "<script>", "a`b`", "a#b;", "a|b", "%%{init}", "ä\u202e", "a\nb", "click n0 call f()"]
)
def test_names_are_escaped_in_the_drawing(name):
    drawing = graph_of("b", [record("b", name=name)], complete=True).mermaid()
    label = drawing.splitlines()[1].removeprefix('    n0["').removesuffix('<br/>b<br/>queued"]:::queued')
    assert len(drawing.splitlines()) == 4
    assert not set(label) & set('"<>`|%{}()[]\n')
    plain = "".join(each for each in name if each.isascii() and each.isalnum())
    assert plain in label.replace("#", " #").replace(";", "; ").replace(" ", "") or "#" in label
