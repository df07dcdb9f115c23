"""What a script has to know of a new task, beside the packed record that Lua cannot read.

Redis's MessagePack knows no bytes, so a record goes to the server twice: whole, to be kept as it is, and as a
spec of what scripts decide by.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from sitq.backends import rules
from sitq.record import DAY, KEEP_FAILED, Record

pack: Final = msgspec.msgpack.Encoder().encode
Spec = tuple[Any, ...]

RANKED: Final = 4096
"""Priorities below this one, and above its negative, can be told from sequences in a score."""

_PLAIN: Final = (
    ("delay", "delay", 0),
    ("ttl", "ttl", None),
    ("deadline", "deadline", None),
    ("keep", "keep", DAY),
    ("keepf", "keep_failed", KEEP_FAILED),
    ("milestone", "milestone", False),
    ("room", "room", None),
)
"""The name of a field in a spec, that of the record, and its default, which is left out."""


def spec_of(record: Record) -> Spec:
    """The spec of a new task, as admission.lua describes it."""
    fair, limits = record.fair, record.limits
    lane = lane_name(
        record.queue,
        record.name,
        record.python or "",
        fair.key if fair else None,
        tuple([limit.key for limit in limits]) if limits else (),
    )
    more = _more(record) or None
    return record.id, lane, record.priority, record.due, len(record.payload), record.reply, more


def plain_values(record: Record) -> tuple[Any, ...] | None:
    """What put_one.lua has to know of a new task; None if that is not for it."""
    if (
        record.due
        or record.delay
        or record.ttl is not None
        or record.deadline is not None
        or record.unique is not None
        or record.fair is not None
        or record.room is not None
        or record.limits
        or record.edges
        or record.milestone
    ):
        return None
    lane = lane_name(record.queue, record.name, record.python or "", None, ())
    begun = _row_begun(lane, record.priority, record.reply, record.keep, record.keep_failed)
    return record.id, lane, record.queue, *begun, pack(record)


@lru_cache(maxsize=4096)
def _row_begun(
    lane: str, priority: int, reply: str | None, keep: int | None, keep_failed: int | None
) -> tuple[int, bytes]:
    """A rank without its sequence, and a packed map without the three fields that put_one.lua adds to it."""
    fields: dict[str, Any] = {"lane": lane, "state": "q", "priority": priority}
    if reply is not None:
        fields["reply"] = reply
    if keep != DAY:
        fields["keep"] = keep
    if keep_failed != KEEP_FAILED:
        fields["keepf"] = keep_failed
    begun = pack(fields)
    return (RANKED - priority) << 40, bytes([begun[0] + 3]) + begun[1:]


def specs_and_bodies(groups: Sequence[Sequence[Record]]) -> tuple[bytes, list[bytes]]:
    """The packed specs of groups, and the packed records of all of them in order."""
    specs = [[spec_of(record) for record in group] for group in groups]
    return pack(specs), [pack(record) for group in groups for record in group]


@lru_cache(maxsize=4096)
def lane_name(queue: str, name: str, python: str, tenant: str | None, keys: tuple[str, ...]) -> str:
    """What tasks have in common that can only be started or passed over together, as lanes.lua reads it."""
    whose = "-" if tenant is None else "t" + net(tenant)
    return "".join((net(queue), net(name), net(python), whose, *map(net, keys)))


def net(text: str) -> str:
    """Text that tells its own length in bytes, so that no such text begins another one."""
    return f"{len(text.encode())}:{text}"


def _more(record: Record) -> dict[str, Any]:
    """What is not the default."""
    more: dict[str, Any] = {}
    for name, field, default in _PLAIN:
        value = getattr(record, field)
        if value != default:
            more[name] = value
    if record.fair is not None:
        more["stride"] = rules.stride(record.fair.weight)
    unique = record.unique
    if unique is not None:
        brings = ("payload" in unique.fields, "due" in unique.fields)
        more["unique"] = (unique.key, unique.scope, unique.window, unique.clash, *brings)
    if record.limits:
        more["limits"] = record.limits
    if record.edges:
        more["edges"] = record.edges
    return more
