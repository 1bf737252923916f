"""As many tools run at a time as there are slots, and those go first that most depends on."""

from __future__ import annotations

import threading

from imagebuild.slots import Slots
from imagebuild.stages import Stage, precedence


def test_no_more_run_than_there_are_slots() -> None:
    """Two hold a slot at the same time, and a third one waits until one of them is done."""
    slots = Slots(2)
    together, third = threading.Barrier(3, timeout=60), threading.Event()
    leave = threading.Event()

    def hold() -> None:
        with slots.take("x"):
            together.wait()
            leave.wait(60)

    def wait() -> None:
        with slots.take("x"):
            third.set()

    threads = [threading.Thread(target=hold) for _ in range(2)]
    for thread in threads:
        thread.start()
    together.wait()
    threads.append(threading.Thread(target=wait))
    threads[-1].start()
    assert not third.is_set()
    leave.set()
    assert third.wait(60)
    for thread in threads:
        thread.join()


def test_what_has_precedence_goes_first() -> None:
    """However late it came."""
    slots = Slots(1)
    slots.precedence = ["high", "low"]
    order: list[str] = []

    def run(stage: str) -> None:
        with slots.take(stage):
            order.append(stage)

    threads = [threading.Thread(target=run, args=(stage,)) for stage in ("low", "high", "low")]
    with slots.take("first"):
        for number, thread in enumerate(threads, 1):
            thread.start()
            while slots.waiting < number:
                thread.join(0.001)
    for thread in threads:
        thread.join()
    assert order == ["high", "low", "low"]


def test_the_longest_chain_has_precedence() -> None:
    """The stage with the most stages behind it holds up the most; of equals, the first in the table."""
    needs = {"a": (), "b": (), "c": ("a",), "d": ("c",), "e": ("b", "d"), "f": ("c",)}
    graph = [Stage(name, after, (), lambda out, folders: None) for name, after in needs.items()]
    assert precedence(graph) == ["a", "c", "b", "d", "e", "f"]
