import asyncio

import pytest

from sitq.exceptions import BackendError, ResourceExhaustionError
from sitq.exceptions import ConnectionError as StoreAwayError
from sitq.move import Retry, Settle
from sitq.record import Failure, Record, State
from sitq.worker import settle
from sitq.worker.run import Run
from sitq.worker.settle import Settler

AWAY = StoreAwayError("the store is away")
REFUSED = BackendError("this move is not acceptable")


class Store:
    """Keeps every move, unless the script says otherwise."""

    def __init__(self) -> None:
        self.calls: list[list] = []
        self.script: list[object] = []
        self.refuses = lambda move: None
        self.lost: set[str] = set()

    async def apply(self, moves):
        self.calls.append(list(moves))
        await asyncio.sleep(0)
        if self.script:
            step = self.script.pop(0)
            if isinstance(step, Exception):
                raise step
            if step is not None:
                return step
        for move in moves:
            error = self.refuses(move)
            if error is not None:
                raise error
        return [move.id not in self.lost for move in moves]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(settle, "_FIRST_PAUSE", 0.0)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def answers() -> dict[str, bool]:
    return {}


@pytest.fixture
def settler(store, answers) -> Settler:
    def settled(batch, kept):
        answers.update({run.record.id: one for (run, _), one in zip(batch, kept, strict=True)})

    return Settler(store, settled)


def add(settler, *ids):
    for each in ids:
        verdict = Settle(id=each, token="t-" + each, state=State.COMPLETED, result=b"")
        settler.add(Run(Record(id=each, token="t-" + each)), verdict)


async def test_outcomes_of_one_turn_of_the_loop_are_one_call(store, settler, answers):
    add(settler, "a", "b", "c")
    assert await settler.drain(5)
    assert [len(call) for call in store.calls] == [3]
    assert answers == {"a": True, "b": True, "c": True}


async def test_a_batch_is_bounded(store, settler):
    add(settler, *[str(n) for n in range(1200)])
    assert await settler.drain(5)
    assert [len(call) for call in store.calls] == [500, 500, 200]


async def test_what_the_store_has_not_answered_counts_as_unsettled(settler):
    add(settler, "a", "b")
    assert settler.unsettled == 2
    assert await settler.drain(5)
    assert settler.unsettled == 0


async def test_a_lost_outcome_is_told_as_lost(store, settler, answers):
    store.lost = {"b"}
    add(settler, "a", "b")
    assert await settler.drain(5)
    assert answers == {"a": True, "b": False}


@pytest.mark.parametrize("error", [AWAY, ResourceExhaustionError("the disk is full")])
async def test_a_store_that_is_away_or_full_is_asked_until_it_is_back(store, settler, answers, error):
    store.script = [error] * 30
    add(settler, "a", "b")
    assert await settler.drain(5)
    assert answers == {"a": True, "b": True}
    assert len(store.calls) == 31
    assert all(call == store.calls[0] for call in store.calls)  # whole, and unchanged


async def test_nothing_counts_as_settled_before_the_store_answered(store, settler, answers):
    gate = asyncio.Event()
    apply = store.apply

    async def late(moves):
        await gate.wait()
        return await apply(moves)

    store.apply = late
    add(settler, "a")
    assert not await settler.drain(0.01)
    assert answers == {}


async def test_a_reply_that_got_lost_is_asked_for_again_with_the_same_words(store, settler, answers):
    apply, replies = store.apply, []

    async def lossy(moves):
        kept = await apply(moves)
        replies.append(kept)
        if len(replies) < 3:
            raise AWAY
        return kept

    store.apply = lossy
    add(settler, "a")
    assert await settler.drain(5)
    assert store.calls[0] == store.calls[1] == store.calls[2]
    assert answers == {"a": True}


@pytest.mark.parametrize(
    "error", [REFUSED, ValueError("a bug"), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no")]
)
async def test_a_move_that_the_store_refuses_holds_up_none_of_the_others(store, settler, answers, error):
    store.refuses = lambda move: error if move.id == "b" and move.failure is None else None
    add(settler, "a", "b", "c")
    assert await settler.drain(5)
    assert answers == {"a": True, "b": True, "c": True}


async def test_an_outcome_that_the_store_refuses_becomes_one_that_says_so(store, settler, answers):
    store.refuses = lambda move: REFUSED if move.failure is None else None
    add(settler, "a")
    assert await settler.drain(5)
    last = store.calls[-1][0]
    assert (last.id, last.token, last.state) == ("a", "t-a", State.FAILED)
    assert last.failure.kind == "unstorable"
    assert "this move is not acceptable" in last.failure.message


async def test_a_refused_retry_becomes_an_end_that_says_so(store, settler):
    store.refuses = lambda move: REFUSED if isinstance(move, Retry) else None
    failure = Failure(kind="raised")
    settler.add(Run(Record(id="a", token="t")), Retry(id="a", token="t", delay=1, failure=failure))
    assert await settler.drain(5)
    assert store.calls[-1][0].state is State.FAILED


async def test_a_task_of_which_the_store_takes_nothing_is_let_go(store, settler, answers):
    store.refuses = lambda move: REFUSED if move.id == "a" else None
    add(settler, "a")
    add(settler, "b")
    assert await settler.drain(5)
    assert answers == {"a": False, "b": True}
    assert settler.unsettled == 0


async def test_a_store_that_answers_too_little_leaves_no_outcome_behind(store, settler, answers):
    store.script = [[True]]
    add(settler, "a", "b")
    assert await settler.drain(5)
    assert answers == {"a": True, "b": True}
    assert settler.unsettled == 0


async def test_a_refusal_that_ends_while_others_come_in_loses_none(store, settler, answers):
    store.script = [REFUSED, AWAY, REFUSED, None, AWAY]
    add(settler, "a", "b")
    await asyncio.sleep(0)
    add(settler, "c")
    assert await settler.drain(5)
    assert answers == {"a": True, "b": True, "c": True}


async def test_draining_gives_up_when_patience_ends(store, settler):
    store.script = [AWAY] * 1_000_000
    add(settler, "a")
    async with asyncio.timeout(5):
        assert not await settler.drain(0.02)
    assert settler.unsettled == 1


async def test_draining_an_idle_one_is_true_at_once(settler):
    assert await settler.drain(0)


async def test_a_flush_that_is_cancelled_before_it_began_holds_up_nobody(settler):
    """As asyncio does with what is left when a loop ends; waiting for it went round in circles for ever."""
    add(settler, "a")
    settler._flushing.cancel()
    async with asyncio.timeout(5):
        assert not await settler.drain(5)
    add(settler, "b")
    assert await settler.drain(5)
    assert settler.unsettled == 0
