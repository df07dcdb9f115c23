"""The places where spilled bodies are: a folder, or a file system of fsspec."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote, urlsplit

from sitq.exceptions import ConfigurationError, describe
from sitq.ids import token

if TYPE_CHECKING:
    from sitq.spill import Spill

UNFINISHED: Final = ".part-"
"""How the name of a file begins that is being written."""


class Files(Protocol):
    """The files of one store."""

    def write(self, name: str, body: bytes) -> None:
        """Write one, so that nobody ever reads half of it."""
        ...

    def read(self, name: str, size: int) -> bytes:
        """At most one byte more than `size`."""
        ...

    def remove(self, name: str, before: float) -> None:
        """Remove one, unless it was written at `before` or later; nothing if it is not there."""
        ...

    def listed(self) -> Iterator[tuple[str, float]]:
        """The names of all, and when each was written."""
        ...


def open_place(spill: Spill, home: str) -> Files:
    """Where the files of the store with this name are.

    Raises:
        ConfigurationError: fsspec does not know such a URL, or a library is missing.
    """
    if "://" not in spill.where:
        return _Folder(Path(spill.where) / home)
    if spill.where.startswith("file://"):
        return _Folder(Path(unquote(urlsplit(spill.where).path)) / home)
    try:
        system, path = needed_fsspec(spill).core.url_to_fs(spill.where, **spill.options)
    except (ImportError, ValueError) as error:
        raise ConfigurationError(f"{spill!r} cannot be opened: {describe(error)}", cause=error) from error
    return _Remote(system, f"{path}/{home}")


def needed_fsspec(spill: Spill) -> Any:
    """The library.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        import fsspec  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError(
            f"{spill!r} is a URL, which the library fsspec opens, and that is not installed: "
            f"pip install 'sitq-tasks[file]'; a plain folder needs nothing",
            cause=error,
        ) from error
    return fsspec


class _Folder:
    """A folder of this host, or one that is mounted like one."""

    def __init__(self, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path

    def write(self, name: str, body: bytes) -> None:
        """Under another name first, so that nobody ever reads half of it."""
        unfinished = self._path / f"{UNFINISHED}{token()}"
        try:
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._path / name)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        self._sync_folder()

    def _sync_folder(self) -> None:
        if os.name == "nt":  # a folder cannot be opened there
            return
        folder = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def read(self, name: str, size: int) -> bytes:
        with (self._path / name).open("rb") as file:
            return file.read(size + 1)

    def remove(self, name: str, before: float) -> None:
        """Remove it, unless somebody has written it anew in the meantime."""
        path = self._path / name
        try:
            if path.stat().st_mtime < before:
                path.unlink()
        except FileNotFoundError:  # another sweep was faster
            return

    def listed(self) -> Iterator[tuple[str, float]]:
        with os.scandir(self._path) as entries:
            for entry in entries:
                try:
                    yield entry.name, entry.stat().st_mtime
                except FileNotFoundError:  # another sweep was faster
                    continue


class _Remote:
    """A file system of fsspec. Object stores write whole objects or none."""

    def __init__(self, system: Any, path: str) -> None:
        self._system = system
        self._path = path

    def write(self, name: str, body: bytes) -> None:
        self._system.makedirs(self._path, exist_ok=True)
        self._system.pipe_file(f"{self._path}/{name}", body)

    def read(self, name: str, size: int) -> bytes:
        body: bytes = self._system.cat_file(f"{self._path}/{name}", start=0, end=size + 1)
        return body

    def remove(self, name: str, before: float) -> None:  # noqa: ARG002 - what was listed is all it can tell
        try:
            self._system.rm_file(f"{self._path}/{name}")
        except FileNotFoundError:
            return

    def listed(self) -> Iterator[tuple[str, float]]:
        self._system.invalidate_cache(self._path)
        try:
            found = self._system.ls(self._path, detail=True)
        except FileNotFoundError:
            return
        entries = deque(found)
        while entries:
            entry = entries.popleft()
            yield entry["name"].rpartition("/")[2], _changed(entry)


def _changed(entry: dict[str, Any]) -> float:
    """When a file was written, as its system says; unknown counts as just now, so that it is not swept."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = entry.get(name)
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                continue
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return time.time()
