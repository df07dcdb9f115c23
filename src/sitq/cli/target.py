"""What `module:queue` names: an object of the user's, imported."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
import traceback
from types import ModuleType, TracebackType
from typing import Any, Final

import click

from sitq.backends import open_backend
from sitq.backends.base import Backend
from sitq.cli.complaint import Complaint
from sitq.exceptions import SitqError
from sitq.queue import TaskQueue
from sitq.sync import SyncTaskQueue
from sitq.worker import Worker

Target = TaskQueue | Worker | Backend

_WANTED = (
    "a TaskQueue or SyncTaskQueue, a Worker, a backend, or a function without arguments that returns one"
)


_DATABASES: Final = (".db", ".sqlite", ".sqlite3")


def check_target(text: str) -> str:
    """The text, if it looks like something that `load_target` can load; nothing is imported."""
    if "://" in text:
        return text
    module, colon, path = text.partition(":")
    if text.endswith(_DATABASES):
        raise Complaint(f"{text!r} names a file; a database is given by its URL: sqlite:///{text}")
    if module.endswith(".py") or os.sep in module:
        plain = module.removesuffix(".py").strip(os.sep + ".").replace(os.sep, ".")
        raise Complaint(f"{text!r} names a file; name the module: {plain}:{path or 'queue'}")
    if not colon or not path:
        raise Complaint(
            f"{text!r} names no object in the module; write {module or 'module'}:queue, if it is called queue"
        )
    if not all(part.isidentifier() for part in (*module.split("."), *path.split("."))):
        raise Complaint(f"{text!r} is not of the form module:queue")
    return text


def load_target(text: str) -> Target:
    """The queue, worker or backend that `module:name` stands for, or the store of a URL.

    Modules are looked for in the current folder first.

    Raises:
        Complaint: It cannot be had; if the user's own code failed, its traceback has been shown.
    """
    check_target(text)
    if "://" in text:
        try:
            return open_backend(text)
        except SitqError as error:
            raise Complaint(str(error)) from error
    module_name, _, path = text.partition(":")
    found = _attribute(_module(module_name), path)
    return _usable(found) or _made(found, text)


def _usable(found: Any) -> Target | None:
    """What a worker can be made of; of a queue without an event loop, the one behind it."""
    if isinstance(found, SyncTaskQueue):
        return found.inner
    return found if isinstance(found, TaskQueue | Worker | Backend) else None


def _module(name: str) -> ModuleType:
    here = os.getcwd()  # noqa: PTH109 - sys.path takes text
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise _failed(f"module {name!r} cannot be imported", error) from error
        raise Complaint(
            f"there is no module {error.name!r} in {here} or elsewhere on the Python path"
        ) from error
    except SystemExit as error:
        raise Complaint(
            f"module {name!r} ended the program when it was imported; "
            "put what it runs behind `if __name__ == '__main__':`"
        ) from error
    except BaseException as error:
        raise _failed(f"module {name!r} cannot be imported", error) from error


def _attribute(module: ModuleType, path: str) -> Any:
    found: Any = module
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Complaint(
                f"module {module.__name__!r} has no attribute {path!r}{_hint(module, path)}"
            ) from None
    return found


def _hint(module: ModuleType, path: str) -> str:
    usable = [name for name, value in vars(module).items() if _usable(value) is not None]
    near = difflib.get_close_matches(path, usable or vars(module), n=1)
    if near:
        return f"; did you mean {module.__name__}:{near[0]}?"
    return f"; it has {', '.join(f'{module.__name__}:{name}' for name in usable)}" if usable else ""


def _made(factory: Any, text: str) -> Target:
    """What a function without arguments returns."""
    if not callable(factory) or isinstance(factory, type):
        what = (
            f"the class {factory.__qualname__}"
            if isinstance(factory, type)
            else f"of type {type(factory).__qualname__}"
        )
        raise Complaint(f"{text} is {what}; it has to be {_WANTED}")
    try:
        inspect.signature(factory).bind()
    except (TypeError, ValueError):
        raise Complaint(f"{text} needs arguments; it has to be {_WANTED}") from None
    try:
        made = factory()
    except Exception as error:
        raise _failed(f"{text}() failed", error) from error
    usable = _usable(made)
    if usable is not None:
        return usable
    if inspect.iscoroutine(made):
        made.close()
        raise Complaint(f"{text} is an async function; it has to be {_WANTED}")
    raise Complaint(f"{text}() returned an object of type {type(made).__qualname__}; it has to be {_WANTED}")


def _failed(message: str, error: BaseException) -> Complaint:
    """A complaint about the user's own code, after its traceback, without the frames that led to it."""
    lines = traceback.format_exception(type(error), error, _users_part(error.__traceback__))
    click.echo("".join(lines), nl=False, err=True)
    return Complaint(f"{message}, see above: {type(error).__qualname__}: {error}")


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and (
        trace.tb_frame.f_code.co_filename == __file__
        or trace.tb_frame.f_code.co_filename.startswith("<frozen importlib")
        or trace.tb_frame.f_globals.get("__name__") == "importlib"
    ):
        trace = trace.tb_next
    return trace
