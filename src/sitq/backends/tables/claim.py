"""A claim: tasks that are ready, may start now, and are the next ones by the contract's order."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sitq.backends import rules
from sitq.backends.base import Want
from sitq.backends.rules import TURN
from sitq.backends.tables.choose import Candidate, Frontier, Item, Order, Turns, choose
from sitq.backends.tables.keys import KeyRing
from sitq.backends.tables.lanes import encode
from sitq.backends.tables.look import Look, Pauses, QueueLook, eligible, look_around, next_instant, passed
from sitq.backends.tables.row import RUNNING, Read, record_of
from sitq.backends.tables.upkeep import expire, promote, reclaim
from sitq.backends.tables.usual import Fresh, Held, Holding, fresh_record, read_fresh, read_fresh_of
from sitq.backends.tables.work import Work
from sitq.record import Record

UPKEEP = 1000
"""How many tasks a claim brings up to date in each way before it starts others."""

EXPIRIES = 10
"""How often a claim ends tasks past their last start before it leaves the rest to the next one."""

SPARE = 8
"""How many lanes more than tasks a claim looks at, since some may be over a limit."""

ROUNDS = 256
"""How often a claim looks at further lanes before it leaves the rest to the next one."""


_sequences = msgspec.json.Decoder(list[int]).decode
OpenLane = tuple[int, str | None, str, int | None, int, int, int]
"""Lane, tenant, limit keys as JSON, turn, priority and sequence of its head, kind."""
_lanes = msgspec.json.Decoder(list[OpenLane]).decode
_items = msgspec.json.Decoder(list[tuple[int, list[Item]]]).decode


def take(work: Work, want: Want) -> tuple[list[Read | Fresh], int | None]:
    """Claim tasks, or answer a repeated claim: the tasks, and when there may be more."""
    look = look_around(work.db, want, work.now)
    if look.claimed is not None:
        again = [row for row in work.load(look.claimed) if row.stage == RUNNING and row.token == want.claim]
        if again:
            return [*work.read(sorted(row.sequence for row in again))], work.now
    if want.reclaim and passed(look.lease, work.now):
        reclaim(work, _sequences(work.db.one("lapsed", work.now, UPKEEP)))
        work.flush()
        look = look_around(work.db, want, work.now)
    for _ in range(EXPIRIES):  # the end of one may make another one due that is late already
        if not _bring_up_to_date(work, look):
            break
        look = look_around(work.db, want, work.now)
    if any(passed(queue.overdue, work.now) for queue in look.queues):
        return [], work.now  # so many that the next claim must go on with it before it can start anything
    claim = Claim(work, want, look)
    reads = claim.run()
    if len(reads) >= want.limit or claim.unfinished:
        return reads, work.now
    return reads, next_instant(look_around(work.db, want, work.now) if claim.wrote else look, want, work.now)


def _bring_up_to_date(work: Work, look: Look) -> bool:
    now, done = work.now, False
    for queue in look.queues:
        if passed(queue.overdue, now):
            expire(work, _sequences(work.db.one("overdue", queue.id, now, UPKEEP)))
            done = True
        if passed(queue.due, now):
            promote(work, queue.id)
            done = True
    work.flush()
    return done


def sequence_of(read: Read | Fresh) -> int:
    """The sequence of a task that was read, by whichever way."""
    return read.sequence if isinstance(read, Fresh) else read.row.sequence


class Claim:
    """One claim under way."""

    def __init__(self, work: Work, want: Want, look: Look) -> None:
        self.work = work
        self.want = want
        self.pauses = Pauses(look)
        self.queues = {queue.name: queue for queue in look.queues}
        self.reads: list[Read | Fresh] = []
        self.wrote = False
        self.unfinished = False

    def run(self) -> list[Read | Fresh]:
        """Fill the shares in order, then give what is left to the queues in order again."""
        for share in self.want.queues:
            self._fill(share.queue, share.most)
        for share in self.want.queues:
            self._fill(share.queue, self.want.limit)
        if self.reads:
            taken = encode([sequence_of(read) for read in self.reads]).decode()
            self.work.db.run("remember_claim", self.want.claim, self.work.now, taken)
        return self.reads

    def _fill(self, name: str, most: int) -> None:
        most = min(most, self.want.limit - len(self.reads))
        queue = self.queues.get(name)
        if most <= 0 or queue is None or self.pauses.queue(name):
            return
        if queue.own is not None:
            self._fill_limited(queue, most)
        else:
            QueueClaim(self, queue).fill(most)

    def _fill_limited(self, queue: QueueLook, most: int) -> None:
        """Fill from a queue that has a limit of its own."""
        work = self.work
        own = queue.meter(work.running_more(queue.id))
        if own is None:
            QueueClaim(self, queue).fill(most)
            return
        room = rules.room(own.limit, own.arrival, own.running, work.now, most)
        begun = len(self.reads)
        if room:
            QueueClaim(self, queue).fill(room)
        if own.limit.rate and len(self.reads) > begun:
            for _ in range(len(self.reads) - begun):
                own.start(work.now)
            work.db.run("start_own", queue.name, own.arrival)
            cell, _, running = queue.own or ("", 0, 0)
            queue.own = cell, own.arrival, running


class QueueClaim:
    """The part of a claim that is about one queue."""

    def __init__(self, claim: Claim, queue: QueueLook) -> None:
        self.claim = claim
        self.work = claim.work
        self.db = claim.work.db
        self.queue = queue
        self.turns = Turns(queue.served, {None: queue.turn})
        self.keys = KeyRing(claim, queue)
        self.only: int | None = None

    def fill(self, most: int) -> None:
        """Start up to `most` tasks."""
        if passed(self.queue.mark, self.work.now):
            self.keys.see_due()
            self.keys.reopen(most, self.turns.served)
            self._look_again()
        kinds = eligible(self.queue, self.claim.want, self.claim.pauses)
        self.only = self.queue.only_lane
        for _ in range(ROUNDS):
            if most <= 0 or not kinds:
                break
            started, more = self._round(encode(kinds).decode(), most)
            most -= started
            if not more and most > 0:
                self.keys.seen.clear()
                if not self.keys.reopen(most, self.turns.served):
                    break
                self._look_again()
                kinds = eligible(self.queue, self.claim.want, self.claim.pauses)
        else:
            self.keys.unfinished = self.claim.unfinished = True
        if most <= 0:
            self.keys.unfinished = True
        self.queue.served, self.queue.turn = self.turns.served, self.turns.of[None]
        if self.keys.marked:
            self.queue.mark = self.keys.leave_marks()
            self.claim.wrote = True

    def _look_again(self) -> None:
        for queue in look_around(self.db, self.claim.want, self.work.now).queues:
            if queue.id == self.queue.id:
                self.queue.kinds, self.queue.lanes = queue.kinds, queue.lanes
                self.only = queue.only_lane

    def _round(self, kinds: str, most: int) -> tuple[int, bool]:
        """Look at the best lanes once: how many tasks were started, and whether to look again."""
        only, self.only = self.only, None
        if only is not None:
            return self._start_lane(only, most), False
        asked = most + SPARE
        lanes = _lanes(self.db.one("open_lanes", kinds, asked))
        if any(turn is not None and turn < self.turns.served for _, _, _, turn, *_ in lanes):
            self.db.run("bump_turns", kinds, self.turns.served)
            lanes = _lanes(self.db.one("open_lanes", kinds, asked))
        if not lanes:
            return 0, False
        if len(lanes) == 1 and lanes[0][3] is None and lanes[0][2] == "[]":
            return self._start_lane(lanes[0][0], most), False
        return self._start_best(lanes, asked, most)

    def _start_lane(self, lane: int, most: int) -> int:
        """The usual case: one lane, and nothing that could forbid a start."""
        fresh = read_fresh_of(self.db, lane, most)
        self._start(fresh)
        self.turns.start(None, TURN, len(fresh))
        self._store_turns()
        return len(fresh)

    def _start_best(self, lanes: list[OpenLane], asked: int, most: int) -> tuple[int, bool]:
        frontier = _frontier(lanes, asked, self.turns)
        if len(lanes) > asked:  # those behind cannot come to their turn
            lanes = sorted(lanes, key=lambda lane: _order(lane, self.turns))[:asked]
        most_of_one = max(2, 2 * most // len(lanes))
        candidates = self._candidates(lanes, min(most_of_one, most))
        meters = self.keys.meters_of(candidates)
        if self.keys.reopen(most, self.turns.served):
            return 0, True
        choice = choose(
            candidates,
            meters,
            self.turns,
            n=most,
            now=self.work.now,
            frontier=frontier,
            contested=self.keys.contested(),
            fair=self.queue.fair,
        )
        self.keys.seen -= choice.contested
        if choice.held:
            self.keys.hold(choice.held)
        if choice.chosen:
            self._start(read_fresh(self.db, choice.chosen))
            self._store_turns()
            self.keys.store()
        more = choice.short or frontier.is_there
        return len(choice.chosen), more and bool(choice.chosen or choice.held)

    def _candidates(self, lanes: list[OpenLane], most: int) -> list[Candidate]:
        found = {
            lane: Candidate(lane, tenant, self.keys.of(tenant, keys), []) for lane, tenant, keys, *_ in lanes
        }
        for _, tenant, _, turn, *_ in lanes:
            if turn is not None:
                self.turns.of.setdefault(tenant, turn)
        items = self.db.one("ready_items", encode(list(found)).decode(), most, self.queue.fair)
        for lane, ready in _items(items):
            found[lane].items = ready
            found[lane].more = len(ready) >= most
        return list(found.values())

    def _start(self, fresh: Sequence[Fresh]) -> None:
        if not fresh:
            return
        work, want = self.work, self.claim.want
        reads = self._read(fresh)
        until = work.now + want.lease
        sequences = encode([one.sequence for one in fresh]).decode()
        self.db.run("start", sequences, want.claim, want.worker, until, work.now)
        for read in reads:
            if not isinstance(read, Fresh):
                row = read.row
                row.attempt += 1
                row.token, row.owner = want.claim, want.worker
                row.lease_until, row.started, row.expire_at = until, work.now, None
                row.stage = RUNNING
        work.started(self.queue.id, [one.lane for one in fresh])
        work.flush_lanes()
        self.claim.reads += reads
        self.claim.wrote = True

    def _read(self, fresh: Sequence[Fresh]) -> list[Read | Fresh]:
        """The tasks that are about to start, in their order, each by the shorter way that will do for it."""
        whole = [one.sequence for one in fresh if one.size is None]
        if not whole:
            return [*fresh]
        reads = iter(self.work.read(whole))
        return [next(reads) if one.size is None else one for one in fresh]

    def _store_turns(self) -> None:
        moved, self.turns.moved = self.turns.moved, set()
        if not moved:
            return
        self.db.run("store_queue_turns", self.queue.id, self.turns.served, self.turns.of[None])
        tenants = encode([(tenant, self.turns.of[tenant]) for tenant in moved if tenant is not None]).decode()
        if tenants != "[]":
            self.db.run("store_tenant_turns", self.queue.id, tenants)
            self.db.run("store_lane_turns", self.queue.id, tenants)


def _order(lane: OpenLane, turns: Turns) -> Order:
    _, _, _, turn, priority, sequence, _ = lane
    return (turns.next(None) if turn is None else max(turn, turns.served)), -priority, sequence


def _frontier(lanes: list[OpenLane], asked: int, turns: Turns) -> Frontier:
    """Behind which lanes there may be more: the last one of each kind, and the first one too many."""
    groups: dict[tuple[int, bool], list[OpenLane]] = {}
    for lane in lanes:
        groups.setdefault((lane[6], lane[3] is None), []).append(lane)
    ends = [
        max(group, key=lambda lane: _order(lane, turns)) for group in groups.values() if len(group) >= asked
    ]
    if len(lanes) > asked:
        ends.append(sorted(lanes, key=lambda lane: _order(lane, turns))[asked])
    plain = [(-lane[4], lane[5]) for lane in ends if lane[3] is None]
    fair = [_order(lane, turns) for lane in ends if lane[3] is not None]
    return Frontier(min(plain, default=None), min(fair, default=None))


def records_of(
    reads: Sequence[Read | Fresh], want: Want, now: int, holding: Holding
) -> tuple[list[Record], list[tuple[int, str]]]:
    """The records of claimed tasks, and which of them cannot be read, and why.

    Called where the claim was asked for, so that the writer goes on meanwhile.
    """
    records: list[Record] = []
    corrupt: list[tuple[int, str]] = []
    for read in reads:
        try:
            if isinstance(read, Fresh):
                record = fresh_record(read, want.claim, want.worker, now, now + want.lease)
                tied = bool(record.edges)
                holding.remember(
                    Held(record.id, want.claim, read.sequence, read.queue, read.lane, record.reply, tied)
                )
            else:
                record = record_of(read)
        except ValueError as error:
            corrupt.append((sequence_of(read), str(error)))
        else:
            records.append(record)
    return records, corrupt
