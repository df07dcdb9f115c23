import pytest

from sitq.testing.conformance import BackendConformance
from sitq.testing.redis import RedisHarness, StoppedRedisHarness


@pytest.fixture(autouse=True)
def server(redis_url: str) -> None:
    RedisHarness.url = redis_url


class TestRedis(BackendConformance):
    harness = StoppedRedisHarness
