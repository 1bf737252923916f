"""A node whose worker dies under it, and that its host wants to live on."""

from __future__ import annotations

import os
import signal

import pytest

import cloche

COUNTER = cloche.Source(
    "class N:\n    def __init__(self):\n        self.n = 0\n    def process(self, x):\n        self.n += x\n        return self.n\n"
)
LOUD = cloche.Source("""
class N:
    def initialize(self):
        print("ready")
    def process(self, fail):
        if fail:
            print("failing")
            raise ValueError
""")


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


@pytest.mark.parametrize("what", ["snapshot", "clone", "buffer"])
def test_a_worker_that_dies_between_calls_is_replaced_whatever_is_wanted_next(own, what):
    """Not calls alone need the guest."""
    node = own.load(COUNTER, on_break="restore")
    node.process(1)
    os.kill(own.workers[0].pid, signal.SIGKILL)
    with pytest.raises(cloche.BrokenInstanceError, match="SIGKILL") as caught:
        node.buffer(1) if what == "buffer" else getattr(node, what)()
    assert caught.value.recovered == "restore"
    assert node.process(1) == 2
    assert node.stats.restarts == 1


@pytest.mark.parametrize(
    ("on_break", "call"), [("restart", "initialize"), ("restore", "initialize"), ("restore", "fail")]
)
def test_a_worker_that_dies_before_the_checkpoint_is_replaced(on_break, call):
    """The answer is here and the checkpoint is not: the node goes on from the one before."""

    class Killer:
        """A logger that kills the workers, between an answer and what follows it."""

        armed = False

        def info(self, *_: object, **__: object) -> None:
            if self.armed:
                self.armed = False
                for worker in runtime.workers:
                    os.kill(worker.pid, signal.SIGKILL)

        debug = warning = error = info

    logger = Killer()
    with cloche.Runtime(isolation="process", logger=logger) as runtime:
        node = runtime.load(LOUD, on_break=on_break)
        logger.armed = True
        with pytest.raises(cloche.BrokenInstanceError, match="SIGKILL") as caught:
            node.initialize() if call == "initialize" else node.process(True)
        assert caught.value.recovered == on_break
        assert node.process(False) is None
        assert node.stats.restarts == 1
