"""Ready clients: what they are connected to, and a client like them for a thread."""

from __future__ import annotations

from typing import Any, Final

import redis
import redis.cluster
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.retry import Retry

from sitq.backends.redis.location import TIMEOUT, AnyClient
from sitq.exceptions import ConfigurationError

_threaded: Final[Any] = redis
_clusters: Final[Any] = redis.cluster
"""The driver without an event loop, whose own types are partly unknown."""

_SHARED: Final = (
    "host",
    "port",
    "db",
    "username",
    "password",
    "credential_provider",
    "client_name",
    "protocol",
    "socket_timeout",
    "socket_connect_timeout",
    "socket_keepalive",
)
"""What connections with and without an event loop understand alike, beside what is about TLS."""


def shown_client(client: AnyClient) -> str:
    """What a client is connected to, without any password.

    Raises:
        ConfigurationError: It is no client of `redis.asyncio`.
    """
    if isinstance(client, RedisCluster):
        node = next(iter(client.nodes_manager.startup_nodes.values()))
        return f"redis+cluster://{node.host}:{node.port}"
    if not isinstance(client, Redis):
        kind = f"{type(client).__module__}.{type(client).__name__}"
        raise ConfigurationError(f"a URL or a client of redis.asyncio is needed, not {kind}")
    pool: Any = client.connection_pool
    if isinstance(client.connection_pool, SentinelConnectionPool):
        return f"redis+sentinel:///{pool.service_name}"
    known = pool.connection_kwargs
    if "path" in known:
        return f"unix://{known['path']}"
    scheme = "rediss" if issubclass(pool.connection_class, SSLConnection) else "redis"
    return f"{scheme}://{known.get('host', 'localhost')}:{known.get('port', 6379)}/{known.get('db', 0)}"


def sync_like(client: AnyClient) -> AnyClient:
    """A client without an event loop, connected to the same."""
    once = Retry(NoBackoff(), 0)
    if isinstance(client, RedisCluster):
        nodes = [
            _clusters.ClusterNode(node.host, node.port)
            for node in client.nodes_manager.startup_nodes.values()
        ]
        options = _options(client.connection_kwargs, nodes=False)
        return _threaded.RedisCluster(startup_nodes=nodes, retry=once, **options)
    pool: Any = client.connection_pool
    options = _options(pool.connection_kwargs)
    if isinstance(client.connection_pool, SentinelConnectionPool):
        sentinels = [
            _options(each.connection_pool.connection_kwargs) for each in pool.sentinel_manager.sentinels
        ]
        return _threaded.Sentinel(
            [(each.pop("host"), each.pop("port")) for each in sentinels],
            sentinel_kwargs={**sentinels[0], "retry": once},
            **{key: value for key, value in options.items() if key not in {"host", "port"}},
        ).master_for(pool.service_name, retry=once)
    if issubclass(pool.connection_class, UnixDomainSocketConnection):
        options["unix_socket_path"] = pool.connection_kwargs["path"]
    elif issubclass(pool.connection_class, SSLConnection):
        options["ssl"] = True
    return _threaded.Redis(**options, retry=once)


def _options(known: dict[str, Any], *, nodes: bool = True) -> dict[str, Any]:
    options = {
        key: value
        for key, value in known.items()
        if (key in _SHARED or key.startswith("ssl_")) and (nodes or key not in {"host", "port", "db"})
    }
    options.setdefault("socket_timeout", TIMEOUT)
    options.setdefault("socket_connect_timeout", TIMEOUT)
    return options
