"""Buffers and leases, which are copies here: what tests/runtime/test_buffers.py promises of them all the same."""

from tests.runtime.test_buffers import (  # noqa: F401
    FRAME,
    test_a_buffer_that_cannot_be_is_refused_before_the_guest_gives_memory_for_it,
    test_a_closed_node_gives_no_lease,
    test_buffer_of_objects_is_refused,
    test_buffer_of_one_node_is_copied_to_another,
    test_buffer_outlives_its_node,
    test_buffer_stays_where_it_is_while_the_memory_grows,
    test_buffer_that_does_not_fit_is_refused,
    test_leased_view_never_crashes,
    test_results_of_several_calls_in_one_lease_stay_valid,
    test_the_shape_of_a_buffer_is_any_whole_numbers,
)


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
