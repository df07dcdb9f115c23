"""Intended uses of lifespans, dependencies, middleware and events, for mypy and pyright; never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Annotated, Any, Self, assert_type

from sitq import (
    INJECTED,
    Depends,
    FromLifespan,
    Middleware,
    ReservedTask,
    Task,
    TaskEvent,
    TaskHandle,
    TaskQueue,
    Worker,
    current_task,
)
from sitq.events import EventKind
from sitq.lifespan import Lifespan
from sitq.middleware import AroundAttempt, AroundEnqueue, AttemptNext, EnqueueNext


class State:
    def __init__(self) -> None:
        self.client = Client()


class Client:
    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None: ...


# -- lifespan ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def lifespan(worker: Worker) -> AsyncGenerator[State]:
    assert_type(worker.id, str)
    yield State()


async def plain_lifespan(worker: Worker) -> AsyncIterator[State]:
    yield State()


lifespans: list[Lifespan] = [lifespan, plain_lifespan]
worker = Worker("memory://", lifespan=lifespan)
queue = TaskQueue("memory://", lifespan=plain_lifespan)


# -- dependencies ------------------------------------------------------------------------------------------


def make_int() -> int:
    return 1


async def make_str() -> str:
    return ""


def yield_bytes() -> Iterator[bytes]:
    yield b""


async def yield_float() -> AsyncIterator[float]:
    yield 1.0


@contextmanager
def manage_list() -> Generator[list[int]]:
    yield []


@asynccontextmanager
async def manage_dict() -> AsyncGenerator[dict[str, int]]:
    yield {}


def client_of(state: State) -> Client:
    return state.client


assert_type(Depends(make_int), int)
assert_type(Depends(make_str), str)
assert_type(Depends(yield_bytes), bytes)
assert_type(Depends(yield_float), float)
assert_type(Depends(manage_list), list[int])
assert_type(Depends(manage_dict), dict[str, int])
assert_type(Depends(Client), Client)
assert_type(Depends(State, scope="worker"), State)
assert_type(FromLifespan(State), State)
assert_type(FromLifespan(client_of), Client)


@queue.task
async def send(
    to: str,
    number: int = Depends(make_int),
    client: Annotated[Client, Depends(Client)] = INJECTED,
    state: State = FromLifespan(State),
    part: Annotated[Client, FromLifespan(client_of)] = INJECTED,
) -> bytes:
    assert_type(client, Client)
    assert_type(current_task().state, Any)
    return to.encode() * number


@queue.task
def work(to: str, *, data: bytes = Depends(yield_bytes)) -> int:
    return len(data)


def wrong(
    number: int = Depends(make_str),  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]
) -> int:
    return number


Worker("memory://", overrides={make_int: yield_float, Client: State})
Worker("memory://", overrides={"make_int": make_int})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]

Depends(make_int, scope="task")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


async def produce() -> None:
    assert_type(await send.enqueue("a@b.c"), str)
    assert_type(await send.submit("a@b.c"), TaskHandle[bytes])
    assert_type(await (await queue.submit(work, "a")), int)
    await send.enqueue()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert_type(await send("a", 1, Client(), State()), bytes)  # a plain call, as in a test


# -- middleware --------------------------------------------------------------------------------------------


async def around_enqueue(task: Task, call_next: EnqueueNext) -> str:
    return await call_next(task.replace(args=[1], priority=5))


async def around_attempt(task: ReservedTask, call_next: AttemptNext) -> Any:
    assert_type(task.name, str)
    return await call_next(replace(task, args=(1,)))


class Both(Middleware):
    async def enqueue(self, task: Task, call_next: EnqueueNext) -> str:
        assert_type(await super().enqueue(task, call_next), str)
        return await call_next(task)

    async def attempt(self, task: ReservedTask, call_next: AttemptNext) -> object:
        return await call_next(task)


enqueues: AroundEnqueue = around_enqueue
attempts: AroundAttempt = around_attempt
TaskQueue("memory://", middleware=[around_enqueue, Both()])
Worker("memory://", middleware=[around_attempt, Both()])
Worker("memory://", middleware=[around_enqueue])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


# -- events ------------------------------------------------------------------------------------------------


@worker.on
def hear(event: TaskEvent) -> None:
    assert_type(event.kind, EventKind)
    assert_type(event.delay, float | None)


@worker.on("failed", "dead")
async def hear_failures(event: TaskEvent) -> None: ...


@queue.on("enqueued")
def hear_enqueued(event: TaskEvent) -> None: ...


async def listen() -> None:
    worker.off(hear)
    queue.off(hear_enqueued)
    worker.on(hear_failures)
    async for event in queue.events(after=5, kinds=["failed"], follow=False):
        assert_type(event, TaskEvent)
        assert_type(event.cursor, int)
    worker.on("succeed")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
