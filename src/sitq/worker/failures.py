"""What went wrong in an attempt, as text: nothing of the user's is ever pickled for an error."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Final, cast

import msgspec

from sitq.exceptions import SitqError
from sitq.policy.kinds import kinds_of, name_of_class
from sitq.policy.outcome import Raised
from sitq.record import Failure, Record
from sitq.secret import without
from sitq.worker.run import Remote

_LONGEST_TRACEBACK: Final = 16_384
_LONGEST_PRINT: Final = 4_194_304
_LONGEST_MESSAGE: Final = 2_048
_LONGEST_NAME: Final = 255


class Failures:
    """Writes the failures of one worker's attempts.

    Args:
        worker: Its id.
        clock: The store's time.
        hidden: The texts of secrets by the ids of the tasks that have them; none of them is written.
    """

    def __init__(
        self, worker: str, clock: Callable[[], int], hidden: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        self._worker = worker
        self._clock = clock
        self._hidden: Mapping[str, tuple[str, ...]] = {} if hidden is None else hidden

    def saying(self, record: Record, kind: str, message: str, type: str = "") -> Failure:  # noqa: A002 - its field
        """A failure that no exception stands behind, or one of this type that nobody sees."""
        if self._hidden:
            message = without(message, self._hidden.get(record.id, ()))
        return Failure(
            kind=kind,
            type=type,
            message=plain(message),
            attempt=record.attempt,
            at=self._clock(),
            worker=self._worker,
        )

    def raised(self, record: Record, error: BaseException, remote: Remote | None = None) -> Raised:
        """The outcome of an attempt that raised, here or in another process."""
        if remote is not None:
            secrets = self._hidden.get(record.id, ()) if self._hidden else ()
            failure = msgspec.structs.replace(
                remote.failure,
                at=self._clock(),
                message=without(remote.failure.message, secrets),
                traceback=without(remote.failure.traceback, secrets),
            )
            return Raised(failure, remote.kinds)
        return Raised(self.of(record, "raised", error), kinds_of(error))

    def of(self, record: Record, kind: str, error: BaseException) -> Failure:
        """A failure that an exception tells of; its traceback leaves out the engine's own frames."""
        if isinstance(error, SitqError) and kind != "raised":  # our own words to the reader
            return self.saying(record, kind, str(error))
        secrets = self._hidden.get(record.id, ()) if self._hidden else ()
        return Failure(
            kind=kind,
            type=_type_name(error),
            message=_message(error, secrets),
            traceback=_traceback(error, secrets),
            attempt=record.attempt,
            at=self._clock(),
            worker=self._worker,
        )


def plain(text: str, most: int = _LONGEST_MESSAGE) -> str:
    """The text as every store can keep it: bounded, and without lone surrogates."""
    return str.encode(text[:most], "utf-8", "backslashreplace").decode()


def _type_name(error: BaseException) -> str:
    try:
        return plain(name_of_class(type(error)), _LONGEST_NAME)
    except BaseException:  # noqa: BLE001 - a metaclass may raise anything
        return "(its type cannot be had)"


def _notes(error: BaseException) -> list[str]:
    """What was noted with an error (PEP 678): a traceback shows it, and one sentence alone would lose it."""
    notes: object = getattr(error, "__notes__", None)
    return (
        [note for note in cast("list[object]", notes) if isinstance(note, str)]
        if isinstance(notes, list)
        else []
    )


def _message(error: BaseException, secrets: tuple[str, ...]) -> str:
    try:
        return plain(without("; ".join([text for text in (str(error), *_notes(error)) if text]), secrets))
    except BaseException:  # noqa: BLE001 - a foreign error may raise anything when it is printed
        return "(its text cannot be had)"


def _traceback(error: BaseException, secrets: tuple[str, ...]) -> str:
    try:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(_ENGINE):
            trace = trace.tb_next
        lines = traceback.format_exception(type(error), error, trace)
        text = plain(without("".join(lines), secrets), _LONGEST_PRINT)
    except BaseException:  # noqa: BLE001 - the same
        return ""
    if len(text) <= _LONGEST_TRACEBACK:
        return text
    half = _LONGEST_TRACEBACK // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"


_ENGINE: Final = ("sitq.worker.", "concurrent.futures.")
