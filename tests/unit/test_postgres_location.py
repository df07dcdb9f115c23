"""Addresses of PostgreSQL stores: what reaches the driver, what is shown, and what counts as local."""

import traceback

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from sitq import TaskQueue
from sitq.backends import open_backend
from sitq.backends.postgres import PostgresBackend, location
from sitq.backends.postgres.errors import translated
from sitq.exceptions import SitqError, ValidationError

# Passwords are put together, so that the line of a traceback that makes one does not show it.
SECRETS = ["hun" + mark + "ter2" for mark in "/#?% @:=&'\\+[]\u2100"] + ["hun%" + "zzter2", "%" + "hunter2"]


def told_by(make):
    """All that can be read of a store that is opened: itself, or the error with its causes."""
    try:
        backend = make()
    except SitqError as error:
        return "".join(traceback.format_exception(error)), error
    return repr(backend) + str(backend), None


def shows(secret, text):
    """Whether any half of the secret is in it."""
    return any(part in text for part in ("hun" + "%", "zzter2", "ter2", secret))


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "form",
    [
        "postgresql://a:{}@127.0.0.1:1/db",
        "postgresql://a:{}@127.0.0.1:1/db?migrate=true",
        "postgres://a:{}@127.0.0.1:1,[::1]:1/db",
        "postgresql://127.0.0.1:1/db?user=a&password={}",
        "postgresql://127.0.0.1:1/db?sslpassword={}&connect_timeout=1",
    ],
)
async def test_no_form_of_a_url_shows_its_password(form, secret):
    url = form.format(secret)
    text, error = told_by(lambda: open_backend(url))
    assert not shows(secret, text)
    assert isinstance(error, ValidationError | None)
    if error is None:
        backend = open_backend(url)
        with pytest.raises(SitqError) as caught:
            await backend.connect()
        assert not shows(secret, "".join(traceback.format_exception(caught.value)))


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "form",
    [
        "host=127.0.0.1 port=1 password={}",
        "host=127.0.0.1 port=1 password='{} user=a",
        "host=127.0.0.1 port=1 password='{}'",
        "dbname=postgresql://a:{}@127.0.0.1:1/db host=127.0.0.1 port=1",
        "postgresql://a:{}@127.0.0.1:1/db",
    ],
)
async def test_no_form_of_a_conninfo_shows_its_password(form, secret):
    conninfo = form.format(secret)
    text, error = told_by(lambda: PostgresBackend(conninfo))
    assert not shows(secret, text)
    if error is None:
        backend = PostgresBackend(conninfo)
        with pytest.raises(SitqError) as caught:
            await backend.connect()
        assert not shows(secret, "".join(traceback.format_exception(caught.value)))


def test_a_conninfo_in_the_place_of_a_url_is_not_repeated():
    with pytest.raises(ValidationError, match="PostgresBackend") as caught:
        TaskQueue("host=h password=hunter2")
    assert "hunter2" not in str(caught.value)


def test_what_the_driver_cannot_read_is_not_repeated():
    with pytest.raises(psycopg.ProgrammingError) as caught:
        conninfo_to_dict("postgresql://a:hunter2%zz@h/db")
    assert "hunter2" in str(caught.value)
    assert "hunter2" not in str(translated(caught.value, "postgresql://h/db", "connect"))


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ("postgresql://h/db?application_name=my%20app", {"application_name": "my app"}),
        ("postgresql://h/db?application_name=my+app", {"application_name": "my+app"}),
        ("postgresql://h/db?options=-c%20lock_timeout%3D5s", {"options": "-c lock_timeout=5s"}),
        ("postgresql://h/db?application_name=a%2Bb%26c%3Dd", {"application_name": "a+b&c=d"}),
        ("postgresql://a:p%2Fw%20%23@h/db", {"user": "a", "password": "p/w #"}),
        ("postgresql://h/db?migrate=true&sslmode=require&namespace=n", {"sslmode": "require"}),
    ],
)
def test_options_of_a_url_reach_the_driver_as_they_were_meant(given, known):
    conninfo, options = location.split(given)
    assert known.items() <= conninfo_to_dict(conninfo).items()
    assert "migrate" not in conninfo
    assert set(options) <= set(location.OPTIONS)


def test_a_misspelt_option_is_told_the_nearest():
    with pytest.raises(ValidationError, match="did you mean migrate="):
        open_backend("postgresql://h/db?migrat=true")
    with pytest.raises(ValidationError, match="did you mean sslmode="):
        open_backend("postgresql://h/db?sslmod=require")


@pytest.mark.parametrize(
    ("conninfo", "shown"),
    [
        ("postgresql://a:pw@h:5/db", "postgresql://a@h:5/db"),
        ("host=h user=a password=pw", "postgresql://a@h/"),
        ("postgresql://h1:1,h2:2/db", "postgresql://h1:1,h2:2/db"),
        ("host=h1,h2 port=5", "postgresql://h1:5,h2:5/"),
        ("host=/run/postgresql dbname=db", "postgresql:///db"),
        ("postgresql://a%40b:pw@h/db", "postgresql://a@b@h/db"),
    ],
)
def test_an_address_is_shown_without_its_password(conninfo, shown):
    assert location.shown(conninfo) == shown


@pytest.mark.parametrize(
    ("parameters", "local"),
    [
        ({"host": "127.0.0.1"}, True),
        ({"host": "/run/postgresql"}, True),
        ({"host": "localhost,::1"}, True),
        ({"host": "127.0.0.1,db.example"}, False),
        ({"host": "localhost", "hostaddr": "127.0.0.1,192.0.2.1"}, False),
        ({"host": "db.example"}, False),
    ],
)
def test_a_store_is_local_if_all_the_servers_are_that_it_may_lead_to(parameters, local):
    class Info:
        host = "127.0.0.1"
        hostaddr = "127.0.0.1"

        def get_parameters(self):
            return parameters

    class Connection:
        info = Info()

    assert location.is_local(Connection()) is local
