"""Files of a node: a mounted folder through the host, and /tmp in its own memory. The same functions natively beside each.

Timed: one call of a node that opens, reads or writes, `Node.process` included (some 3 us). Not timed: loading. The native
files are in the kernel's page cache, as the mounted ones are. Per question to the host (open, read, end of file, close, two looks at
the file's size) a node pays some tens of microseconds, and per MiB the copies into its memory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import cloche

SOURCE = """
import os
import shutil

def small(path):
    with open(path, "rb") as file:
        return len(file.read())

def large(path):
    with open(path, "rb", buffering=0) as file:
        total = 0
        while piece := file.read(1 << 20):
            total += len(piece)
    return total

def write(path):
    with open(path, "wb") as file:
        for _ in range(16):
            file.write(bytes(1 << 20))
    return os.path.getsize(path)

def walk(path):
    return sum(len(files) for _, _, files in os.walk(path))

def look(path):
    return os.stat(path).st_size
"""
PLACES = ["native", "mount", "scratch"]
NATIVE: dict[str, Any] = {}
exec(SOURCE, NATIVE)  # the same text, for the same work


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("files")
    (made / "small").write_bytes(bytes(4096))
    (made / "large").write_bytes(bytes(16 << 20))
    (made / "many").mkdir()
    for index in range(100):
        (made / "many" / str(index)).touch()
    return made


def run(
    benchmark: Any, runtime: cloche.Runtime, folder: Path, function: str, name: str, place: str, result: int
) -> None:
    benchmark.group = f"files: {function}"
    if place == "native":
        assert benchmark(NATIVE[function], os.fspath(folder / name)) == result
        return
    mount = cloche.Mount(folder, writable=True, quota_bytes=64 << 20)
    grants = cloche.Grants(mounts={"/data": mount}, scratch_bytes=64 << 20)
    with runtime.load(cloche.Source(SOURCE), function, grants=grants) as node:
        root = "/data" if place == "mount" else "/tmp"
        assert benchmark(node.process, f"{root}/{name}") == result


@pytest.mark.parametrize("place", ["native", "mount"])
@pytest.mark.parametrize(
    ("function", "name", "result"),
    [("look", "small", 4096), ("small", "small", 4096), ("large", "large", 16 << 20), ("walk", "many", 100)],
    ids=["stat", "open and read 4 KiB", "read 16 MiB", "walk 100 files"],
)
def bench_read(
    benchmark: Any, runtime: cloche.Runtime, folder: Path, function: str, name: str, result: int, place: str
) -> None:
    """What is there."""
    run(benchmark, runtime, folder, function, name, place, result)


@pytest.mark.parametrize("place", PLACES)
def bench_write(benchmark: Any, runtime: cloche.Runtime, folder: Path, place: str) -> None:
    """16 MiB, over what the last round has written."""
    run(benchmark, runtime, folder, "write", "new", place, 16 << 20)
