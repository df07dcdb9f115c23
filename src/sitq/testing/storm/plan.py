"""The plan of a storm: which faults strike when, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import msgspec

PERIOD: Final = 5.0
"""Seconds for which one mixture of faults lasts."""

QUIET: Final = 0.25
"""The share of the periods without a fault."""

KINDS: Final = ("kill", "stop", "term", "hog", "clock", "full", "down", "still", "supervisor", "producer")
_RATES: Final = {
    "stop": 0.5,
    "term": 0.5,
    "hog": 0.4,
    "clock": 0.3,
    "full": 0.2,
    "down": 0.05,
    "still": 0.08,
    "supervisor": 0.1,
    "producer": 0.2,
}
"""How often a fault strikes in a second of a period that has it."""


class Action(msgspec.Struct, frozen=True):
    """One fault.

    Attributes:
        at: Seconds from the beginning of the storm.
        what: One of `KINDS`; `supervisor` and `producer` kill those, `down` kills a server and `still`
            suspends it.
        pick: Which one it strikes, from 0 to 1.
        seconds: How long it lasts, or by how much a clock is stepped.
    """

    at: float
    what: str
    pick: float = 0.0
    seconds: float = 0.0


def make_plan(
    seed: int, seconds: float, kills: int, lease: float, kinds: Sequence[str] = KINDS
) -> list[Action]:
    """The faults of a storm in order of time; the same for the same arguments.

    Each period has a random subset of the kinds, and a quarter of the periods has none. Each kind strikes at
    least once. All kills that are asked for are in it.
    """
    dice = random.Random(seed)
    periods = max(1, round(seconds / PERIOD))
    length = seconds / periods
    loud = [number for number in range(periods) if dice.random() >= QUIET] or [0]
    with_kills = [number for number in loud if dice.random() < 2 / 3] or loud
    plan = [
        Action(length * (dice.choice(with_kills) + dice.random()), "kill", dice.random())
        for _ in range(kills)
    ]
    others = [kind for kind in kinds if kind in _RATES]
    for number in loud:
        for kind in others:
            if dice.random() < 0.5:
                plan += _of_kind(dice, kind, number * length, length, lease)
    for kind in others:  # chance may have left one out
        if kind not in {action.what for action in plan}:
            plan += _of_kind(dice, kind, dice.choice(loud) * length, length, lease, at_least=1)
    plan.sort(key=lambda action: action.at)
    return plan


def _of_kind(  # noqa: PLR0917 - of one caller
    dice: random.Random, kind: str, begin: float, length: float, lease: float, at_least: int = 0
) -> list[Action]:
    times = _RATES[kind] * length
    count = max(at_least, int(times + dice.random()))
    made: list[Action] = []
    for _ in range(count):
        match kind:
            case "stop" | "still":
                lasts = lease * dice.uniform(0.5, 3)
            case "hog":
                lasts = dice.uniform(0.5, 2)
            case "clock":
                lasts = lease * dice.choice((-1, 1)) * dice.uniform(0.2, 2)
            case "full":
                lasts = dice.uniform(0.2, 2)
            case _:
                lasts = 0.0
        made.append(Action(begin + length * dice.random(), kind, dice.random(), lasts))
    return made
