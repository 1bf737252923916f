"""Services run in the host, whose clock and interrupts the worker does not know of."""

from __future__ import annotations

import asyncio

import pytest

import cloche
from cloche._wasm.call_state import CallState, Stopped
from tests.runtime.test_async_services import CALLER


def test_the_hosts_clock_may_be_first(own, monkeypatch):
    """The host starts counting before the worker does. A node whose wait ends at the host's deadline ends with it."""

    def wait(self, seconds, future):
        self.deadline = 0.0
        raise Stopped

    monkeypatch.setattr(CallState, "wait", wait)

    async def slow():
        await asyncio.sleep(60)

    node = own.load(cloche.Source(CALLER), grants=cloche.Grants(services={"slow": slow}))
    with pytest.raises(cloche.DeadlineError) as caught:
        node.process("slow")
    assert caught.value.limit == "deadline_s"
    assert not node.broken, "the worker's guest was told to stop, and obeyed"


def test_ctrl_c_in_a_service_ends_the_call(load):
    """It is meant for the host; the node is told to stop, and can be used again."""

    def interrupted():
        raise KeyboardInterrupt

    node = load(CALLER, grants=cloche.Grants(services={"plain": interrupted}))
    with pytest.raises(KeyboardInterrupt):
        node.process("plain")
    assert not node.broken
