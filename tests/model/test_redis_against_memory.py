"""The Redis store against the memory store, step by step.

`SITQ_MODEL=thorough` runs it for hours instead of seconds.
"""

import os

import pytest

from sitq.testing.model import BackendModel, as_test_case
from sitq.testing.redis import RedisHarness, StoppedRedisHarness

EXAMPLES, STEPS = (20_000, 100) if os.environ.get("SITQ_MODEL") == "thorough" else (40, 40)


class RedisAgainstMemory(BackendModel):
    harness = StoppedRedisHarness


@pytest.fixture(autouse=True)
def server(redis_url: str) -> None:
    RedisHarness.url = redis_url


# Finding the shortest sequence of steps takes Hypothesis up to five minutes.
@pytest.mark.timeout(0 if EXAMPLES > 1000 else 600)
class TestRedisAgainstMemory(
    as_test_case(RedisAgainstMemory, max_examples=EXAMPLES, stateful_step_count=STEPS)
):
    pass
