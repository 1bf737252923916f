"""What the C codec asks Python: how to send the types, and what to make of the tags, that it does not know itself."""

from __future__ import annotations

from typing import Any, Final

from cloche_guest import opaque
from cloche_wire import tags
from cloche_wire.values import lift, lower, refuse_doubles

_SETS: Final = {set: tags.SET, frozenset: tags.FROZENSET}


def encode(value: Any) -> tuple[int | None, Any]:
    """Tag and content; or None and another value to send in its place.

    Exact dicts and sets come here only if a key may not stay itself on the wire.

    Raises:
        TypeError: values of this type cannot be sent.
        ValueError: this value cannot.
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
    """The value that a tag stands for.

    Raises:
        ValueError: the tag is not of the protocol, or the content not of the tag.
    """
    value = lift(tag, content)
    return opaque.unseal(value) if tag == tags.OPAQUE else value
