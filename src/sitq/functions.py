"""Functions by name: how a task's record names what it runs, and how a worker finds it."""

import contextlib
import importlib
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar, overload

from sitq import validation
from sitq.exceptions import ConfigurationError, UnknownFunctionError, ValidationError, describe

__all__ = ["ByIdentity", "Naming", "name_of", "python_version", "register", "registered", "resolve", "task"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_MAIN = "__main__"
_LONGEST = 255


class Naming(NamedTuple):
    """How a function is named in a record.

    Attributes:
        name: `module:qualname`, or the name it is registered under. By value, a label for people.
        by_value: The function itself has to travel with the task, as no worker would find it by its name.
        registered: It is in this process's registry, so that a serializer which cannot carry functions may
            send it by name even where `by_value` is true (a script's own `@task` functions).
    """

    name: str
    by_value: bool
    registered: bool = False


class ByIdentity(Generic[T]):
    """Remembers something about an object for as long as the object lives.

    By identity, as a callable object may compare and hash as it likes; weakly, so that closures can go.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], T]] = {}

    def get(self, about: object) -> T | None:
        """What is remembered, or None."""
        known = self._known.get(id(about))
        return known[1] if known is not None and known[0]() is about else None

    def set(self, about: object, what: T) -> None:
        """Remember it; nothing happens for an object that cannot be referred to weakly."""
        key = id(about)

        def forget(reference: weakref.ref[Any]) -> None:
            known = self._known.get(key)
            if known is not None and known[0] is reference:
                del self._known[key]

        with contextlib.suppress(TypeError):
            self._known[key] = weakref.ref(about, forget), what


_functions: dict[str, Callable[..., Any]] = {}
_namings: ByIdentity[Naming] = ByIdentity()
_lock = threading.Lock()


@overload
def task(function: F, /) -> F: ...


@overload
def task(*, name: str | None = None, aliases: Iterable[str] = ()) -> Callable[[F], F]: ...


def task(
    function: F | None = None, /, *, name: str | None = None, aliases: Iterable[str] = ()
) -> F | Callable[[F], F]:
    """Register a function in this process and return it unchanged.

    Args:
        function: The function, where the decorator is used without arguments.
        name: The name stored in tasks; by default `module:qualname`.
        aliases: Former names, under which waiting tasks still find it.

    Raises:
        ValidationError: A name is not usable.
        ConfigurationError: Another function has one of these names.
    """
    if function is not None:
        return register(function, name=name, aliases=aliases)
    return lambda function: register(function, name=name, aliases=aliases)


def register(function: F, *, name: str | None = None, aliases: Iterable[str] = ()) -> F:
    """What `task` does, as a call."""
    validation.function(function)
    if isinstance(aliases, str):
        raise ValidationError(f"aliases is the text {aliases!r}; pass a list of names")
    label = _label(function) if name is None else validation.name(name, "function name")
    every = [label, *(validation.name(alias, "alias") for alias in aliases)]
    with _lock:
        for each in every:
            other = _functions.get(each)
            if other is not None and other is not function and not _is_same(other, function):
                raise ConfigurationError(
                    f"the name {each!r} already stands for {_label(other)}, not for {_label(function)}; "
                    f"give one of them another name with @task(name=…)"
                )
        _functions.update(dict.fromkeys(every, function))
    by_value = name is None and not _is_importable(function)
    _namings.set(function, Naming(label, by_value, registered=True))
    return function


def registered() -> dict[str, Callable[..., Any]]:
    """Every registered name and alias with its function."""
    return dict(_functions)


def name_of(function: Callable[..., Any]) -> Naming:
    """How a task that runs this function names it.

    By name if it is registered, or if `module:qualname` resolves to the identical object in a module that
    others can import; otherwise by value: lambdas, inner functions, partials, bound methods, and all that
    is in `__main__`.

    An answer is remembered for as long as the function lives: a later change of the module's attribute, as
    tests make with a patch, does not change how the function itself is named.
    """
    known = _namings.get(function)
    if known is not None:
        return known
    label = _label(function)
    if not _is_importable(function):
        naming = Naming(label, by_value=True)
        # What can never be found by name stays so.
        if "<" in label or label.startswith(f"{_MAIN}:"):
            _namings.set(function, naming)
        return naming
    if _lookup(label) is not function:
        # Not remembered: a decorator asks before the module has the name.
        return Naming(label, by_value=True)
    naming = Naming(label, by_value=False)
    _namings.set(function, naming)
    return naming


def resolve(name: str, *, registered_only: bool) -> Callable[..., Any]:
    """The function of this name.

    Args:
        name: A registered name or alias, or `module:qualname`.
        registered_only: Import nothing. Names from payloads that nobody vouches for need it, as importing a
            module runs it.

    Raises:
        UnknownFunctionError: There is none, with the reason.
    """
    function = _functions.get(name)
    if function is not None:
        return function
    if registered_only:
        raise UnknownFunctionError(
            f"no function is registered as {name!a}; decorate it with @task and let the worker import it"
        )
    module_name, colon, path = name.partition(":")
    if not colon or not path or not module_name or module_name.startswith("."):
        raise UnknownFunctionError(
            f"no function is registered as {name!a}, and it is not of the form module:function"
        )
    if module_name == _MAIN or "<" in path:
        raise UnknownFunctionError(
            f"{name!a} exists only in the process that made it; move it to a module, or use @task(name=…)"
        )
    try:
        importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # A script without a main guard may well end in SystemExit when it is imported.
        raise UnknownFunctionError(
            f"cannot import module {module_name!a} of {name!a}: {describe(error)}", cause=error
        ) from error
    # Importing the module may have registered the plain function behind a decorator's object.
    found = _functions.get(name) or _lookup(name)
    if found is None:
        raise UnknownFunctionError(
            f"module {module_name!a} has no attribute {path!a}; if it was renamed, give the function its old "
            f"name with @task(aliases=[{name!a}])"
        )
    if not callable(found):
        raise UnknownFunctionError(f"{name!a} is of type {type(found).__qualname__} and cannot be called")
    return found


def python_version() -> str:
    """The minor version of this Python, such as 3.11: only the same one can load functions by value."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _is_importable(function: Callable[..., Any]) -> bool:
    """Whether its module and qualified name are such that others could find it by them."""
    module = getattr(function, "__module__", None)
    qualname = getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str) or module == _MAIN:
        return False
    return (
        bool(module)
        and "<" not in qualname
        and ":" not in module
        and _label(function) == f"{module}:{qualname}"
    )


def _label(function: Callable[..., Any]) -> str:
    """`module:qualname` as a valid name; for objects without one, that of what they are made of."""
    inner: Any = getattr(function, "func", None)  # a partial
    named: Any = function
    if not isinstance(getattr(function, "__qualname__", None), str):
        named = inner if isinstance(getattr(inner, "__qualname__", None), str) else type(function)
    module, qualname = getattr(named, "__module__", None), named.__qualname__
    label = f"{module}:{qualname}" if isinstance(module, str) else str(qualname)
    try:
        return validation.name(label, "function name")
    except ValidationError:
        # Such names are set by hand or made by programs; by value they are read by people only.
        plain = "".join(each if each.isprintable() and each.isascii() else "?" for each in label)
        return plain[:_LONGEST] or "?"


def _lookup(name: str) -> Any:
    """What `module:qualname` stands for among the modules imported so far; None if nothing."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    try:
        for part in path.split("."):
            found = getattr(found, part)
    except Exception:  # noqa: BLE001 - a module's or class's own __getattr__ may raise anything
        return None
    return found


def _is_same(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether two objects are one function, made twice: by a reload, or by a script that is also imported."""
    if _label(one) == _label(other):
        return True
    one_code, other_code = getattr(one, "__code__", None), getattr(other, "__code__", None)
    return (
        one_code is not None
        and other_code is not None
        and getattr(one, "__qualname__", None) == getattr(other, "__qualname__", None)
        and one_code.co_filename == other_code.co_filename
        and one_code.co_firstlineno == other_code.co_firstlineno
    )
