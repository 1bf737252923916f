"""A node's whole state: taken, carried, brought back, cloned."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import struct
import subprocess
import sys
import textwrap
import tracemalloc
import zlib

import pytest

import cloche
from cloche import Limits, Snapshot, _container
from tests.limits import patient

here = pytest.mark.isolation("none", reason="bytes of a snapshot are read in this process")

COLUMNS = ("pages", "masks", "words")
COUNTER = """
import random
class N:
    def __init__(self):
        self.count = 0
        self.things = {}
    def process(self, x):
        self.count += x
        self.things[self.count] = [self.count] * 10
        return self.count
    def draw(self):
        return [random.random() for _ in range(4)]
    def flush(self):
        return self.draw()
"""


def test_snapshot_and_restore(load, runtime):
    """The restored node goes on where the first one was; the two are independent."""
    node = load(COUNTER)
    node.process(5)
    snapshot = node.snapshot()
    node.process(100)
    with runtime.restore(snapshot) as back, runtime.restore(snapshot) as again:
        assert back.process(1) == 6
        assert again.process(2) == 7
        assert node.process(0) == 105
        assert back.get("things") == {5: [5] * 10, 6: [6] * 10}
        assert back.name == node.name


def test_clone_evolves_alone(load):
    """Same state at first, nothing shared afterwards."""
    node = load(COUNTER)
    node.process(1)
    with node.clone() as twin:
        twin.process(10)
        node.process(100)
        assert (node.get("count"), twin.get("count")) == (101, 11)


def test_clones_draw_different_numbers_unless_told_otherwise(load):
    """Or two tenants would share their secrets."""
    node = load(COUNTER)
    with node.clone() as one, node.clone() as two:
        assert one.flush() != two.flush()
    with node.clone(reseed=False) as one, node.clone(reseed=False) as two:
        assert one.flush() == two.flush()


def test_bytes_go_to_another_process(load, runtime, tmp_path):
    """Compressed, checked, restored elsewhere."""
    node = load(COUNTER)
    node.process(41)
    path = tmp_path / "node.snapshot"
    path.write_bytes(node.snapshot().to_bytes(key=b"secret"))
    assert path.stat().st_size < 40_000
    code = f"""
        import cloche, pathlib
        data = pathlib.Path({str(path)!r}).read_bytes()
        with cloche.Runtime({str(runtime.image.folder)!r}, limits=cloche.Limits(deadline_s=120)) as runtime:
            node = runtime.restore(cloche.Snapshot.from_bytes(data, key=b"secret"))
            print(node.process(1))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert (done.stdout.strip().splitlines()[-1:], done.returncode) == (["42"], 0), done.stderr


def test_grown_memory_and_arrays_survive(load, runtime):
    """Pages beyond the image as well."""
    node = load(
        "import numpy as np\nclass N:\n    def process(self, x):\n        self.a = np.arange(x, dtype=np.int64)\n        return len(self.a)\n    def flush(self):\n        return int(self.a.sum())\n"
    )
    node.process(3_000_000)
    with runtime.restore(node.snapshot()) as back:
        assert back.flush() == sum(range(3_000_000))
        assert back.stats.memory_bytes == node.stats.memory_bytes


def test_open_generators_and_tasks_survive(load, runtime):
    """They are objects in the heap like all others."""
    node = load(
        "import asyncio\nclass N:\n    def __init__(self):\n        self.g = (i * i for i in range(100)); self.done = []\n"
        "    async def process(self, x):\n        async def later():\n            await asyncio.sleep(0.01)\n            self.done.append(x)\n"
        "        self.task = asyncio.ensure_future(later())\n        return next(self.g)\n"
        "    async def flush(self):\n        await self.task\n        return [next(self.g), self.done]\n"
    )
    assert node.process(7) == 0
    snapshot = node.snapshot()
    with runtime.restore(snapshot) as back:
        assert back.flush() == [1, [7]]
    assert node.flush() == [1, [7]]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "version", "magic", "key", "empty", "tail"])
def test_damaged_bytes_are_refused(load, damage):
    """Before anything is decompressed."""
    data = load(COUNTER).snapshot().to_bytes()
    damaged = {
        "truncated": data[:-100],
        "flipped": data[:200] + bytes([data[200] ^ 1]) + data[201:],
        "version": data[:16] + b"\x63" + data[17:],
        "magic": b"x" + data[1:],
        "key": data,
        "empty": b"",
        "tail": data + b"x",
    }[damage]
    with pytest.raises(cloche.ClocheError, match="snapshot"):
        Snapshot.from_bytes(damaged, key=b"other" if damage == "key" else b"")


def test_bomb_is_refused(load):
    """max_bytes bounds what is decompressed."""
    data = load(COUNTER).snapshot().to_bytes()
    with pytest.raises(cloche.ClocheError, match="max_bytes"):
        Snapshot.from_bytes(data, max_bytes=1000)


def test_snapshot_of_another_image_is_refused(load, runtime):
    """Its pages mean nothing here."""
    snapshot = load(COUNTER).snapshot()
    foreign = Snapshot(
        "0" * 64,
        *(getattr(snapshot, name) for name in ("name", "info", "memory_bytes", *COLUMNS, "request", "calls")),
    )
    with pytest.raises(cloche.ImageError, match="belongs to the image"):
        runtime.restore(foreign)


def test_swapped_request_address_is_a_protocol_error_not_a_crash(load, runtime):
    """A snapshot is as hostile as the guest that it came from."""
    s = load(COUNTER).snapshot()
    for request in (0, 0xFFFF_FFFF, s.memory_bytes - 4):
        with pytest.raises(cloche.ClocheError):
            runtime.restore(Snapshot(s.image, s.name, s.info, s.memory_bytes, *s.columns, request, s.calls))


def test_restore_needs_the_memory(load, runtime):
    """The limit of the new node holds."""
    node = load("class N:\n    def process(self, x):\n        self.b = bytearray(x)\n")
    node.process(64 << 20)
    with pytest.raises(cloche.ClocheError, match="memory_bytes"):
        runtime.restore(node.snapshot(), limits=patient(memory_bytes=64 << 20))


def test_closed_and_broken_nodes_have_no_snapshot(load):
    """There is nothing to take."""
    node = load("import os\nclass N:\n    def process(self, x):\n        os.abort()\n")
    with pytest.raises(cloche.BrokenInstanceError):
        node.process(0)
    with pytest.raises(cloche.ClosedError):
        node.snapshot()


def _forged(snapshot: Snapshot, **changes: object) -> bytes:
    """Well-formed bytes, with a right digest: what somebody without a key may send."""
    columns = {name: changes.pop(name, getattr(snapshot, name)) for name in COLUMNS}
    about = {
        "image": snapshot.image, "name": snapshot.name, "info": snapshot.info, "memory_bytes": snapshot.memory_bytes,
        "request": snapshot.request, "calls": snapshot.calls, "stream": None, "outside": {}, **changes,
    }  # fmt: skip
    return _container.write("snapshot", 2, {"about": json.dumps(about).encode(), **columns})  # type: ignore[arg-type]


def numbers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


ONE = {"masks": b"\1" + bytes(63), "words": b"one word"}
TWO = {"masks": ONE["masks"] * 2, "words": b"one word" * 2}
NONE = {"pages": b"", "masks": b"", "words": b""}


@pytest.mark.parametrize(
    "changes",
    [
        {"memory_bytes": -1}, {"memory_bytes": 1 << 40}, {"memory_bytes": "1"}, {"memory_bytes": True}, {"request": None},
        {"request": -5}, {"calls": 1.5}, {"calls": -1}, {"name": 5}, {"name": None}, {"image": []}, {"info": []},
        {"memory_bytes": 1 << 16}, {"stream": [1]}, {"stream": [-1, 0, True]}, {"stream": [0, 0, 1]}, {"stream": "abc"},
        {"pages": b""}, {"pages": b"x"}, {"masks": b""}, {"words": b""}, {"words": bytes(8)}, {"more": 1}, {"outside": 5},
        {"outside": {"clock": [1]}}, {"pages": numbers(5, 5), **TWO}, {"pages": numbers(6, 5), **TWO},
        {"pages": numbers(0xFFFF_FFFF), **ONE}, {"pages": numbers(1 << 20), **ONE}, {"pages": numbers(5), **TWO},
        {"pages": numbers(5) + b"x", **ONE}, {**NONE, "words": bytes(64 << 20)}, {**NONE, "masks": bytes(1 << 20)},
        {"pages": numbers(5), "masks": bytes(64), "words": bytes(8)}, {"pages": numbers(5), **ONE, "words": b"one wor"},
    ],
    ids=lambda changes: str(changes)[:60],
)  # fmt: skip
def test_a_forged_description_is_refused(load, changes):
    """The digest only tells damage; without a key anybody can make one. Every field is checked."""
    snapshot = load(COUNTER).snapshot()
    assert Snapshot.from_bytes(_forged(snapshot)) == snapshot
    with pytest.raises(cloche.ClocheError, match="snapshot"):
        Snapshot.from_bytes(_forged(snapshot, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"pages": numbers(1 << 20), **ONE}, {"pages": numbers(0xFFFF_FFFF), **ONE}, {"pages": numbers(2048), **TWO, "masks": ONE["masks"]},
        {"pages": numbers(2048), **ONE, "words": b""}, {"pages": numbers(2048), **ONE, "masks": b"\xff" * 64}, {**NONE, "words": bytes(8)},
    ],
    ids=["outside", "far outside", "more words", "no words", "fewer words", "no pages"],
)  # fmt: skip
def test_columns_that_do_not_fit_are_refused_where_they_are_written(load, runtime, changes):
    """By the core, however the snapshot was made: without a check of its bytes, too."""
    snapshot = load(COUNTER).snapshot()
    with pytest.raises(cloche.ProtocolError, match="differences do not fit"):
        runtime.restore(dataclasses.replace(snapshot, **changes))
    with runtime.restore(snapshot) as back:
        assert back.process(1) == 1


@here
@pytest.mark.parametrize("missing", ["about", "pages", "masks", "words"])
def test_a_section_that_is_missing_is_refused(load, missing):
    """A reader ignores sections that it does not know, and needs those that it does."""
    data = load(COUNTER).snapshot().to_bytes()
    content = _container.read(data, "snapshot", 2)
    sections = {name: content.section(name) for name in content.names}
    assert Snapshot.from_bytes(_container.write("snapshot", 2, {**sections, "of the future": b"x"}))
    del sections[missing]
    with pytest.raises(cloche.ClocheError, match=f"no section '{missing}'"):
        Snapshot.from_bytes(_container.write("snapshot", 2, sections))


def test_a_snapshot_of_an_earlier_version_says_what_to_do():
    """Its bytes were laid out otherwise."""
    old = struct.pack("<16sIII", b"cloche snapshot\n", 1, 2, 0) + b"{}" + zlib.compress(b"")
    with pytest.raises(cloche.ClocheError, match="version 1, this Cloche reads 2: take it anew"):
        Snapshot.from_bytes(old + hashlib.blake2b(old, digest_size=32).digest())


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"null", b"[" * 100_000, b'"x"', b"{" * 10, b"\xff\xfe"])
def test_a_description_that_is_none_is_refused(text):
    """Nested JSON overflows a parser's stack: an error all the same."""
    with pytest.raises(cloche.ClocheError, match="snapshot"):
        Snapshot.from_bytes(_container.write("snapshot", 2, {"about": text, "pages": b"", "masks": b"", "words": b""}))


@here
def test_every_truncation_is_refused(load):
    """At any length."""
    data = load(COUNTER).snapshot().to_bytes()
    for size in [*range(0, 400, 7), len(data) // 2, len(data) - 1]:
        with pytest.raises(cloche.ClocheError, match="snapshot"):
            Snapshot.from_bytes(data[:size])


@here
def test_a_bomb_whose_description_agrees_takes_no_memory(load):
    """A megabyte may say that it is a gigabyte, and be one: without `max_bytes` the answer is no."""
    snapshot = load(COUNTER).snapshot()
    columns = {"pages": b"", "masks": b"", "words": bytes(300 << 20)}
    bomb = _forged(snapshot, memory_bytes=1 << 30, **columns)
    assert len(bomb) < 2 << 20
    assert _peak(bomb, match="max_bytes") < 16 << 20


@here
def test_max_bytes_alone_bounds_a_snapshot(load):
    """A memory may have up to four gigabytes."""
    body = bytearray(_forged(load(COUNTER).snapshot(), **NONE)[:-32])
    at = body.index(b"words".ljust(32, b"\0")) + 32
    body[at : at + 16] = struct.pack("<QQ", 0, 2 << 30)
    data = bytes(body) + hashlib.blake2b(body, digest_size=32).digest()
    with pytest.raises(cloche.ClocheError, match="over max_bytes=268435456"):
        Snapshot.from_bytes(data)
    with pytest.raises(cloche.ClocheError, match="section 'words' cannot be read"):
        Snapshot.from_bytes(data, max_bytes=4 << 30)


@here
def test_what_max_bytes_lets_pass_takes_little_more(load):
    """Also if all of it is pages and masks, which are looked at one by one."""
    snapshot = load(COUNTER).snapshot()
    count = 15_000
    columns = {"pages": numbers(*range(count, 0, -1)), "masks": bytes(64 * count), "words": b""}
    assert _peak(_forged(snapshot, **columns), match="out of order") < 5 * 68 * count


def test_words_are_decompressed_once(load):
    """In the memory that they take, and little more."""
    node = load("import os\nclass N:\n    def process(self, x):\n        self.b = os.urandom(1 << 20) * x\n")
    node.process(32)
    data = node.snapshot().to_bytes()
    tracemalloc.start()
    try:
        words = len(Snapshot.from_bytes(data).words)
        assert words > 32 << 20
        assert tracemalloc.get_traced_memory()[1] < 1.4 * words + 3 * len(data)
    finally:
        tracemalloc.stop()


def _peak(data: bytes, match: str) -> int:
    """Bytes of memory that refusing the snapshot takes."""
    tracemalloc.start()
    try:
        with pytest.raises(cloche.ClocheError, match=match):
            Snapshot.from_bytes(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_two_that_were_swapped_are_two_nodes(load, runtime):
    """A snapshot carries its node's name and what it is: the mix-up shows, and with a key one's cannot pass for the other's."""
    other = "class M:\n    def process(self, x): return 'other'\n"
    one, two = load(COUNTER, "N", name="one"), load(other, "M", name="two")
    first, second = one.snapshot().to_bytes(key=b"tenant 1"), two.snapshot().to_bytes(key=b"tenant 2")
    for data, key in ((first, b"tenant 2"), (second, b"tenant 1")):
        with pytest.raises(cloche.ClocheError, match="another key"):
            Snapshot.from_bytes(data, key=key)
    with runtime.restore(Snapshot.from_bytes(second, key=b"tenant 2")) as back:
        assert (back.name, back.info["entry"], back.process(1)) == ("two", "M", "other")


def test_words_of_one_under_the_description_of_another_stay_in_their_sandbox(load, runtime):
    """Whatever the words are: the worst is a guest that breaks."""
    one = load(COUNTER).snapshot()
    junk = os.urandom(len(one.words))
    limits = Limits(deadline_s=2)
    try:
        with runtime.restore(Snapshot.from_bytes(_forged(one, words=junk)), limits=limits) as back:
            back.process(1)
    except cloche.ClocheError:
        pass
    with runtime.restore(one) as back:
        assert back.process(1) == 1


def test_an_open_stream_and_a_pending_task_go_to_another_process(load, runtime, tmp_path):
    """Generators in mid-air, a task that sleeps, an array: all of it is memory."""
    node = load(
        "import asyncio, numpy as np\nclass N:\n    is_streaming = True\n    def __init__(self):\n"
        "        self.done = []; self.a = np.arange(1000.0)\n    async def process(self, items):\n"
        "        async def later(): await asyncio.sleep(0.01); self.done.append('later')\n"
        "        task = asyncio.ensure_future(later())\n        async for x in items:\n            yield x * float(self.a[3])\n"
        "        await task\n        yield self.done\n"
    )
    stream = node.stream(range(1, 9))
    assert [next(stream), next(stream)] == [3.0, 6.0]
    path = tmp_path / "node.snapshot"
    path.write_bytes(node.snapshot().to_bytes())
    code = f"""
        import cloche, pathlib
        with cloche.Runtime({str(runtime.image.folder)!r}, limits=cloche.Limits(deadline_s=120)) as runtime:
            node = runtime.restore(cloche.Snapshot.from_bytes(pathlib.Path({str(path)!r}).read_bytes()))
            at = node.stream_position
            print(at.items, at.outputs, list(node.resume(range(1 + at.items, 5))))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2 2 [9.0, 12.0, ['later']]", done.stderr
    assert list(stream)[-1] == ["later"]


@here
def test_random_snapshots_are_refused_or_stay_in_their_sandbox(load, runtime, thorough):
    """Faults in every column and in the description, behind a right digest: an error of Cloche's, or a guest of its own."""
    snapshot = load(COUNTER).snapshot()
    limits = patient(deadline_s=0.2, load_s=0.2)
    rng = random.Random(5)
    for _ in range(400 if thorough else 12):
        changes = {name: faulty(rng, getattr(snapshot, name)) for name in COLUMNS if rng.random() < 0.5}
        if rng.random() < 0.3:
            changes["request"] = rng.choice([0, 1, snapshot.request + 8, snapshot.memory_bytes - 1, 1 << 31, 1 << 40])
        if rng.random() < 0.3:
            changes["memory_bytes"] = rng.choice([0, 1 << 16, snapshot.memory_bytes + 65536, snapshot.memory_bytes - 1])
        ways = [
            lambda: Snapshot.from_bytes(_forged(snapshot, **changes)),  # noqa: B023  # called in this round
            lambda: dataclasses.replace(snapshot, **changes),  # noqa: B023
        ]
        for way in ways:
            try:
                with runtime.restore(way(), limits=limits) as back:
                    back.process(1)
            except cloche.ClocheError:
                pass
    with runtime.restore(snapshot) as back:
        assert back.process(1) == 1


def faulty(rng: random.Random, column: bytes) -> bytes:
    """The column with some bytes changed, or a few more or fewer."""
    changed = bytearray(column)
    for _ in range(rng.randint(1, 30)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    if rng.random() < 0.2:
        del changed[-rng.choice([4, 8, 64]) :]
    return bytes(changed)
