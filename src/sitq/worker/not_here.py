"""What a worker says of a task that it cannot run, and another one may."""

from __future__ import annotations

from sitq.exceptions import UnknownFunctionError


class NotHereError(UnknownFunctionError):
    """The executor that a task names does not exist here."""
