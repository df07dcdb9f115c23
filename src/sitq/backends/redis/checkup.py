"""What the server's settings make of the promises."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any, Final

from redis import exceptions as driver
from redis.asyncio import RedisCluster

from sitq.checkup import Finding

_ASKED: Final = ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy", "min-replicas-to-write")

SKEW: Final = 2.0
"""Seconds between this host's clock and the server's that are worth a word."""


async def look(client: Any, key: str) -> list[Finding]:
    """All findings about the server of a client that holds this key."""
    server, place = client, ""
    if isinstance(client, RedisCluster):
        server = await _node(client, key)
        place = f", the node {server.name} of a cluster, which has all of this namespace"
    before = time.time()
    seconds, microseconds = await server.execute_command("TIME")
    skew = seconds + microseconds / 1_000_000 - (before + time.time()) / 2
    version = await _version_of(server) + place
    settings: dict[str, str] = {}
    try:
        for name in _ASKED:
            told = await server.execute_command("CONFIG GET", name)
            settings |= {_text(key): _text(value) for key, value in told.items()}
    except driver.ResponseError as error:  # not allowed, or a hosted server without CONFIG
        what = f"the server does not tell its settings: {error}"
        remedy = "let a user ask that may CONFIG GET, or ask whoever runs the server"
        return [
            _version(version),
            _clock(skew),
            Finding(about="settings", level="warning", what=what, remedy=remedy),
        ]
    return findings(version, settings, skew=skew)


async def _node(cluster: Any, key: str) -> Any:
    await cluster.initialize()
    return cluster.get_node_from_key(key)


async def _version_of(server: Any) -> str:
    """The server's kind and version, as far as it tells."""
    with contextlib.suppress(driver.ResponseError):
        known: Mapping[str, Any] = await server.execute_command("INFO", "server")
        if "valkey_version" in known:
            return f"Valkey {known['valkey_version']}"
        return f"Redis {known['redis_version']}"
    with contextlib.suppress(driver.ResponseError):  # needs fewer permissions
        said: Any = await server.execute_command("HELLO")
        # By the older protocol names and values come one after another.
        pairs: Any = said.items() if hasattr(said, "items") else zip(said[::2], said[1::2], strict=True)
        greeting = {_text(name): _text(value) for name, value in pairs}
        return f"{greeting['server'].capitalize()} {greeting['version']}"
    return "Redis or Valkey, which does not tell its version"


def findings(version: str, settings: Mapping[str, str], *, skew: float) -> list[Finding]:
    """What settings mean; `skew` is by how many seconds the server's clock is ahead of this host's."""
    return [_version(version), _durability(settings), _memory(settings), _replication(settings), _clock(skew)]


def _version(version: str) -> Finding:
    return Finding(about="version", level="fine", what=version)


def _durability(settings: Mapping[str, str]) -> Finding:
    if settings.get("appendonly") != "yes":
        return Finding(
            about="durability",
            level="error",
            what="appendonly is off: a restart of the server loses what came after its last snapshot, or all",
            remedy="set appendonly yes",
        )
    if settings.get("appendfsync") != "always":
        return Finding(
            about="durability",
            level="warning",
            what=f"appendfsync is {settings.get('appendfsync')}: a loss of power may lose a second or more",
            remedy="set appendfsync always, if that is too much",
        )
    return Finding(about="durability", level="fine", what="acknowledged enqueues survive a loss of power")


def _memory(settings: Mapping[str, str]) -> Finding:
    policy = settings.get("maxmemory-policy", "noeviction")
    if policy.startswith("allkeys-"):
        return Finding(
            about="memory",
            level="error",
            what=f"maxmemory-policy is {policy}: a full server throws away tasks",
            remedy="set maxmemory-policy noeviction",
        )
    if settings.get("maxmemory", "0") == "0":
        return Finding(
            about="memory",
            level="warning",
            what="there is no maxmemory: a backlog may take all of the host's, until the server is killed",
            remedy="set maxmemory to what the host can spare",
        )
    if policy.startswith("volatile-"):
        what = f"maxmemory-policy is {policy}, which spares tasks, as no key of sitq has a time to live"
        return Finding(about="memory", level="fine", what=f"{what}; a full server refuses new tasks")
    return Finding(about="memory", level="fine", what="nothing is evicted; a full server refuses new tasks")


def _replication(settings: Mapping[str, str]) -> Finding:
    if settings.get("min-replicas-to-write", "0") == "0":
        what = "no replica is waited for: a failover to one may lose the last acknowledged enqueues"
    else:
        what = "writes are refused without replicas, which still may lag behind by a moment"
    return Finding(about="replication", level="fine", what=what)


def _clock(skew: float) -> Finding:
    if abs(skew) <= SKEW:
        return Finding(about="clock", level="fine", what=f"within {SKEW:.0f} s of this host's")
    return Finding(
        about="clock",
        level="warning",
        what=f"the server's clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this host's",
        remedy="let both hosts keep their time by NTP",
    )


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
