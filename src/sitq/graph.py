"""Graphs: the tasks around one of them, as data and as a drawing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sitq.record import AFTER_ANY_END, AFTER_SUCCESS, TERMINAL, Edge, Record, State

_CONDITIONS: Final = {
    AFTER_SUCCESS: "success",
    "gffff": "success, or it fails too",
    AFTER_ANY_END: "any end",
    "cgggg": "failure",
    "gaaaa": "any failure",
}

_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:-_")
"""What a label in Mermaid shows as it is; everything else is written as its number."""

_COLOURS: Final = {
    State.BLOCKED: "#e5e7eb",
    State.QUEUED: "#dbeafe",
    State.RUNNING: "#fef3c7",
    State.COMPLETED: "#dcfce7",
    State.FAILED: "#fee2e2",
    State.CANCELLED: "#f3e8ff",
    State.EXPIRED: "#ffedd5",
    State.DEAD: "#fecaca",
}


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A task in a graph.

    Attributes:
        id: The task.
        name: The name of its function; "" if its record is gone.
        state: Where it is on its way, or None if its record is gone.
        queue: Its queue.
        batch: Its batch, or None.
    """

    id: str
    name: str = ""
    state: State | None = None
    queue: str = ""
    batch: str | None = None


@dataclass(frozen=True, slots=True)
class GraphEdge:
    """A dependency in a graph.

    Attributes:
        parent: The task that is waited for.
        child: The task that waits.
        effects: What each end of the parent means for the child: `go`, `arm`, `cancel` or `fail`.
    """

    parent: str
    child: str
    effects: dict[State, str]

    @property
    def condition(self) -> str:
        """In short when the child runs: `success`, `failure`, `any end`, `any failure`, or the effects."""
        letters = "".join(self.effects[state][0] for state in TERMINAL)
        known = _CONDITIONS.get(letters)
        return known or ", ".join(f"{state}: {effect}" for state, effect in self.effects.items())


@dataclass(frozen=True, slots=True)
class Graph:
    """Tasks and their dependencies.

    Attributes:
        start: The task that was asked about.
        nodes: It and those that are connected with it, the nearest ones first.
        edges: The dependencies among them.
        complete: Whether these are all; False if the limit was reached.
    """

    start: str
    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]
    complete: bool

    def mermaid(self) -> str:
        """The graph as a Mermaid flowchart. Names are escaped, so it may be put into a page."""
        number = {node.id: f"n{index}" for index, node in enumerate(self.nodes)}
        lines = ["flowchart TD"]
        for node in self.nodes:
            state = "gone" if node.state is None else node.state.value
            label = "<br/>".join(filter(None, (_label(node.name), _label(node.id), state)))
            lines.append(f'    {number[node.id]}["{label}"]:::{state}')
        for edge in self.edges:
            said = "" if edge.condition == "success" else f"|{_label(edge.condition)}|"
            lines.append(f"    {number[edge.parent]} -->{said} {number[edge.child]}")
        states = dict.fromkeys(node.state for node in self.nodes)
        lines += [f"    classDef {each} fill:{_COLOURS[each]},color:#111" for each in states if each]
        if None in states:
            lines.append("    classDef gone fill:#fff,color:#666,stroke-dasharray:3")
        lines.append(f"    style {number[self.start]} stroke-width:3px")
        return "\n".join(lines) + "\n"


def graph_of(start: str, records: Iterable[Record], *, complete: bool) -> Graph:
    """The graph of records, the nearest ones first; parents without one are gone."""
    nodes: dict[str, GraphNode] = {}
    edges: dict[tuple[str, str, str], GraphEdge] = {}
    gone: list[str] = []
    for record in records:
        nodes[record.id] = GraphNode(record.id, record.name, record.state, record.queue, record.batch)
        for edge in record.edges:
            gone.append(edge.parent)
            edges[edge.parent, record.id, edge.effects] = _edge(edge, record.id)
    if complete:
        for parent in gone:
            nodes.setdefault(parent, GraphNode(parent))
    inside = tuple(edge for edge in edges.values() if edge.parent in nodes)
    return Graph(start, tuple(nodes.values()), inside, complete)


_EFFECTS: Final = {"g": "go", "a": "arm", "c": "cancel", "f": "fail"}


def _edge(edge: Edge, child: str) -> GraphEdge:
    effects = {state: _EFFECTS[letter] for state, letter in zip(TERMINAL, edge.effects, strict=True)}
    return GraphEdge(edge.parent, child, effects)


def _label(text: str) -> str:
    return "".join(each if each in _PLAIN else f"#{ord(each)};" for each in text)
