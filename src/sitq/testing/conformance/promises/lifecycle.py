"""Opening and closing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import warnings
from collections.abc import Awaitable, Callable

import pytest

from sitq.backends.base import Backend, Duplicate, Filter, Placed, Want
from sitq.exceptions import BackendError
from sitq.move import Cancel, Note
from sitq.record import Edge, Limit, Progress, State, Unique
from sitq.testing.conformance.store import Store, task

OPERATIONS: dict[str, Callable[[Backend], Awaitable[object]]] = {
    "put": lambda backend: backend.put([[task("a")]]),
    "take": lambda backend: backend.take(
        Want(claim="c", worker="w", queues=(), limit=1, lease=1_000_000, python="3.11")
    ),
    "apply": lambda backend: backend.apply([Cancel(id="a")]),
    "get": lambda backend: backend.get(["a"]),
    "scan": lambda backend: backend.scan(Filter()),
    "swap": lambda backend: backend.swap("key", None, b"value"),
    "cells": lambda backend: backend.cells(""),
    "append": lambda backend: backend.append("topic", [b"event"]),
    "read": lambda backend: backend.read("topic"),
    "tend": lambda backend: backend.tend(),
    "tally": lambda backend: backend.tally(),
}


class LifecyclePromises:
    """Opening and closing."""

    async def test_connecting_twice_is_connecting_once(self, store: Store) -> None:
        await store.place(task("a"))
        await store.backend.connect()
        assert store.backend.connected
        assert await store.state("a") is State.QUEUED

    async def test_connecting_from_many_callers_at_once_opens_the_store_once(self, store: Store) -> None:
        await store.backend.close()
        await asyncio.gather(*(store.backend.connect() for _ in range(20)))
        await store.place(task("a"))
        await store.backend.close()
        assert not store.backend.connected

    async def test_closing_twice_is_closing_once(self, store: Store) -> None:
        await store.backend.close()
        await store.backend.close()
        assert not store.backend.connected

    async def test_a_closed_backend_can_be_connected_again(self, store: Store) -> None:
        await store.backend.close()
        await store.backend.connect()
        assert await store.put(task("again")) == [Placed("again")]

    @pytest.mark.parametrize("operation", sorted(OPERATIONS))
    async def test_after_close_an_operation_says_that_the_store_is_not_connected(
        self, store: Store, operation: str
    ) -> None:
        await store.backend.close()
        with pytest.raises(BackendError, match="connect"):
            await OPERATIONS[operation](store.backend)

    async def test_operations_under_way_end_when_the_store_is_closed(self, store: Store) -> None:
        callers = [asyncio.ensure_future(store.put(task())) for _ in range(50)]
        await asyncio.sleep(0)
        await store.backend.close()
        async with asyncio.timeout(10):
            for result in await asyncio.gather(*callers, return_exceptions=True):
                assert not isinstance(result, BaseException) or isinstance(result, BackendError), repr(result)

    async def test_the_last_user_closes_what_was_opened_for_use(self, store: Store) -> None:
        await store.backend.close()
        await store.backend.acquire()
        await store.backend.acquire()
        await store.backend.release()
        assert store.backend.connected
        await store.backend.release()
        assert not store.backend.connected

    async def test_the_last_user_leaves_open_what_was_connected_explicitly(self, store: Store) -> None:
        await store.backend.acquire()
        await store.backend.release()
        assert store.backend.connected
        await store.place(task("a"))

    async def test_a_backend_is_its_own_context_manager(self, store: Store) -> None:
        await store.backend.close()
        async with store.backend as backend:
            assert backend is store.backend
            assert await store.put(task("a")) == [Placed("a")]
        assert not store.backend.connected

    async def test_use_after_fork_is_an_error_that_says_so(self, store: Store) -> None:
        if not hasattr(os, "fork"):
            pytest.skip("this system has no fork")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the child does nothing but check
            child = os.fork()
        if child == 0:
            verdict = 1
            try:
                store.backend.check()
            except BackendError as error:
                verdict = 0 if "fork" in str(error) else 2
            finally:
                os._exit(verdict)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        await store.place(task("the parent goes on"))

    async def test_a_backend_names_itself_in_messages(self, store: Store) -> None:
        assert " object at 0x" not in repr(store.backend)

    async def test_a_lease_channel_can_be_closed_twice(self, store: Store) -> None:
        await store.with_channel(lambda channel: channel.close())

    async def test_tasks_survive_the_end_of_the_backend_that_took_them(self, store: Store) -> None:
        store.needs("durable")
        waiting = task(
            "waiting",
            payload=b"\0\xff" * 100,
            tags=("x", "y"),
            priority=-3,
            retry={"max": 3},
            trace={"traceparent": "00"},
            limits=(Limit("key", slots=2, rate=1, per=5, burst=2),),
            unique=Unique("only"),
            ttl=store.span(50),
            timeout=7,
            reply="topic",
        )
        await store.place(waiting, task("child", edges=(Edge("waiting"),)))
        running = await store.start(task("running", queue="q"))
        await store.apply(Note(id="running", token=running.token or "", progress=Progress(0.5, "half")))
        before = await store.backend.get(["waiting", "child", "running"])
        await store.backend.close()
        later = await store.reopened()
        assert await later.backend.get(["waiting", "child", "running"]) == before
        assert await later.tally() == {
            "default": {State.QUEUED: 1, State.BLOCKED: 1},
            "q": {State.RUNNING: 1},
        }

    async def test_leases_keys_cells_and_logs_survive_the_end_of_the_backend(self, store: Store) -> None:
        store.needs("durable")
        running = await store.start(task("running", unique=Unique("only")))
        await store.backend.swap("cell", None, b"value")
        await store.backend.append("log", [b"one", b"two"])
        await store.backend.close()
        later = await store.reopened()
        assert await later.put(task("second", unique=Unique("only"))) == [Duplicate("running")]
        assert [renewal.answer for renewal in await later.renew(running)] == ["kept"]
        assert [cell.value for cell in await later.backend.cells("cell")] == [b"value"]
        assert [(event.number, event.data) for event in await later.backend.read("log")] == [
            (1, b"one"),
            (2, b"two"),
        ]
        assert await later.settle(running)

    async def test_sequences_go_on_after_the_store_was_closed(self, store: Store) -> None:
        store.needs("durable")
        await store.place(task("first"))
        before = (await store.get("first")).sequence
        with contextlib.suppress(BackendError):
            await store.backend.close()
        later = await store.reopened()
        await later.place(task("second"))
        assert (await later.get("second")).sequence > before
