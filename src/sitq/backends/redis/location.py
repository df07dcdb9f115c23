"""Where a server is: URLs, the clients that they name, and how both are shown."""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import redis
import redis.asyncio
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException
from redis.retry import Retry as SyncRetry

from sitq.backends.redis import url_options
from sitq.exceptions import ConfigurationError, ValidationError

SCHEMES: Final = {
    "redis": "redis",
    "valkey": "redis",
    "rediss": "rediss",
    "valkeys": "rediss",
    "unix": "unix",
    "redis+cluster": "redis",
    "rediss+cluster": "rediss",
    "redis+sentinel": "redis",
    "rediss+sentinel": "rediss",
}
"""The schemes of sitq, and those under which the driver knows them."""

TIMEOUT: Final = 5.0
"""Seconds in which a server must answer or accept a connection."""

SENTINEL_TIMEOUT: Final = 1.5
"""The same for a Sentinel, which has nothing to do but this; one silent Sentinel after another is asked."""

LOOK_AROUND: Final = 8.0
"""Seconds in which one node of a cluster has to say where the slots are."""

AnyClient = Any
"""redis-py's clients have no type in common."""

_waiting: Final[Any] = redis.asyncio
_threaded: Final[Any] = redis
"""The driver with and without an event loop, whose own types are partly unknown."""


class Location(NamedTuple):
    """A server's URL in its parts.

    Attributes:
        kind: "single", "cluster" or "sentinel".
        url: The URL as the driver knows it.
        shown: The URL without its password, and with `***` in the place of one.
        nodes: Host and port of each server that the URL names.
        service: The name of a Sentinel's master.
        options: What the URL's query says to sitq and not to the driver.
    """

    kind: str
    url: str
    shown: str
    nodes: tuple[tuple[str, int], ...]
    service: str
    options: dict[str, str]


def locate(url: str) -> Location:
    """What a URL names.

    Raises:
        ValidationError: It is malformed; the text shows no password.
    """
    try:
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2]
        nodes = tuple(_node(host, parts.scheme) for host in hosts.split(",") if host)
    except ValueError as error:
        raise ValidationError("the URL of the Redis server is malformed; mind [ ] and the port") from error
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ValidationError(f"{parts.scheme}:// is no scheme of a Redis server; there are {known}")
    if "@" in parts.query or parts.fragment or ("@" in parts.path and parts.scheme != "unix"):
        raise ValidationError(
            "the URL of the Redis server has an @ or # in a strange place: in a user or a password write "
            "/ as %2F, ? as %3F, # as %23 and @ as %40"
        )
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    own = {key: query.pop(key) for key in url_options.OWN if key in query}
    kind = parts.scheme.partition("+")[2] or "single"
    url_options.judge(query, kind=kind, scheme=SCHEMES[parts.scheme])
    path, service = parts.path, ""
    if kind == "sentinel":
        service, _, database = path.strip("/").partition("/")
        service, path = unquote(service), f"/{database}"
        if not service or not nodes:
            raise ValidationError(
                f"{masked(url)!r}: a Sentinel's URL is redis+sentinel://host:26379,host:26379/master-name/0"
            )
    elif kind == "single" and len(nodes) > 1:
        raise ValidationError(
            f"{masked(url)!r} names several servers: is it redis+cluster:// or redis+sentinel://?"
        )
    _judge_path(path, kind, parts.scheme)
    login = parts.netloc.rpartition("@")[0]
    first = hosts.split(",")[0]
    netloc = f"{login}@{first}" if login else first
    # urlunsplit would leave the slashes out before an empty host, which the driver needs.
    plain = f"{SCHEMES[parts.scheme]}://{netloc}{path}" + (f"?{urlencode(query)}" if query else "")
    return Location(kind, plain, masked(url), nodes, service, own)


def _judge_path(path: str, kind: str, scheme: str) -> None:
    if scheme == "unix":
        if not path.strip("/") or "\0" in unquote(path):
            raise ValidationError("the URL of a Redis server's socket is unix:///path/of/the/socket")
        return
    database = path.strip("/")
    if kind == "cluster" and database not in {"", "0"}:
        raise ValidationError(f"a cluster has no database but 0: leave {database!r} out of its URL")
    if database and not url_options.is_database(database):
        raise ValidationError(
            f"{database!r} in the URL of a Redis server is no number of a database, such as the 0 of "
            f"{scheme}://host:6379/0"
        )


def masked(url: str) -> str:
    """The URL with `***` in the place of each password."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    if at and ":" in login:
        login = login.partition(":")[0] + ":***"
    query = [(key, "***" if "password" in key else value) for key, value in parse_qsl(parts.query)]
    return urlunsplit((parts.scheme, login + at + host, parts.path, urlencode(query, safe="*/"), ""))


def client(where: Location) -> AnyClient:
    """A client for the running event loop.

    Raises:
        ConfigurationError: The driver does not understand the URL's options.
    """
    try:
        return _client(where, _waiting, Retry(NoBackoff(), 0))
    except (TypeError, ValueError, RedisClusterException) as error:
        raise ConfigurationError(f"{where.shown} cannot be used: {error}", operation="connect") from None


def sync_client(where: Location) -> AnyClient:
    """The same for a thread of its own."""
    return _client(where, _threaded, SyncRetry(NoBackoff(), 0))


class _PromptCluster(redis.asyncio.RedisCluster):
    """Does not ask one silent node after another where the slots are, for 5 seconds each."""

    async def initialize(self, *arguments: Any, **named: Any) -> redis.asyncio.RedisCluster:
        async with asyncio.timeout(LOOK_AROUND):
            return await super().initialize(*arguments, **named)


def _client(where: Location, driver: Any, once: Any) -> AnyClient:
    if where.kind == "cluster":
        nodes = [driver.cluster.ClusterNode(host, port) for host, port in where.nodes]
        settings = _settings(where)
        kind = _PromptCluster if driver is _waiting else driver.RedisCluster
        return kind.from_url(
            where.url, startup_nodes=nodes, require_full_coverage=False, retry=once, **settings
        )
    if where.kind == "sentinel":
        options = _options(where)
        theirs = {**_of_sentinels(options), "retry": once}
        sentinel = driver.Sentinel(list(where.nodes), sentinel_kwargs=theirs, **options)
        return sentinel.master_for(where.service, retry=once)
    return driver.Redis.from_url(where.url, **_settings(where), retry=once)


def _settings(where: Location) -> dict[str, Any]:
    settings: dict[str, Any] = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}
    if not where.url.startswith("unix:"):  # a socket of the host has nobody to keep alive
        settings["socket_keepalive"] = True
    return settings


def _options(where: Location) -> dict[str, Any]:
    """What a URL says of connections, for Sentinels, which have no URLs."""
    options: dict[str, Any] = dict(parse_url(where.url))
    for unneeded in ("host", "port", "connection_class", "path"):
        options.pop(unneeded, None)
    if where.url.startswith("rediss:"):
        options["ssl"] = True
    return {**_settings(where), **options}


def _of_sentinels(options: dict[str, Any]) -> dict[str, Any]:
    """Sentinels have no databases, and logins of their own, which a URL cannot name."""
    theirs = {key: value for key, value in options.items() if key not in {"db", "username", "password"}}
    for name in ("socket_timeout", "socket_connect_timeout"):
        theirs[name] = min(theirs[name], SENTINEL_TIMEOUT)
    return theirs


def _node(host: str, scheme: str) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    unquote(parts.hostname or "").encode("idna")  # as resolving it will do, and the error is a ValueError
    return parts.hostname or "localhost", parts.port or (26379 if "sentinel" in scheme else 6379)
