"""A store that one guest has left is used by the next: nothing of the first is there, and none that broke comes back."""

from __future__ import annotations

import threading

import pytest

import cloche
from cloche._wasm.core import core
from cloche._wasm.memory import Memory
from cloche._wasm.slot import Slot
from cloche._wasm.stores import KEPT
from tests.limits import patient

pytestmark = pytest.mark.isolation("none", reason="the stores that are used again are of this process")

SECRET = b"swordfish-0123456789-swordfish"
KEEPER = """
import numpy as np
class Keeper:
    def __init__(self, secret):
        self.secret = secret
    def process(self, x):
        self.copies = [self.secret + str(i).encode() for i in range(2000)]
        self.text = self.secret.decode() * 50
        def deep(n, s):
            local = bytes(s)
            return deep(n - 1, local) if n else len(local)
        return deep(100, self.secret)
"""
SEARCHER = """
import numpy as np
class Whole:
    def __init__(self, size):
        self.__array_interface__ = {"data": (8, True), "shape": (size - 8,), "typestr": "|u1", "version": 3}
class Searcher:
    def process(self, what):
        start, end, size = what
        memory = np.asarray(Whole(size)).tobytes()
        return [memory.count(start + end), len(memory)]
"""


@pytest.fixture
def fresh(recorder):
    """A runtime whose stores this test alone uses."""
    with cloche.Runtime(logger=recorder, limits=patient()) as made:
        yield made


def test_the_next_guest_finds_nothing_of_the_last_one(fresh):
    """It reads all of its linear memory, which numpy lets it, and looks for what the other one left in heap and stack."""
    with fresh.load(cloche.Source(KEEPER), "Keeper", {"secret": SECRET}) as keeper:
        keeper.process(0)
        size = keeper.stats.memory_bytes
    assert len(fresh._engine.stores._idle) == 1
    with fresh.load(cloche.Source(SEARCHER), "Searcher") as searcher:
        assert len(fresh._engine.stores._idle) == 0, "it is the same store"
        half = len(SECRET) // 2
        found, looked = searcher.process([SECRET[:half], SECRET[half:], size])
        assert looked == size - 8
        assert found <= 1, "the two halves that it was told may lie side by side once, joined by itself"
        with pytest.raises(cloche.NodeRaisedError):
            searcher.process(SECRET)


def test_a_recycled_cell_is_byte_for_byte_the_image(fresh):
    """All 41 MB, against an instance that has never run."""
    for text, data in ((KEEPER, 0), (SEARCHER, [b"a", b"b", 1 << 16])):
        with fresh.load(cloche.Source(text), params={"secret": SECRET} if "Keeper" in text else {}) as node:
            node.process(data)
    store = fresh._engine.stores._idle[-1]
    used, new = Memory(store), Memory(Slot(fresh._engine))
    assert used.size == new.size
    assert bytes(used._view[: used.size]) == bytes(new._view[: new.size])
    assert core().is_clean(store.handle.value)


@pytest.mark.parametrize(
    "code",
    ["import os; os.abort()", "import os; os._exit(0)", "while True: pass", "self.b = bytearray(64 << 20)"],
    ids=["trap", "exit", "deadline", "growth"],
)
def test_a_cell_whose_guest_broke_or_grew_is_not_used_again(fresh, code):
    """Its memory is freed at once. The deadline is hard here: a guest that was only interrupted is at rest again."""
    source = f"class N:\n    def process(self, x):\n        {code}\n"
    limits = cloche.Limits(deadline_s=0.2 if "while" in code else 20, grace_s=0)
    node = fresh.load(cloche.Source(source), "N", limits=limits)
    try:
        node.process(0)
    except cloche.BrokenInstanceError:
        pass
    node.close()
    assert len(fresh._engine.stores._idle) == 0


def test_a_cell_whose_guest_was_interrupted_is_used_again_and_is_the_image(fresh):
    """Nothing of the interrupted call is left, the notice included."""
    source = cloche.Source("def f(x):\n    while x: pass\n    return 1\n")
    with (
        fresh.load(source, "f", limits=cloche.Limits(deadline_s=0.2, grace_s=60)) as node,
        pytest.raises(cloche.DeadlineError),
    ):
        node.process(True)
    (store,) = fresh._engine.stores._idle
    used, new = Memory(store), fresh._engine.stores.pristine()
    assert bytes(used._view[: used.size]) == bytes(new._view[: new.size])
    with fresh.load(source, "f") as node:
        assert not fresh._engine.stores._idle, "it is the same store"
        assert node.process(False) == 1


def test_a_cell_with_a_live_view_is_not_used_again(fresh):
    """The view would show the next guest's memory."""
    node = fresh.load(cloche.Source("def f(x):\n    return x\n"), "f")
    buffer = node.buffer(4096)
    buffer[:] = 3
    node.close()
    assert len(fresh._engine.stores._idle) == 0
    with fresh.load(cloche.Source("def f(x):\n    return x\n"), "f") as other:
        other.process(1)
        assert (buffer == 3).all()


def test_a_failed_load_leaves_its_cell_clean(fresh):
    """Hostile code ran at import; the next guest starts from the image."""
    with pytest.raises(cloche.NodeLoadError):
        fresh.load(cloche.Source("import json\njson.dumps = None\nraise ValueError"), "N")
    with fresh.load(cloche.Source("import json\ndef f(x):\n    return json.dumps(x)\n"), "f") as node:
        assert node.process([1]) == "[1]"


def test_only_a_few_are_kept(fresh):
    """And none once the runtime is closed."""
    source = cloche.Source("def f(x):\n    return x\n")
    nodes = [fresh.load(source, "f") for _ in range(3 * KEPT)]
    for node in nodes:
        node.close()
    assert len(fresh._engine.stores._idle) == KEPT
    fresh.close()
    assert len(fresh._engine.stores._idle) == 0


def test_limits_are_those_of_the_new_node(fresh):
    """Of memory, for instance."""
    source = cloche.Source("def f(n):\n    return len(bytearray(n))\n")
    with fresh.load(source, "f", limits=patient(memory_bytes=256 << 20)) as node:
        node.process(1)
    small = fresh.load(source, "f", limits=patient(memory_bytes=64 << 20))
    with small, pytest.raises(cloche.NodeRaisedError, match="MemoryError"):
        small.process(128 << 20)


def test_eight_threads_share_cells_and_nothing_else(fresh):
    """Each sees its own state only."""
    source = cloche.Source("seen = []\ndef f(x):\n    seen.append(x)\n    return list(seen)\n")
    wrong = []

    def work(index: int) -> None:
        for i in range(30):
            with fresh.load(source, "f") as node:
                got = [node.process((index, i)), node.process((index, -i))]
                if got != [[(index, i)], [(index, i), (index, -i)]]:
                    wrong.append(got)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_memory_limit_below_the_interpreter_is_refused(fresh):
    """It could never load anything."""
    with pytest.raises(ValueError, match="memory_bytes"):
        fresh.load(cloche.Source("def f(x):\n    return x\n"), "f", limits=patient(memory_bytes=33 << 20))


LOOPER = """
def f(x):
    while x == "spin":
        pass
    return x
"""


def test_a_lease_that_outlives_its_node_changes_nothing_for_the_next_one_in_its_store(runtime):
    """The end of the block sets the closed node's own limits again: they must not become the other node's."""
    first = runtime.load(cloche.Source(LOOPER))
    with first.lease():
        handle = first._sandbox._slot.handle.value
        first.close()
        second = runtime.load(cloche.Source(LOOPER), limits=patient(value_depth=4))
        assert second._sandbox._slot.handle.value == handle, "the store was not used again"
        before = list(second._sandbox._words)
    assert list(second._sandbox._words) == before
    second.close()


def test_where_of_a_closed_node_is_nowhere(runtime):
    """It must not show the frames of the node that uses its store now."""
    first = runtime.load(cloche.Source(LOOPER))
    first.close()
    source = "from cloche_guest import services\ndef f(x):\n    services.entered()\n"
    shown = []

    def look():
        shown.append((first.where(), second.where()))

    second = runtime.load(cloche.Source(source), grants=cloche.Grants(services={"entered": look}))
    assert second._sandbox._slot.handle.value == first._sandbox._slot.handle.value, "the store was not used again"
    second.process(1)
    [(of_first, of_second)] = shown
    assert of_first == ""
    assert "in f" in of_second
    second.close()


def test_cancelling_a_closed_instance_leaves_the_next_one_in_its_store_alone(runtime):
    """Its number would be the number of the other node's sandbox."""
    first = runtime.load(cloche.Source(LOOPER))
    gone = first._sandbox
    first.close()
    source = "from cloche_guest import services\ndef f(x):\n    return services.cancel()\n"
    second = runtime.load(cloche.Source(source), grants=cloche.Grants(services={"cancel": gone.cancel}))
    assert second._sandbox._slot.handle.value == gone._slot.handle.value, "the store was not used again"
    assert second.process(1) is False
    second.close()
