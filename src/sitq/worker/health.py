"""The health probe: a small HTTP server on a thread of its own, so that nobody waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable
from typing import Final, Self

from sitq.exceptions import ConfigurationError, ValidationError
from sitq.worker.vitals import Health

LOOPBACK: Final = "127.0.0.1"

_HIGHEST_PORT: Final = 65_535
_PATIENCE: Final = 5.0
"""Seconds that a client gets to say what it wants."""

_LONGEST_REQUEST: Final = 8 << 10
_MOST_CLIENTS: Final = 64
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}

logger = logging.getLogger("sitq.health")


def address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, `[::1]:PORT`, or `PORT` alone on the loopback interface.

    Raises:
        ValidationError: It is none of these.
    """
    host, _, port = text.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if (
        not port.isdecimal()
        or int(port) > _HIGHEST_PORT
        or (":" in host and not text.strip().startswith("["))
    ):
        raise ValidationError(
            f"{text!r} is no address for the health probe: write a port, or HOST:PORT such as 0.0.0.0:8080"
        )
    return host or LOOPBACK, int(port)


class HealthServer:
    """Answers every GET with 200 or 503 and a JSON object.

    Args:
        where: Host and port; port 0 is any that is free.
        look: Says how things are; called in the server's thread.

    Raises:
        ConfigurationError: The address cannot be had.
    """

    def __init__(self, where: tuple[str, int], look: Callable[[], Health]) -> None:
        host, port = where
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise ConfigurationError(
                f"the health probe cannot listen on {host}:{port}: {error.strerror or error}; "
                "name another address"
            ) from error
        self.port: int = self._socket.getsockname()[1]
        self._host = host
        self._look = look
        self._clients = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="sitq-health", daemon=True)

    def __enter__(self) -> Self:
        host = f"[{self._host}]" if ":" in self._host else self._host
        logger.info("health is told on http://%s:%d", host, self.port)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=2)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            server = self._loop.run_until_complete(
                asyncio.start_server(self._serve, sock=self._socket, limit=_LONGEST_REQUEST)
            )
            self._loop.run_forever()
            server.close()
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0))
        finally:
            self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients <= _MOST_CLIENTS:
                async with asyncio.timeout(_PATIENCE):
                    writer.write(await self._answer(reader))
                    await writer.drain()
        except (OSError, TimeoutError):
            pass  # the client has gone, or said nothing
        finally:
            self._clients -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return _response(400, {"error": "this is no HTTP request"})
        method, _, rest = head.partition(b" ")
        if not rest.partition(b"\r\n")[0].rpartition(b" ")[2].startswith(b"HTTP/"):
            return _response(400, {"error": "this is no HTTP request"})
        if method not in {b"GET", b"HEAD"}:
            return _response(405, {"error": "only GET and HEAD are answered"})
        well, body = self._look()
        return _response(200 if well else 503, body, with_body=method == b"GET")


def _response(status: int, body: object, *, with_body: bool = True) -> bytes:
    data = json.dumps(body).encode() + b"\n"
    lines = [
        f"HTTP/1.1 {status} {_REASONS[status]}",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
        "Allow: GET, HEAD",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + (data if with_body else b"")
