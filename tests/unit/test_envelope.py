import hashlib
import hmac
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitq import envelope
from sitq.envelope import Form, Opened, open_envelope, reseal, seal
from sitq.exceptions import SerializationError, SignatureError
from sitq.keys import KeyRing, hkdf

RING = KeyRing([("new", b"n" * 32), ("old", b"o" * 32)])
OLD = KeyRing([("old", b"o" * 32)])
STRANGER = KeyRing([("other", b"x" * 32)])
IMPOSTOR = KeyRing([("new", b"x" * 32)])
WHERE = {"purpose": "task", "namespace": "sitq", "queue": "default", "task_id": "t-1"}


def sealed(payload=b"payload", *, name="app:work", codec="cloudpickle", keys=None, **changes):
    return seal(payload, **{**WHERE, "name": name, "codec": codec, "keys": keys, **changes})


def opened(data, *, names=("app:work",), codec="cloudpickle", **changes):
    return open_envelope(data, **{**WHERE, "names": names, "codec": codec, **changes})


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
rings = st.sampled_from([None, RING, OLD])
purposes = st.sampled_from(["task", "result", "error", "step", "schedule"])


# --- round trips ---


@settings(max_examples=60)
@given(
    payload=st.binary(max_size=200), purpose=purposes, namespace=text, queue=text, task_id=text, name=text,
    codec=st.sampled_from(["cloudpickle", "json", "msgpack"]) | text, keys=rings, told=st.booleans(),
)  # fmt: skip
def test_what_was_sealed_comes_back(*, payload, purpose, namespace, queue, task_id, name, codec, keys, told):
    where = {"purpose": purpose, "namespace": namespace, "queue": queue, "task_id": task_id}
    data = seal(payload, **where, name=name, codec=codec, keys=keys)
    reader = None if keys is None else RING
    for names in ((name,), ("another", name), None):
        found = open_envelope(
            data, **where, names=names, codec=codec if told else None, keys=reader, trusted=keys is None
        )
        assert found == Opened(payload, codec, name, None if keys is None else keys.first)


def test_buffers_of_drivers_are_taken_as_bytes():
    data = sealed(keys=RING)
    for buffer in (bytearray(data), memoryview(data), memoryview(bytearray(data))):
        found = opened(buffer, keys=RING)
        assert found.payload == b"payload"
        assert type(found.payload) is bytes


def test_the_format_is_the_documented_one():
    data = seal(
        b"[]", purpose="result", namespace="ns", queue="q", task_id="id-1", name="m:f", codec="json", keys=OLD
    )
    header = (
        b"SITQ"
        + bytes([1, 1, 2])
        + bytes([3, 2, 1])
        + struct.pack(">H", 3)
        + bytes([4, 4])
        + struct.pack(">I", 2)
    )
    body = header + b"old" + b"ns" + b"q" + b"m:f" + b"json" + b"id-1" + b"[]"
    key = hkdf(b"o" * 32, b"sitq envelope v1", b"result")
    assert data == body + hmac.digest(key, body, hashlib.sha256)


def test_an_unsigned_envelope_costs_18_bytes_and_its_fields():
    data = sealed(b"")
    assert len(data) == 18 + len("sitqdefaultapp:workcloudpicklet-1")


# --- what belongs elsewhere ---


@pytest.mark.parametrize("keys", [None, RING], ids=["unsigned", "signed"])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"purpose": "result"}, "belongs to the purpose 'task', not to 'result'"),
        ({"namespace": "other"}, "belongs to the namespace 'sitq', not to 'other'"),
        ({"queue": "emails"}, "belongs to the queue 'default', not to 'emails'"),
        ({"task_id": "t-2"}, "belongs to the task 't-1', not to 't-2'"),
        ({"task_id": "t-11"}, "belongs to the task 't-1', not to 't-11'"),
        ({"names": ("app:other",)}, "belongs to the name 'app:work', not to 'app:other'"),
        ({"names": ("a", "b")}, "not to 'a or b'"),
        ({"names": ()}, "belongs to the name"),
    ],
)
def test_a_payload_moved_from_elsewhere_is_refused(changes, reason, keys):
    with pytest.raises(SignatureError, match=reason):
        opened(sealed(keys=keys), keys=keys, trusted=True, **changes)


def test_fields_do_not_run_into_each_other():
    data = sealed(namespace="ab", queue="c")
    with pytest.raises(SignatureError):
        opened(data, namespace="a", queue="bc", trusted=True)


def test_a_payload_written_by_another_serializer_is_refused():
    with pytest.raises(SerializationError, match="written with 'json', but is to be read with 'cloudpickle'"):
        opened(sealed(codec="json"))
    with pytest.raises(SerializationError, match="written with 'cloudpickle', but is to be read with 'json'"):
        opened(sealed(), codec="json", trusted=True)


def test_a_pickle_that_claims_to_be_json_is_told_to_the_reader():
    # The trap: unsigned JSON is taken from anybody, so a reader must not unpickle what says it is JSON.
    assert opened(sealed(b"\x80\x05N.", codec="json"), codec=None).codec == "json"


# --- who is trusted ---

TRUST = [
    # written with, read with, trusted, codec, the reason of a refusal
    (None, None, True, "cloudpickle", None),
    (None, None, False, "cloudpickle", "can run any code, and is not signed, while others can write"),
    (None, None, False, "own.Serializer", "can run any code"),
    (None, None, False, "json", None),
    (None, None, False, "msgpack", None),
    (None, RING, False, "cloudpickle", "is not signed, but keys are configured here"),
    (None, RING, False, "json", "is not signed, but keys are configured here"),
    (None, RING, True, "cloudpickle", None),
    (RING, RING, False, "cloudpickle", None),
    (OLD, RING, False, "cloudpickle", None),
    (OLD, RING, True, "json", None),
    (RING, OLD, False, "cloudpickle", "signed with the key 'new', which is not among those here"),
    (RING, STRANGER, True, "cloudpickle", "signed with the key 'new', which is not among those here"),
    (RING, IMPOSTOR, False, "cloudpickle", "signature of the task does not fit"),
    (RING, IMPOSTOR, True, "json", "signature of the task does not fit"),
    (RING, None, True, "cloudpickle", None),
    (RING, None, False, "cloudpickle", "signed with the key 'new', and there is no key here to verify it"),
    (RING, None, False, "json", None),
]


@pytest.mark.parametrize("told", [True, False], ids=["codec-known", "codec-open"])
@pytest.mark.parametrize(("writer", "reader", "trusted", "codec", "reason"), TRUST)
def test_only_what_is_signed_trusted_or_harmless_is_opened(*, writer, reader, trusted, codec, reason, told):
    data = sealed(keys=writer, codec=codec)

    def read():
        return opened(data, keys=reader, trusted=trusted, codec=codec if told else None)

    if reason is None:
        assert read().payload == b"payload"
        assert read().key_id == (writer.first if writer else None)
    else:
        with pytest.raises(SignatureError, match=reason):
            read()


def test_no_bit_of_a_signed_envelope_can_be_changed():
    data = sealed(keys=RING)
    for at in range(len(data)):
        for bit in (1, 128):
            changed = bytearray(data)
            changed[at] ^= bit
            with pytest.raises(SerializationError):
                opened(bytes(changed), keys=RING, trusted=True)


def test_a_signature_cannot_be_cut_off():
    data = bytearray(sealed(keys=RING)[:-32])
    data[5] = 0  # says that it is unsigned
    with pytest.raises(SerializationError):
        opened(bytes(data), keys=RING)
    del data[18:21]  # and drops the key id
    data[7] = 0
    assert opened(bytes(data), trusted=True).key_id is None
    with pytest.raises(SignatureError, match="is not signed, but keys are configured"):
        opened(bytes(data), keys=RING)


def test_a_signed_result_cannot_be_turned_into_a_task():
    data = bytearray(sealed(purpose="result", keys=RING))
    data[6] = 1
    with pytest.raises(SignatureError, match="does not fit"):
        opened(bytes(data), keys=RING, trusted=True)


# --- damage ---


@pytest.mark.parametrize("junk", [b"", b"SIT", b"\x80\x05N.", b"{}", b"x" * 500])
def test_other_bytes_are_no_envelope(junk):
    with pytest.raises(SerializationError, match="this is no envelope"):
        opened(junk, trusted=True)


@pytest.mark.parametrize("junk", [None, "SITQ", 5])
def test_other_types_are_no_envelope(junk):
    with pytest.raises(SerializationError, match=f"no envelope but {type(junk).__name__}"):
        opened(junk, trusted=True)


@pytest.mark.parametrize("keys", [None, RING], ids=["unsigned", "signed"])
def test_every_truncation_is_found(keys):
    data = sealed(keys=keys)
    for length in range(len(data)):
        with pytest.raises(SerializationError, match=r"truncated|no envelope"):
            opened(data[:length], keys=keys, trusted=True)


@pytest.mark.parametrize("keys", [None, RING], ids=["unsigned", "signed"])
def test_bytes_behind_the_end_are_found(keys):
    with pytest.raises(SerializationError, match="damaged"):
        opened(sealed(keys=keys) + b"x", keys=keys, trusted=True)


def test_a_newer_version_flag_or_purpose_asks_for_an_upgrade():
    for at, value in ((4, 2), (4, 0), (5, 4), (5, 0x81), (6, 0), (6, 6), (6, 255)):
        data = bytearray(sealed())
        data[at] = value
        with pytest.raises(SerializationError, match="upgrade sitq here"):
            opened(bytes(data), trusted=True)


def test_fields_that_are_not_utf8_are_found():
    data = bytearray(sealed())
    data[18] = 0xFF
    with pytest.raises(SerializationError, match="not UTF-8"):
        opened(bytes(data), trusted=True)


@settings(max_examples=100)
@given(junk=st.binary(max_size=80), keys=st.sampled_from([None, RING]), trusted=st.booleans())
def test_any_bytes_are_opened_or_a_serialization_error(junk, keys, trusted):
    for data in (junk, b"SITQ\x01" + junk, b"SITQ\x01\x00\x01" + junk):
        try:
            opened(data, keys=keys, trusted=trusted, names=None, codec=None)
        except SerializationError:
            continue


# --- size ---


def test_a_payload_up_to_the_limit_passes_and_a_larger_one_does_not():
    data = sealed(b"x" * 100, limit=100)
    assert len(opened(data, trusted=True, limit=100).payload) == 100
    with pytest.raises(SerializationError, match="the payload has 100 bytes, more than the limit of 99"):
        opened(data, trusted=True, limit=99)
    with pytest.raises(
        SerializationError, match=r"the task has 101 bytes, more than the limit of 100; .*spill="
    ):
        sealed(b"x" * 101, limit=100)


def test_the_limit_is_checked_before_the_signature():
    with pytest.raises(SerializationError, match="more than the limit of 5"):
        opened(sealed(keys=RING), keys=IMPOSTOR, limit=5)


@pytest.mark.parametrize("field", ["namespace", "queue", "task_id", "codec"])
def test_fields_take_up_to_255_bytes(field):
    assert sealed(**{field: "x" * 255})
    with pytest.raises(SerializationError, match="has 256 bytes, more than 255"):
        sealed(**{field: "ü" * 128})


# --- new envelopes for old payloads ---


def test_a_payload_is_signed_anew_for_another_task_without_being_loaded():
    data = reseal(
        sealed(b"not a pickle", keys=OLD), **WHERE, names=("app:work",), keys=RING,
        to_task_id="t-2", to_queue="emails", to_purpose="schedule", to_namespace="copy", to_name="app:new",
    )  # fmt: skip
    found = open_envelope(
        data, purpose="schedule", namespace="copy", queue="emails", task_id="t-2", names=("app:new",),
        codec="cloudpickle", keys=RING,
    )  # fmt: skip
    assert found == Opened(b"not a pickle", "cloudpickle", "app:new", "new")


def test_what_is_not_changed_stays():
    assert reseal(sealed(), **WHERE, names=None, trusted=True) == sealed()


def test_an_envelope_that_does_not_verify_is_not_copied():
    with pytest.raises(SignatureError, match="does not fit"):
        reseal(sealed(keys=RING), **WHERE, names=None, keys=IMPOSTOR, trusted=True, to_task_id="t-2")
    with pytest.raises(SignatureError, match="can run any code"):
        reseal(sealed(), **WHERE, names=None, to_task_id="t-2")


def test_a_signed_envelope_is_not_copied_into_an_unsigned_one():
    with pytest.raises(SignatureError, match="its copy could not be, as there is no key here"):
        reseal(sealed(keys=RING), **WHERE, names=None, trusted=True, to_task_id="t-2")


# --- the short way ---


@settings(max_examples=100)
@given(
    writer=rings, reader=rings, trusted=st.booleans(), at=st.integers(0, 100), change=st.integers(0, 3),
    codec=st.sampled_from(["cloudpickle", "json", "own"]),
)  # fmt: skip
def test_the_short_way_accepts_exactly_what_the_long_one_does(*, writer, reader, trusted, at, change, codec):
    data = bytearray(sealed(keys=writer, codec=codec))
    data[at % len(data)] ^= change

    def outcome(names):
        try:
            return opened(bytes(data), names=names, codec=codec, keys=reader, trusted=trusted)
        except SerializationError as error:
            return type(error)

    assert outcome(("app:work",)) == outcome(("a name tried first", "app:work"))


def test_what_tasks_share_is_prepared_once():
    envelope._lane.cache_clear()
    for number in range(50):
        data = sealed(task_id=f"t-{number}")
        opened(data, task_id=f"t-{number}", trusted=True)
    assert envelope._lane.cache_info().misses == 1


def test_a_form_writes_and_reads_what_the_general_functions_do():
    form = Form("task", "sitq", "default", "app:run", "json")
    sealed = form.seal(b"payload", "id-1")
    context = {"purpose": "task", "namespace": "sitq", "queue": "default", "task_id": "id-1"}
    assert sealed == seal(b"payload", **context, name="app:run", codec="json")
    assert form.open(sealed, "id-1") == b"payload"


@pytest.mark.parametrize(
    "other",
    [
        {"purpose": "result"},
        {"namespace": "other"},
        {"queue": "other"},
        {"task_id": "id-2"},
        {"name": "app:other"},
        {"codec": "cloudpickle"},
    ],
)
def test_a_form_reads_no_envelope_of_another_form(other):
    context = {
        "purpose": "task",
        "namespace": "sitq",
        "queue": "default",
        "task_id": "id-1",
        "name": "app:run",
        "codec": "json",
    }
    form = Form("task", "sitq", "default", "app:run", "json")
    assert form.open(seal(b"payload", **(context | other)), "id-1") is None


def test_a_form_reads_no_damaged_and_no_signed_envelope():
    form = Form("task", "sitq", "default", "app:run", "json")
    sealed = form.seal(b"payload", "id-1")
    assert form.open(sealed[:-1], "id-1") is None
    assert form.open(sealed + b"x", "id-1") is None
    assert form.open(b"", "id-1") is None
    with pytest.raises(SerializationError, match="more than the limit"):
        Form("task", "sitq", "default", "app:run", "json", limit=3).seal(b"payload", "id-1")
