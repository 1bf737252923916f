"""Buffers and leases are copies here; what tests/runtime/test_buffers.py promises holds all the same."""

from __future__ import annotations

from tests.runtime.test_buffers import FRAME


def test_what_a_node_does_to_a_buffer_shows_after_the_call(load):
    """It is copied to the guest and back with each call that passes it."""
    node = load(FRAME)
    buffer = node.buffer((4, 2048), "float32")
    buffer[:] = 1
    assert node.process(buffer) == 2 * 4 * 2048
    assert (buffer == 2).all()
    assert node.process(buffer[2:]) == 4 * 2 * 2048
    assert (buffer[:2] == 2).all() and (buffer[2:] == 4).all()


def test_a_leased_array_is_a_copy(load):
    """Read-only as ever, but what the guest changes later does not show."""
    node = load(FRAME)
    with node.lease():
        view = node.process("self.out(100_000)")
        assert not view.flags.writeable
        node.process("self.array.fill(3)")
        assert view[5] == 5
