"""What a worker's process says when it ends."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of `sitq worker`."""

    DONE = 0
    """Stopped gracefully, or its burst is over."""

    FAILED = 1
    """Something is wrong with sitq, or worker processes kept dying before they were ready."""

    USAGE = 2
    """The command, the application or its store cannot be used as they are; starting again does not help."""

    AT_ONCE = 3
    """Stopped at once: a second signal came, or a process did not stop in time and was killed."""

    LIFESPAN = 4
    """The application's lifespan failed, at its start or at its end."""

    RETIRED = 5
    """It has done its part, by `--max-tasks` or `--max-memory`: a fresh process is to take its place."""
