"""Settings of the machine that run out: each is a ClocheError that names the setting, costs nothing else, and goes away with its reason."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import cloche
from cloche._wasm import scarce
from cloche._wasm.mappings import MappingGuard, reserve
from cloche.isolation import Isolation

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")

PROGRAM = """
import mmap, os, resource, sys, threading
import cloche, cloche._runtime.pool, cloche._isolation
from cloche._wasm.core import core

SOURCE = cloche.Source("def f(x):\\n    while x == 'long':\\n        pass\\n    return x\\n")
isolation = sys.argv[1]
core()  # in this process, also where nodes are in another one
runtime = cloche.Runtime(isolation=isolation, limits=cloche.Limits(deadline_s=120, load_s=120))
brief = cloche.Limits(deadline_s=0.05, grace_s=60, load_s=120)
node = runtime.load(SOURCE, limits=brief)
assert node.process(1) == 1

def status(name):
    return int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1])

def attempt(work):
    guests, nodes = core().count_guests(), len(runtime.nodes)
    try:
        work()
    except cloche.ClocheError as error:
        print(type(error).__name__, error.limit)
        text = str(error)
    else:
        sys.exit("it succeeded")
    # nothing is left of it, and the node that there was goes on
    assert core().count_guests() == guests
    assert len(runtime.nodes) == nodes, runtime.nodes
    assert node.process(2) == 2
    try:
        node.process("long")
    except cloche.DeadlineError:
        pass
    assert node.process(3) == 3
    return text
"""

MAPPINGS = """
held = []
try:
    while True:
        held.append(mmap.mmap(-1, 4096))
except (OSError, ValueError):
    pass
text = attempt(lambda: runtime.load(SOURCE))
assert "sysctl -w vm.max_map_count=" in text, text
held.clear()
assert runtime.load(SOURCE).process(4) == 4
"""

ADDRESS_SPACE = """
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (1024 * status("VmSize") + (1 << 30), hard))
text = attempt(lambda: runtime.load(SOURCE) if isolation == "none" else [runtime.load(SOURCE) for _ in range(9)])
assert "ulimit -v" in text and "each sandbox reserves 4 GiB" in text, text
resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
assert runtime.load(SOURCE).process(4) == 4
"""

FILES = """
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
taken = []
try:
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
text = attempt(lambda: runtime.load(SOURCE, grants=cloche.Grants(mounts={"/data": "/tmp"})))
assert "RLIMIT_NOFILE" in text and "ulimit -n" in text, text
for number in taken:
    os.close(number)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
assert runtime.load(SOURCE).process(4) == 4
"""

THREADS = """
late = runtime.pool(SOURCE, size=1)
os.setresuid(65534, 65534, 65534)
soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
resource.setrlimit(resource.RLIMIT_NPROC, (1, hard))
text = attempt(lambda: late.submit(1).result())
assert "ulimit -u" in text and "TasksMax" in text, text
resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
assert late.submit(5).result() == 5
late.close()
"""


def run(program: str, isolation: Isolation) -> str:
    """What a program prints that has a node, and sets a limit."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program, isolation], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.isolation("none", reason="a worker process has mappings of its own")
def test_the_kernel_s_number_of_mappings(isolation: Isolation) -> None:
    """At about 21,000 nodes, with the kernel's own setting."""
    if (most := scarce.most_mappings()) is None or most > 300_000:
        pytest.skip("it takes too long to reach")
    assert run(MAPPINGS, isolation) == "ClocheError vm.max_map_count"


@pytest.mark.isolation("none", reason="in a worker process, which has the limit of its parent, another one is found")
def test_the_limit_of_address_space(isolation: Isolation) -> None:
    assert run(ADDRESS_SPACE, isolation) == "ClocheError RLIMIT_AS"


def test_the_limit_of_open_files(isolation: Isolation) -> None:
    assert run(FILES, isolation) == "ClocheError RLIMIT_NOFILE"


@pytest.mark.skipif(os.getuid() != 0, reason="needs another user, who has no other processes")
@pytest.mark.isolation("none", reason="the threads of this process")
def test_the_limit_of_threads(isolation: Isolation) -> None:
    """Root has none, and does as another user."""
    assert run(THREADS, isolation) == "ClocheError RLIMIT_NPROC"


def test_a_guard_keeps_mappings_for_the_nodes_that_there_are() -> None:
    """At the limit itself, a guest that computes could not be stopped: that splits a mapping."""
    counts: list[int] = []

    def count() -> int:
        counts.append(len(counts))
        return taken

    guard = MappingGuard(lambda: 65_530, count)
    taken = 300
    guard.check(0)
    assert len(counts) == 1
    for sandboxes in range(7_000):
        guard.check(sandboxes)
    assert len(counts) == 1  # it is not counted at each
    taken = 65_530 - reserve(65_530)
    with pytest.raises(
        cloche.ClocheError, match=r"no room for another sandbox: it has 63483 mappings .* of 65530"
    ) as caught:
        guard.check(20_000)
    assert (caught.value.limit, caught.value.value, caught.value.reached) == ("vm.max_map_count", 65_530, taken)
    taken -= 100
    guard.check(20_000)


def test_a_guard_never_lets_more_be_made_between_two_counts_than_there_is_room_for() -> None:
    taken = 300
    guard = MappingGuard(lambda: 65_530, lambda: taken)
    sandboxes = 0
    with pytest.raises(cloche.ClocheError):
        while True:
            guard.check(sandboxes)
            sandboxes += 1
            taken += 4
            assert taken <= 65_530 - reserve(65_530)
    assert sandboxes > 15_000


def test_a_guard_without_the_kernel_s_numbers_refuses_nothing() -> None:
    MappingGuard(lambda: None, lambda: 5).check(1 << 30)
    MappingGuard(lambda: 5, lambda: None).check(1 << 30)


def test_an_error_without_a_known_reason_says_what_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scarce, "_memory", lambda wanted: iter(()))
    assert scarce.shortage().setting == ""
    assert "control group" in scarce.shortage().advice


def test_a_machine_without_open_files_names_the_machine_s_setting() -> None:
    found = scarce.shortage(OSError(errno.ENFILE, "Too many open files in system"))
    assert (found.setting, found.allowed) == ("fs.file-max", int(Path("/proc/sys/fs/file-max").read_text()))


def test_a_kernel_that_does_not_overcommit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """vm.overcommit_memory=2: a reservation is refused though nothing is used of it."""
    numbers = {"/proc/sys/vm/overcommit_memory": 2}
    monkeypatch.setattr(scarce, "_number", lambda path: numbers.get(path))
    monkeypatch.setattr(resource, "getrlimit", lambda number: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert scarce.shortage().setting == "vm.overcommit_memory"
