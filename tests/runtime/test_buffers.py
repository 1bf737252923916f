"""Arrays without copies: shared buffers and leases. No view ever crashes the process, whatever happens to the guest."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

import cloche
from tests.limits import patient

here = pytest.mark.isolation("none", reason="buffers and leases are memory of the guest here, and copies in a worker")
FRAME = """
import numpy as np
class N:
    kept = None
    def process(self, x):
        if isinstance(x, str):
            return eval(x)
        self.kept = x
        x *= 2
        return float(x.sum())
    def grow(self):
        self.ballast = bytearray(64 << 20)
        return len(self.ballast)
    def out(self, n):
        self.array = np.arange(n, dtype=np.float32)
        return self.array
"""


@here
def test_buffer_is_the_guests_own_memory(load):
    """Filled in place, passed without a copy, changed by the node in place."""
    node = load(FRAME)
    buffer = node.buffer((4, 2048), "float32")
    buffer[:] = 1
    assert node.process(buffer) == 2 * 4 * 2048
    assert (buffer == 2).all(), "the node worked in this very memory"
    buffer[:] = 5
    assert node.process("float(self.kept[0, 0])") == 5.0


@here
def test_part_of_a_buffer_can_be_passed(load):
    """Any contiguous part; a strided one is copied."""
    node = load(FRAME)
    buffer = node.buffer(8192, np.float64)
    buffer[:] = 1
    assert node.process(buffer[4096:]) == 2 * 4096
    assert buffer[:4096].sum() == 4096
    assert buffer[4096:].sum() == 2 * 4096
    before = buffer.sum()
    assert node.process(buffer[::2]) == 2 * (1 * 2048 + 2 * 2048)
    assert buffer.sum() == before


def test_buffer_stays_where_it_is_while_the_memory_grows(load):
    """The engine reserves all that a memory may grow to."""
    node = load(FRAME)
    buffer = node.buffer(4096, "int32")
    buffer[:] = 7
    assert node.process("self.grow()") == 64 << 20
    assert (buffer == 7).all()
    assert node.process(buffer) == 2 * 7 * 4096


@pytest.mark.parametrize("end", ["close", "trap"])
def test_buffer_outlives_its_node(load, end):
    """It keeps its memory mapped, as an ordinary array; the node is gone."""
    node = load(FRAME)
    buffer = node.buffer(1 << 16, "uint8")
    buffer[:] = 9
    if end == "close":
        node.close()
    else:
        with pytest.raises(cloche.BrokenInstanceError):
            node.process("__import__('os').abort()")
    gc.collect()
    assert (buffer == 9).all()
    buffer[:] = 1
    with pytest.raises(cloche.ClosedError):
        node.process(buffer)
    with pytest.raises(cloche.ClosedError):
        node.buffer(1)


def test_buffer_of_one_node_is_copied_to_another(load):
    """An address means something in its own guest only."""
    one, two = load(FRAME), load(FRAME)
    buffer = one.buffer(4096, "float32")
    buffer[:] = 3
    assert two.process(buffer) == 2 * 3 * 4096
    assert (buffer == 3).all()


def test_buffer_that_does_not_fit_is_refused(load):
    """And the node goes on."""
    node = load(FRAME, limits=patient(memory_bytes=64 << 20))
    with pytest.raises(cloche.EncodeError, match="memory_bytes"):
        node.buffer(1 << 30, "uint8")
    assert node.process("1 + 1") == 2


def test_buffer_of_objects_is_refused(load):
    """Only numbers mean the same on both sides."""
    with pytest.raises(TypeError, match="integers or floats"):
        load(FRAME).buffer(3, object)


@here
def test_lease_gives_views_of_guest_memory(load):
    """Read-only, and without a copy: what the guest changes shows."""
    node = load(FRAME)
    with node.lease():
        view = node.process("self.out(100_000)")
        assert not view.flags.writeable
        np.testing.assert_array_equal(view, np.arange(100_000, dtype=np.float32))
        node.process("self.array.fill(3)")
        assert (view == 3).all()
    copied = node.process("self.array")
    node.process("self.array.fill(4)")
    assert (copied == 3).all()


def test_results_of_several_calls_in_one_lease_stay_valid(load):
    """Earlier replies are held until the lease ends."""
    node = load(FRAME)
    with node.lease():
        views = [node.process(f"np.full(50_000, {i}.0)") for i in range(8)]
        assert [float(view.mean()) for view in views] == [float(i) for i in range(8)]


@pytest.mark.parametrize("what", ["block", "growth", "close", "trap"])
def test_leased_view_never_crashes(load, what):
    """After the block, growth, close or a trap it is still readable memory."""
    node = load(FRAME)
    with node.lease():
        view = node.process("self.out(100_000)")
        if what == "growth":
            node.process("self.grow()")
        elif what == "trap":
            with pytest.raises(cloche.BrokenInstanceError):
                node.process("__import__('os').abort()")
    if what == "close":
        node.close()
    elif what == "block":
        for _ in range(10):
            node.process("np.ones(200_000)")
    gc.collect()
    assert view.shape == (100_000,)
    if what != "block":
        np.testing.assert_array_equal(view, np.arange(100_000, dtype=np.float32))


@here
def test_masks_and_texts_are_copied_even_in_a_lease(load):
    """numpy trusts their bytes, which a guest could change behind its back."""
    node = load(FRAME)
    with node.lease():
        mask = node.process("np.ones(100_000, bool)")
        names = node.process("np.full(10_000, 'name')")
    mask[0] = False
    assert mask.sum() == 99_999
    assert names[0] == "name"


@here
def test_second_lease_is_refused(load):
    """Its end would end the first."""
    node = load(FRAME)
    with node.lease(), pytest.raises(cloche.ClocheError, match="lease open"), node.lease():
        pass


@here
def test_views_are_freed_on_other_threads_and_in_any_order(runtime):
    """The last view to die frees the store."""
    nodes = [runtime.load(cloche.Source(FRAME)) for _ in range(4)]
    stores = [weakref.ref(node._sandbox._slot) for node in nodes]
    views = []
    for node in nodes:
        with node.lease():
            views += [node.process("self.out(50_000)"), node.buffer(4096)]
        node.close()
    del node, nodes

    sums = []

    def drop() -> None:
        while views:
            try:
                sums.append(views.pop().sum())
            except IndexError:
                return

    threads = [threading.Thread(target=drop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert len(sums) == 8
    assert [store() for store in stores] == [None] * 4


@here
@pytest.mark.parametrize("mutable", ["x.fill(1)", "x += 1"])
def test_array_of_a_request_is_the_guests_own_and_writable(load, mutable):
    """Lowered once; the caller's array is not touched."""
    node = load(f"def f(x):\n    {mutable}\n    return x\n")
    sent = np.zeros(10_000)
    assert (node.process(sent) == 1).all()
    assert (sent == 0).all()


@pytest.mark.parametrize(
    ("shape", "dtype", "kind", "message"),
    [
        (-1, "f4", ValueError, "shape is -1: give lengths from 0 up"),
        ((2, -3), "f4", ValueError, r"shape is \(2, -3\): give lengths from 0 up"),
        ((1,) * 70, "f4", ValueError, "dimension"),
        (True, "f4", TypeError, "shape is True: give a whole number, or a tuple of them"),
        ((2, True), "f4", TypeError, r"shape is \(2, True\): give a whole number, or a tuple of them"),
        (2.5, "f4", TypeError, "shape is 2.5: give a whole number, or a tuple of them"),
        ("ab", "f4", TypeError, "shape is 'ab': give a whole number, or a tuple of them"),
        (4, np.longdouble, TypeError, "a buffer has integers or floats of 8 bytes at most, not"),
        (1 << 70, "u1", cloche.EncodeError, "memory_bytes"),
    ],
)
def test_a_buffer_that_cannot_be_is_refused_before_the_guest_gives_memory_for_it(load, shape, dtype, kind, message):
    """What it gives for a buffer it never takes back."""
    node = load(FRAME)
    with pytest.raises(kind, match=message):
        node.buffer(shape, dtype)
    assert node.stats.calls == 1, "loading"
    assert node._sandbox.memory_bytes and not buffers(node)


def buffers(node):
    """What the node's instance has shared so far."""
    instance = node._sandbox
    return instance._remote_memory.buffers if hasattr(instance, "_remote_memory") else instance._memory._shared


@pytest.mark.parametrize(
    ("shape", "made"),
    [(np.int64(5), (5,)), ((np.int64(2), 3), (2, 3)), (np.array([2, 3]), (2, 3)), ([], ()), ((0, 3), (0, 3))],
    ids=repr,
)
def test_the_shape_of_a_buffer_is_any_whole_numbers(load, shape, made):
    """They come out of computations with numpy, as a rule."""
    assert load(FRAME).buffer(shape).shape == made


@pytest.mark.parametrize("end", ["close", "trap"])
def test_a_closed_node_gives_no_lease(load, end):
    """A block that seems to have one would read from nothing."""
    node = load(FRAME)
    if end == "close":
        node.close()
    else:
        with pytest.raises(cloche.BrokenInstanceError):
            node.process("__import__('os').abort()")
    with pytest.raises(cloche.ClosedError, match="is closed"), node.lease():
        pytest.fail("the block was entered")
