"""Renewals: a client of their own, for the thread that renews."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sitq.backends.base import Lease, Renewal
from sitq.backends.redis.errors import translated
from sitq.backends.redis.link import Dialect, run_in_thread
from sitq.backends.redis.location import AnyClient
from sitq.backends.redis.specs import pack
from sitq.exceptions import BackendError

if TYPE_CHECKING:
    from sitq.backends.redis.backend import RedisBackend


class RedisLeaseChannel:
    """A lease channel for one thread."""

    def __init__(
        self, backend: RedisBackend, dialect: Dialect, connect: Callable[[], AnyClient], shown: str
    ) -> None:
        self._backend = backend
        self._dialect = dialect
        self._connect = connect
        self._shown = shown
        self._client: AnyClient = None
        self._closed = False

    def renew(self, leases: Sequence[Lease], lease: int) -> list[Renewal]:
        """Make each lease last `lease` microseconds from the store's now.

        Raises:
            BackendError: The channel or its backend is closed, or the server failed.
        """
        if self._closed:
            raise BackendError(
                f"the lease channel of {self._backend!r} is closed: open a new one", operation="renew"
            )
        self._backend.check()
        try:
            if self._client is None:
                self._client = self._connect()
            answers = run_in_thread(self._client, self._dialect, "renew", lease, pack(leases))
        except Exception as error:
            raise translated(error, self._shown, "renew") from error
        return [_renewal(lease, answer) for lease, answer in zip(leases, answers, strict=True)]

    def close(self) -> None:
        """Release the connection. Idempotent."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                client.close()


def _renewal(lease: Lease, answer: int | bytes) -> Renewal:
    if answer == 0:
        return Renewal(lease.id, "lost")
    if answer == 1:
        return Renewal(lease.id, "kept")
    return Renewal(lease.id, "stop", answer.decode() if isinstance(answer, bytes) else str(answer))
