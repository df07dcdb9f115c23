"""One simulation: a fleet, what is asked of it, and what goes wrong, all drawn from a seed."""

from __future__ import annotations

import asyncio
import logging
import random
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from deeds import Deed, Stage
from ledger import Ledger
from link import Link, Sky, drawn
from users import Users
from virtual import NODE, Rule

from sitq import Worker
from sitq.backends.memory import MemoryBackend
from sitq.exceptions import BackendError
from sitq.record import SECOND
from sitq.worker.freeing import free_leases

LEASE = 10.0
PATIENCE = 900.0
"""Virtual seconds within which everything must have ended once nothing goes wrong any more."""


@dataclass(frozen=True)
class Verdict:
    """What became of a simulation."""

    seed: int
    broken: str | None
    tasks: int
    claims: int
    lapses: int
    steps: int
    seconds: float
    log: list[str]


class Node:
    """What would be a worker process."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.world = world
        self.link = world.link(name)
        dice = world.dice
        queues: Any = ["default", "other"] if dice.random() < 0.5 else {"default": 2.0, "other": 1.0}
        self.worker = Worker(
            self.link,
            max_concurrency=dice.randint(1, 5),
            queues=queues,
            grace=dice.choice([0.0, 1.0, 5.0]),
            lease=LEASE,
            worker_id=name,
        )
        self.alive = True
        self.stopped = False
        world.ledger.nodes[name] = name
        context = copy_context()
        context.run(NODE.set, name)
        self.task = world.loop.create_task(self._work(), context=context)

    async def _work(self) -> None:
        while not self.stopped:
            try:
                await self.worker.run()
            except BackendError:  # the store was away when it started
                await asyncio.sleep(1)
            else:
                return

    async def stop(self) -> None:
        """Stop it as its operator would."""
        self.stopped = True
        self.world.ledger.stopping[self.name] = self.world.rule.now()
        self.world.ledger.say(f"[{self.name}] is asked to stop")
        stopping = self.world.on(self.name, self.worker.stop())
        await asyncio.wait([stopping, self.task], return_when=asyncio.ALL_COMPLETED)
        self.world.ledger.say(f"[{self.name}] has stopped")
        self.alive = False


class World:
    """A store, a fleet, its users, and a nemesis."""

    def __init__(self, rule: Rule, seed: int) -> None:
        self.rule = rule
        self.seed = seed
        self.dice = dice = rule.dice
        self.loop = rule.loop
        self.store = MemoryBackend(clock=rule.now)
        self.sky = Sky(random.Random(f"sky {seed}"))
        self.ledger = Ledger(self.store, rule.now, round(LEASE * SECOND))
        self.quiet = dice.random() < 0.12
        self.kills = not self.quiet and dice.random() < 0.6
        self.freezes = not self.quiet and dice.random() < 0.5
        self.cuts = not self.quiet and dice.random() < 0.5
        self.poison = self.kills and dice.random() < 0.2
        self.lopsided = not self.quiet and dice.random() < 0.3
        """Whether what is broken at the end stays broken, and the others have to do it all."""
        self.nodes: dict[str, Node] = {}
        self.deeds: dict[str, Deed] = {}
        self.frozen: set[str] = set()
        self._names = 0
        self._beside: set[asyncio.Task[Any]] = set()
        self.links: list[Link] = []

    # -- the parts -------------------------------------------------------------------------------------------

    def link(self, node: str) -> Link:
        link = Link(node, self.store, self.sky, self.ledger)
        self.links.append(link)
        return link

    def on(self, node: str, work: Any) -> asyncio.Task[Any]:
        """Do something on a node."""
        context = copy_context()
        context.run(NODE.set, node)
        task = self.loop.create_task(work, context=context)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        return task

    def hire(self) -> Node:
        self._names += 1
        node = self.nodes[f"w{self._names}"] = Node(self, f"w{self._names}")
        self.ledger.say(f"[{node.name}] is started")
        return node

    def kill(self, name: str) -> None:
        """End a process; whoever supervises it may say so, and another one is started."""
        node = self.nodes[name]
        if not node.alive:
            return
        node.alive = False
        self.ledger.excuse(name, "is killed")
        self.loop.freeze(name)
        context = copy_context()
        context.run(NODE.set, "")
        self.loop.create_task(self._after_death(name), context=context)

    async def _after_death(self, name: str) -> None:
        dice = self.dice
        await asyncio.sleep(dice.random() * 5)
        replacement = self.hire()
        if dice.random() < 0.5:
            self.on(replacement.name, free_leases(replacement.link, name))

    # -- the story -------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """The whole story."""
        self.store._process = 1  # it is nobody's in particular
        await self.store.close()
        await self.store.connect()
        if not self.quiet:
            self.sky.weather = drawn(self.dice)
        for _ in range(self.dice.randint(1, 4)):
            self.hire()
        asked = Users(self)
        users = [self.on(f"p{n}", asked.produce(f"p{n}")) for n in range(self.dice.randint(1, 3))]
        users.append(self.on("p0", asked.pause_now_and_then()))
        nemesis = self.loop.create_task(self._nemesis())
        while any(not one.done() for one in users):
            await self._next_second()
            for one in users:
                if one.done():
                    one.result()
        nemesis.cancel()
        await asyncio.wait([nemesis])
        self._heal()
        await self._drain()
        await self._end()
        for one in users:
            one.result()

    async def _next_second(self) -> None:
        await asyncio.sleep(1)
        if self.ledger.broken:
            raise StoryOverError

    def _heal(self) -> None:
        self.ledger.say("-- from here on nothing goes wrong any more --")
        self.sky.weather.clear()
        self.sky.away = False
        if not self.lopsided:
            self.sky.cut.clear()
            for name in list(self.frozen):
                self._thaw(name)
        sane = [
            node
            for node in self.nodes.values()
            if node.alive and not node.stopped and node.name not in self.frozen | self.sky.cut
        ]
        if not sane or self.lopsided:
            self.hire()

    async def _drain(self) -> None:
        deadline = self.loop.time() + PATIENCE
        while self.ledger.open_tasks():
            if self.loop.time() > deadline:
                left = [(one.id[-6:], str(one.state), one.attempt) for one in self.ledger.open_tasks()]
                self.ledger.broke(f"after {PATIENCE:g} s these have not ended: {left}")
            await self._next_second()

    async def _end(self) -> None:
        for name in list(self.frozen):
            self._thaw(name)
        self.sky.cut.clear()
        alive = [node for node in self.nodes.values() if node.alive]
        before = self.loop.time()
        if alive:
            await asyncio.wait([self.on(node.name, node.stop()) for node in alive], timeout=120)
        took = self.loop.time() - before
        for node in alive:
            self.ledger.demand(not node.alive, f"{node.name} did not stop within {took:.1f} s")
        for node in self.nodes.values():
            if node.task.done() and not node.task.cancelled():
                error = node.task.exception()
                self.ledger.demand(error is None, f"{node.name} ended with {error!r}")
        self.ledger.look("end", "")
        self.ledger.judge(self.deeds, quiet=self.quiet)
        await self._look_for_leaks()

    async def _look_for_leaks(self) -> None:
        dead = {name for name, node in self.nodes.items() if not node.task.done()}
        if dead:
            return
        await asyncio.sleep(30)  # stubborn tasks, and calls of the store that take long, come to their end
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        self.ledger.demand(not left, f"asyncio tasks are left over: {left}")
        topics = set(self.store._store.hub._by_topic)
        self.ledger.demand(not topics, f"somebody still listens to {topics}")

    async def dispose(self) -> None:
        """Let what was killed come to its end, so that nothing of it is left in this process."""
        for link in self.links:
            link.closed_for_good = True
        for node in self.nodes.values():
            self.loop.thaw(node.name)
        for _ in range(3):
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=60)

    # -- the nemesis -----------------------------------------------------------------------------------------

    async def _nemesis(self) -> None:
        dice = self.dice
        while True:
            await asyncio.sleep(dice.random() * 6)
            owners = {record.owner for record in self.ledger.open_tasks()}
            busy = [node for node in self.nodes.values() if node.name in owners]
            node = dice.choice(busy or list(self.nodes.values()))  # harm where it hurts
            act = dice.choice(["kill", "freeze", "cut", "stop", "away", "pass"])
            if not node.alive or node.stopped:
                continue
            if act == "kill" and self.kills:
                self.kill(node.name)
            elif act == "freeze" and self.freezes and node.name not in self.frozen:
                self._freeze(node.name, dice.choice([2, 15, 25, 40]) * (0.5 + dice.random() / 2))
            elif act == "cut" and self.cuts:
                self._cut(node.name, dice.choice([2, 15, 25, 40]) * (0.5 + dice.random() / 2))
            elif act == "away" and self.cuts and dice.random() < 0.3:
                self._send_away(dice.choice([1, 5, 15, 30]) * dice.random())
            elif act == "stop" and dice.random() < 0.5:
                self.loop.create_task(self._roll(node))

    async def _roll(self, node: Node) -> None:
        """Replace a worker, as at a deployment."""
        self.hire()
        await node.stop()

    def _freeze(self, name: str, seconds: float) -> None:
        self.ledger.excuse(name, f"stands still for {seconds:.2f} s")
        self.frozen.add(name)
        self.loop.freeze(name)
        if not self.lopsided:
            self.loop.call_later(seconds, self._thaw, name)

    def _thaw(self, name: str) -> None:
        if name in self.frozen:
            self.frozen.discard(name)
            if self.nodes[name].alive or self.nodes[name].stopped:
                self.ledger.excuse(name, "goes on")
                self.loop.thaw(name)

    def _cut(self, name: str, seconds: float) -> None:
        self.ledger.excuse(name, f"is cut off for {seconds:.2f} s")
        self.sky.cut.add(name)
        if not self.lopsided:
            self.loop.call_later(seconds, self._join, name)

    def _join(self, name: str) -> None:
        self.ledger.excuse(name, "is back")
        self.sky.cut.discard(name)

    def _send_away(self, seconds: float) -> None:
        for name in self.nodes:
            self.ledger.excuse(name, f"the store is away for {seconds:.2f} s")
        self.sky.away = True
        self.loop.call_later(seconds, self._come_back)

    def _come_back(self) -> None:
        for name in self.nodes:
            self.ledger.excuse(name, "the store is back")
        self.sky.away = False


class StoryOverError(Exception):
    """A promise was broken; there is no point in going on."""


def simulate(seed: int) -> Verdict:
    """Run one simulation."""
    logging.getLogger("sitq").setLevel(logging.CRITICAL + 1)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
    with Rule(seed) as rule:
        world = World(rule, seed)
        Stage.world = world
        try:
            rule.loop.run_until_complete(world.live())
        except StoryOverError:
            pass
        except Exception as error:  # noqa: BLE001 - it is the finding
            world.ledger.broke(f"{type(error).__name__}: {error}")
        verdict = Verdict(
            seed,
            world.ledger.broken,
            len(world.deeds),
            world.ledger.claims,
            world.ledger.lapses,
            rule.loop.steps,
            rule.loop.time(),
            world.ledger.log,
        )
        rule.loop.run_until_complete(world.dispose())
    return verdict
