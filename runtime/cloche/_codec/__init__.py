"""Values to frames and back. Guest bytes are hostile until this package has decoded them."""

from cloche._codec.cbor import check_items
from cloche._codec.cbor import write as write_cbor
from cloche._codec.codec import (
    REFUSED,
    Codec,
    Counted,
    CountedCodec,
    Refused,
    decode_record,
    refusal,
    refused_reply,
)
from cloche._codec.encoder import Lowering

__all__ = [
    "REFUSED",
    "Codec",
    "Counted",
    "CountedCodec",
    "Lowering",
    "Refused",
    "check_items",
    "decode_record",
    "refusal",
    "refused_reply",
    "write_cbor",
]
