"""A small CBOR codec for the self-test, so that the build depends on nothing but wasmtime. The host has a complete one."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

BYTES_AT, TEXT_AT = 49604, 49605


def dumps(value: Any) -> bytes:
    """Encode None, bool, int (64 bits), float, str, bytes, list and dict."""
    match value:
        case None | bool():
            return {None: b"\xf6", True: b"\xf5", False: b"\xf4"}[value]
        case int():
            return _head(0, value) if value >= 0 else _head(1, -1 - value)
        case float():
            return b"\xfb" + struct.pack(">d", value)
        case bytes():
            return _head(2, len(value)) + value
        case str():
            return _head(3, len(body := value.encode())) + body
        case list():
            return _head(4, len(value)) + b"".join(map(dumps, value))
        case dict():
            return _head(5, len(value)) + b"".join(dumps(item) for pair in value.items() for item in pair)
    raise TypeError(f"no CBOR here for {type(value).__name__}")


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    power = next(power for power in range(4) if argument >> (8 << power) == 0)
    return bytes([major << 5 | 24 + power]) + argument.to_bytes(1 << power, "big")


class Reader:
    """Decodes items. `read` returns bytes of the guest's memory, which the tags BYTES_AT and TEXT_AT refer to."""

    def __init__(self, body: bytes, read: Callable[[int, int], bytes]) -> None:
        self._body = body
        self._read = read
        self._at = 0

    def item(self) -> Any:
        """The next item; other tags come as (tag, content)."""
        first = self._take(1)[0]
        major, info = first >> 5, first & 31
        if major == 7:
            simple = {20: False, 21: True, 22: None}
            if info in simple:
                return simple[info]
            return struct.unpack({25: ">e", 26: ">f", 27: ">d"}[info], self._take(1 << info - 24))[0]
        argument = info if info < 24 else int.from_bytes(self._take(1 << info - 24), "big")
        match major:
            case 0:
                return argument
            case 1:
                return -1 - argument
            case 2:
                return self._take(argument)
            case 3:
                return self._take(argument).decode()
            case 4:
                return [self.item() for _ in range(argument)]
            case 5:
                return {self.item(): self.item() for _ in range(argument)}
        content = self.item()
        if argument in (BYTES_AT, TEXT_AT):
            body = self._read(*content)
            return body.decode() if argument == TEXT_AT else body
        return argument, content

    def _take(self, size: int) -> bytes:
        self._at += size
        if self._at > len(self._body):
            raise ValueError("CBOR item is cut off")
        return self._body[self._at - size : self._at]
