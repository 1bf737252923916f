"""What an observer is told of the calls of a sandbox, and that it stands beside them; guests are inline WebAssembly."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cloche import ClocheError, GuestTrapError
from cloche._sandbox.instance import Instance
from cloche_wire import Op, Reply

WHOLE_CALL = ["begin", "encode", "guest", "", "lift", "decode"]


class Events:
    """An observer that keeps what it is told, and raises where it is asked to."""

    def __init__(self, fails_at: str | None = None) -> None:
        self.events: list[str] = []
        self.fails_at = fails_at

    def begin(self) -> None:
        self.phase("begin")

    def phase(self, name: str) -> None:
        self.events.append(name)
        if name == self.fails_at:
            raise RuntimeError(f"at {name}")

    def end(self, op: int, call: int, failed: str) -> None:
        self.phase(f"end {Op(op).name} {call} {failed}".rstrip())


def process(instance: Instance) -> tuple[Reply, object]:
    return instance.exchange(Op.PROCESS, [1], "data")


def test_an_observer_follows_a_call_from_phase_to_phase(enter: Callable[..., Instance]) -> None:
    """Each point of the interface once, in the order of the call; nothing once it is gone."""
    instance, observer = enter(), Events()
    instance.observe(observer)
    process(instance)
    instance.end_observation(observer)
    process(instance)
    assert observer.events == [*WHOLE_CALL, "end PROCESS 1"]


def test_a_trap_ends_the_phase_of_the_guest_and_the_last_logs_are_one(enter: Callable[..., Instance]) -> None:
    """The time for the error's logs is the host's."""
    instance, observer = enter("(unreachable)"), Events()
    instance.observe(observer)
    with pytest.raises(GuestTrapError):
        process(instance)
    assert observer.events == ["begin", "encode", "guest", "", "logs", "", "end PROCESS 1 GuestTrapError"]


def test_a_message_aside_is_neither_counted_nor_observed(enter: Callable[..., Instance]) -> None:
    """A profiler's own messages must not show in what it reports."""
    instance, observer = enter(), Events()
    instance.observe(observer)
    process(instance)
    before = instance.stats()
    assert instance.aside(Op.PROFILE, ["take"]) == (Reply.RESULT, None)
    assert instance.stats() == before
    process(instance)
    assert observer.events == [*WHOLE_CALL, "end PROCESS 1", *WHOLE_CALL, "end PROCESS 2"]


@pytest.mark.parametrize("place", [*WHOLE_CALL, "end PROCESS 1"], ids=lambda place: place or "bookkeeping")
def test_an_observer_that_fails_ends_its_call_and_nothing_else(enter: Callable[..., Instance], place: str) -> None:
    """It is the host's own code, as a logger is: the guest stays usable, and the next reply is its own."""
    instance, observer = enter(), Events(fails_at=place)
    instance.observe(observer)
    with pytest.raises(RuntimeError, match=f"at {place}"):
        process(instance)
    instance.end_observation(observer)
    assert process(instance) == (Reply.RESULT, None)


def test_two_observers_at_once_are_refused(enter: Callable[..., Instance]) -> None:
    """The second would time the first."""
    instance = enter()
    instance.observe(Events())
    with pytest.raises(ClocheError, match="is being recorded already"):
        instance.observe(Events())


def test_an_observer_ends_only_its_own_observation(enter: Callable[..., Instance]) -> None:
    """Whoever was refused, or ends twice, must not end another's."""
    instance, observer = enter(), Events()
    instance.observe(observer)
    instance.end_observation(Events())
    process(instance)
    assert observer.events == [*WHOLE_CALL, "end PROCESS 1"]
