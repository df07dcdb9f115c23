"""What went wrong in an attempt, as text: nothing of the user's is ever pickled for an error."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Final

from sitq.exceptions import SitqError
from sitq.record import Failure, Record

_LONGEST_TRACEBACK: Final = 16_384
_LONGEST_MESSAGE: Final = 2_048


class Failures:
    """Writes the failures of one worker's attempts."""

    def __init__(self, worker: str, clock: Callable[[], int]) -> None:
        self._worker = worker
        self._clock = clock

    def saying(self, record: Record, kind: str, message: str) -> Failure:
        """A failure that no exception stands behind."""
        return Failure(
            kind=kind, message=message, attempt=record.attempt, at=self._clock(), worker=self._worker
        )

    def of(self, record: Record, kind: str, error: BaseException) -> Failure:
        """A failure that an exception tells of; its traceback leaves out the engine's own frames."""
        if isinstance(error, SitqError) and kind != "raised":  # our own words to the reader
            return self.saying(record, kind, str(error)[:_LONGEST_MESSAGE])
        return Failure(
            kind=kind,
            type=_type_name(error),
            message=_message(error),
            traceback=_traceback(error),
            attempt=record.attempt,
            at=self._clock(),
            worker=self._worker,
        )


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a foreign error may raise anything when it is printed
        return "(its text cannot be had)"
    return text.encode("utf-8", "backslashreplace").decode()[:_LONGEST_MESSAGE]


def _traceback(error: BaseException) -> str:
    try:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(_ENGINE):
            trace = trace.tb_next
        lines = traceback.format_exception(type(error), error, trace)
    except Exception:  # noqa: BLE001 - the same
        return ""
    text = "".join(lines).encode("utf-8", "backslashreplace").decode()
    if len(text) <= _LONGEST_TRACEBACK:
        return text
    half = _LONGEST_TRACEBACK // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"


_ENGINE: Final = ("sitq.worker.", "concurrent.futures.")
