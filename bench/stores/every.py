"""The stores that can be measured. A new one is a module with a `STORE` and a line here."""

from __future__ import annotations

from typing import Final

from bench.stores import memory, postgres, redis, sqlite
from bench.stores.store import Store

STORES: Final[dict[str, Store]] = {
    each.name: each for each in (memory.STORE, sqlite.STORE, postgres.STORE, redis.STORE)
}
