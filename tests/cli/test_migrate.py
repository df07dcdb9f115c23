"""`sitq migrate`: the tables of a PostgreSQL store."""

import contextlib
import os
import subprocess
import sys

import psycopg
import pytest


def sitq(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "sitq", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def place(postgres_url):
    """A URL with a namespace that is not there, and a connection."""
    name = f"cli_{os.getpid()}"
    with contextlib.closing(psycopg.connect(postgres_url, autocommit=True)) as db:
        yield f"{postgres_url}?namespace={name}", name, db
        db.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE".encode())


def test_tables_are_made_once_and_then_up_to_date(place):
    url, _, _ = place
    code, _, complaint = sitq("info", url)
    assert code
    assert "sitq migrate" in complaint
    assert sitq("migrate", url)[0] == 0
    assert sitq("migrate", url)[1] == "up to date\n"
    assert sitq("info", url)[:2] == (0, "no tasks\n")


def test_the_printed_sql_makes_the_same_tables_and_printing_changes_nothing(place):
    url, name, db = place
    code, script, _ = sitq("migrate", "--sql", url)
    assert code == 0
    assert db.execute("SELECT to_regnamespace(%s)", (name,)).fetchone() == (None,)
    db.execute(script.encode())
    assert sitq("migrate", url)[1] == "up to date\n"


def test_tables_of_a_newer_version_are_refused_with_the_remedy(place):
    url, name, db = place
    sitq("migrate", url)
    db.execute(f"UPDATE {name}.meta SET value = 4711 WHERE key = 'schema'".encode())
    for command in ("migrate", "info"):
        code, _, complaint = sitq(command, url)
        assert code
        assert "4711" in complaint
        assert "upgrade sitq" in complaint


def test_a_store_that_makes_what_it_needs_says_so(tmp_path):
    code, _, complaint = sitq("migrate", f"sqlite:///{tmp_path}/a.db")
    assert code
    assert "when it is opened" in complaint


def test_a_password_is_never_shown():
    code, _, complaint = sitq("migrate", "postgresql://app:hunter2@127.0.0.1:1/app")
    assert code
    assert "cannot be reached" in complaint
    assert "hunter2" not in complaint
