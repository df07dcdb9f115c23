"""A process for tasks, as its worker sees it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from typing import Any, Final

import msgspec

from sitq.context import Desk
from sitq.exceptions import SerializationError, WorkerError
from sitq.record import Failure
from sitq.serialization import CloudpickleSerializer
from sitq.worker.child import cause
from sitq.worker.line import Message, Unpacker, packed
from sitq.worker.run import Remote, Run

_LAST_WORDS: Final = 0.25
"""Seconds that a task gets to end by itself, once it is told to, before its process is killed."""

_BURIAL: Final = 5.0
"""Seconds within which a killed process must be gone; the kernel may be busy with its memory."""

_DRAIN: Final = 0.2
"""Seconds in which the last words of a process that died are read."""

_PICKLE: Final = CloudpickleSerializer()


logger = logging.getLogger("sitq.worker")


class ProcessDiedError(Exception):
    """The process died while it ran a task; the text says how."""


class NeverBegunError(Exception):
    """The process died before it had taken the task: it was killed while idle, or cannot start."""


class RemoteError(Exception):
    """What a task raised in its process, where the exception itself cannot be brought over."""


class RemoteTraceback(Exception):
    """The traceback in the process, as the cause of what was raised there."""


class TaskProcess:
    """A fresh interpreter that runs one task at a time.

    It has a process group of its own, so that a signal of the terminal does not reach it, and what it has
    started is killed with it.
    """

    def __init__(self, process: subprocess.Popen[bytes], ours: socket.socket) -> None:
        self._process = process
        self._socket = ours
        self._loop = asyncio.get_running_loop()
        self._sending = asyncio.Lock()
        self._sends: set[asyncio.Task[None]] = set()
        self._gone: asyncio.Future[int] = self._loop.create_future()
        self._ended: asyncio.Future[Message] | None = None
        self._begun = False
        self._run: Run | None = None
        self._desk: Desk | None = None
        self._listening = self._loop.create_task(self._listen())
        threading.Thread(target=self._watch, name=f"sitq-process-{process.pid}", daemon=True).start()

    @classmethod
    def start(cls) -> TaskProcess:
        """Start one. To be called in the event loop's thread: the kernel ends the process with that."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)  # noqa: FBT003 - the socket module's own
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from sitq.worker.inside import main; "
            f"main({theirs.fileno()}, {os.getpid()})"
        )
        try:
            with theirs:
                process = subprocess.Popen(  # noqa: S603 - this very interpreter
                    [sys.executable, "-c", code],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    process_group=0,
                )
        except BaseException:
            ours.close()
            raise
        return cls(process, ours)

    @property
    def usable(self) -> bool:
        """Whether it lives and runs nothing."""
        return not self._gone.done() and self._ended is None and not self._listening.done()

    async def call(self, job: tuple[Any, ...], run: Run, desk: Desk) -> Any:
        """Run a task there; what it returned.

        Raises:
            NeverBegunError: The process died before it had taken the task.
            ProcessDiedError: The process died.
            SerializationError: What the function returned cannot be brought over.
            BaseException: What the function raised.
        """
        self._run, self._desk, self._begun = run, desk, False
        ended = self._ended = self._loop.create_future()
        try:
            await self._say("task", *job)
            await asyncio.wait([ended])
        except asyncio.CancelledError:
            await self._stop(ended, run.context.cancel_reason or run.late)
            raise
        finally:
            self._run = self._desk = None
            if ended.done():
                self._ended = None
            else:
                self.kill()
        return self._outcome(ended.result(), run)

    def kill(self) -> None:
        """End it at once, and what it has started."""
        if self._process.returncode is None:  # its pid is not given away before it is reaped
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def close(self, patience: float) -> None:
        """Let an idle one end by itself, which it does when nobody is at the other end of its line."""
        self._listening.cancel()
        await asyncio.wait([self._listening])
        self._socket.close()
        done, _ = await asyncio.wait([self._gone], timeout=0 if self._ended is not None else patience)
        if not done:
            self.kill()
            await asyncio.wait([self._gone], timeout=_BURIAL)

    # -- how a task ends -----------------------------------------------------------------------------------

    async def _stop(self, ended: asyncio.Future[Message], reason: str) -> None:
        """Tell the task to end, and kill the process if it does not. Not even cancelling ends this early."""
        stopping = self._loop.create_task(self._tell_and_kill(ended, reason))
        while not stopping.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([stopping])

    async def _tell_and_kill(self, ended: asyncio.Future[Message], reason: str) -> None:
        if self._begun:
            self._say_soon("cancel", reason)
            await asyncio.wait([ended], timeout=_LAST_WORDS)
        if not ended.done() or ended.result()[0] == "died":
            self.kill()
            await asyncio.wait([self._gone], timeout=_BURIAL)

    def _outcome(self, message: Message, run: Run) -> Any:
        how, about = message
        match how:
            case "returned":
                try:
                    return _PICKLE.loads(about)
                except SerializationError as error:
                    raise SerializationError(
                        f"the result cannot be brought over from its process: {error}",
                        operation="result",
                        cause=error,
                    ) from error
            case "unstorable":
                raise SerializationError(str(about), operation="result")
            case "raised":
                failure, kinds, pickled = about
                told = msgspec.convert(failure, Failure)
                raised = _error(told, pickled)
                run.remote = Remote(raised, told, tuple(kinds))
                raise raised
            case _:
                raise (ProcessDiedError if self._begun else NeverBegunError)(about)

    # -- what is heard -------------------------------------------------------------------------------------

    def _watch(self) -> None:
        code = self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know
            self._loop.call_soon_threadsafe(self._died, code)

    def _died(self, code: int) -> None:
        if not self._gone.done():
            self._gone.set_result(code)
        bury = self._loop.create_task(self._bury(code))
        self._sends.add(bury)
        bury.add_done_callback(self._sends.discard)

    async def _bury(self, code: int) -> None:
        # What it said last is still in the socket, unless a process that it left behind keeps that open.
        await asyncio.wait([self._listening], timeout=_DRAIN)
        self._listening.cancel()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(["died", f"its process {self._process.pid} {cause(code)}"])
        self._socket.close()

    async def _listen(self) -> None:
        unpacker = Unpacker()
        try:
            while data := await self._loop.sock_recv(self._socket, 1 << 16):
                for message in unpacker.feed(data):
                    self._heard(message)
        except OSError:
            pass
        except Exception:
            logger.exception("process %d for tasks says what cannot be understood", self._process.pid)
        self.kill()  # it has died, or a function has closed its line: nothing would ever be heard of it

    def _heard(self, message: Message) -> None:
        run, desk = self._run, self._desk
        match message:
            case ["begun"]:
                self._begun = True
                if run is not None:
                    run.start_clock()
            case ["ended", *about] if self._ended is not None and not self._ended.done():
                self._ended.set_result(about)
            case ["progress", fraction, text] if run is not None and desk is not None:
                desk.progress(run.context, fraction, text)
            case ["extend", seconds] if run is not None and desk is not None:
                desk.extend(run.context, seconds)
            case ["ask", number, "done", step, _] if run is not None and desk is not None:
                self._answer_done(number, run, desk, step)
            case ["ask", number, "keep", step, data] if run is not None and desk is not None:
                self._answer_kept(number, run, desk, step, data)
            case ["ask", number, *_]:
                self._answer(number, "lost", b"")
            case _:
                pass

    def _answer_done(self, number: int, run: Run, desk: Desk, step: str) -> None:
        try:
            found = desk.done(run.context, step)
            data = b"" if found is None else _PICKLE.dumps(found[0])
        except Exception as error:  # noqa: BLE001 - it is the task's to hear
            self._answer(number, "error", _pickled(error))
        else:
            self._answer(number, "unknown" if found is None else "known", data)

    def _answer_kept(self, number: int, run: Run, desk: Desk, step: str, data: bytes) -> None:
        try:
            keeping = desk.keep(run.context, step, _PICKLE.loads(data))
        except Exception as error:  # noqa: BLE001 - it is the task's to hear
            self._answer(number, "error", _pickled(error))
            return

        def kept(future: Future[None]) -> None:
            if future.cancelled():
                what, about = "lost", b""
            elif (error := future.exception()) is not None:
                what, about = "error", _pickled(error)
            else:
                what, about = "kept", b""
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._answer, number, what, about)

        keeping.add_done_callback(kept)

    def _answer(self, number: int, what: str, data: bytes) -> None:
        self._say_soon("answer", number, what, data)

    def _say_soon(self, *message: Any) -> None:
        sending = self._loop.create_task(self._say(*message))
        self._sends.add(sending)
        sending.add_done_callback(self._sends.discard)

    async def _say(self, *message: Any) -> None:
        data = packed(*message)
        with contextlib.suppress(OSError):  # it is gone, which is noticed elsewhere
            async with self._sending:
                await self._loop.sock_sendall(self._socket, data)


def _error(told: Failure, pickled: bytes) -> BaseException:
    try:
        found: object = _PICKLE.loads(pickled) if pickled else None
    except SerializationError:
        found = None
    error = found if isinstance(found, BaseException) else RemoteError(f"{told.type}: {told.message}")
    with contextlib.suppress(Exception):
        error.__cause__ = RemoteTraceback(f"\n{told.traceback}")
    return error


def _pickled(error: BaseException) -> bytes:
    try:
        return _PICKLE.dumps(error)
    except SerializationError:
        return _PICKLE.dumps(WorkerError(str(error)))
