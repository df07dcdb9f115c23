"""Leaving a server that is no master any more, but keeps its connections."""

from __future__ import annotations

from typing import Any

from redis.asyncio import RedisCluster

from sitq.backends.redis.location import AnyClient


async def leave(client: AnyClient) -> None:
    """Close the idle connections, so that the next call goes where the name of the server leads by then.

    Those in use meet the same error by themselves. Subscriptions stay: a replica passes on what its master's
    clients publish.
    """
    if isinstance(client, RedisCluster):
        await client.aclose()  # it asks for its nodes anew when it is used again
        return
    pool: Any = client.connection_pool
    # The pool's own way waits for each close, and meanwhile hands out what is being closed (redis-py 8.1).
    for connection in list(pool._available_connections):  # noqa: SLF001 - there is no other way to them
        await connection.disconnect(nowait=True)


def leave_in_thread(client: AnyClient) -> None:
    """The same for a client of one thread."""
    if hasattr(client, "connection_pool"):
        client.connection_pool.disconnect()
    else:
        client.nodes_manager.initialize()
