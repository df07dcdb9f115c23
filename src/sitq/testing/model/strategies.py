"""What the model draws: few names and few instants, so that everything meets everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from sitq.backends.base import PAUSE_KEY, PAUSE_NAME, PAUSE_QUEUE, Filter, Share
from sitq.move import Cancel, Change, Delete, Lapse, Move, Note, Release, Retry, Settle
from sitq.record import (
    AFTER_ANY_END,
    AFTER_SUCCESS,
    DAY,
    TERMINAL,
    Failure,
    Fair,
    Limit,
    Progress,
    State,
    Unique,
)

QUEUES = ("a", "b")
NAMES = ("f", "g")

spans = st.sampled_from((0, 1, 5, 10, 50))
"""Microseconds: so few that instants coincide."""

jumps = st.sampled_from((1, 4, 5, 10, 50, DAY))

optional_spans = st.none() | spans

uniques = st.builds(
    Unique,
    key=st.sampled_from(("k", "l")),
    scope=st.sampled_from(("waiting", "active", "window")),
    window=spans,
    clash=st.sampled_from(("keep", "refuse", "replace", "again")),
    fields=st.sampled_from((("payload", "due"), ("payload",), ("due",))),
)

limits = st.lists(
    st.builds(
        Limit,
        key=st.sampled_from(("x", "y")),
        slots=st.sampled_from((None, 1, 2, 2, 0)),
        rate=st.sampled_from((None, None, 1, 2, 3, 0)),
        per=st.sampled_from((1, 10, 50)),
        burst=st.integers(1, 3),
    ),
    min_size=1,
    max_size=2,
).map(tuple)

fairs = st.builds(Fair, key=st.sampled_from(("p", "q", "r")), weight=st.sampled_from((0.3, 1.0, 2.0)))

effects = st.sampled_from((AFTER_SUCCESS, AFTER_ANY_END, "gaaaa", "gffff", "cgggg", "agfca"))


_places: dict[str, st.SearchStrategy[Any]] = {
    "queue": st.sampled_from(QUEUES),
    "name": st.sampled_from(NAMES),
    "priority": st.integers(-1, 1),
    "keep": st.sampled_from((DAY, 0, 10)),
}
_themes: list[dict[str, st.SearchStrategy[Any]]] = [
    {},
    {"payload": st.sampled_from((b"1", b"\0")), "batch": st.just("batch")},
    {"due": spans, "delay": spans},
    {"delay": spans, "ttl": spans, "keep_failed": st.sampled_from((0, 10))},
    {"deadline": spans, "delay": spans},
    {"unique": uniques, "payload": st.sampled_from((b"1", b"2"))},
    {"unique": uniques, "delay": spans, "ttl": spans},
    {"limits": limits},
    {"limits": limits, "fair": fairs},
    {"fair": fairs},
    {"limits": limits, "delay": spans},
    {"unique": uniques},
    {"room": st.integers(0, 4)},
    {"milestone": st.just(value=True), "delay": spans},
    {"milestone": st.just(value=True), "unique": uniques},
    {"python": st.sampled_from(("3.11", "3.12"))},
]

fields: st.SearchStrategy[Mapping[str, Any]] = st.sampled_from(_themes).flatmap(
    lambda theme: st.fixed_dictionaries(dict(theme), optional=_places)
)
"""What a producer may say of a task; `due` and `deadline` count from now.

One peculiarity at a time, since a task with all of them would seldom start.
"""

shares = st.lists(
    st.builds(Share, queue=st.sampled_from(QUEUES), most=st.integers(0, 3)),
    min_size=1,
    max_size=2,
    unique_by=lambda share: share.queue,
).map(tuple)

failures = st.none() | st.builds(
    Failure, kind=st.sampled_from(("raised", "timeout")), message=st.sampled_from(("", "boom"))
)

freezes = st.sampled_from((None, None, None, "x", "y"))

words: st.SearchStrategy[Move] = st.one_of(
    st.builds(
        Settle,
        id=st.just(""),
        token=st.just(""),
        state=st.sampled_from(TERMINAL),
        result=st.sampled_from((None, b"r")),
        failure=failures,
    ),
    st.builds(Retry, id=st.just(""), token=st.just(""), delay=spans, failure=failures, freeze=freezes),
    st.builds(
        Release,
        id=st.just(""),
        token=st.just(""),
        delay=spans,
        freeze=freezes,
        failure=failures,
        crashes=st.none() | st.integers(0, 3),
        alone=st.integers(0, 2),
    ),
    st.builds(
        Note,
        id=st.just(""),
        token=st.just(""),
        progress=st.none() | st.builds(Progress, fraction=st.sampled_from((None, 0.5))),
        step=st.sampled_from((None, ("s", b"1"), ("s", b"2"))),
        alone=st.none() | st.integers(0, 2),
    ),
    st.builds(Lapse, id=st.just(""), token=st.just("")),
)
"""What an attempt may say; whose it is is filled in."""

orders: st.SearchStrategy[Move] = st.one_of(
    st.builds(Cancel, id=st.just(""), reason=st.sampled_from(("", "why")), running=st.booleans()),
    st.builds(
        Change,
        id=st.just(""),
        due=optional_spans,
        delay=optional_spans,
        priority=st.none() | st.integers(-1, 1),
        queue=st.sampled_from((None, None, *QUEUES)),
    ),
    st.builds(
        Delete,
        id=st.just(""),
        end=st.none() | st.sampled_from(TERMINAL),
        states=st.none() | st.lists(st.sampled_from(tuple(State)), max_size=4).map(tuple),
    ),
    st.builds(Settle, id=st.just(""), state=st.sampled_from(TERMINAL), failure=failures),
)
"""What an operator may say; the `due` of a change counts from now."""

pauses = st.sampled_from(
    (
        *(PAUSE_QUEUE + queue for queue in QUEUES),
        PAUSE_NAME + "f",
        PAUSE_KEY + "x",
        PAUSE_KEY + "p",
    )
)

filters = st.builds(
    Filter,
    states=st.none() | st.lists(st.sampled_from(tuple(State)), max_size=3).map(tuple),
    queue=st.none() | st.sampled_from(QUEUES),
    name=st.none() | st.sampled_from(NAMES),
    owner=st.sampled_from((None, None, "w1")),
    batch=st.sampled_from((None, None, "batch")),
    text=st.sampled_from((None, None, "T1", "f", "%")),
    newest_first=st.booleans(),
)
