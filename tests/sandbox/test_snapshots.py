"""A node's whole state: taken, carried, brought back, cloned."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

import cloche
from cloche import Limits, Snapshot

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
    assert path.stat().st_size < 2 << 20
    code = f"""
        import cloche, pathlib
        data = pathlib.Path({str(path)!r}).read_bytes()
        with cloche.Runtime({str(runtime.image.folder)!r}) as runtime:
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
        *(getattr(snapshot, name) for name in ("name", "info", "memory_bytes", "runs", "pages", "request", "calls")),
    )
    with pytest.raises(cloche.ImageError, match="belongs to the image"):
        runtime.restore(foreign)


def test_swapped_request_address_is_a_protocol_error_not_a_crash(load, runtime):
    """A snapshot is as hostile as the guest that it came from."""
    s = load(COUNTER).snapshot()
    for request in (0, 0xFFFF_FFFF, s.memory_bytes - 4):
        with pytest.raises(cloche.ClocheError):
            runtime.restore(Snapshot(s.image, s.name, s.info, s.memory_bytes, s.runs, s.pages, request, s.calls))


def test_restore_needs_the_memory(load, runtime):
    """The limit of the new node holds."""
    node = load("class N:\n    def process(self, x):\n        self.b = bytearray(x)\n")
    node.process(64 << 20)
    with pytest.raises(cloche.ClocheError, match="memory_bytes"):
        runtime.restore(node.snapshot(), limits=Limits(memory_bytes=64 << 20))


def test_closed_and_broken_nodes_have_no_snapshot(load):
    """There is nothing to take."""
    node = load("import os\nclass N:\n    def process(self, x):\n        os.abort()\n")
    with pytest.raises(cloche.BrokenInstanceError):
        node.process(0)
    with pytest.raises(cloche.ClosedError):
        node.snapshot()
