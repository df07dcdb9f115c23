"""Options as fields of a record: what a call leaves open is filled in from its function and arguments."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from sitq import partition
from sitq.dependencies import callers_signature
from sitq.exceptions import ValidationError
from sitq.fairness import Fair
from sitq.limits import AnyLimit, ConcurrencyLimit, RateLimit
from sitq.options import Options
from sitq.parameters import Ruled
from sitq.policy.retry import as_data
from sitq.record import DAY, Limit, Record
from sitq.record import Fair as StoredFair
from sitq.record import Unique as StoredUnique
from sitq.uniqueness import Unique


class Call(NamedTuple):
    """The call of a new task, as far as its options are taken from it."""

    function: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    rules: Sequence[Ruled] = ()


def imprint(options: Options, record: Record, call: Call) -> None:
    """Write options into the record of a new task, and the rules that stand at its function's parameters.

    Options come before rules: a limit adds to those at parameters, a tenant or unique key takes their place.

    Raises:
        ValidationError: A key cannot be made of the arguments.
    """
    record.priority = options.priority
    record.due = options.eta or 0
    record.delay = options.delay
    record.ttl = options.ttl
    record.deadline = options.deadline
    record.timeout = options.timeout
    record.retry = as_data(options.retry)
    record.keep = DAY if options.result_ttl is None else options.result_ttl
    record.tags = options.tags
    record.executor = options.executor
    record.room = options.max_length
    record.edges = options.depends_on
    if options.batch is not None:
        record.batch = options.batch
        record.inputs = (options.batch,)
    if options.limits:
        record.limits = _limits(options.limits, call, record.name)
    if options.fair is not None:
        record.fair = _fair(options.fair, call)
    if options.unique is not None:
        _hold(record, options.unique, _unique_key(options.unique, call, record.name))
    if call.rules:
        limits = {limit.key: limit for limit in record.limits}
        for ruled in call.rules:
            _follow(ruled, record, limits, call)
        record.limits = tuple(limits.values())
    if record.edges and record.unique is not None:
        refuse_to_wait(record.unique, record.edges[0].parent)


def refuse_to_wait(unique: StoredUnique, parent: str, *, value: bool = False) -> None:
    """Refuse a parent to a task that may give its arguments to another one: that one does not wait for it.

    Args:
        unique: What the task holds, or is to hold.
        parent: The parent.
        value: Whether the task takes its value as an argument.

    Raises:
        ValidationError: It may.
    """
    if unique.clash != "replace" or "payload" not in unique.fields:
        return
    cannot = f"take the value of task {parent}" if value else f"depend on task {parent}"
    remedy = "pass plain arguments" if value else "leave out depends_on"
    raise ValidationError(
        f"a task that may replace the arguments of another one under the key {unique.key!r} cannot {cannot}: "
        f"that one does not wait for it; {remedy}, or use a clash other than 'replace'"
    )


def _follow(ruled: Ruled, record: Record, limits: dict[str, Limit], call: Call) -> None:
    """What a rule at a parameter says of the argument; nothing of None."""
    rule, value = ruled.rule, ruled.value(call.args, call.kwargs)
    if value is None:
        return
    own = ("function", record.name, f"{ruled.name}=")
    match rule:
        case RateLimit() | ConcurrencyLimit():
            _add(limits, _key_at(rule.key, value, ruled.name, own), rule)
        case Fair() if record.fair is None:
            key = _key_at(rule.key, value, ruled.name, ())
            record.fair = None if key is None else StoredFair(key, rule.weight)
        case Unique() if record.unique is None:
            _hold(record, rule, _key_at(rule.key, value, ruled.name, own))
        case _:
            pass


def _limits(limits: tuple[AnyLimit, ...], call: Call, name: str) -> tuple[Limit, ...]:
    """The limits of a call as they are stored."""
    if not any([callable(limit.key) for limit in limits]):  # noqa: C419 - a generator takes longer
        return _fixed_limits(limits, name)
    made: dict[str, Limit] = {}
    for limit in limits:
        _add(made, _key(limit.key, call, "function", name), limit)
    return tuple(made.values())


@lru_cache(maxsize=1024)
def _fixed_limits(limits: tuple[AnyLimit, ...], name: str) -> tuple[Limit, ...]:
    """The same where the arguments do not matter: made once for all calls."""
    made: dict[str, Limit] = {}
    for limit in limits:
        _add(made, limit.key if isinstance(limit.key, str) else partition.joined("function", name), limit)
    return tuple(made.values())


def _add(made: dict[str, Limit], key: str | None, limit: AnyLimit) -> None:
    """Add a limit: one of slots and one of a rate share their key, further rates have one for their time."""
    if key is None:
        return
    before = made.get(key)
    if isinstance(limit, RateLimit):
        if before is not None and before.rate is not None:
            key = partition.joined(key, f"{limit.per:g}s")
            before = made.get(key)
        if before is None or before.rate is None:
            stored = before or Limit(key)
            figures = {"rate": limit.rate, "per": limit.period, "burst": limit.tolerance}
            made[key] = msgspec.structs.replace(stored, **figures)
            return
    elif before is None or before.slots is None:
        made[key] = msgspec.structs.replace(before or Limit(key), slots=limit.slots)
        return
    raise ValidationError(
        f"two limits of the same kind are for the key {key!r}; give one of them another key"
    )


def _fair(fair: Fair, call: Call) -> StoredFair | None:
    if callable(fair.key):
        found = partition.from_call(fair.key, call.args, call.kwargs, call.function)
        fair = found if isinstance(found, Fair) else Fair(_text(found), fair.weight)
    return StoredFair(fair.key, fair.weight) if isinstance(fair.key, str) else None


def _hold(record: Record, unique: Unique, key: str | None) -> None:
    if key is not None:
        clash: Any = "refuse" if unique.clash == "raise" else unique.clash
        scope = "window" if unique.length else unique.scope
        record.unique = StoredUnique(key, scope, unique.length, clash, unique.fields)
        record.delay = record.delay or unique.delay


def _unique_key(unique: Unique, call: Call, name: str) -> str | None:
    return _call_key(call, name) if unique.key is None else _key(unique.key, call)


def _key(key: partition.Key | None, call: Call, *default: str) -> str | None:
    if key is None:
        return partition.joined(*default)
    return _text(partition.from_call(key, call.args, call.kwargs, call.function)) if callable(key) else key


def _key_at(key: partition.Key | None, value: object, parameter: str, own: Sequence[str]) -> str | None:
    """The key of a rule at a parameter: of a family by the rule's key, or else of the function's own."""
    if callable(key):
        return _text(partition.from_call(key, (value,), {}))
    text = partition.text_of(value, f"the argument {parameter!r}")
    if key is not None:
        return partition.joined(key, text)
    *start, last = own or ("",)
    return partition.joined(*start, last + text)


def _text(found: object) -> str | None:
    if found is None:
        return None
    return partition.joined(partition.text_of(found, "what the key's function returned"))


def _call_key(call: Call, name: str) -> str:
    """A key that calls of one function with equal arguments share, however those are passed."""
    try:
        bound = callers_signature(call.function).bind(*call.args, **call.kwargs)
    except (TypeError, ValueError):  # it does not fit, which its run will tell, or it has no signature
        given: Any = (call.args, dict(call.kwargs))
    else:
        bound.apply_defaults()
        given = (bound.args, bound.kwargs)
    try:
        data = msgspec.msgpack.encode(given, order="deterministic")
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValidationError(
            f"unique=True makes a key of all arguments, and one of them is no plain data: {error}; "
            f"give unique=… a text of your own, or a function of the arguments"
        ) from error
    return partition.joined("call", name, hashlib.sha256(data).hexdigest()[:32])
