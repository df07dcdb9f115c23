"""Functions by name: how a task's record names what it runs, and how a worker finds it."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, Self, TypeVar

from sitq import validation
from sitq.exceptions import ConfigurationError, UnknownFunctionError, ValidationError, describe
from sitq.parameters import Ruled, rules_of

__all__ = [
    "ByIdentity",
    "Decorated",
    "Naming",
    "call_it",
    "is_found",
    "known",
    "name_of",
    "plain",
    "python_version",
    "register",
    "registered",
    "resolve",
]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_MAIN = "__main__"
_LONGEST = 255
_MOST_DECORATORS = 100


class Naming(NamedTuple):
    """How a function is named in a record.

    Attributes:
        name: `module:qualname`, or the name it is registered under. By value, a label for people.
        by_value: The function itself has to travel with the task, as no worker would find it by its name.
        registered: It is in this process's registry, so that a serializer which cannot carry functions may
            send it by name even where `by_value` is true (a script's own `@task` functions).
        rules: What the annotations of its parameters say.
    """

    name: str
    by_value: bool
    registered: bool = False
    rules: tuple[Ruled, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether the name says all there is to say."""
        return not (self.by_value or self.rules)


class Decorated:
    """What `@task` makes of a function. A worker runs the function itself.

    Attributes:
        function: The function that was decorated.
        origin: What the decorator made: itself, unless this is a variant of it.
    """

    function: Callable[..., Any]
    origin: Any

    def variant(self, **changes: Any) -> Self:
        """The same with some attributes changed; it has the name of the original."""
        variant = object.__new__(type(self))
        variant.__dict__.update(self.__dict__, **changes)
        return variant


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

    def forget(self, about: object) -> None:
        """Remember nothing about it any more."""
        if self.get(about) is not None:
            del self._known[id(about)]


_functions: dict[str, Callable[..., Any]] = {}
_labels: ByIdentity[tuple[str, bool]] = ByIdentity()
_namings: ByIdentity[Naming] = ByIdentity()
_lock = threading.Lock()


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that `@task` was given; any other one itself."""
    decorated: object = function
    return decorated.function if isinstance(decorated, Decorated) else function


def register(function: F, *, name: str | None = None, aliases: Iterable[str] = ()) -> F:
    """Let tasks of this process name the function, and workers in this process find it; returns it.

    Args:
        function: The function, or what `@task` made of it.
        name: The name stored in tasks; by default `module:qualname`.
        aliases: Former names, under which waiting tasks still find it.

    Raises:
        ValidationError: A name is not usable.
        ConfigurationError: Another function has one of these names.
    """
    validation.function(function)
    if isinstance(aliases, str):
        raise ValidationError(f"aliases is the text {aliases!r}; pass a list of names")
    label = _label(function) if name is None else validation.name(name, "function name")
    every = [label, *(validation.name(alias, "alias") for alias in aliases)]
    with _lock:
        for each in every:
            other = _functions.get(each)
            if other is not None and other is not function and not _is_same(plain(other), plain(function)):
                raise ConfigurationError(
                    f"the name {each!r} already stands for {_label(other)}, not for {_label(function)}; "
                    f"give one of them another name with @task(name=…)"
                )
        _functions.update(dict.fromkeys(every, function))
    by_value = name is None and not _is_importable(function)
    for one in (function, plain(function)):  # the last name that a function was given is its own
        _labels.set(one, (label, by_value))
        _namings.forget(one)
    return function


def is_found(function: Decorated) -> bool:
    """Whether a decorated function can be imported by its module and qualified name."""
    return _is_importable(function) and _lookup(_label(function)) is function


def call_it(function: Decorated, name: str) -> None:
    """Give a function a name without registering it: a copy of one that came with a payload."""
    _labels.set(function, (name, False))


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
    decorated: object = function
    if isinstance(decorated, Decorated):
        function = decorated.origin
    named = _labels.get(function)
    if named is not None:
        # Its annotations are read now, and not by the decorator: they may name what its module defines later.
        naming = Naming(*named, registered=True, rules=rules_of(plain(function)))
        _namings.set(function, naming)
        return naming
    label = _label(function)
    if not _is_importable(function):
        naming = Naming(label, by_value=True, rules=rules_of(function))
        # What can never be found by name stays so.
        if "<" in label or label.startswith(f"{_MAIN}:"):
            _namings.set(function, naming)
        return naming
    if _lookup(label) is not function:
        # Not remembered: a decorator asks before the module has the name.
        return Naming(label, by_value=True, rules=rules_of(function))
    naming = Naming(label, by_value=False, rules=rules_of(function))
    _namings.set(function, naming)
    return naming


def known(name: str) -> Callable[..., Any] | None:
    """The function of this name if it is registered, or in a module that is imported already."""
    function = _functions.get(name)
    if function is None and ":" in name and "<" not in name:
        function = _lookup(name)
    return plain(function) if callable(function) else None


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
        return _outermost(name, plain(function))
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
    function = _functions.get(name)
    found = _lookup(name) if function is None else _outermost(name, plain(function))
    if found is None:
        raise UnknownFunctionError(
            f"module {module_name!a} has no attribute {path!a}; if it was renamed, give the function its old "
            f"name with @task(aliases=[{name!a}])"
        )
    if not callable(found):
        raise UnknownFunctionError(f"{name!a} is of type {type(found).__qualname__} and cannot be called")
    return plain(found)


def python_version() -> str:
    """The minor version of this Python, such as 3.11: only the same one can load functions by value."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _is_importable(function: object) -> bool:
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


def _label(function: object) -> str:
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


def _outermost(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, or what other decorators above `@task` made of it: that is what its name stands for."""
    found = _lookup(name)
    if not callable(found) or found is function or isinstance(found, Decorated):
        return function
    outermost: Callable[..., Any] = found
    inner: Any = found
    for _ in range(_MOST_DECORATORS):
        inner = getattr(inner, "__wrapped__", None)
        if inner is None:
            break
        if plain(inner) is function:
            return outermost
    return function


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
