"""tests/sandbox/test_recovery.py, with the nodes in worker processes; and a worker that is killed."""

import os
import signal

import pytest

import cloche
from tests.sandbox.test_recovery import *  # noqa: F403
from tests.sandbox.test_recovery import COUNTER


def test_a_killed_worker_costs_its_nodes_an_instance_and_no_more(own):
    """They go on in another worker."""
    node = own.load(COUNTER, "N", on_break="restore")
    assert node.process(4) == 4
    for worker in own.workers:
        os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(cloche.BrokenInstanceError) as caught:
        node.process(1)
    assert caught.value.recovered == "restore"
    assert node.process(1) == 5
