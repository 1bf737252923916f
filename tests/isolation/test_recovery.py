"""A node whose worker dies under it, and that its host wants to live on."""

from __future__ import annotations

import os
import signal

import pytest

import cloche

COUNTER = cloche.Source(
    "class N:\n    def __init__(self):\n        self.n = 0\n    def process(self, x):\n        self.n += x\n        return self.n\n"
)


@pytest.mark.parametrize(("on_break", "after"), [("restart", 1), ("restore", 3)])
def test_a_node_lives_on_in_a_fresh_worker(own, on_break, after):
    """From the state that `on_break` says; the call that broke is reported, not made again."""
    node = own.load(COUNTER, on_break=on_break, checkpoint_every=2 if on_break == "restore" else None)
    assert [node.process(1), node.process(1)] == [1, 2]
    (victim,) = own.workers
    os.kill(victim.pid, signal.SIGKILL)
    with pytest.raises(cloche.BrokenInstanceError, match="SIGKILL") as caught:
        node.process(5)
    assert caught.value.recovered == on_break
    assert caught.value.data == (5,)
    assert node.process(1) == after
    assert [worker.pid for worker in own.workers] != [victim.pid]
