"""The descriptors of the process that all nodes share: a bound for all, a few for each, the rest for the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloche import ClocheError, Grants, Limits
from cloche._files.descriptor_shares import FEW, DescriptorShares, shares
from cloche._files.handler import MAX_OPEN, FileHandler
from cloche._requests.router import RequestRefused
from cloche.mounts import Mount
from cloche_wire import Ask
from cloche_wire.files import ERRNOS, Open

LIMIT = 256


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").write_bytes(b"inside")
    return tmp_path


@pytest.fixture
def handlers(folder):
    """Make a handler with one mount; all handlers share LIMIT descriptors; all are closed at the end."""
    shared, made = DescriptorShares(lambda: LIMIT), []

    def make(mounts=1):
        made.append(FileHandler({f"/m{index}": Mount(folder) for index in range(mounts)}, Limits(), shared))
        return made[-1]

    make.shares = shared
    yield make
    for handler in made:
        handler.close()


def held():
    """Descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def fill(handler, path, listed=False):
    """Open until the handler refuses; the handles."""
    handles = []
    while True:
        try:
            handles.append(handler.operations[Ask.OPEN]([path, int(Open.READ)])[0])
            if listed:
                handler.operations[Ask.LIST]([handles[-1], 0])
        except RequestRefused as refused:
            assert refused.failure == ERRNOS["EMFILE"]
            return handles


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors")
@pytest.mark.parametrize(("path", "listed"), [(b"m0/a", False), (b"m0", True)], ids=["files", "folders"])
def test_greedy_nodes_get_their_half_and_leave_the_others_a_few(handlers, path, listed):
    """Whatever they open; the last quarter is the host's."""
    before = held()
    for _ in range(8):
        fill(handlers(), path, listed)
    assert LIMIT // 2 - FEW <= handlers.shares.used <= LIMIT // 4 * 3
    modest = handlers()
    handles = fill(modest, path, listed)
    assert len(handles) >= (FEW - 2) // (2 if listed else 1)
    if listed:  # a listing that has come to its end has given its copy back
        assert held() - before <= handlers.shares.used
    else:
        assert held() - before == handlers.shares.used
    while handlers.shares.used + 1 <= LIMIT // 4 * 3:
        fill(handlers(), path, listed)
    assert held() - before <= LIMIT // 4 * 3
    with pytest.raises(ClocheError, match=rf"^mounts need a file descriptor each: nodes hold \d+ of the {LIMIT} "):
        handlers(mounts=LIMIT)


def test_what_is_closed_is_given_back(handlers):
    """A handle, and a handler with all that it has open."""
    handler = handlers()
    assert handlers.shares.used == 1
    handles = fill(handler, b"m0/a")
    assert len(handles) == MAX_OPEN and handlers.shares.used == MAX_OPEN + 1
    for handle in handles[:10]:
        handler.operations[Ask.CLOSE]([handle])
    assert handlers.shares.used == MAX_OPEN - 9
    handler.close()
    assert handlers.shares.used == 0


def test_a_desk_that_cannot_be_made_holds_nothing(folder):
    """Its mount does not exist."""
    shared = DescriptorShares(lambda: LIMIT)
    with pytest.raises(FileNotFoundError):
        FileHandler({"/a": Mount(folder), "/b": Mount(folder / "missing")}, Limits(), shared)
    assert shared.used == 0


def test_the_limit_is_the_process_s_own():
    """RLIMIT_NOFILE, which a program may change."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        assert shares.limit() == soft - 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_node_whose_share_is_used_up_gets_the_error_of_its_system(load, folder, monkeypatch):
    """OSError with EMFILE, as natively; the host and another node go on."""
    monkeypatch.setattr(shares, "limit", lambda limit=64 + 4 * shares.used: limit)
    source = """
import errno
def f(path):
    kept = []
    try:
        while True: kept.append(open(path))
    except OSError as error:
        return errno.errorcode[error.errno], len(kept)
"""
    grants = Grants(mounts={"/m": Mount(folder)})
    node = load(source, grants=grants)
    kind, count = node.process("/m/a")
    assert kind == "EMFILE" and FEW - 2 <= count <= MAX_OPEN
    assert load("def f(path): return open(path).read()", grants=grants).process("/m/a") == "inside"
