"""The PostgreSQL store: a database that any number of hosts share.

It needs the extra `postgres`: `pip install "sitq-tasks[postgres]"`.
"""

try:
    import psycopg as _  # noqa: F401 - to say what is missing before anything else fails
except ImportError as error:
    from sitq.exceptions import ConfigurationError

    raise ConfigurationError(
        f'the PostgreSQL store needs psycopg ({error}): pip install "sitq-tasks[postgres]"', operation="open"
    ) from error

from sitq.backends.postgres.backend import PostgresBackend, from_url

__all__ = ["PostgresBackend", "from_url"]
