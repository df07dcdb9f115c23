"""Another user to run as, for servers that refuse to be run by root."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

NAMES: Final = ("postgres", "nobody", "daemon")
"""Users to take, in this order, before any other."""


class NoUserError(RuntimeError):
    """There is only root."""


def other_user() -> pwd.struct_passwd | None:
    """Whom to run a server as: None is the present user, unless that is root.

    Raises:
        NoUserError: The present user is root, and there is no other one.
    """
    if os.geteuid() != 0:
        return None
    known = {user.pw_name: user for user in pwd.getpwall() if user.pw_uid != 0}
    for name in (*NAMES, *known):
        if name in known:
            return known[name]
    raise NoUserError("PostgreSQL refuses to be run by root, and this machine has no other user: add one")


def make_folder(prefix: str, user: pwd.struct_passwd | None) -> Path:
    """Make a new temporary folder that the user owns and can reach.

    A short path, since that of a Unix socket may have about 100 characters.
    """
    parents = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108 - the folder is made with mkdtemp
    parent = next((place for place in parents if user is None or reachable(place)), parents[1])
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    give(folder, user)
    return folder


def give(folder: Path, user: pwd.struct_passwd | None) -> None:
    """Let the user own the folder."""
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)


def reachable(place: Path) -> bool:
    """Whether any user may go through the folder and all those above it."""
    resolved = place.resolve()
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (resolved, *resolved.parents))


def reachable_copy(binaries: Path, folder: Path, user: pwd.struct_passwd | None) -> Path:
    """The folder of the binaries, or of a copy of what they belong to where the user cannot go.

    An environment below `/root` is closed to everybody else. `binaries` is the `bin` of an installation that
    finds its libraries and its share relative to itself.
    """
    if user is None or reachable(binaries):
        return binaries
    package = binaries.parent.parent  # the wheel's libraries lie beside the package that holds `bin`'s parent
    copy = folder / "installed"
    for source in (package, package.with_name(package.name + ".libs")):
        if source.exists() and not (copy / source.name).exists():
            shutil.copytree(source, copy / source.name)
    copy.chmod(0o755)
    return copy / package.name / binaries.parent.name / binaries.name
