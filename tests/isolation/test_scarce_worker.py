"""A worker process to which the system gives no more: the node that needs it gets an error, and the others go on."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest

import cloche
from tests.limits import patient

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="worker processes are for Linux")

ECHO = cloche.Source("def echo(x):\n    return x")


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (1 << 20, r"the system starts no thread in a worker process .*ulimit -u.*ulimit -v"),
        (64 << 20, r"wasmtime could not make a sandbox .*raise the limits .*ulimit -v"),
    ],
    ids=["a thread", "a sandbox"],
)
def test_a_worker_that_has_no_room_refuses_the_node_and_goes_on(more: int, text: str) -> None:
    """It may not ask how much there is, and needs a thread for each node. It would end with all of its nodes."""
    with cloche.Runtime(isolation="process", workers=1, limits=patient()) as runtime:
        node = runtime.load(ECHO)
        pid = runtime.workers[0].pid
        soft, hard = resource.prlimit(pid, resource.RLIMIT_AS)
        status = Path(f"/proc/{pid}/status").read_text()
        taken = 1024 * int(status.split("VmSize:")[1].split()[0])
        resource.prlimit(pid, resource.RLIMIT_AS, (taken + more, hard))
        for _ in range(3):
            with pytest.raises(cloche.ClocheError, match=text):
                runtime.load(ECHO)
        assert node.process(1) == 1
        resource.prlimit(pid, resource.RLIMIT_AS, (soft, hard))
        assert runtime.load(ECHO).process(2) == 2
        assert [worker.pid for worker in runtime.workers] == [pid]
