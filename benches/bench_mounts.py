"""Files of a node: in a mounted folder, through the host; in /tmp, in the node's own memory; and the same functions natively.

Timed: one call of a node that opens, reads or writes a file, the 3 us of `Node.process` included. Not timed: loading. Native and
mounted files are both in the kernel's page cache. Each request to the host costs some tens of microseconds, and reading a small
file takes six (open, read, read at the end, close, and the file's size twice); each MiB costs a copy into the node's memory.
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
exec(SOURCE, NATIVE)  # the bench's own text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of 4 KiB, one of 16 MiB, and a folder of 100 empty files."""
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
    """Time one function of SOURCE.

    Args:
        folder: the folder of files; mounted at /data if `place` is "mount".
        function: name of the function.
        name: path of the file below the folder, or below /tmp if `place` is "scratch".
        place: "native", "mount" or "scratch".
        result: the value that the function has to return.
    """
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
    """Look at, read or list files that exist."""
    run(benchmark, runtime, folder, function, name, place, result)


@pytest.mark.parametrize("place", PLACES)
def bench_write(benchmark: Any, runtime: cloche.Runtime, folder: Path, place: str) -> None:
    """Write 16 MiB, over the file of the previous round."""
    run(benchmark, runtime, folder, "write", "new", place, 16 << 20)
