"""What the server's settings make of the promises."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import psycopg

from sitq.checkup import Finding

_ASKED: Final = (
    "SELECT current_setting('server_version'), current_setting('fsync'), "
    "current_setting('full_page_writes'), current_setting('synchronous_commit'), "
    "current_setting('synchronous_standby_names'), "
    "pg_is_in_recovery(), extract(epoch FROM clock_timestamp())::float8"
)
_NAMES: Final = (
    "version", "fsync", "full_page_writes", "synchronous_commit", "standbys", "recovering", "now"
)  # fmt: skip

SKEW: Final = 2.0
"""Seconds between this host's clock and the server's that are worth a word."""


def look(db: psycopg.Connection[Any], *, direct: bool) -> list[Finding]:
    """All findings about a server."""
    before = time.time()
    row = db.execute(_ASKED).fetchone()
    middle = (before + time.time()) / 2
    facts = dict[str, Any](zip(_NAMES, row or (), strict=True))
    return findings(facts, skew=float(facts["now"]) - middle, direct=direct)


def findings(facts: Mapping[str, Any], *, skew: float, direct: bool) -> list[Finding]:
    """What settings mean; `skew` is by how many seconds the server's clock is ahead of this host's."""
    found = [
        Finding(about="version", level="fine", what=f"PostgreSQL {facts['version']}"),
        _durability(facts),
    ]
    if facts["full_page_writes"] != "on":
        found.append(
            Finding(
                about="full_page_writes",
                level="error",
                what="full_page_writes is off: a loss of power can leave torn pages, so a broken store",
                remedy="set full_page_writes = on",
            )
        )
    if facts["recovering"]:
        found.append(
            Finding(
                about="role",
                level="error",
                what="the server is a standby, or recovers, and takes no writes",
                remedy="use the URL of the primary",
            )
        )
    found.append(_replication(facts))
    if abs(skew) > SKEW:
        found.append(
            Finding(
                about="clock",
                level="warning",
                what=f"the server's clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this "
                "host's: an eta is compared with the server's",
                remedy="let both hosts keep their time by NTP",
            )
        )
    else:
        found.append(Finding(about="clock", level="fine", what=f"within {SKEW:.0f} s of this host's"))
    if not direct:
        found.append(
            Finding(
                about="pooler",
                level="warning",
                what="a pooler stands between: workers poll, since LISTEN does not work through it",
                remedy="give workers a URL that goes past it, if tasks are to start within milliseconds",
            )
        )
    return found


def _durability(facts: Mapping[str, Any]) -> Finding:
    if facts["fsync"] != "on":
        return Finding(
            about="durability",
            level="error",
            what="fsync is off: a loss of power can lose or corrupt everything",
            remedy="set fsync = on",
        )
    if facts["synchronous_commit"] == "off":
        return Finding(
            about="durability",
            level="warning",
            what="synchronous_commit is off: a crash of the server may lose the last acknowledged enqueues",
            remedy="set synchronous_commit = on for the role that sitq uses",
        )
    return Finding(about="durability", level="fine", what="acknowledged enqueues survive a loss of power")


def _replication(facts: Mapping[str, Any]) -> Finding:
    if facts["standbys"] and facts["synchronous_commit"] not in {"off", "local"}:
        return Finding(about="replication", level="fine", what="a standby has what was acknowledged")
    return Finding(
        about="replication",
        level="fine",
        what="no synchronous standby: a failover to another server may lose the last acknowledged enqueues",
    )
