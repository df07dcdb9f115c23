"""Values to bytes and back.

Whatever a serializer or an object in its hands raises becomes `SerializationError` here. Where bytes come
from, and whether they may be loaded at all, is decided in `sitq.envelope`.
"""

from sitq.serialization.base import (
    MAX_PAYLOAD,
    Serializer,
    carries_code,
    check_size,
    codec_name,
)
from sitq.serialization.call import Call, dumps_call, dumps_call_with_parents, loads_call
from sitq.serialization.pickled import CloudpickleSerializer
from sitq.serialization.plain import JSONSerializer, MsgpackSerializer

__all__ = [
    "MAX_PAYLOAD",
    "Call",
    "CloudpickleSerializer",
    "JSONSerializer",
    "MsgpackSerializer",
    "Serializer",
    "carries_code",
    "check_size",
    "codec_name",
    "dumps_call",
    "dumps_call_with_parents",
    "loads_call",
]
