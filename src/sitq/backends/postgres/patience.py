"""How long a server may be silent: a connection gives itself up, but not while its session is at work."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, Final

import psycopg

ANSWER: Final = 5.0
"""Seconds after which a server that has said nothing to what it was asked is asked whether it is there.

TCP alone does not find a server that stands still, nor one behind a proxy: their ends go on acknowledging.
"""

LONGEST: Final = 60.0
"""Seconds after which an answer is given up whatever the server says."""

_ASKING: Final = 2
"""Seconds for the question whether it is there; with `ANSWER` before it a silent server is found in ten."""

_LOOK: Final = 0.5
"""Seconds between looks at how long that was."""

_BEGUN: Final = "SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"

_AT_WORK: Final = """
SELECT count(*) FROM pg_stat_activity
WHERE pid = %s AND backend_start = %s AND state = 'active' AND wait_event IS DISTINCT FROM 'SyncRep'
"""
"""A session that waits for a standby which is gone may wait for ever."""


class NoAnswerError(psycopg.OperationalError):
    """The server did not answer in time.

    Attributes:
        seconds: How long it was waited for.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer within {seconds:.3g} s")
        self.seconds = seconds


class PatientConnection(psycopg.Connection[Any]):
    """A connection that gives itself up when the server does not answer.

    Attributes:
        patience: Seconds to wait for an answer; None waits for ever.
        at_work: Says whether the session is busy with what it was asked, if that can be found out.
    """

    patience: float | None = ANSWER
    at_work: Callable[[], bool] | None = None

    def wait(self, gen: Any, interval: float = _LOOK, *args: Any, **more: Any) -> Any:
        """Wait for an answer.

        Raises:
            psycopg.OperationalError: There was none in time; the connection is closed.
        """
        if self.patience is None:
            return super().wait(gen, interval, *args, **more)
        try:
            return super().wait(_within(self.patience, gen, self.at_work), interval, *args, **more)
        except NoAnswerError:
            self.pgconn.finish()  # it may still do what it was asked, but nobody would hear of it
            raise


def _within(
    seconds: float, waiting: Generator[Any, Any, Any], at_work: Callable[[], bool] | None
) -> Generator[Any, Any, Any]:
    """What the driver waits for, and an error if nothing of it comes for so many seconds."""
    asked = time.monotonic()
    deadline = asked + seconds
    try:
        state = next(waiting)
        while True:
            ready = yield state
            if ready:
                asked = time.monotonic()
                deadline = asked + seconds
            elif time.monotonic() >= deadline:
                if at_work is None or time.monotonic() > asked + LONGEST or not at_work():
                    raise NoAnswerError(time.monotonic() - asked)
                deadline = time.monotonic() + seconds
            state = waiting.send(ready)
    except StopIteration as end:
        return end.value


def question(connection: PatientConnection, settings: dict[str, Any]) -> Callable[[], bool]:
    """What asks the server, as somebody else, whether a connection's session is at work.

    Args:
        connection: The connection.
        settings: How it was made.

    Raises:
        psycopg.Error: The server does not say who the session is.
    """
    info = connection.info
    row = connection.execute(_BEGUN, prepare=False).fetchone()
    session = info.backend_pid, row and row[0]
    there = {"host": info.host, "port": info.port, "hostaddr": info.hostaddr}
    asking: dict[str, Any] = {
        **settings,
        **{name: value for name, value in there.items() if value},  # of several servers, the very one
        "connect_timeout": _ASKING,
    }

    def at_work() -> bool:
        try:
            with PatientConnection.connect(autocommit=True, **asking) as other:
                other.patience = _ASKING
                row = other.execute(_AT_WORK, session).fetchone()
                return row is not None and row[0] > 0
        except psycopg.Error:
            return False

    return at_work
