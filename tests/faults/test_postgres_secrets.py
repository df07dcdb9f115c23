"""PostgreSQL behind TLS and a password: both work, and no word of the password is ever told."""

import datetime as dt
import ipaddress
import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sitq import TaskQueue, Worker, exceptions
from sitq.testing.servers import PostgresServer

PASSWORD = "gre/en:tea@5%"
QUOTED = "gre%2Fen%3Atea%405%25"
WRONG = "bla%2Fck%20tea"
WORDS = ("gre/en", "gre%2Fen", "tea", "bla%2Fck", "bla/ck")


async def double(number):
    return 2 * number


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and a certificate that is its own authority, for the loopback."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sitq's tests")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "server.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    (folder / "server.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return folder


@pytest.fixture(scope="module")
def server(postgres_binaries, certificate):
    """A server that takes nobody without TLS and the password."""
    files = {name: (certificate / name).read_bytes() for name in ("server.key", "server.crt")}
    with PostgresServer(
        {"ssl": "on"},
        access=["hostnossl all all all reject"],
        password=PASSWORD,
        binaries=postgres_binaries,
        files=files,
    ) as server:
        yield server


@pytest.fixture
def authority(certificate):
    return f"sslmode=verify-full&sslrootcert={certificate / 'server.crt'}"


@pytest.fixture
def told(caplog, capfd):
    """All that was said in a test, by whomever."""
    caplog.set_level(logging.DEBUG)
    words = []
    yield words
    words += [caplog.text, *capfd.readouterr()]
    for said in words:
        assert not [word for word in WORDS if word in said]


def address(server, password):
    return f"postgresql://sitq:{password}@127.0.0.1:{server.port}/postgres"


async def test_tasks_run_over_tls_and_the_certificate_is_verified(server, authority, told):
    url = f"{address(server, QUOTED)}?{authority}&migrate=true"
    async with TaskQueue(url) as queue, Worker(url):
        handle = await queue.submit(double, 21)
        assert await handle.result(timeout=20) == 42
        with pytest.raises(exceptions.ValidationError):
            await queue.within(object()).enqueue(double, 1)
        told += [repr(queue), repr(queue.backend), str(await queue.backend.checkup())]
        used = queue.backend._engine.connect()
        assert used.raw.info.get_parameters()["sslmode"] == "verify-full"
        used.close()


@pytest.mark.parametrize(
    "case",
    [
        (WRONG, "{authority}", "password authentication failed"),
        (QUOTED, "sslmode=disable", "no encryption"),
        (QUOTED, "sslmode=verify-full&sslrootcert=/dev/null", "certificate"),
        ("", "{authority}", "no password supplied"),
    ],
    ids=["wrong password", "no TLS", "no authority", "no password"],
)
async def test_whoever_is_not_let_in_is_told_why_and_nothing_of_the_password(server, authority, told, case):
    password, options, why = case
    url = f"{address(server, password)}?{options.format(authority=authority)}&migrate=true"
    with pytest.raises(exceptions.ConnectionError, match=why) as caught:
        async with TaskQueue(url):
            pass
    told.append("".join(traceback.format_exception(caught.value)))


@pytest.mark.parametrize(
    ("command", "password"),
    [
        (["migrate"], QUOTED),
        (["doctor"], QUOTED),
        (["doctor"], "gre/en tea"),
        (["info"], WRONG),
        (["copy", "memory://"], WRONG),
    ],
)
def test_no_command_tells_the_password(server, authority, told, command, password):
    url = f"{address(server, password)}?{authority}"
    done = subprocess.run(
        [sys.executable, "-m", "sitq", *command, url],
        env={name: value for name, value in os.environ.items() if not name.startswith("SITQ_")},
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    told += [done.stdout, done.stderr]
    assert done.stdout + done.stderr
