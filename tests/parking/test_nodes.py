"""`Runtime.park` and `Runtime.unpark`: a node goes away as bytes, and comes back as it was. It is never neither."""

from __future__ import annotations

import pickle
import threading

import pytest

import cloche
from cloche import Grants, Mount, _container
from cloche.parking import Parked
from tests.injection import every, inject, within
from tests.limits import patient

NODE = """
import os, random, time
class N:
    def __init__(self):
        self.seen = []
    def process(self, x):
        self.seen.append(x)
        return len(self.seen), random.random()
    def numbers(self):
        return [random.random(), time.time()]
    def stop(self):
        os.abort()
    def cleanup(self):
        self.seen = None
"""
STREAM = """
class N:
    is_streaming = True
    async def process(self, items):
        total = 0
        async for item in items:
            total += item
            yield total
"""
CALLING = """
from cloche_guest import services
def f(name, x=None):
    return getattr(services, name)(x)
"""


def test_a_parked_node_comes_back_as_it_was(load, runtime):
    """Memory, random numbers, clock, name, limits, grants, recovery, counts: nobody can tell it from one that stayed."""
    grants = Grants(clock=cloche.Clock("virtual", start=0), seed=b"seed")
    node = load(
        NODE, name="mine", limits=patient(memory_bytes=200 << 20), grants=grants, on_break="restore", session_id="s"
    )
    node.process("a")
    with node.clone(reseed=False, name="mine") as twin:
        parked = runtime.park(node)
        assert (parked.name, parked.calls, parked.session_id) == ("mine", 2, "s")
        assert 1000 < parked.size_bytes < 40_000
        with runtime.unpark(parked) as back:
            assert parked.size_bytes == 0
            assert back.process("b") == twin.process("b")
            assert back.call("numbers") == twin.call("numbers")
            assert back.snapshot().memory_digest == twin.snapshot().memory_digest
            assert (back.name, back.info, back.__cloche__.sandbox.limits) == (
                "mine",
                node.info,
                patient(memory_bytes=200 << 20),
            )
            assert back.stats.calls == twin.stats.calls
            assert back.stats.seconds > node.stats.seconds > 0
            with pytest.raises(cloche.BrokenInstanceError) as caught:
                back.call("stop")
            assert caught.value.recovered == "restore"
            assert back.process("c")[0] == 3
            assert (back.stats.breaks, back.stats.restarts) == (1, 1)
            again = runtime.unpark(runtime.park(back))
            assert (again.stats.breaks, again.stats.restarts) == (1, 1)
            again.close()


def test_restart_still_means_from_the_beginning(load, runtime):
    """The state after loading, which a node carries besides its own, and not the one in which it was parked."""
    node = load(NODE, on_break="restart", max_restarts=1)
    node.process(1)
    with runtime.unpark(runtime.park(node)) as back:
        assert back.process(2)[0] == 2
        with pytest.raises(cloche.BrokenInstanceError):
            back.call("stop")
        assert back.process(3)[0] == 1
        with pytest.raises(cloche.BrokenInstanceError):
            back.call("stop")
    node = load(NODE, on_break="restart", max_restarts=1)
    with pytest.raises(cloche.BrokenInstanceError):
        node.call("stop")
    with runtime.unpark(runtime.park(node)) as back:
        with pytest.raises(cloche.BrokenInstanceError):
            back.call("stop")  # the second in a row
        assert back.broken


def test_an_open_stream_goes_on(load, runtime):
    """Its generators are objects of the heap."""
    node = load(STREAM)
    outputs = node.stream(iter([1, 2, 3]))
    assert [next(outputs), next(outputs)] == [1, 3]
    parked = runtime.park(node)
    with pytest.raises(cloche.ClosedError, match="is parked"):
        next(outputs)
    with runtime.unpark(parked) as back:
        assert back.stream_position == parked.stream_position
        assert list(back.resume([10, 20])) == [13, 33]


def test_a_parked_object_says_where_the_node_is(load, runtime):
    """Every way to call it does, and closing it costs the parked one nothing."""
    node = load(NODE)
    view = node.with_options(deadline_s=60)
    node.process(1)
    parked = runtime.park(node)
    said = "node 'N' is parked: go on with the node that Runtime.unpark(parked) returns"
    ways = (lambda: node.process(2), lambda: view.process(2), node.snapshot, node.initialize, lambda: node.get("seen"))
    for way in ways:
        with pytest.raises(cloche.ClosedError) as caught:
            way()
        assert str(caught.value) == said
    node.close()
    assert repr(node) == "<cloche.Node 'N' parked>"
    assert runtime.park(node) is parked
    back = runtime.unpark(parked)
    assert runtime.unpark(parked) is back
    assert back.process(2)[0] == 2
    assert repr(parked) == "<cloche.parking.Parked 'N' after 2 calls, brought back>"
    with pytest.raises(cloche.ClocheError, match="park it again"):
        parked.to_bytes()
    back.close()
    with pytest.raises(cloche.ClosedError):
        runtime.unpark(parked)


def test_what_cannot_be_parked_stays_open(load, runtime):
    """And the message says why."""
    inside = []

    def attempt(_):
        try:
            runtime.park(calling)
        except cloche.ClocheError as error:
            inside.append(str(error))

    calling = load(CALLING, grants=Grants(services={"attempt": attempt}))
    calling.process("attempt")
    assert inside == ["node 'f' was called from inside its own call"]
    node = load(NODE)
    with node.lease(), pytest.raises(cloche.ClocheError, match="while it has a lease open"):
        runtime.park(node)
    with cloche.profile(node), pytest.raises(cloche.ClocheError, match="profiled"):
        runtime.park(node)
    with node.debug(port=0, wait=False), pytest.raises(cloche.ClocheError, match=r"profiled|debugged"):
        runtime.park(node)
    lent_by_a_pool = pytest.raises(cloche.ClocheError, match="lent by a pool")
    with runtime.pool(cloche.Source(NODE), size=1) as pool, pool.acquire() as lent, lent_by_a_pool:
        runtime.park(lent)
    with cloche.Runtime(limits=patient()) as other, pytest.raises(cloche.ClocheError, match="not this runtime's"):
        other.park(node)
    assert node.process(1)[0] == 1
    with pytest.raises(cloche.BrokenInstanceError):
        node.call("stop")
    with pytest.raises(cloche.ClosedError):
        runtime.park(node)
    node.close()
    with pytest.raises(cloche.ClosedError, match="is closed"):
        runtime.park(node)
    with pytest.raises(TypeError, match="node is 'N'"):
        runtime.park("N")


def test_what_could_not_be_read_again_is_not_parked(load, runtime):
    """The node would be gone."""
    node = load(NODE, session_id="s" * (1 << 20))
    with pytest.raises(cloche.ClocheError, match="the description of node 'N' has"):
        runtime.park(node)
    assert node.process(1)[0] == 1


def test_services_that_were_given_up_keep_a_node_awake(load, runtime):
    """Parked, it would come back with a clean record, and could leave threads behind again and again."""
    release, ended = threading.Event(), threading.Event()

    def hang(_):
        release.wait(120)
        ended.set()

    node = load(CALLING, grants=Grants(services={"hang": cloche.Service(hang, deadline_s=0.01)}))
    with pytest.raises(cloche.NodeRaisedError, match="longer than"):
        node.process("hang")
    with pytest.raises(cloche.ClocheError, match="still run"):
        runtime.park(node)
    release.set()
    assert ended.wait(120)


def test_calls_of_other_threads_come_before_or_are_refused(load, runtime):
    """No call is lost: each that was answered is in the parked state."""
    node = load(NODE)
    answered, started = [], threading.Event()

    def work():
        try:
            while True:
                answered.append(node.process(len(answered))[0])
                started.set()
        except cloche.ClosedError:
            started.set()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert started.wait(120)
    parked = runtime.park(node)
    for thread in threads:
        thread.join()
    with runtime.unpark(parked) as back:
        assert len(back.get("seen")) == len(answered)


def test_threads_that_unpark_at_once_get_one_node(load, runtime):
    """Two would draw the same random numbers."""
    parked = runtime.park(load(NODE))
    found, barrier = [], threading.Barrier(4)

    def work():
        barrier.wait()
        found.append(runtime.unpark(parked))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(node) for node in found}) == 1
    found[0].close()


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # an exception inside `__del__` is dropped
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a node that was being made is collected
def test_an_interrupt_anywhere_leaves_it_live_or_parked(load, runtime, thorough):
    """Never neither, and never both."""
    node = load(NODE)
    node.process(0)
    count = 1
    where = within("/cloche/_runtime/", "/cloche/_sandbox/", "/cloche/_wasm/", "/cloche/_container.py")

    def round_trip():
        nonlocal node
        parked = runtime.park(node)
        node = runtime.unpark(parked)

    inject(round_trip, 1 << 30, KeyboardInterrupt(), where)
    for injected in every(round_trip, KeyboardInterrupt, where, step=7 if thorough else 151):
        if node.__cloche__.closed:
            parked = runtime.park(node)
            with pytest.raises(cloche.ClosedError):
                node.process(0)
            node = runtime.unpark(parked)
        count += 1
        assert node.process(count)[0] == count, injected.place
    node.close()


def test_bytes_carry_the_state_and_no_rights(load, runtime):
    """A file must not decide what a node may do, and each change of it is noticed."""
    double = {"double": lambda x: 2 * x}
    node = load(CALLING, name="mine", limits=patient(memory_bytes=128 << 20), grants=Grants(services=double))
    parked = runtime.park(node)
    data = parked.to_bytes(key=b"key")
    assert pickle.loads(pickle.dumps(parked)).to_bytes() == parked.to_bytes()  # our own
    for wrong in (data[:-1], data[:-1] + b"x", b"", data[:100] + bytes([data[100] ^ 1]) + data[101:]):
        with pytest.raises(cloche.ClocheError):
            Parked.from_bytes(wrong, key=b"key")
    with pytest.raises(cloche.ClocheError, match="made with another key"):
        Parked.from_bytes(data)
    with pytest.raises(cloche.ClocheError, match="over 1000"):
        Parked.from_bytes(data, key=b"key", max_bytes=1000)
    with pytest.raises(cloche.ClocheError, match="of the kind 'parked node'"):
        cloche.Snapshot.from_bytes(data, key=b"key")
    with runtime.unpark(Parked.from_bytes(data, key=b"key")) as bare:
        assert bare.name == "mine"
        with pytest.raises(cloche.NodeRaisedError):
            bare.process("double", 4)
    with runtime.unpark(Parked.from_bytes(data, key=b"key"), grants=Grants(services=double)) as back:
        assert back.process("double", 4) == 8
    with runtime.unpark(parked) as back:
        assert back.process("double", 5) == 10


@pytest.mark.parametrize(
    "lie",
    [
        {"base": 1},
        {"base": "0" * 64},
        {"base": "../../secret"},
        {"carried": None},
        {"carried": [float("inf"), 0, 0, 0, 0, 0, 0]},
        {"carried": [0, -1, 0, 0, 0, 0, 0]},
        {"session_id": [1]},
        {"generators": ["00" * 31, []]},
        {"generators": ["00" * 32, [[4, 0]]]},
        {"generators": ["00" * 32, [[0, 1 << 40]]]},
        {"generators": ["00" * 32, [[0, 0]]]},
        {"generators": ["00" * 32, [[0, 0]] * 9]},
        {"more": 1},
        {"stream": [1, 2]},
        {"memory_bytes": 1 << 40},
        {"info": {}},
    ],
    ids=lambda lie: next(iter(lie)),
)
def test_a_description_that_lies_is_refused(load, runtime, lie):
    """Without a key anybody can make one that has the right digest."""
    data = runtime.park(load(NODE)).to_bytes()
    content = _container.read(data, "parked node", 1)
    about = _container.json_map(content.section("about"), "it")
    sections = {name: content.section(name) for name in content.names}
    sections["about"] = _container.json_bytes({**about, **lie})
    with pytest.raises(cloche.ClocheError):
        runtime.unpark(Parked.from_bytes(_container.write("parked node", 1, sections)))


def test_what_was_added_to_a_mount_still_counts(load, runtime, tmp_path):
    """Otherwise a node that is parked often fills the disk."""
    mount = Mount(tmp_path, writable=True, quota_bytes=1000, max_files=2)
    node = load(
        "def f(name, size):\n    with open('/data/' + name, 'wb') as file:\n        file.write(bytes(size))\n    return size\n",
        grants=Grants(mounts={"/data": mount}),
    )
    assert node.process("a", 900) == 900
    with runtime.unpark(runtime.park(node)) as back:
        with pytest.raises(cloche.NodeRaisedError, match="OSError"):
            back.process("b", 200)
        assert back.process("a", 850) == 850  # its own file, written anew
        with pytest.raises(cloche.NodeRaisedError, match="OSError"):
            back.process("c", 0)


def test_what_the_host_still_holds_of_its_memory_stays_readable(load, runtime):
    """And is not the memory of the node that comes back, or of another one."""
    np = pytest.importorskip("numpy")
    node = load("import numpy as np\nclass N:\n    def process(self, x):\n        return x * 2\n")
    with node.lease():
        leased = node.process(np.arange(5000.0))
    buffer = node.buffer(5000)
    buffer[:] = 7
    with runtime.unpark(runtime.park(node)) as back:
        assert back.process(buffer).sum() == 14 * 5000
        assert leased[4999] == 9998
        assert buffer.sum() == 7 * 5000


def test_workers_park_and_bring_back(runtimes):
    """The state comes out of the worker process, and goes back into another one."""
    runtime = runtimes("process")
    node = runtime.load(cloche.Source(NODE))
    node.process(1)
    with runtime.unpark(runtime.park(node)) as back:
        assert back.process(2)[0] == 2


def test_generators_take_no_room_until_they_are_used_up(load, runtime):
    """Their seeds stand for their states, which are not compressible; nothing but the size tells."""
    text = "import random\nimport numpy as np\nclass N:\n    def process(self, n):\n        return [random.random() for _ in range(n)] + np.random.rand(n).tolist()\n"
    sizes = []
    for count in (0, 5, 2000):
        node = load(text)
        node.process(count)
        with node.clone(reseed=False) as twin:
            parked = runtime.park(node)
            sizes.append(parked.size_bytes)
            back = runtime.unpark(parked)
            assert back.snapshot().memory_digest == twin.snapshot().memory_digest
            assert back.process(700) == twin.process(700)
            with runtime.unpark(runtime.park(back)) as again:
                assert again.process(700) == twin.process(700)
    assert sizes[1] < sizes[2] - 4000
    assert abs(sizes[0] - sizes[1]) < 2000
