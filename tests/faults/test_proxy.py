"""The proxy that the fault tests stand on does what it says."""

import contextlib
import socket
import threading
import time

import pytest

from sitq.testing.proxy import LOOPBACK, Proxy, Weather


class Echo:
    """Answers with what it hears, twice, and notes what it heard."""

    def __init__(self):
        self.listener = socket.create_server((LOOPBACK, 0))
        self.port = self.listener.getsockname()[1]
        self.heard = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.serve, args=self.listener.accept()[:1], daemon=True).start()

    def serve(self, connection):
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                self.heard.append(data)
                connection.sendall(data * 2)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def server():
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture
def proxy(server):
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def client(proxy):
    with socket.create_connection((LOOPBACK, proxy.port), 5) as connection:
        connection.sendall(b"hello")
        assert connection.recv(100) == b"hellohello"
        yield connection


def exchange(connection, words, size):
    connection.sendall(words)
    answer = b""
    while len(answer) < size:
        more = connection.recv(size)
        assert more, answer
        answer += more
    return answer


def heard_first(port):
    with socket.create_connection((LOOPBACK, port), 5) as connection:
        return connection.recv(1)


def silent(connection, seconds=0.2):
    connection.settimeout(seconds)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(5)
    return False


def test_bytes_pass_unchanged(client, server):
    words = bytes(range(256)) * 2000
    answer = exchange(client, words, len(words) * 2)
    assert b"".join(server.heard[1:]) == words
    assert answer == b"".join(data * 2 for data in server.heard[1:])


def test_bytes_are_under_way_for_a_while_in_their_order(client, proxy):
    proxy.weather = Weather(delay=0.05, jitter=0.05)
    started = time.monotonic()
    assert exchange(client, b"a", 2) == b"aa"
    assert 0.1 <= time.monotonic() - started < 2
    for letter in b"bcdefg":
        client.sendall(bytes([letter]))
        time.sleep(0.005)
    answer = exchange(client, b"h", 14)
    assert sorted(answer) == sorted(b"bcdefgh" * 2)
    assert list(dict.fromkeys(answer)) == list(b"bcdefgh")  # a chunk may hold several, one after another


def test_a_drip_comes_one_byte_at_a_time(client, proxy, server):
    proxy.weather = Weather(drip=1, pause=0.002)
    assert exchange(client, b"drop by drop", 24)
    assert b"".join(server.heard[1:]) == b"drop by drop"
    assert len(server.heard[1:]) > 6  # a server that is late hears several at once


def test_a_black_hole_ends_nothing_and_gives_back_what_it_held(client, proxy):
    proxy.hold()
    client.sendall(b"held")
    assert silent(client)
    with socket.create_connection((LOOPBACK, proxy.port), 5) as late:
        late.sendall(b"late")
        assert silent(late)
        proxy.heal()
        assert late.recv(100) == b"latelate"
    assert client.recv(100) == b"heldheld"


def test_a_black_hole_that_forgets_leaves_old_connections_dumb(client, proxy):
    proxy.hold(forget=True)
    client.sendall(b"lost")
    proxy.heal()
    assert silent(client)
    with socket.create_connection((LOOPBACK, proxy.port), 5) as late:
        assert exchange(late, b"late", 8) == b"latelate"


def test_a_reset_is_no_orderly_end(client, proxy):
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert proxy.counts.reset == 1


def test_refused_connections_are_told_so_and_present_ones_go_on(client, proxy):
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOOPBACK, proxy.port), 5)
    assert exchange(client, b"on", 4) == b"onon"
    proxy.heal()
    with socket.create_connection((LOOPBACK, proxy.port), 5) as late:
        assert exchange(late, b"late", 8) == b"latelate"


def test_half_of_a_connection_ends(client, proxy, server):
    proxy.half_close("replies")
    assert client.recv(1) == b""
    client.sendall(b"still heard")
    deadline = time.monotonic() + 5
    while b"still heard" not in server.heard:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_answer_to_a_marked_request_is_swallowed_so_many_times(client, proxy, server):
    proxy.swallow(b"precious", times=1)
    assert exchange(client, b"plain", 10) == b"plainplain"
    client.sendall(b"precious")
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert b"precious" in server.heard  # and it was answered: the server did it
    assert proxy.counts.swallowed == 1
    with socket.create_connection((LOOPBACK, proxy.port), 5) as again:
        assert exchange(again, b"precious", 16) == b"preciousprecious"


def test_a_reply_is_cut_after_so_many_bytes(client, proxy):
    proxy.cut(after=5)
    client.sendall(b"abcd")
    assert client.recv(100) == b"abcda"
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert proxy.counts.cut == 1


def test_a_flapping_network_is_well_afterwards(client, proxy):
    before = proxy.counts.connections
    started = time.monotonic()
    proxy.flap(times=5, within=0.2)
    assert 0.2 <= time.monotonic() - started < 5
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with socket.create_connection((LOOPBACK, proxy.port), 5) as late:
        assert exchange(late, b"late", 8) == b"latelate"
    assert proxy.counts.connections == before + 1


def test_a_server_that_is_away_ends_the_connection(server):
    with Proxy(server.port) as proxy:
        server.close()
        with pytest.raises(ConnectionResetError):  # maybe as soon as it is connected
            heard_first(proxy.port)
        assert proxy.counts.refused == 1


def test_a_url_leads_through_it(proxy):
    url = f"postgresql://me:word@127.0.0.1:{proxy.target}/db"
    assert proxy.url(url) == f"postgresql://me:word@127.0.0.1:{proxy.port}/db"
