"""Fairness: whose turn a task takes, so that one tenant with much to do does not keep the others waiting."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from sitq import partition
from sitq.exceptions import ValidationError
from sitq.parameters import Rule
from sitq.partition import Key

_LEAST: Final = 0.001
_MOST: Final = 1000.0


class Fair(Rule, frozen=True):
    """Tenants of a queue that have something to start share its starts in proportion to their weights.

    Priorities hold among the tasks of one tenant. Tasks without a tenant are together one of weight 1.

    Attributes:
        key: The tenant, or a function of the task's arguments that returns it (None: no tenant). On a
            parameter by default that argument.
        weight: From 0.001 to 1000. Twice the weight is twice the starts while others wait. The weight of the
            tenant's task that started last counts.
    """

    key: Key | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.key is not None:
            msgspec.structs.force_setattr(self, "key", partition.key(self.key, "fair"))
        weight = self.weight
        if type(weight) not in {int, float} or not math.isfinite(weight):
            raise ValidationError(f"the weight must be a number, not {weight!r}")
        if not _LEAST <= weight <= _MOST:
            raise ValidationError(f"the weight must be from {_LEAST} to {_MOST:g}, not {weight:g}")
        msgspec.structs.force_setattr(self, "weight", float(weight))


def fair(value: Any) -> Fair:
    """A tenant as a user gives it: a `Fair`, a key, or a function of the task's arguments.

    Raises:
        ValidationError: It is none of them, or a `Fair` without a key.
    """
    made = value if isinstance(value, Fair) else Fair(partition.key(value, "fair"))
    if made.key is None:
        raise ValidationError("fair has no key; write Fair('tenant-7'), or put Fair() on a parameter")
    return made
