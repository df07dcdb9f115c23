"""The suite that a store joins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import ClassVar

import pytest
import pytest_asyncio

from sitq.testing.conformance import skips
from sitq.testing.conformance.harness import Harness
from sitq.testing.conformance.promises.cells import CellPromises
from sitq.testing.conformance.promises.clashes import ClashPromises
from sitq.testing.conformance.promises.concurrency import HygienePromises, LoopPromises, RacePromises
from sitq.testing.conformance.promises.damage import DamagePromises
from sitq.testing.conformance.promises.edges import EdgePromises
from sitq.testing.conformance.promises.expiry import ExpiryPromises, RetentionPromises
from sitq.testing.conformance.promises.fairness import FairPromises
from sitq.testing.conformance.promises.fences import FencePromises
from sitq.testing.conformance.promises.groups import GroupPromises
from sitq.testing.conformance.promises.hostile import HostilePromises
from sitq.testing.conformance.promises.leases import ReclaimPromises, RenewalPromises
from sitq.testing.conformance.promises.lifecycle import LifecyclePromises
from sitq.testing.conformance.promises.limits import FreezePromises, RatePromises, SlotPromises
from sitq.testing.conformance.promises.listening import ListenerPromises
from sitq.testing.conformance.promises.logs import LogPromises
from sitq.testing.conformance.promises.namespaces import NamespacePromises
from sitq.testing.conformance.promises.operators import (
    CancelPromises,
    ChangePromises,
    DeletePromises,
    OperatorSettlePromises,
)
from sitq.testing.conformance.promises.order import OrderPromises
from sitq.testing.conformance.promises.pauses import PausePromises
from sitq.testing.conformance.promises.placing import PutPromises
from sitq.testing.conformance.promises.queue_limits import QueueLimitPromises
from sitq.testing.conformance.promises.reading import ScanPromises, TallyPromises
from sitq.testing.conformance.promises.restoring import RestorePromises, SendPromises
from sitq.testing.conformance.promises.settling import NotePromises, RetryPromises, SettlePromises
from sitq.testing.conformance.promises.taking import RepeatedClaimPromises, TakePromises
from sitq.testing.conformance.promises.unique import UniquePromises
from sitq.testing.conformance.store import Store


class OpenStore:
    """Gives each test a store, as all parts of the suite need it.

    Attributes:
        harness: Makes the harness of a test from an empty folder: a `Harness` class, or a function.
    """

    harness: ClassVar[Callable[[Path], Harness]]

    pytestmark = pytest.mark.asyncio

    @pytest_asyncio.fixture(loop_scope="function")
    async def store(self, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
        """A store that is new, empty, and gone after the test."""
        skips.register(request.config)
        harness = type(self).harness(tmp_path)
        store = Store(harness, await harness.open())
        try:
            yield store
        finally:
            await store.discard()


class BackendConformance(
    OpenStore,
    LifecyclePromises,
    PutPromises,
    GroupPromises,
    UniquePromises,
    ClashPromises,
    OrderPromises,
    TakePromises,
    RepeatedClaimPromises,
    FencePromises,
    RenewalPromises,
    ReclaimPromises,
    SettlePromises,
    RetryPromises,
    NotePromises,
    CancelPromises,
    ChangePromises,
    OperatorSettlePromises,
    DeletePromises,
    RestorePromises,
    SendPromises,
    EdgePromises,
    PausePromises,
    SlotPromises,
    RatePromises,
    FreezePromises,
    QueueLimitPromises,
    FairPromises,
    ExpiryPromises,
    RetentionPromises,
    ScanPromises,
    TallyPromises,
    CellPromises,
    LogPromises,
    ListenerPromises,
    HygienePromises,
    LoopPromises,
    RacePromises,
    NamespacePromises,
    HostilePromises,
    DamagePromises,
):
    """Everything that a backend promises. Derive a test class from it that says how its store is opened."""
