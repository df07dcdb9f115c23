import pytest

from sitq.backends import GROUP, open_backend, path_and_options
from sitq.backends.memory import MemoryBackend
from sitq.backends.sqlite import SQLiteBackend
from sitq.exceptions import ConfigurationError, ValidationError


def test_a_backend_is_itself():
    backend = MemoryBackend()
    assert open_backend(backend) is backend


def test_a_memory_store_is_ones_own_or_shared_by_its_name():
    assert isinstance(open_backend("memory://"), MemoryBackend)
    one, other = open_backend("memory://shared"), open_backend("memory://shared")
    assert one._store is other._store
    assert open_backend("memory://")._store is not open_backend("memory://")._store


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///tasks.db", "tasks.db"),
        ("sqlite:////var/tasks.db", "/var/tasks.db"),
        ("sqlite:///a%20b.db", "a b.db"),
        ("sqlite:///a.db?namespace=x", "a.db"),
        ("sqlite://", ":memory:"),
    ],
)
def test_a_sqlite_url_names_its_file(url, path):
    backend = open_backend(url)
    assert isinstance(backend, SQLiteBackend)
    assert backend.path == path


def test_options_stand_in_the_query():
    assert open_backend("sqlite:///a.db?namespace=x").namespace == "x"
    assert open_backend("memory://?namespace=x").namespace == "x"
    assert path_and_options("sqlite:///a.db?namespace=x&y=z") == ("a.db", {"namespace": "x", "y": "z"})


@pytest.mark.parametrize("url", ["sqlite:///a.db?colour=blue", "memory://?colour=blue"])
def test_an_unknown_option_is_named(url):
    with pytest.raises(ValidationError, match="colour"):
        open_backend(url)


REDIS = ("redis", "rediss", "valkey", "valkeys", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel")


@pytest.mark.parametrize("scheme", REDIS)
def test_an_unknown_option_of_any_redis_url_names_the_nearest(scheme):
    path = {"redis+sentinel": "h/main/0", "unix": "/run/redis.sock"}.get(scheme, "h/0")
    with pytest.raises(
        ValidationError, match=r"'socket_timout' is no option .* did you mean 'socket_timeout'"
    ):
        open_backend(f"{scheme}://{path}?socket_timout=3")
    with pytest.raises(ValidationError, match=r"'foo' is no option .* there are client_name"):
        open_backend(f"{scheme}://{path}?foo=1")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h/0?protocol=9", "protocol=… .* 2 or 3"),
        ("redis://h/?socket_timeout=soon", "number of seconds"),
        ("redis://h/?max_connections=0", "above 0"),
        ("redis://h/?ssl_ca_certs=/ca.pem", "write rediss://"),
        ("rediss://h/?ssl_cert_reqs=maybe", "none or optional or required"),
        ("redis://h/mail", "'mail' .* is no number of a database"),
        ("redis+cluster://h/2", "no database but 0"),
        ("redis+cluster://h?db=2", "'db' is no option"),
        ("redis+sentinel://h/main/x", "no number of a database"),
        ("unix://", "unix:///path"),
    ],
)
def test_a_value_that_a_redis_url_cannot_have_is_told_at_once(url, said):
    with pytest.raises(ValidationError, match=said):
        open_backend(url)


@pytest.mark.parametrize(
    "url",
    ["redis://:12/secret@h/0", "redis://:12?secret@h/0", "redis://:12#secret@h/0", "redis://:a?secret@h"],
)
def test_a_password_that_was_not_escaped_is_not_repeated(url):
    with pytest.raises(ValidationError) as caught:
        open_backend(url)
    assert "secret" not in str(caught.value)


def test_a_host_where_there_is_none_says_how_to_write_a_path():
    with pytest.raises(ValidationError, match=r"sqlite:///tasks\.db"):
        open_backend("sqlite://tasks.db")


@pytest.mark.parametrize("url", ["sqlte:///a.db", "sqlite3:///a.db"])
def test_an_unknown_scheme_names_the_nearest(url):
    with pytest.raises(ConfigurationError, match="did you mean sqlite://"):
        open_backend(url)


def test_a_scheme_like_none_lists_what_there_is():
    with pytest.raises(
        ConfigurationError, match=r"no store is known for https://; there are .*memory://.*sqlite://"
    ):
        open_backend("https://example.org")


def test_a_malformed_url_is_refused_without_repeating_its_password():
    with pytest.raises(ValidationError, match="malformed") as caught:
        open_backend("sqlite://user:secret@[broken")
    assert "secret" not in str(caught.value)


class Entry:
    name = "third"

    def __init__(self, load):
        self.load = load


def test_a_third_party_store_registers_by_entry_point(monkeypatch):
    def from_url(url):
        return MemoryBackend(namespace="third")

    def find(*, group, name=None):
        assert group == GROUP
        return [Entry(lambda: from_url)] if name in {None, "third"} else []

    monkeypatch.setattr("importlib.metadata.entry_points", find)
    assert open_backend("third://x").namespace == "third"
    with pytest.raises(ConfigurationError, match="did you mean third"):
        open_backend("thirds://x")


def test_a_third_party_store_that_cannot_be_loaded_says_why(monkeypatch):
    def load():
        raise ModuleNotFoundError("No module named 'itsdriver'")

    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [Entry(load)])
    with pytest.raises(ConfigurationError, match=r"third://.*itsdriver"):
        open_backend("third://x")
