"""`sitq doctor` as a user types it, and what settings mean."""

import json
import os
import subprocess
import sys
import time

import pytest
from redis import Redis
from redis.crc import key_slot

from sitq import KeyRing, SQLiteBackend
from sitq.backends.memory import MemoryBackend
from sitq.backends.postgres import PostgresBackend
from sitq.backends.postgres.checkup import findings
from sitq.backends.redis import RedisBackend
from sitq.backends.redis.checkup import findings as redis_findings
from sitq.backends.sqlite import checkup
from sitq.doctor import look
from sitq.ids import token
from sitq.move import Settle
from sitq.record import Record, State
from sitq.testing.servers import RedisCluster, free_port

GOOD = {
    "version": "16.2",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "standbys": "",
    "recovering": False,
}


def levels(found) -> dict[str, str]:
    return {one.about: one.level for one in found}


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sitq", "doctor", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


async def test_the_command_tells_of_a_file(tmp_path):
    path = tmp_path / "a.db"
    async with SQLiteBackend(path) as backend:
        await backend.put([[Record(id="a", name="work")]])
        await backend.apply([Settle(id="a", state=State.DEAD)])
    done = doctor(f"sqlite:///{path}", "--json")
    found = {one["about"]: one for one in json.loads(done.stdout)}
    assert done.returncode == 1
    assert found["quarantine"]["level"] == "warning"
    assert found["durability"]["level"] == found["rights"]["level"] == "fine"
    path.chmod(0o644)
    table = doctor(f"sqlite:///{path}").stdout
    assert "others can read the file (mode 0644)" in table
    assert "-> chmod 600 the file" in table


def test_a_file_that_is_not_there_is_not_made(tmp_path):
    done = doctor(f"sqlite:///{tmp_path}/a.db")
    assert done.returncode == 2
    assert not (tmp_path / "a.db").exists()


@pytest.mark.parametrize(
    ("finding", "level"),
    [
        (checkup.version((3, 51, 2)), "warning"),
        (checkup.version((3, 51, 3)), "fine"),
        (checkup.durability("NORMAL"), "warning"),
        (checkup.place("nfs4"), "error"),
        (checkup.place("ext4"), "fine"),
        (checkup.disk(1 << 20), "warning"),
        (checkup.disk(1 << 40), "fine"),
    ],
)
def test_what_is_found_of_sqlite_has_its_level(finding, level):
    assert finding.level == level
    assert bool(finding.remedy) == (level != "fine")


@pytest.mark.parametrize(
    ("changed", "about", "level"),
    [
        ({"fsync": "off"}, "durability", "error"),
        ({"synchronous_commit": "off"}, "durability", "warning"),
        ({"full_page_writes": "off"}, "full_page_writes", "error"),
        ({"recovering": True}, "role", "error"),
    ],
)
def test_each_setting_of_postgres_has_its_meaning(changed, about, level):
    assert set(levels(findings(GOOD, skew=0.1, direct=True)).values()) == {"fine"}
    assert levels(findings(GOOD | changed, skew=0, direct=True))[about] == level


def test_a_clock_that_is_off_and_a_pooler_are_told():
    found = levels(findings(GOOD, skew=-5, direct=False))
    assert (found["clock"], found["pooler"]) == ("warning", "warning")


async def test_a_real_server_is_asked(postgres_url):
    async with PostgresBackend(
        postgres_url, namespace=f"doctor_{token()[:20].lower()}", migrate=True
    ) as backend:
        found = {one.about: one for one in await look(backend, None)}
    assert found["version"].what.startswith("PostgreSQL ")
    assert found["clock"].level == "fine"
    assert "durability" in found


@pytest.mark.parametrize(
    ("changed", "about", "level"),
    [
        ({"appendonly": "no"}, "durability", "error"),
        ({"appendfsync": "everysec"}, "durability", "warning"),
        ({"maxmemory-policy": "allkeys-lru"}, "memory", "error"),
        ({"maxmemory": "0"}, "memory", "warning"),
    ],
)
def test_each_setting_of_redis_has_its_meaning(changed, about, level):
    good = {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory": "1000000",
        "maxmemory-policy": "noeviction",
        "min-replicas-to-write": "1",
    }
    assert set(levels(redis_findings("7.2", good, skew=0)).values()) == {"fine"}
    assert levels(redis_findings("7.2", good | changed, skew=0))[about] == level


async def test_a_real_redis_is_asked(redis_url):
    async with RedisBackend(redis_url, namespace=f"doctor-{token()}") as backend:
        found = levels(await look(backend, None))
    assert found["clock"] == "fine"
    assert {"version", "durability", "memory", "replication"} <= found.keys()


def test_a_policy_that_throws_away_what_has_a_time_to_live_spares_tasks():
    settings = {"maxmemory": "1000000", "maxmemory-policy": "volatile-lru"}
    found = {one.about: one for one in redis_findings("7.2", settings, skew=0)}
    assert found["memory"].level == "fine"
    assert "spares tasks" in found["memory"].what
    assert levels(redis_findings("7.2", settings | {"maxmemory": "0"}, skew=0))["memory"] == "warning"


async def test_of_a_cluster_the_node_is_asked_that_has_the_tasks(own_server):
    cluster = own_server(RedisCluster, {"appendonly": "no"})
    with Redis(port=cluster.nodes[1].port) as good:
        good.config_set("appendonly", "yes")
        good.config_set("appendfsync", "always")
    homes = set()
    for namespace in ("a", "b", "c", "d", "e"):
        node = cluster.nodes[key_slot(f"{{{namespace}}}:".encode()) // 5462]
        async with RedisBackend(cluster.url(), namespace=namespace) as backend:
            found = {one.about: one for one in await look(backend, None)}
        homes.add(node.port)
        assert f"the node 127.0.0.1:{node.port} of a cluster" in found["version"].what
        assert found["durability"].level == ("fine" if node is cluster.nodes[1] else "error")
    assert len(homes) > 1


def test_a_cluster_that_is_away_is_told_without_a_traceback():
    done = doctor(f"redis+cluster://:secret@127.0.0.1:{free_port()}")
    assert done.returncode == 2
    assert "cannot be used now" in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


async def test_what_is_stuck_is_named():
    clock = [time.time_ns() // 1000]
    backend = MemoryBackend(clock=lambda: clock[0])
    async with backend:
        await backend.put([[Record(id="a", name="work", queue="mail")]])
        assert "waiting" not in levels(await look(backend, None))
        clock[0] += 600 * 1_000_000
        found = {one.about: one for one in await look(backend, None)}
        assert "'mail' are ready for up to 10 minutes" in found["waiting"].what
        await backend.swap("pause/queue/mail", None, b"")
        assert "waiting" not in levels(await look(backend, None))


async def test_keys_that_are_missing_are_told(tmp_path):
    path = tmp_path / "a.db"
    async with SQLiteBackend(path):
        pass
    path.chmod(0o666)
    async with SQLiteBackend(path) as backend:
        assert levels(await look(backend, None))["signatures"] == "warning"
        assert levels(await look(backend, KeyRing([("one", b"1" * 32)])))["signatures"] == "fine"
