"""The Python half of the guest's codec: the C codec calls it for types and tags that it does not handle itself."""

from __future__ import annotations

from typing import Any, Final

from cloche_guest import opaque
from cloche_wire import tags
from cloche_wire.values import lift, lower, refuse_doubles

_SETS: Final = {set: tags.SET, frozenset: tags.FROZENSET}


def encode(value: Any) -> tuple[int | None, Any]:
    """Prepare a value for the wire.

    The C codec passes an exact dict or set only if it has keys of types that can change on the wire.

    Returns:
        tag and content; or None and another value to send in place of this one.

    Raises:
        TypeError: values of this type cannot be sent.
        ValueError: this value cannot be sent.
    """
    kind = type(value)
    if kind is dict:
        refuse_doubles(value)
        return tags.MAP, [part for pair in value.items() for part in pair]
    if kind is set or kind is frozenset:
        refuse_doubles(value)
        return _SETS[kind], list(value)
    try:
        return lower(value)
    except TypeError as refusal:
        if not opaque.granted:
            raise
        return lower(opaque.seal(value, refusal))


def decode(tag: int, content: Any) -> Any:
    """Make the value of a received tag.

    Args:
        tag: number of the tag.
        content: its content, already decoded.

    Raises:
        ValueError: the tag is not of the protocol, or the content is not valid for it.
    """
    value = lift(tag, content)
    return opaque.unseal(value) if tag == tags.OPAQUE else value
