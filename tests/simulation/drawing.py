"""What is enqueued, drawn from dice."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from deeds import Deed, poison, work

from sitq import ConcurrencyLimit, RetryPolicy, Task

if TYPE_CHECKING:
    from world import World


def drawn_task(world: World, dice: random.Random, known: list[str]) -> tuple[Task, Deed]:
    """A task, and what the verdict has to know of it."""
    key = dice.randrange(10**6)
    plan, may_fail, may_cancel = drawn_plan(dice)
    options: dict[str, Any] = {"id": f"task-{dice.getrandbits(64):016x}"}
    choices: list[tuple[float, str, Any]] = [
        (0.3, "queue", lambda: "other"),
        (0.3, "priority", lambda: dice.randint(-3, 3)),
        (0.2, "delay", lambda: dice.random() * 10),
        (0.5, "retry", lambda: RetryPolicy(max_retries=dice.randint(1, 6), base=dice.random(), cap=5)),
        (0.15, "timeout", lambda: dice.random() * 4 + 0.1),
        (0.1, "ttl", lambda: dice.random() * 20),
        (0.15, "limits", lambda: [_few(world, dice.randint(1, 2))]),
        (0.1, "unique", lambda: f"unique{dice.randrange(3)}"),
        (0.2 if known else 0.0, "depends_on", lambda: [dice.choice(known)]),
    ]
    options |= {name: draw() for chance, name, draw in choices if dice.random() < chance}
    if world.poison and dice.random() < 0.1:
        return Task(poison, (key,), **options), Deed(may_fail="timeout" in options)
    # A store may refuse to keep a step.
    may_fail = may_fail or "timeout" in options or "step" in str(plan)
    return Task(work, (key, plan), **options), Deed(may_fail, may_cancel)


def _few(world: World, slots: int) -> ConcurrencyLimit:
    world.ledger.slots[f"few{slots}"] = slots
    return ConcurrencyLimit(slots, key=f"few{slots}")


def drawn_plan(dice: random.Random) -> tuple[list[str], bool, bool]:
    """What a task does in each attempt, whether it may fail and whether it may cancel itself."""
    plan = [_attempt(dice) for _ in range(dice.randint(1, 4))]
    if "snooze" in plan[-1]:
        plan.append("")
    words = " ".join(plan)
    return plan, "raise" in words or "retry" in words, "cancel" in words


def _attempt(dice: random.Random) -> str:
    choices: list[tuple[float, Any]] = [
        (0.3, lambda: "step:a"),
        (0.7, lambda: f"sleep:{dice.random() * dice.choice([0.01, 1, 3, 12]):.3f}"),
        (0.2, lambda: f"note:{dice.random():.2f}"),
        (0.1, lambda: "step:b"),
        (0.08, lambda: f"stubborn:{dice.random() * 4:.2f}"),
    ]
    acts = [draw() for chance, draw in choices if dice.random() < chance]
    ends: list[tuple[float, Any]] = [
        (0.15, lambda: "raise"),
        (0.2, lambda: f"retry:{dice.random() * 3:.2f}"),
        (0.25, lambda: f"snooze:{dice.random() * 3:.2f}"),
        (0.27, lambda: "cancel"),
    ]
    end = dice.random()
    acts += [draw() for chance, draw in ends if end < chance][:1]
    return " ".join(acts)
