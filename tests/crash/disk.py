"""The disk: what it may hold after a loss of power, as far as a tape has gone.

What was synced is there. Of the rest anything may be: any of the writes, in any order, torn into sectors; any
of the sizes that a file had; names that were made or removed, or not yet. A sector is written whole or not at
all, and nothing beside it is harmed, which is what SQLite takes for granted (its `powersafe overwrite`).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tape import AnyEvent, Changed, Create, Open, Sync, Synced, Truncate, Unlink, Unlinked, Write

SECTOR = 512


@dataclass(slots=True)
class Change:
    """A write, or a truncation (`data` is None, `at` the new size), that no sync has been about."""

    at: int
    data: bytes | None
    when: int
    over: bool = False


@dataclass(slots=True)
class File:
    """What of a file is certainly there, and what may be."""

    number: int
    safe: bytearray = field(default_factory=bytearray)
    changes: list[Change] = field(default_factory=list)


@dataclass(slots=True)
class Naming:
    """A name that was made (or, with `file` None, removed) since the folder was last synced."""

    name: str
    file: File | None
    when: int


class Disk:
    """Follows a tape, which begins with these files."""

    def __init__(self, base: dict[str, bytes] | None = None) -> None:
        self.when = 0
        self.namings: list[Naming] = []
        self._safe_names = {
            name: File(number, bytearray(content))
            for number, (name, content) in enumerate((base or {}).items())
        }
        self._names = self._safe_names.copy()
        self._handles: dict[int, File] = {}
        self._doing: dict[int, Change] = {}
        self._syncing: dict[int, int] = {}
        self._files = len(self._names)

    def follow(self, event: AnyEvent) -> None:
        """One event more has happened."""
        self.when += 1
        match event:
            case Create():
                self._make(event.name)
            case Unlink():
                if self._names.pop(event.name, None) is not None:
                    self.namings.append(Naming(event.name, None, self.when))
            case Unlinked(folder=True):
                self._settle_names()
            case _:
                self._follow_file(event)

    def _follow_file(self, event: AnyEvent) -> None:
        match event:
            case Open():
                self._handles[event.handle] = self._make(event.name)
            case Write():
                self._change(event.handle, Change(event.at, event.data, self.when))
            case Truncate():
                self._change(event.handle, Change(event.size, None, self.when))
            case Changed():
                self._doing.pop(event.handle).over = True
            case Sync():
                # Only about what was over before: a write of another connection may be on its way.
                whole = itertools.takewhile(lambda one: one.over, self._handles[event.handle].changes)
                self._syncing[event.handle] = max((one.when for one in whole), default=0)
            case Synced():
                _settle(self._handles[event.handle], self._syncing.pop(event.handle))
                if event.folder:
                    self._settle_names()
            case _:
                pass

    def _make(self, name: str) -> File:
        if name not in self._names:
            self._files += 1
            self._names[name] = File(self._files)
            self.namings.append(Naming(name, self._names[name], self.when))
        return self._names[name]

    def _change(self, handle: int, change: Change) -> None:
        self._handles[handle].changes.append(change)
        self._doing[handle] = change

    def _settle_names(self) -> None:
        for naming in self.namings:
            _name(self._safe_names, naming)
        self.namings.clear()

    # -- after the loss of power ---------------------------------------------------------------------------

    def image(self, draw: random.Random, policy: str) -> dict[str, bytes]:
        """What the disk may hold now: the content of each file by its name."""
        names = self._safe_names.copy()
        loss = POLICIES[policy](draw, self.when)
        for naming in _kept_names(draw, policy, self.namings, loss):
            _name(names, naming)
        return {name: loss.content(file) for name, file in names.items()}


def _name(names: dict[str, File], naming: Naming) -> None:
    if naming.file is None:
        names.pop(naming.name, None)
    else:
        names[naming.name] = naming.file


def _settle(file: File, last: int) -> None:
    while file.changes and file.changes[0].when <= last:
        _apply(file.safe, file.changes.pop(0))


def _apply(content: bytearray, change: Change) -> None:
    if change.data is None:
        _resize(content, change.at)
        return
    end = change.at + len(change.data)
    if end > len(content):
        _resize(content, end)
    content[change.at : end] = change.data


def _resize(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))


def _kept_names(draw: random.Random, policy: str, namings: list[Naming], loss: Loss) -> Iterator[Naming]:
    """A journal of the file system keeps the order; without one each name goes its own way."""
    if policy in {"nothing", "everything", "moment"}:
        yield from (one for one in namings if loss.keeps(one.when))
    elif draw.random() < 0.5:
        yield from namings[: draw.randint(0, len(namings))]
    else:
        last = {one.name: draw.randint(0, len(namings)) for one in namings}
        yield from (one for at, one in enumerate(namings) if at < last[one.name])


# -- what is lost ------------------------------------------------------------------------------------------


class Loss:
    """What of each file's changes reached the disk: all of those that are kept, whole."""

    def __init__(self, draw: random.Random, now: int) -> None:
        self.draw = draw
        self.now = now

    def keeps(self, when: int) -> bool:
        """Whether what was done then is there."""
        raise NotImplementedError

    def content(self, file: File) -> bytes:
        """What a file holds."""
        content = file.safe.copy()
        for change in file.changes:
            if self.keeps(change.when):
                _apply(content, change)
        return bytes(content)


class Nothing(Loss):
    """Nothing reached the disk but what was synced."""

    def keeps(self, when: int) -> bool:
        return False


class Everything(Loss):
    """All of it did, as when only the processes end."""

    def keeps(self, when: int) -> bool:
        return True


class Moment(Loss):
    """What was done up to some moment did."""

    def __init__(self, draw: random.Random, now: int) -> None:
        super().__init__(draw, now)
        self._moment = now - int(draw.expovariate(1 / 40))

    def keeps(self, when: int) -> bool:
        return when <= self._moment


class Recent(Loss):
    """What was done after some moment did, and nothing before."""

    def __init__(self, draw: random.Random, now: int) -> None:
        super().__init__(draw, now)
        self._moment = now - int(draw.expovariate(1 / 40))

    def keeps(self, when: int) -> bool:
        return when > self._moment


class Files(Nothing):
    """All of some files did, and nothing of the others."""

    def content(self, file: File) -> bytes:
        if self.draw.random() < 0.5:
            return Everything(self.draw, self.now).content(file)
        return super().content(file)


class Writes(Loss):
    """Any of the writes did, each of them whole."""

    def __init__(self, draw: random.Random, now: int) -> None:
        super().__init__(draw, now)
        self._share = draw.choice((0.1, 0.5, 0.9, 0.98))

    def keeps(self, when: int) -> bool:
        return self.draw.random() < self._share


class Torn(Writes):
    """Any part of any write that is a sector did, and each file has any of the sizes that it had."""

    def content(self, file: File) -> bytes:
        content = file.safe.copy()
        size, sizes = len(content), [len(content)]
        for change in file.changes:
            size = change.at if change.data is None else max(size, change.at + len(change.data))
            sizes.append(size)
            for part in _sectors(change):
                if self._reached(part):
                    _apply(content, part)
        _resize(content, self.draw.choice(sizes))
        return bytes(content)

    def _reached(self, part: Change) -> bool:
        return self.draw.random() < self._share


class Sectors(Torn):
    """Each sector holds what it held at some moment: the kernel writes pages back when it likes."""

    def __init__(self, draw: random.Random, now: int) -> None:
        super().__init__(draw, now)
        self._moments: dict[int, float] = {}

    def content(self, file: File) -> bytes:
        self._moments.clear()
        return super().content(file)

    def _reached(self, part: Change) -> bool:
        sector = part.at // SECTOR
        if sector not in self._moments:
            late = self.draw.random() < self._share
            self._moments[sector] = self.now if late else self.now - self.draw.expovariate(1 / 40)
        return part.when <= self._moments[sector]


def _sectors(change: Change) -> Iterator[Change]:
    if change.data is None:
        yield change
        return
    at, data = change.at, change.data
    while data:
        here = SECTOR - at % SECTOR
        yield Change(at, data[:here], change.when)
        at, data = at + here, data[here:]


POLICIES: dict[str, Callable[[random.Random, int], Loss]] = {
    "nothing": Nothing,
    "everything": Everything,
    "moment": Moment,
    "recent": Recent,
    "files": Files,
    "writes": Writes,
    "torn": Torn,
    "sectors": Sectors,
}
