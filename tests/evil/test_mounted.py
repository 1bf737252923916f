"""Hostile programs with folders to read and to write: nothing outside of them is read or changed, and no quota passed."""

from __future__ import annotations

import os

import pytest

import cloche
from tests.runtime.test_mounts import descriptors

from .mounted import MOUNTED
from .test_programs import BYSTANDER, attack

pytestmark = pytest.mark.evil

QUOTA = 1 << 20
FILES = 100


@pytest.fixture
def place(tmp_path):
    """A secret, and beside it the folder to mount, which has every way out that a folder can have."""
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_text("secret")
    (inside / "a").write_text("a")
    (inside / "passwd").symlink_to("/etc/passwd")
    (inside / "top").symlink_to("/")
    (inside / "outside").symlink_to(tmp_path)
    os.link(tmp_path / "secret", inside / "hard")
    os.mkfifo(inside / "pipe")
    with open(inside / "huge", "wb") as file:
        file.truncate(1 << 40)
    return tmp_path


def weight(folder):
    """Bytes and files below, links and holes as they are."""
    found = [path for path in folder.rglob("*") if not path.is_symlink()]
    return sum(p.stat().st_size for p in found if p.is_file()), len(found)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("entry", "made"),
    [*((entry, "runtime") for entry in ("import", "process", "finally", "cleanup")), ("process", "epoch_runtime")],
)
@pytest.mark.parametrize("program", MOUNTED, ids=str)
def test_program_stays_in_its_folders(request, place, program, entry, made):
    """It ends by its own limit; the host's descriptors, the secret and all around it are as before."""
    runtime = request.getfixturevalue(made)
    inside = place / "inside"
    writable = cloche.Mount(inside, writable=True, quota_bytes=QUOTA, max_files=FILES)
    grants = cloche.Grants(mounts={"/r": inside, "/w": writable}, scratch_bytes=QUOTA)
    size, count = weight(inside)
    ended = attack(runtime, program, entry, grants)
    assert ended in program.ends
    assert descriptors(place) == 0
    assert sorted(path.name for path in place.iterdir()) == ["inside", "secret"]
    assert (place / "secret").read_text() == "secret"
    after, files = weight(inside)
    assert after - size <= QUOTA
    assert files - count <= FILES
    with runtime.load(BYSTANDER) as node:
        assert node.process(1) == 2
