"""No statement of the hot path reads more than it needs: what SQLite's planner says of each."""

import pytest

from sitq.backends.sqlite.connection import Connection
from sitq.backends.sqlite.schema import migrate

HOT = {
    "look": ("[]", "c", 1),
    "open_lanes": ("[]", 1),
    "fresh_of_lane": (1, 10),
    "ready_items": ("[]", 3, 0),
    "rows_by_id": ("[]",),
    "rows_by_sequence": ("[]",),
    "reads_by_sequence": ("[]",),
    "start": ("[]", "c", "w", 1, 1),
    "settle": ("[]", b"", b"", 4, 1, 1),
    "fresh_by_sequence": ("[]",),
    "running_unchanged": ("[]", "t"),
    "edges_of_parents": ("[]",),
    "store": (None,) * 23,
    "lower_lanes": ("[]",),
    "raise_lanes": ("[]",),
    "renewable": ("[]",),
    "renew": ("[]", 1),
    "lapsed": (1, 10),
    "overdue": (1, 1, 10),
    "due": (1, 1, 10),
    "marks_due": (1, 1, 10),
    "reopen_lanes": (1, "k", 10),
    "read_keys": ("[]",),
    "marks_of": (1, "[]"),
    "mark_keys": ("[]",),
    "hold_lanes": ("[]",),
    "store_lane_turns": (1, "[]"),
    "bump_turns": ("[]", 1),
    "bump_held": (1, "k", 1),
    "holding": (1, "[]"),
    "purgeable": (1, 10),
}


@pytest.fixture
def db(tmp_path):
    connection = Connection(str(tmp_path / "t.db"), "sitq")
    migrate(connection, "sitq", "t.db")
    yield connection
    connection.close()


@pytest.mark.parametrize("name", sorted(HOT))
def test_a_hot_statement_scans_no_table_and_sorts_nothing_big(db, name):
    plan = db.raw.execute("EXPLAIN QUERY PLAN " + db.sql[name], HOT[name]).fetchall()
    steps = [step for *_, step in plan]
    scans = [step for step in steps if step.startswith("SCAN") and not _is_bounded(step)]
    assert scans == []
    if name in {"look", "open_lanes", "fresh_of_lane", "ready_items", "lower_lanes"}:
        assert not [step for step in steps if "TEMP B-TREE" in step]


def _is_bounded(step):
    """A scan of what was passed in, of a bounded subquery, or for the first row of an index."""
    return any(
        word in step
        for word in (
            "VIRTUAL TABLE",
            "CONSTANT ROW",
            "SUBQUERY",
            "SCAN bounded",
            "SCAN (",
            "SCAN j",
            "SCAN v",
            "sitq_task_lease",
        )
    )
