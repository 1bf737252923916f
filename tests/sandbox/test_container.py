"""The container of snapshots, checkpoints and recordings: what is written is read, and whatever else comes is refused at little cost."""

from __future__ import annotations

import hashlib
import random
import struct
import tracemalloc
import zlib

import pytest

from cloche import ClocheError
from cloche._container import MAX_SECTIONS, json_bytes, json_map, read, write

SECTIONS = {"about": b'{"a":1}', "words": bytes(100_000), "noise": random.Random(1).randbytes(5000), "empty": b""}


def forged(
    *entries: tuple[bytes, int, int], bodies: bytes = b"", count: int | None = None, kind: bytes = b"thing"
) -> bytes:
    """A container with a right digest whose table says what it likes: what somebody without a key may send."""
    number = len(entries) if count is None else count
    body = struct.pack("<16sII16sII", b"cloche container", 1, number, kind, 3, 0)
    body += b"".join(struct.pack("<32sQQ", *entry) for entry in entries) + bodies
    return body + hashlib.blake2b(body, digest_size=32).digest()


@pytest.mark.parametrize("key", [b"", b"k", b"k" * 64], ids=["no key", "short key", "long key"])
def test_what_is_written_is_read(key: bytes) -> None:
    """Every section, in its order, the empty one and the one that does not compress too."""
    data = write("thing", 3, SECTIONS, key=key)
    found = read(data, "thing", 3, key=key)
    assert {name: found.section(name) for name in found.names} == SECTIONS
    assert found.names == tuple(SECTIONS)
    assert found.size("words") == 100_000
    assert len(data) < 6000


def test_sections_of_all_small_sizes_are_read() -> None:
    """Some become exactly as long as they are when they are compressed."""
    contents = [bytes([1, 2, 3, 4, 5, 6, 7] * 40)[:size] + bytes(size % 7) for size in range(300)]
    assert any(len(zlib.compress(content, 1)) == len(content) for content in contents)
    for content in contents:
        assert read(write("thing", 3, {"a": content}), "thing", 3).section("a") == content


def test_a_container_in_a_container_is_stored_as_it_is() -> None:
    """Compressing it again would only take time."""
    inner = write("thing", 3, {"a": bytes(1000)})
    outer = write("thing", 3, {"inner": inner})
    assert inner in outer
    assert read(outer, "thing", 3).section("inner") == inner


def test_what_is_written_has_the_documented_layout() -> None:
    """Another program can read it with docs/reference/recordings.md in its hand."""
    data = write("thing", 3, {"a": b"raw", "b": bytes(1000)})
    packed = zlib.compress(bytes(1000), 1)
    head = struct.pack("<16sII16sII", b"cloche container", 1, 2, b"thing", 3, 0)
    table = struct.pack("<32sQQ", b"a", 3, 3) + struct.pack("<32sQQ", b"b", len(packed), 1000)
    body = head + table + b"raw" + packed
    assert data == body + hashlib.blake2b(body, digest_size=32).digest()


def test_any_buffer_can_be_a_section() -> None:
    """Numbers count as their bytes."""
    data = write("thing", 3, {"a": memoryview(b"abcdefgh").cast("I"), "b": bytearray(b"x")})
    found = read(bytearray(data), "thing", 3)
    assert (found.section("a"), found.section("b")) == (b"abcdefgh", b"x")


@pytest.mark.parametrize("name", ["", "A", "a\n", "-a", "a" * 33, "é", "a/b"])
def test_a_name_that_no_reader_takes_is_not_written(name: str) -> None:
    """A mistake of the caller shows where it is made."""
    with pytest.raises(ValueError, match="name"):
        write("thing", 3, {name: b""})


REFUSED = {
    "nothing": (b"", "0 bytes are no thing"),
    "another file": (b"P" * 200, "these bytes are no thing"),
    "another kind": (forged(kind=b"other"), "they are of the kind 'other'"),
    "a kind that is no text": (forged(kind=b"\x1b[31m\xff"), r"the kind '\\x1b\[31m\\xff'"),
    "another version": (write("thing", 4, {}), "the thing has version 4, this Cloche reads 3: read it with the Cloche"),
    "another layout": (b"cloche container" + b"\x02" + write("thing", 3, {})[17:], "a container of version 2"),
    "another key": (write("thing", 3, {}, key=b"k"), "made with another key"),
    "too many sections": (forged(count=1 << 31), "no room"),
    "one section too many": (forged((b"a", 0, 0), count=2), "no room"),
    "a body behind the end": (forged((b"a", 5, 5), bodies=b"abcd"), "do not fit"),
    "sizes that overflow": (forged((b"a", 1 << 63, 1 << 63), (b"b", 1 << 63, 1 << 63)), "do not fit"),
    "a body that is larger than its section": (forged((b"a", 5, 4), bodies=b"abcde"), "do not fit"),
    "bytes that no section has": (forged((b"a", 4, 4), bodies=b"abcde"), "do not fill it"),
    "one name twice": (forged((b"a", 0, 0), (b"a", 0, 0)), "one name"),
    "a name with a zero in it": (forged((b"a\0b", 0, 0)), "malformed"),
    "a name without letters": (forged((b"", 0, 0)), "malformed"),
    "more than max_bytes": (forged((b"a", 1, 1 << 40), bodies=b"x"), "over max_bytes=1000000"),
    "more than max_bytes together": (forged((b"a", 1, 999_999), (b"b", 1, 2), bodies=b"xx"), "over max_bytes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_bytes_are_refused(case: str) -> None:
    """The digest only tells damage; without a key anybody can make one. So every number is checked."""
    data, message = REFUSED[case]
    with pytest.raises(ClocheError, match=message):
        read(data, "thing", 3, max_bytes=1_000_000)


def test_more_sections_than_are_allowed() -> None:
    """Each costs an entry of a dict."""
    with pytest.raises(ClocheError, match="no room"):
        read(forged(*[(b"a", 0, 0)] * (MAX_SECTIONS + 1)), "thing", 3)


BODIES = {
    "no zlib": b"abc",
    "too short": zlib.compress(bytes(999)),
    "too long": zlib.compress(bytes(1001)),
    "far too long": zlib.compress(bytes(8 << 20)),
    "cut off": zlib.compress(bytes(1000))[:-1],
    "followed by something": zlib.compress(bytes(1000)) + b"x",
    "followed by a second one": zlib.compress(bytes(1000)) * 2,
    "with a dictionary": zlib.compressobj(zdict=b"x" * 40).flush(),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_section_that_cannot_be_decompressed_is_refused(case: str) -> None:
    """It is looked at when it is asked for, and costs the memory that it says and no more."""
    body = BODIES[case]
    found = read(forged((b"a", len(body), max(1000, len(body) + 1)), bodies=body), "thing", 3)
    tracemalloc.start()
    try:
        with pytest.raises(ClocheError, match="section 'a' cannot be read"):
            found.section("a")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_sections_that_are_missing_or_too_large() -> None:
    """A reader says what it takes."""
    found = read(write("thing", 3, SECTIONS), "thing", 3)
    with pytest.raises(ClocheError, match="the thing has no section 'more'"):
        found.section("more")
    with pytest.raises(ClocheError, match="section 'words' has 100000 bytes, over 99999"):
        found.section("words", 99_999)


def test_a_section_is_decompressed_once_in_the_memory_that_it_takes() -> None:
    """A recording may be large."""
    data = write("thing", 3, {"a": bytes(16 << 20)})
    tracemalloc.start()
    try:
        assert len(read(data, "thing", 3).section("a")) == 16 << 20
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()


def test_every_truncation_and_every_changed_byte_is_refused(thorough: bool) -> None:
    """At any place."""
    data = write("thing", 3, {"a": b'{"x":[1,2]}', "b": bytes(300)})
    for at in range(0, len(data), 1 if thorough else 5):
        for damaged in (data[:at], data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]):
            with pytest.raises(ClocheError, match="thing"):
                read(damaged, "thing", 3)


def test_random_containers_are_read_or_refused(thorough: bool) -> None:
    """Faults behind a right digest: everything that is returned is of the size that the table says."""
    rng = random.Random(7)
    good = write("thing", 3, {"a": b'{"x":[1,2]}', "b": bytes(300), "c": rng.randbytes(50)})[:-32]
    for _ in range(100_000 if thorough else 2000):
        body = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(body))
            how = rng.randrange(4)
            if how == 0:
                body[at] ^= 1 << rng.randrange(8)
            elif how == 1:
                body[at : at + 8] = rng.choice([bytes(8), b"\xff" * 8, (1 << 20).to_bytes(8, "little")])
            elif how == 2:
                del body[at : at + rng.randint(1, 9)]
            else:
                body[at:at] = rng.randbytes(rng.randint(1, 9))
        try:
            found = read(bytes(body) + hashlib.blake2b(body, digest_size=32).digest(), "thing", 3, max_bytes=1 << 20)
            assert all(len(found.section(name)) == found.size(name) for name in found.names)
        except ClocheError:
            pass


@pytest.mark.parametrize(
    "text",
    [
        b"", b"[]", b"null", b"[" * 100_000, b'"x"', b"{" * 10, b"\xff\xfe", b'{"a":' * 9 + b"0" + b"}" * 9,
        b'{"a":' + b"7" * 1_000_000 + b"}", b'"' + b"\\" * 1_000_000, b'{"a":[' + b"[]," * 30_000 + b"[]",
    ],
    ids=["empty", "list", "null", "open", "text", "open maps", "no UTF-8", "nine deep", "long number", "backslashes", "lists"],
)  # fmt: skip
def test_json_that_is_no_map_is_refused_at_the_cost_of_its_bytes(text: bytes) -> None:
    """Nested JSON overflows a parser's stack, and a long number takes time quadratic in its digits."""
    tracemalloc.start()
    try:
        with pytest.raises(ClocheError, match="the description"):
            json_map(text, "the description")
        assert tracemalloc.get_traced_memory()[1] < 32 * len(text) + (1 << 20)
    finally:
        tracemalloc.stop()


def test_json_arrives_as_it_was() -> None:
    """Brackets in a text do not count."""
    value = {"a": [1, 2.5, None, True], "b": {'"[{': "]}\\"}, "c": -(10**18)}
    assert json_map(json_bytes(value), "it") == value
