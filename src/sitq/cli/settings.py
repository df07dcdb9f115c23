"""The options that several commands share, and the kinds of values that they take."""

from __future__ import annotations

import logging
import os
import sys

import click

from sitq.cli.complaint import Complaint

Queues = list[str] | dict[str, float]
"""Names in strict order, or names with weights."""

LEVELS = ("debug", "info", "warning", "error")

_FORMAT = "%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s"


def queues_of(_context: click.Context, _option: click.Parameter, value: str | None) -> Queues | None:
    """`a,b` is a list of queues in strict order, `a=3,b=1` are queues with weights."""
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if not all(parts):
        raise click.BadParameter(f"{value!r} has an empty name in it")
    weighted = ["=" in part for part in parts]
    if not any(weighted):
        return parts
    if not all(weighted):
        raise click.BadParameter(f"{value!r} gives weights to some queues only; give one to each, or to none")
    return dict(_weight(part) for part in parts)


def _weight(part: str) -> tuple[str, float]:
    name, _, weight = part.rpartition("=")
    try:
        return name, float(weight)
    except ValueError:
        raise click.BadParameter(f"the weight of {name!r} must be a number, not {weight!r}") from None


def target_of(given: str | None) -> str:
    """The application that is meant: as given, or by `SITQ_APP`, or the bare store of `SITQ_URL`."""
    target = given or os.environ.get("SITQ_URL")
    if not target:
        raise Complaint(
            "which queue? Give it as module:queue, or set SITQ_APP, or set SITQ_URL to a store's URL"
        )
    return target


def set_up_logging(level: str) -> None:
    """Log to stderr, unless the application has said otherwise, and sitq itself from this level on."""
    logging.basicConfig(stream=sys.stderr, format=_FORMAT)
    logging.getLogger("sitq").setLevel(level.upper())
