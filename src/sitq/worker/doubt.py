"""Doubt: whether a worker may take what others have lost, or had better wait until they are heard.

An outage of the store lets all leases run out. Who is back first must not take the running tasks of live
workers that could not renew theirs, so a worker that has reason to think of an outage takes nothing of others
until two periods of renewals have passed since the store answered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator


class Doubt:
    """What a worker knows of its store's absences. Used from several threads.

    Args:
        period: Seconds between renewals.
        clock: Answers with seconds.
    """

    def __init__(self, period: float, clock: Callable[[], float]) -> None:
        self._period = period
        self._clock = clock
        self._until = clock()
        self._away = False
        self._asked: dict[object, float] = {}

    @property
    def sure(self) -> bool:
        """Whether the store has answered all that it was asked, in time, for two periods."""
        now = self._clock()
        late = any(now - asked >= self._period for asked in list(self._asked.values()))
        return not late and not self._away and now >= self._until

    def begin(self) -> None:
        """Doubt for two periods from now."""
        self._until = self._clock() + 2 * self._period

    @contextlib.contextmanager
    def asking(self) -> Generator[None]:
        """Around a call of the store.

        A store that let it fail, or has not answered for a period, is away until it answers. An outage may
        end long after the last call that noticed it, and before any call has.
        """
        call, asked = object(), self._clock()
        self._asked[call] = asked
        try:
            yield
        except Exception:
            self._away = True
            raise
        else:
            if self._away or self._clock() - asked >= self._period:
                self.begin()
            self._away = False
        finally:
            del self._asked[call]
