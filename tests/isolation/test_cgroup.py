"""Control groups, on a folder that looks like them: this machine need not have any."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloche._isolation import cgroup as _cgroup


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, Path]:
    """A mounted file system with the group /service/host, below a delegated one; and /proc/self/cgroup."""
    root = tmp_path / "cgroup"
    for group, enabled in (
        (root, "cpu memory pids"),
        (root / "service", "cpu memory pids"),
        (root / "service/host", ""),
    ):
        group.mkdir()
        (group / "cgroup.controllers").write_text("cpu memory pids\n")
        (group / "cgroup.subtree_control").write_text(enabled + "\n")
        (group / "cgroup.procs").write_text("")
    own = tmp_path / "own"
    own.write_text("1:name=systemd:/elsewhere\n0::/service/host\n")
    return root, own


def test_the_group_above_is_used_if_it_is_delegated(tree):
    """A group with processes cannot enable controllers for children, so the host is a leaf and its workers beside it."""
    root, own = tree
    assert _cgroup.find(root, own) == (root / "service", "")


def test_the_own_group_is_used_if_it_has_controllers_for_children(tree):
    """The root of a container is such a one."""
    root, own = tree
    own.write_text("0::/\n")
    assert _cgroup.find(root, own) == (root, "")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda root, own: (root / "cgroup.controllers").unlink(), "version 2"),
        (lambda root, own: own.write_text("1:memory:/x\n"), "cgroup: StopIteration"),
        (lambda root, own: own.unlink(), "No such file"),
        (lambda root, own: (root / "service/cgroup.subtree_control").write_text("pids\n"), "is delegated"),
        (lambda root, own: own.write_text("0::/../outside\n"), "cgroup: FileNotFoundError"),
    ],
)
def test_why_there_is_none_is_said(tree, change, why):
    """Nothing depends on one."""
    change(*tree)
    found, reason = _cgroup.find(*tree)
    assert found is None
    assert why in reason


def test_a_group_bounds_memory_threads_and_processors(tree, monkeypatch):
    """And goes with its worker."""
    root, _ = tree
    group = _cgroup.Cgroup(root / "service", 4711)
    (folder,) = [path for path in (root / "service").iterdir() if path.name.startswith("cloche-")]
    assert str(os.getpid()) in folder.name
    group.resize(1 << 30, 100, 2)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "cgroup.procs": "4711",
        "memory.oom.group": "1",
        "memory.swap.max": "0",
        "memory.max": "1073741824",
        "pids.max": "100",
        "cpu.max": "200000 100000",
    }
    for path in folder.iterdir():  # the kernel's files go with their folder
        path.unlink()
    group.close()
    group.close()
    assert not folder.exists()
