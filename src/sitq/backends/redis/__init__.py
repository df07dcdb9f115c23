"""Tasks in Redis or Valkey: one server, a Sentinel's master, or a cluster.

It needs the extra `redis`: `pip install "sitq-tasks[redis]"`.
"""

try:
    import redis as _  # noqa: F401 - to say what is missing before anything else fails
except ImportError as error:
    from sitq.exceptions import ConfigurationError

    raise ConfigurationError(
        f'the Redis store needs redis-py ({error}): pip install "sitq-tasks[redis]"', operation="open"
    ) from error

from sitq.backends.redis.backend import RedisBackend, from_url

__all__ = ["RedisBackend", "from_url"]
