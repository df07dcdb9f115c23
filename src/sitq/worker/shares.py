"""How a claim is divided among several queues."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from sitq.backends.base import Share


def shares(
    weights: Mapping[str, float], limit: int, dice: Callable[[], float] = random.random
) -> tuple[Share, ...]:
    """The queues in the order in which to claim from them, each with its share of `limit`.

    Weights of 0 are strict order: each queue may have everything that those before it left. Otherwise a
    queue's share is in proportion to its weight on the average over many claims (fractions are rounded by
    lot), and the order is drawn by weight (Efraimidis and Spirakis 2006), so that shares of 0 do not starve a
    queue of a small worker.
    """
    total = sum(weights.values())
    if not total:
        return tuple(Share(queue, limit) for queue in weights)
    order = sorted(weights, key=lambda queue: -(dice() ** (1 / weights[queue])))
    return tuple(Share(queue, int(limit * weights[queue] / total + dice())) for queue in order)
