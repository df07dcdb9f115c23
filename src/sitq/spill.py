"""Spilling: payloads and results that are too large for the store lie in a folder, or at a URL of fsspec.

A file's name is made of its task's id and of a mark that no other file has, and only the name is in the
store: where the folder is, each queue and worker is told by itself. A file is complete before anything refers
to it. One whose task was deleted is removed after it, by its name: it is nobody else's, even where the id is
used again. What no task refers to any more, or never did, is swept.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import os
import re
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sitq import validation
from sitq.envelope import parcel_of
from sitq.exceptions import (
    BackendError,
    SerializationError,
    SitqError,
    ValidationError,
    describe,
)
from sitq.ids import token
from sitq.parcel import Spilled, unwrap
from sitq.record import TERMINAL, Record
from sitq.spill_place import UNFINISHED, Files, needed_fsspec, open_place

if TYPE_CHECKING:
    from sitq.backends.base import Backend

__all__ = [
    "AwayError",
    "LostError",
    "NoPlaceError",
    "Spill",
    "SpillRoom",
    "file_name",
    "owner_of",
    "reference",
]

_CELL: Final = "spill/home"
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_NAME: Final = re.compile(r"(task|result)\.([ib])\.([A-Za-z0-9_-]+)\.[0-9a-f]{16}")
_LARGEST: Final = (1 << 32) - 1
_STEP: Final = 200
"""How many files one turn of the sweep looks at."""

_MOST_WATCHED: Final = 10_000
_LOOK_AGAIN: Final = 60.0
"""Seconds until a watched file is looked at again whose task is still there."""


class Spill:
    """Where large payloads and results are kept instead of in the store.

    Args:
        where: A folder, or a URL that fsspec opens, such as `s3://bucket/tasks` (`sitq-tasks[file]`).
        above: Bytes of a payload or result above which it is spilled.
        most: Bytes that one may have at all.
        grace: Seconds for which a file that no task refers to is left alone, since its task may be on its way
            into the store.
        options: What fsspec is to be given for the URL, such as credentials.

    Raises:
        ValidationError: A value is not acceptable.
    """

    def __init__(
        self,
        where: str | os.PathLike[str],
        *,
        above: int = 256 * 1024,
        most: int = 1 << 30,
        grace: float | timedelta = 3600.0,
        options: dict[str, Any] | None = None,
    ) -> None:
        if not isinstance(where, str | os.PathLike):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
            raise ValidationError(f"Spill needs a folder or a URL, not {where!r}")
        self.where: str = os.fspath(where)
        if not self.where:
            raise ValidationError("Spill needs a folder or a URL, and the text is empty")
        self.above = validation.positive_int(above, "above", _LARGEST)
        self.most = validation.positive_int(most, "most", _LARGEST)
        self.grace: float = validation.duration(grace, "grace") / 1_000_000
        self.options = dict(options or {})
        if "://" in self.where and not self.where.startswith("file://"):
            needed_fsspec(self)  # what is missing is better known now

    def __repr__(self) -> str:
        where = re.sub(r"(://[^\s/@:]*:)[^\s/]+@", r"\1***@", self.where)
        return f"Spill({where!r}, above={self.above})"


class AwayError(SitqError):
    """A body lies in a file and has to be fetched before it can be read.

    Attributes:
        spilled: The file.
    """

    def __init__(self, spilled: Spilled, task_id: str) -> None:
        super().__init__(f"it lies in the file {spilled.name}", task_id=task_id)
        self.spilled = spilled


class LostError(SerializationError):
    """A spilled body is not there, or is not what was spilled."""


class NoPlaceError(LostError):
    """This process was not told where spilled bodies are. Another one may have been."""


def reference(purpose: str, task_id: str, body: bytes) -> Spilled:
    """What an envelope says of a body that lies in a file."""
    digest = hashlib.sha256(body).digest()
    return Spilled(file_name(purpose, task_id, os.urandom(8)), len(body), digest)


def file_name(purpose: str, task_id: str, mark: bytes) -> str:
    """The name of a file; the task's id can be read from it. The mark tells the files of an id apart."""
    if _PLAIN.fullmatch(task_id):
        kind, owner = "i", task_id
    else:
        kind, owner = "b", base64.urlsafe_b64encode(task_id.encode()).decode().rstrip("=")
    return f"{purpose}.{kind}.{owner}.{mark[:8].hex()}"


def owner_of(name: str) -> str | None:
    """The id of the task that a file belongs to; None if it is not of sitq."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    _, kind, owner = match.groups()
    if kind == "i":
        return owner
    try:
        return base64.urlsafe_b64decode(owner + "=" * (-len(owner) % 4)).decode()
    except ValueError:
        return None


def files_of(task_id: str, *envelopes: bytes) -> list[str]:
    """The names of a task's files in its envelopes. These are not verified, so others' files do not count."""
    names: list[str] = []
    for data in envelopes:
        payload = parcel_of(data)
        try:
            spilled = None if payload is None else unwrap(payload)[0].spilled
        except SerializationError:
            continue
        if spilled is not None and owner_of(spilled.name) == task_id:
            names.append(spilled.name)
    return names


def _is_nobodys(name: str, owner: Record | None) -> bool:
    """Whether a file that has been there for long is one to which nothing refers, nor ever will.

    An enqueue that was repeated under its id has left one behind, and an attempt that lost its lease, too.
    """
    if owner is None:
        return True
    is_result = name.startswith("result.")
    if is_result and owner.state not in TERMINAL:
        return False
    its = files_of(owner.id, (owner.result or b"") if is_result else owner.payload)
    return bool(its) and name not in its


class SpillRoom:
    """The files of one store: writes, reads, sweeps.

    Each store has a folder of its own under the one that was named, so that stores which share that one do
    not sweep away each other's files.
    """

    def __init__(self, spill: Spill, backend: Backend) -> None:
        self.spill = spill
        self._backend = backend
        self._files: Files | None = None
        self._seen: Iterator[tuple[str, float]] | None = None
        self._watched: dict[str, tuple[str, float]] = {}

    async def write(self, pending: Iterable[tuple[Spilled, bytes]]) -> None:
        """Keep bodies; returns when they are as safe as the place can make them.

        Raises:
            BackendError: The place did not take one.
        """
        try:
            files = await self._opened()
            for spilled, body in pending:
                await asyncio.to_thread(files.write, spilled.name, body)
        except SitqError:
            raise
        except Exception as error:
            raise BackendError(
                f"{self.spill!r} did not take a payload: {describe(error)}", operation="spill", cause=error
            ) from error

    async def read(self, spilled: Spilled, task_id: str) -> bytes:
        """A body, verified.

        Raises:
            LostError: It is not there, or not what was spilled.
            BackendError: The place cannot be read now.
        """
        if _NAME.fullmatch(spilled.name) is None or spilled.size > self.spill.most:
            raise LostError(
                f"what was spilled as {spilled.name!a:.300} with {spilled.size:,} bytes is not read: "
                f"its name is none of sitq's, or it has more than {self.spill.most:,} bytes (Spill's most=)",
                task_id=task_id,
            )
        try:
            files = await self._opened()
            body = await asyncio.to_thread(files.read, spilled.name, spilled.size)
        except SitqError:
            raise
        except FileNotFoundError as error:
            raise LostError(
                f"what was spilled as {spilled.name} is not in {self.spill!r}: it was removed, or the "
                f"producer spills to another place than this process reads from",
                task_id=task_id,
                cause=error,
            ) from error
        except Exception as error:
            raise BackendError(
                f"{self.spill!r} cannot be read: {describe(error)}",
                task_id=task_id,
                operation="spill",
                cause=error,
            ) from error
        if len(body) != spilled.size or hashlib.sha256(body).digest() != spilled.digest:
            raise LostError(
                f"the file {spilled.name} in {self.spill!r} is not what was spilled: it has {len(body):,} "
                f"bytes instead of {spilled.size:,}, or its SHA-256 is another one",
                task_id=task_id,
            )
        return body

    async def remove(self, names: Iterable[str]) -> None:
        """Remove the files of tasks that are gone. Those that are not there are left out.

        Raises:
            BackendError: The place cannot be reached now; the sweep will find them.
        """
        try:
            files = await self._opened()
            for name in names:
                await asyncio.to_thread(files.remove, name, math.inf)
        except SitqError:
            raise
        except Exception as error:
            raise BackendError(
                f"{self.spill!r} did not remove a file: {describe(error)}", operation="spill", cause=error
            ) from error

    def watch(self, names: Iterable[str], task_id: str, seconds: float) -> None:
        """Let the sweep look at files of a task once that may have been purged, whatever the grace.

        Those that are too many are left to the grace.
        """
        for name in names:
            if len(self._watched) < _MOST_WATCHED:
                self._watched[name] = task_id, time.monotonic() + seconds

    async def _remove_watched(self, most: int) -> int:
        now = time.monotonic()
        due = [name for name, (_, when) in self._watched.items() if when <= now][:most]
        if not due:
            return 0
        owners = {name: self._watched[name][0] for name in due}
        ids = list(dict.fromkeys(owners.values()))
        known = dict(zip(ids, await self._backend.get(ids), strict=True))
        gone = [name for name in due if known[owners[name]] is None]
        await self.remove(gone)
        for name, owner in owners.items():
            del self._watched[name]
            if known[owner] is not None:
                self._watched[name] = owner, now + _LOOK_AGAIN
        return len(gone)

    async def sweep(self, most: int = _STEP) -> int:
        """Look at the next `most` files and remove those whose tasks are gone; how many were removed.

        A file younger than the grace is left alone, unless it was watched.
        """
        removed = await self._remove_watched(most)
        files = await self._opened()
        young = time.time() - self.spill.grace
        page = await asyncio.to_thread(self._page, files, most)
        old = [name for name, changed in page if changed < young]
        owners = {name: owner for name in old if (owner := owner_of(name)) is not None}
        ids = list(dict.fromkeys(owners.values()))
        known = dict(zip(ids, await self._backend.get(ids), strict=True)) if ids else {}
        gone = [name for name, owner in owners.items() if _is_nobodys(name, known[owner])]
        gone += [name for name in old if name.startswith(UNFINISHED)]
        for name in gone:
            await asyncio.to_thread(files.remove, name, young)
        return removed + len(gone)

    def _page(self, files: Files, most: int) -> list[tuple[str, float]]:
        """The next files; after the last one it starts anew with the next page."""
        if self._seen is None:
            self._seen = files.listed()
        page: list[tuple[str, float]] = []
        for each in self._seen:
            page.append(each)
            if len(page) == most:
                return page
        self._seen = None
        return page

    async def _opened(self) -> Files:
        if self._files is None:
            home = await self._home()
            self._files = await asyncio.to_thread(open_place, self.spill, home)
        return self._files

    async def _home(self) -> str:
        """The name of this store's folder, which the first one to ask makes up."""
        while True:
            for cell in await self._backend.cells(_CELL):
                if cell.key == _CELL:
                    return cell.value.decode()
            await self._backend.swap(_CELL, None, token().encode())
