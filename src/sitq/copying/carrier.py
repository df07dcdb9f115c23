"""What of a record is bound to its store, made fit for another one: verified, sealed anew, never loaded."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from sitq.backends.base import Backend
from sitq.copying.transit import home
from sitq.envelope import SAFE_CODECS, Opened, Purpose, open_envelope, reseal
from sitq.exceptions import SerializationError, SignatureError
from sitq.keys import VARIABLE, KeyRing
from sitq.parcel import Spilled, unwrap
from sitq.record import TERMINAL, Record, State
from sitq.spill import Spill, SpillRoom


class Carrier:
    """Makes records of one store fit for another.

    Args:
        source: Where they come from.
        destination: Where they go.
        keys: The keys that are known here.
        trusted: Whether the user vouches for both stores.
        spill: Where bodies lie that are too large for either.
    """

    def __init__(
        self,
        source: Backend,
        destination: Backend,
        keys: KeyRing | None,
        *,
        trusted: bool,
        spill: Spill | None,
    ) -> None:
        self._source = source
        self._destination = destination
        self._keys = keys
        self._trusts_source = trusted or source.traits.local
        self._trusted_there = trusted or destination.traits.local
        self._rooms = None if spill is None else (SpillRoom(spill, source), SpillRoom(spill, destination))

    async def carry(self, record: Record) -> Record:
        """The record for the destination, in its own queue.

        Raises:
            SignatureError: What is in it is not to be trusted, or could not be signed.
            SerializationError: It is too large for the destination, or lies in a file.
        """
        new = copy.copy(record)
        new.queue = home(record.queue)
        new.payload = await self._sealed(
            record.payload, "task", new, record.payload_of or record.id, record.name
        )
        if record.result is not None:
            new.result = await self._sealed(record.result, "result", new, record.id, record.name)
        new.steps = {
            name: await self._sealed(value, "step", new, record.id, name)
            for name, value in record.steps.items()
        }
        most = self._destination.traits.max_payload
        if len(new.payload) > most:
            raise SerializationError(
                f"its payload has {len(new.payload):,} bytes, and the destination takes {most:,}",
                task_id=record.id,
            )
        return new

    async def _sealed(self, data: bytes, purpose: Purpose, record: Record, owner: str, name: str) -> bytes:
        if not data:
            return data
        source, target, keys = self._source.namespace, self._destination.namespace, self._keys
        limit = max(len(data), self._source.traits.max_payload)
        try:
            opened = open_envelope(
                data,
                purpose=purpose,
                namespace=source,
                queue=record.queue,
                task_id=owner,
                names=(name,),
                codec=None,
                keys=keys,
                trusted=self._trusts_source,
                limit=limit,
            )
        except SignatureError:
            raise
        except SerializationError:
            return data  # damage stays what it is: whoever reads it there says so
        moved = await self._fetched(opened, record.id)
        if opened.key_id is None and keys is None:
            self._admit(opened, purpose, record.id)
        if source == target and (opened.key_id is not None or keys is None):
            return data
        return reseal(
            data,
            purpose=purpose,
            namespace=source,
            queue=record.queue,
            task_id=owner,
            names=(name,),
            keys=keys,
            trusted=self._trusts_source,
            limit=limit,
            to_namespace=target,
            moved=moved,
        )

    def _admit(self, opened: Opened, purpose: Purpose, task_id: str) -> None:
        """See that the destination's workers would load it."""
        if opened.codec not in SAFE_CODECS and not self._trusted_there:
            raise SignatureError(
                f"the {purpose} is written with {opened.codec!a} and not signed, so that no worker of the "
                f"destination would load it, which others can write to; set {VARIABLE} here and there, or "
                "accept what is in both stores with trust_store=True",
                task_id=task_id,
            )

    async def _fetched(self, opened: Opened, task_id: str) -> Spilled | None:
        """Copy what lies in a file."""
        if not opened.parcel:
            return None
        spilled = unwrap(opened.payload)[0].spilled
        if spilled is None:
            return None
        if self._rooms is None:
            raise SerializationError(
                f"part of it lies in the file {spilled.name}: say with spill= where such files are",
                task_id=task_id,
            )
        here, there = self._rooms
        await there.write([(spilled, await here.read(spilled, task_id))])
        return spilled


def without_lost_parents(record: Record, parents: Mapping[str, Record | None]) -> Record:
    """A blocked record without its edges to parents whose records are gone: they have ended, and let it wait.

    `ends` are those of such parents then, since the ends of others count again where it goes.
    """
    if record.state is not State.BLOCKED:
        return record
    new = copy.copy(record)
    ends = list(record.ends) or [0] * len(TERMINAL)
    for id in {edge.parent for edge in record.edges}:
        parent = parents.get(id)
        if parent is not None and parent.state in TERMINAL:
            ends[TERMINAL.index(parent.state)] -= 1
    new.ends = tuple(max(0, each) for each in ends) if any(each > 0 for each in ends) else ()
    lost = [edge for edge in record.edges if parents.get(edge.parent) is None]
    if lost:
        new.edges = tuple(edge for edge in record.edges if parents.get(edge.parent) is not None)
        past = [at for at, count in enumerate(ends) if count > 0]
        if any(edge.effects[at] == "a" for edge in lost for at in past):  # it is wanted already
            new.edges = tuple(type(edge)(edge.parent, edge.effects.replace("a", "g")) for edge in new.edges)
    return new
