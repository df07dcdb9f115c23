"""The Redis store on the oldest server that it promises to run on, on Valkey, and on a cluster.

What a server could do otherwise: its Lua, its clocks, its order of members, and the way to the right node.
`make conformance` runs all promises there.
"""

import os

import pytest

from sitq.testing.conformance import BackendConformance, OpenStore
from sitq.testing.conformance.promises.concurrency import RacePromises
from sitq.testing.conformance.promises.damage import DamagePromises
from sitq.testing.conformance.promises.limits import RatePromises, SlotPromises
from sitq.testing.conformance.promises.logs import LogPromises
from sitq.testing.conformance.promises.namespaces import NamespacePromises
from sitq.testing.redis import StoppedRedisHarness


class Some(
    OpenStore,
    RatePromises,
    SlotPromises,
    LogPromises,
    RacePromises,
    NamespacePromises,
    DamagePromises,
): ...


Promises: type[OpenStore] = BackendConformance if "SITQ_TEST_WHOLE" in os.environ else Some


class OldRedis(StoppedRedisHarness): ...


class Valkey(StoppedRedisHarness): ...


class Cluster(StoppedRedisHarness): ...


class TestOldRedis(Promises):
    harness = OldRedis

    @pytest.fixture(autouse=True)
    def server(self, old_redis_url: str) -> None:
        OldRedis.url = old_redis_url


class TestValkey(Promises):
    harness = Valkey

    @pytest.fixture(autouse=True)
    def server(self, valkey_url: str) -> None:
        Valkey.url = valkey_url


class TestRedisCluster(Promises):
    harness = Cluster

    @pytest.fixture(autouse=True)
    def server(self, redis_cluster_url: str) -> None:
        Cluster.url = redis_cluster_url
