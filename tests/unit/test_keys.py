import base64
import copy
import hmac
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitq.exceptions import ConfigurationError
from sitq.keys import VARIABLE, KeyRing, hkdf

ONE, TWO = bytes(range(32)), bytes(range(100, 140))


def signature(ring, key_id="a", purpose="task", data=b"data"):
    return ring.sign(data, key_id=key_id, purpose=purpose)


def test_hexadecimal_and_every_base64_are_read():
    assert "+" in base64.b64encode(b"\xfb\xef\xbe" * 11).decode()
    secret = b"\xfb\xef\xbe" * 10 + b"\xff\xfe"
    texts = [
        secret.hex(),
        secret.hex().upper(),
        base64.b64encode(secret).decode(),
        base64.b64encode(secret).decode().rstrip("="),
        base64.urlsafe_b64encode(secret).decode(),
        base64.urlsafe_b64encode(secret).decode().rstrip("="),
    ]
    made = {signature(KeyRing.parse(f"a:{text}")) for text in texts}
    assert made == {signature(KeyRing([("a", secret)]))}


def test_the_first_key_signs_and_all_verify():
    ring = KeyRing.parse(f" new:{ONE.hex()} , old : {TWO.hex()} ")
    assert ring.first == "new"
    assert len(ring) == 2
    assert "new" in ring
    assert "old" in ring
    assert "other" not in ring
    assert signature(ring, "old") == signature(KeyRing([("x", ONE), ("old", TWO)]), "old")
    with pytest.raises(KeyError):
        signature(ring, "other")


@given(st.binary(min_size=32, max_size=200), st.binary(max_size=300), st.text(min_size=1, max_size=10))
def test_a_signature_is_hmac_sha256_under_the_derived_key(secret, data, purpose):
    ring = KeyRing([("a", secret)])
    key = hkdf(secret, b"sitq envelope v1", purpose.encode())
    expected = hmac.digest(key, data, "sha256")
    assert signature(ring, "a", purpose, data) == expected
    assert signature(ring, "a", purpose, data) == expected  # a second time, from what is prepared


def test_keys_are_derived_as_in_rfc_5869():
    # Test case 1; the first block of its output.
    derived = hkdf(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)))
    assert derived.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"


def test_purposes_keys_and_data_all_change_the_signature():
    ring = KeyRing([("a", ONE), ("b", TWO)])
    made = {
        signature(ring),
        signature(ring, key_id="b"),
        signature(ring, purpose="result"),
        signature(ring, data=b"Data"),
    }
    assert len(made) == 4


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "key 1 has no id"),
        (ONE.hex(), "key 1 has no id; write id:secret"),
        (f"a:{ONE.hex()},", "key 2 has no id"),
        (f":{ONE.hex()}", "key 1 has an id that is not"),
        (f"ä:{ONE.hex()}", "key 1 has an id that is not"),
        (f"{ONE.hex()}:{ONE.hex()}", "key 1 has an id that is not"),
        (f"a b:{ONE.hex()}", "key 1 has an id that is not"),
        (f"a\n:{ONE.hex()}x", "key 1 has a secret that is neither"),
        (f"a:{ONE.hex()},a:{TWO.hex()}", "key 2 has the id of a key before it"),
        ("a:", "key 1 has 0 bytes, at least 32 are needed; make one with"),
        (f"a:{ONE[:31].hex()}", "key 1 has 31 bytes"),
        ("a:pässword", "key 1 has a secret that is neither hexadecimal nor base64"),
        ("a:correct horse battery staple", "neither hexadecimal nor base64"),
        ("a:aaaaa", "neither hexadecimal nor base64"),
    ],
)
def test_malformed_rings_are_refused_by_position(text, reason):
    with pytest.raises(ConfigurationError, match=reason):
        KeyRing.parse(text)


@pytest.mark.parametrize("text", ["Sup3rSecret", "a:Sup3rSecret!", "Sup3rSecret" * 5 + ":a", "a:Sup3rSecret"])
def test_no_message_contains_key_material(text):
    for make in (KeyRing.parse, lambda text: KeyRing.from_environment({VARIABLE: text})):
        with pytest.raises(ConfigurationError) as caught:
            make(text)
        seen = f"{caught.value!r} {caught.value.__cause__!r}"
        assert "3rSec" not in seen
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_an_empty_ring_is_refused():
    with pytest.raises(ConfigurationError, match="at least one key"):
        KeyRing([])


def test_the_environment_holds_a_ring_or_nothing():
    assert KeyRing.from_environment({}) is None
    ring = KeyRing.from_environment({"SITQ_SECRET_KEYS": f"a:{ONE.hex()}"})
    assert ring is not None
    assert ring.first == "a"
    for blank in ("", "  "):
        with pytest.raises(ConfigurationError, match="SITQ_SECRET_KEYS is set but empty"):
            KeyRing.from_environment({"SITQ_SECRET_KEYS": blank})
    with pytest.raises(ConfigurationError, match="SITQ_SECRET_KEYS: key 1 has 1 bytes"):
        KeyRing.from_environment({"SITQ_SECRET_KEYS": "a:ff"})


def test_the_environment_of_the_process_is_the_default(monkeypatch):
    monkeypatch.setenv("SITQ_SECRET_KEYS", f"mine:{ONE.hex()}")
    assert KeyRing.from_environment().first == "mine"
    monkeypatch.delenv("SITQ_SECRET_KEYS")
    assert KeyRing.from_environment() is None


def test_a_ring_shows_and_gives_away_no_secret():
    ring = KeyRing([("a", ONE), ("b", TWO)])
    assert repr(ring) == str(ring) == "<KeyRing of 2, signing with 'a'>"
    for give in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            give(ring)
