"""What went wrong in an attempt, as text: nothing of the user's is ever pickled for an error."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Final

from sitq.exceptions import SitqError
from sitq.record import Failure, Record

_LONGEST_TRACEBACK: Final = 16_384
_LONGEST_PRINT: Final = 4_194_304
_LONGEST_MESSAGE: Final = 2_048
_LONGEST_NAME: Final = 255


class Failures:
    """Writes the failures of one worker's attempts."""

    def __init__(self, worker: str, clock: Callable[[], int]) -> None:
        self._worker = worker
        self._clock = clock

    def saying(self, record: Record, kind: str, message: str) -> Failure:
        """A failure that no exception stands behind."""
        return Failure(
            kind=kind, message=plain(message), attempt=record.attempt, at=self._clock(), worker=self._worker
        )

    def of(self, record: Record, kind: str, error: BaseException) -> Failure:
        """A failure that an exception tells of; its traceback leaves out the engine's own frames."""
        if isinstance(error, SitqError) and kind != "raised":  # our own words to the reader
            return self.saying(record, kind, str(error))
        return Failure(
            kind=kind,
            type=_type_name(error),
            message=_message(error),
            traceback=_traceback(error),
            attempt=record.attempt,
            at=self._clock(),
            worker=self._worker,
        )


def plain(text: str, most: int = _LONGEST_MESSAGE) -> str:
    """The text as every store can keep it: bounded, and without lone surrogates."""
    return str.encode(text[:most], "utf-8", "backslashreplace").decode()


def _type_name(error: BaseException) -> str:
    try:
        module, name = type(error).__module__, type(error).__qualname__
        return plain(name if module == "builtins" else f"{module}.{name}", _LONGEST_NAME)
    except BaseException:  # noqa: BLE001 - a metaclass may raise anything
        return "(its type cannot be had)"


def _message(error: BaseException) -> str:
    try:
        return plain(str(error))
    except BaseException:  # noqa: BLE001 - a foreign error may raise anything when it is printed
        return "(its text cannot be had)"


def _traceback(error: BaseException) -> str:
    try:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(_ENGINE):
            trace = trace.tb_next
        lines = traceback.format_exception(type(error), error, trace)
        text = plain("".join(lines), _LONGEST_PRINT)
    except BaseException:  # noqa: BLE001 - the same
        return ""
    if len(text) <= _LONGEST_TRACEBACK:
        return text
    half = _LONGEST_TRACEBACK // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"


_ENGINE: Final = ("sitq.worker.", "concurrent.futures.")
