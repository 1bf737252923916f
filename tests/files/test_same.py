"""/tmp in the guest's memory behaves as a folder of the host: random programs on both, step by step."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.mounts import Mount

from .conftest import CREATE, DIRECTORY, EXCLUSIVE, READ, ROOT, TRUNCATE, WRITE

NAMES = (b"a", b"b", b"a/c", b"a/c/d", b"b/", b"a/../b", b"./a/.", b"missing/../a", b"")
PATHS = st.sampled_from(NAMES)
FLAGS = st.sampled_from(
    [READ, WRITE, READ | WRITE, READ | WRITE | CREATE, WRITE | CREATE | EXCLUSIVE, WRITE | TRUNCATE, WRITE | CREATE | TRUNCATE,
     READ | DIRECTORY, READ | TRUNCATE]
)  # fmt: skip
HANDLES = st.integers(0, 4)
SIZES = st.sampled_from([0, 1, 5, 4095, 4096, 4097, 10_000, 70_000])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), PATHS, FLAGS, st.integers(0, 1)),
        st.tuples(st.just("close"), HANDLES),
        st.tuples(st.just("read"), HANDLES, SIZES),
        st.tuples(st.just("read"), HANDLES, SIZES, SIZES),
        st.tuples(st.just("write"), HANDLES, SIZES),
        st.tuples(st.just("write"), HANDLES, SIZES, SIZES),
        st.tuples(st.just("seek"), HANDLES, st.integers(-5000, 5000), st.integers(0, 3)),
        st.tuples(st.just("resize"), HANDLES, SIZES),
        st.tuples(st.just("status"), HANDLES),
        st.tuples(st.just("listed"), HANDLES),
        st.tuples(st.sampled_from(["find", "mkdir", "unlink", "rmdir"]), PATHS),
        st.tuples(st.just("rename"), PATHS, PATHS),
    ),
    max_size=40,
)


class Side:
    """One of the two places, with the descriptors that a program has opened there."""

    def __init__(self, files: Any, prefix: bytes) -> None:
        self.files, self.prefix = files, prefix
        self.fds: list[int] = []

    def do(self, name: str, *operands: Any) -> Any:
        """What a step answers, or the errno."""
        try:
            return getattr(self, f"_{name}")(*operands)
        except OSError as error:
            return f"errno {error.errno}"

    def finish(self) -> None:
        for fd in self.fds:
            self.do("close_fd", fd)

    def _path(self, path: bytes) -> bytes:
        return self.prefix + b"/" + path

    def _fd(self, index: int) -> int:
        return self.fds[index] if index < len(self.fds) else 100

    def _open(self, path: bytes, flags: int, append: int) -> None:
        self.fds.append(self.files.open(ROOT, self._path(path), flags, append))

    def _close(self, index: int) -> None:
        self.files.close(self._fd(index))

    def _close_fd(self, fd: int) -> None:
        self.files.close(fd)

    def _read(self, index: int, *operands: int) -> bytes:
        return self.files.read(self._fd(index), *operands)

    def _write(self, index: int, size: int, *at: int) -> int:
        return self.files.write(self._fd(index), bytes(i % 251 for i in range(size)), *at)

    def _seek(self, index: int, offset: int, whence: int) -> int:
        return self.files.seek(self._fd(index), offset, whence)

    def _resize(self, index: int, size: int) -> None:
        self.files.resize(self._fd(index), size)

    def _status(self, index: int) -> tuple[int, int]:
        return self.files.status(self._fd(index))[:2]

    def _find(self, path: bytes) -> tuple[int, int]:
        return self.files.find(ROOT, self._path(path))[:2]

    def _mkdir(self, path: bytes) -> None:
        self.files.mkdir(ROOT, self._path(path))

    def _unlink(self, path: bytes) -> None:
        self.files.unlink(ROOT, self._path(path))

    def _rmdir(self, path: bytes) -> None:
        self.files.rmdir(ROOT, self._path(path))

    def _rename(self, old: bytes, new: bytes) -> None:
        self.files.rename(ROOT, self._path(old), ROOT, self._path(new))

    def _listed(self, index: int) -> set[tuple[bytes, int]]:
        found, cookie = set(), 0
        while entry := self.files.next(self._fd(index), cookie):
            found.add(entry[:2])
            cookie = entry[2]
        return found


@pytest.mark.few(1)
@pytest.mark.parametrize("seed", range(4))
def test_scratch_and_a_mount_answer_alike(files, mounted, tmp_path, seed):
    """The host's kernel is the specification: contents, positions, sizes, listings and errors, after every step."""
    files.scratch(1 << 30)
    mounted({"/data": Mount(tmp_path, writable=True, quota_bytes=1 << 30, max_files=1 << 20)})
    counter = itertools.count()

    @settings(max_examples=150, deadline=None, database=None)
    @given(STEPS)
    def compare(steps):
        own = b"%d" % next(counter)
        sides = Side(files, b"tmp/" + own), Side(files, b"data/" + own)
        for side in sides:
            files.mkdir(ROOT, side.prefix)
        try:
            for step in steps:
                scratch, host = (side.do(*step) for side in sides)
                assert scratch == host, step
        finally:
            for side in sides:
                side.finish()

    compare()
