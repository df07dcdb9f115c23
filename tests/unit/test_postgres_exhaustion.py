"""What PostgreSQL says when it has no room left."""

import psycopg
import pytest

from sitq.backends.postgres.errors import translated
from sitq.exceptions import ResourceExhaustionError


@pytest.mark.parametrize(("error", "what"), [("DiskFull", "disk"), ("OutOfMemory", "memory")])
def test_a_server_without_room_is_told_as_exhaustion_with_its_own_words(error, what):
    raised = getattr(psycopg.errors, error)("could not extend file")
    told = translated(raised, "postgresql://db/app", "enqueue")
    assert isinstance(told, ResourceExhaustionError)
    assert f"no {what} left" in str(told)
    assert "could not extend file" in str(told)
    assert told.__cause__ is raised
