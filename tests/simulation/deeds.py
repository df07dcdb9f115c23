"""What the tasks of a simulation do: as their arguments say, attempt by attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from virtual import NODE

from sitq import Cancel, Retry, Snooze, current_task


@dataclass(frozen=True)
class Deed:
    """What a task is told to do, for the verdict.

    Attributes:
        may_fail: Whether one of its runs may make it fail.
        may_cancel: Whether somebody, or it itself, may cancel it.
    """

    may_fail: bool = False
    may_cancel: bool = False


class Stage:
    """The simulation that runs now."""

    world: Any = None


async def work(key: int, plan: Sequence[str]) -> list[int]:
    """Do what the plan says for this attempt."""
    task = current_task()
    world = Stage.world
    node = NODE.get()
    attempt = world.ledger.begun(task.id, task.attempt, node)
    value = None
    try:
        for act in plan[min(task.attempt, len(plan)) - 1].split():
            await _do(act, key, task, world)
        value = [key, task.attempt]
        return value
    finally:
        world.ledger.done(attempt, value)


async def _do(act: str, key: int, task: Any, world: Any) -> None:  # noqa: C901 - one case for each word
    word, _, about = act.partition(":")
    match word:
        case "sleep":
            await asyncio.sleep(float(about))
        case "raise":
            raise RuntimeError(f"key {key}")
        case "retry":
            raise Retry(after=float(about))
        case "snooze":
            raise Snooze(float(about))
        case "cancel":
            raise Cancel("of its own")
        case "note":
            task.progress(float(about), "on its way")
        case "stubborn":
            try:
                await asyncio.sleep(float(about))
            except asyncio.CancelledError:
                await asyncio.sleep(float(about))
        case "step":
            await _step(about, task, world)
        case "die":
            world.kill(NODE.get())
            await asyncio.sleep(10_000)


async def _step(name: str, task: Any, world: Any) -> None:
    kept = world.ledger.steps[task.id, name]

    async def charge() -> list[int]:
        over = world.ledger.attempt(task.id, task.attempt).ended == "lapsed"  # its step is not kept then
        world.ledger.demand(over or not kept, f"step {name} of {task.id} is done again though it was kept")
        await asyncio.sleep(0.05)
        return [task.attempt, len(kept)]

    value = await task.once(name, charge)
    world.ledger.demand(all(one == value for one in kept), f"step {name} of {task.id} changed its value")
    kept.append(value)


async def poison(key: int) -> None:
    """Kill the process."""
    task = current_task()
    world = Stage.world
    attempt = world.ledger.begun(task.id, task.attempt, NODE.get())
    try:
        await asyncio.sleep(0.1)
        world.kill(NODE.get())
        await asyncio.sleep(10_000)
    finally:  # somebody was faster and cancelled it
        world.ledger.done(attempt)
