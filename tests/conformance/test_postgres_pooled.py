"""The part of the suite in which calls meet, through PgBouncer in transaction mode."""

import pytest

from sitq.testing.conformance import BackendConformance
from sitq.testing.conformance.promises.concurrency import LoopPromises, RacePromises
from sitq.testing.conformance.promises.fairness import FairPromises
from sitq.testing.conformance.promises.fences import FencePromises
from sitq.testing.conformance.promises.leases import ReclaimPromises, RenewalPromises
from sitq.testing.conformance.promises.lifecycle import LifecyclePromises
from sitq.testing.conformance.promises.limits import RatePromises, SlotPromises
from sitq.testing.conformance.promises.settling import RetryPromises, SettlePromises
from sitq.testing.conformance.promises.taking import RepeatedClaimPromises, TakePromises
from sitq.testing.conformance.promises.unique import UniquePromises
from sitq.testing.postgres import PostgresHarness

PART = (
    FairPromises, FencePromises, LifecyclePromises, LoopPromises, RacePromises,
    RatePromises, ReclaimPromises, RenewalPromises, RepeatedClaimPromises, RetryPromises, SettlePromises,
    SlotPromises, TakePromises, UniquePromises,
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _server(pooled_postgres_url: str):
    PostgresHarness.use(pooled_postgres_url)


def names_in(promises):
    return {name for one in promises for name in vars(one) if name.startswith("test_")}


TestPostgresBehindPgBouncer = type(
    "TestPostgresBehindPgBouncer",
    (BackendConformance,),
    {
        "harness": PostgresHarness,
        **dict.fromkeys(names_in(BackendConformance.__mro__) - names_in(PART)),
    },
)
