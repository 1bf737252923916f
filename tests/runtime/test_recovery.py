"""After a break the node lives on, if the host wants it: from where, what is lost, and that nothing is hidden."""

from __future__ import annotations

import gc
import os
import re
import threading

import anyio
import pytest

import cloche
from cloche import Limits, Source
from tests.injection import every, within
from tests.limits import patient

COUNTER = Source("""
import logging, os, random
class N:
    def __init__(self, start=0):
        self.count = start
        self.secret = random.getrandbits(64)
    def initialize(self):
        self.count += 1000
    def process(self, x):
        if x == "break":
            logging.getLogger("n").warning("last words")
            os.abort()
        if x == "exit":
            os._exit(7)
        if x == "loop":
            while True: pass
        if x == "raise":
            self.count += 1
            raise ValueError(x)
        if x == "draw":
            return random.getrandbits(64)
        self.count += x
        return self.count
""")
STREAM = Source("""
import os
class N:
    def __init__(self):
        self.seen = []
        self.closed = 0
    def process(self, x):
        try:
            if x == "break": os.abort()
            self.seen.append(x)
            yield [len(self.seen), x, "a"]
            yield [len(self.seen), x, "b"]
        finally:
            self.closed += 1
    def flush(self):
        return self.seen
""")
OVER_INPUT = Source("""
import os
class N:
    is_streaming = True
    async def process(self, items):
        total = 0
        async for x in items:
            if x == "break": os.abort()
            total += x
            yield total
""")
HARD = Limits(deadline_s=1.0, grace_s=0)
SOFT = Limits(deadline_s=1.0, grace_s=60)


def _break(node: cloche.Node, how: object = "break") -> cloche.BrokenInstanceError:
    with pytest.raises(cloche.BrokenInstanceError) as caught:
        node.process(how)
    return caught.value


@pytest.fixture
def restarting(runtime):
    """Loads with a policy; closed at the end."""
    nodes = []

    def make(source=COUNTER, on_break="restart", **options):
        nodes.append(runtime.load(source, "N", **{"on_break": on_break, **options}))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()


@pytest.mark.parametrize(
    ("how", "kind"),
    [("break", cloche.GuestTrapError), ("exit", cloche.GuestExitError), ("loop", cloche.HardDeadlineError)],
)
def test_restart_is_from_the_loaded_state(restarting, how, kind):
    """The same Node object; the call that broke raises, with what it was given, and is not made again."""
    node = restarting(params={"start": 5}, limits=HARD)
    assert [node.process(1), node.process(1)] == [6, 7]
    error = _break(node, how)
    assert type(error) is kind
    assert (error.recovered, error.lost_calls, error.data) == ("restart", 2, (how,))
    assert "; the node goes on from the state it was loaded, and what 2 calls since then changed is lost" in str(error)
    assert not node.broken
    assert node.process(1) == 6
    assert (node.stats.breaks, node.stats.restarts) == (1, 1)


def test_a_replacement_that_is_interrupted_anywhere_is_made_at_the_next_call(runtime, thorough):
    """The break has cost the instance, Ctrl-C has cost its replacement; the host must not lose the node by it."""
    node = runtime.load(COUNTER, "N", params={"start": 5}, on_break="restart", max_restarts=10**6)
    stream = runtime.load(STREAM, "N", on_break="restart", max_restarts=10**6)

    def broken_in_a_stream():
        return list(stream.stream(["break"]))

    where, step = within("/cloche/_runtime/recovery.py"), 1 if thorough else 11
    for injected in every(lambda: node.process("break"), KeyboardInterrupt, where, step=step):
        assert node.process(0) == 5, injected.place
        assert not node.broken
    for injected in every(broken_in_a_stream, KeyboardInterrupt, where, step=step):
        assert [output[1:] for output in list(stream.stream([1]))[:2]] == [[1, "a"], [1, "b"]], injected.place
    node.close()
    stream.close()
    with pytest.raises(cloche.ClosedError):
        node.process(1)


def test_an_interrupted_node_keeps_its_instance_and_its_state(restarting):
    """A deadline that it obeyed is no break."""
    node = restarting(params={"start": 5}, limits=SOFT)
    assert node.process(1) == 6
    with pytest.raises(cloche.DeadlineError) as caught:
        node.process("loop")
    assert type(caught.value) is cloche.DeadlineError
    assert node.process(1) == 7
    assert (node.stats.breaks, node.stats.restarts) == (0, 0)


def test_initialize_belongs_to_the_state_to_restart_from(restarting):
    """A host initializes a node once."""
    node = restarting()
    node.process(1)
    node.initialize()
    node.process(1)
    assert _break(node).lost_calls == 1
    assert node.process(0) == 1001


def test_restore_loses_nothing_by_default(restarting):
    """A checkpoint after each answered call, one that raised included: its effects on the node are effects, too."""
    node = restarting(on_break="restore")
    node.process(1)
    with pytest.raises(cloche.NodeRaisedError):
        node.process("raise")
    error = _break(node)
    assert (error.recovered, error.lost_calls) == ("restore", 0)
    assert str(error).endswith("; the node goes on from the state of its last checkpoint")
    assert node.process(0) == 2


def test_checkpoint_every_so_many_calls(restarting):
    """What the calls since the last one changed is lost, and their number is told."""
    node = restarting(on_break="restore", checkpoint_every=3)
    for _ in range(8):
        node.process(1)
    assert _break(node).lost_calls == 2
    assert node.process(0) == 6
    assert node.checkpoint is not None


def test_without_a_policy_the_node_stays_broken(runtime):
    """As ever."""
    node = runtime.load(COUNTER, "N")
    error = _break(node)
    assert (error.recovered, error.data) == (None, ("break",))
    assert str(error).endswith("; its instance is closed: load it again")
    assert node.broken
    assert node.checkpoint is None
    assert (node.stats.breaks, node.stats.restarts) == (1, 0)
    with pytest.raises(cloche.ClosedError):
        node.process(1)


def test_a_node_that_only_breaks_stays_broken_in_the_end(restarting):
    """max_restarts in a row; a call that is answered starts the count anew."""
    node = restarting(max_restarts=2)
    for _ in range(2):
        assert _break(node).recovered == "restart"
    node.process(1)
    for _ in range(2):
        assert _break(node).recovered == "restart"
    error = _break(node)
    assert error.recovered is None
    assert error.__notes__[-1:] == [
        "it was brought back 2 times in a row, and has answered no call since (max_restarts)"
    ]
    assert node.broken
    with pytest.raises(cloche.ClosedError):
        node.process(1)
    assert (node.stats.breaks, node.stats.restarts) == (5, 4)


def test_forged_failures_count_as_breaks(restarting):
    """A guest that answers with what is no failure has not answered."""
    node = restarting(
        Source(
            "import cloche_guest.boot as boot, cloche_guest.dispatch as dispatch\n"
            "class Lie:\n    def to_wire(self): return ['no', 'failure']\n"
            "class N:\n    def process(self, x):\n"
            "        dispatch.describe = lambda *a: Lie()\n        boot.GUEST._call = None\n        return x\n"
        ),
        max_restarts=1,
    )
    assert node.process(1) == 1
    with pytest.raises(cloche.ProtocolError) as caught:
        node.process(2)
    assert caught.value.recovered == "restart"
    assert node.process(1) == 1, "the loaded state again"


@pytest.mark.sampled
@pytest.mark.parametrize("limits", [HARD, SOFT], ids=["hard", "soft"])
def test_a_checkpoint_that_cannot_be_woken_ends_the_node(restarting, limits):
    """Hostile code runs while it is brought back (it is seeded anew): within the deadline, and the first error is what is raised."""
    node = restarting(
        Source(
            "import os\nimport cloche_guest.dispatch as dispatch\ndef reseed(seed):\n    while True: pass\n"
            "class N:\n    def process(self, x):\n        dispatch.reseed = reseed\n        if x: os.abort()\n"
        ),
        on_break="restore",
        limits=limits,
    )
    node.process(0)
    error = _break(node, 1)
    assert type(error) is cloche.GuestTrapError
    assert error.recovered is None
    assert re.search(r"it could not be brought back: node 'N' ran \d+\.\d+ s", error.__notes__[-1])
    assert node.broken


def test_a_checkpoint_that_breaks_at_each_call_ends_the_node(restarting):
    """Its state is poisoned: a bounded number of attempts, all of them the caller's."""
    node = restarting(
        Source(
            "import os\nclass N:\n    bad = False\n    def process(self, x):\n        if self.bad: os.abort()\n"
            "        self.bad = True\n        return x\n"
        ),
        on_break="restore",
    )
    node.process(0)
    assert [_break(node, 1).recovered for _ in range(4)] == ["restore"] * 3 + [None]
    assert node.broken


def test_what_it_logged_up_to_the_trap_arrives(restarting, logs):
    """Once, and on the error as well."""
    node = restarting()
    error = _break(node)
    assert [record.message for record in error.last_logs] == ["last words"]
    assert [message for _, message, _ in logs.take()] == ["last words"]


def test_stats_and_call_numbers_go_on(restarting, logs):
    """Log records name calls; two calls must not have one number."""
    node = restarting()
    before = node.stats
    _break(node)
    node.process(1)
    _break(node)
    assert node.stats.calls >= before.calls + 3
    assert node.stats.seconds > before.seconds
    calls = [fields["call"] for _, _, fields in logs.take()]
    assert calls == sorted(set(calls))


def test_random_numbers_are_seeded_anew(restarting):
    """Else a node would hand out the same secret after each break."""
    node = restarting()
    drawn = set()
    for _ in range(3):
        drawn.add(node.process("draw"))
        _break(node)
    assert len(drawn) == 3


def test_a_break_in_initialize_and_flush(restarting):
    """Any call may break, not only process."""
    source = "import os\nclass N:\n    def {}(self): os.abort()\n    def process(self, x): return x\n"
    for method in ("initialize", "flush"):
        node = restarting(Source(source.format(method)))
        with pytest.raises(cloche.GuestTrapError) as caught:
            getattr(node, method)()
        assert (caught.value.recovered, caught.value.data) == ("restart", ())
        assert node.process(1) == 1


def test_a_break_in_cleanup_is_the_end(runtime):
    """Who closes a node does not want it back."""
    node = runtime.load(
        Source("import os\nclass N:\n    def cleanup(self): os.abort()\n    def process(self, x): return x\n"), "N",
        on_break="restart",
    )  # fmt: skip
    with pytest.raises(cloche.GuestTrapError) as caught:
        node.close()
    assert caught.value.recovered is None
    node.close()


def test_old_buffers_stay_ordinary_arrays(restarting):
    """They keep their memory; the new instance gets copies of what is passed of them."""
    numpy = pytest.importorskip("numpy")
    node = restarting(Source(
        "import os\nclass N:\n    def process(self, x):\n        if x is None: os.abort()\n"
        "        x[:] = 9\n        return float(x.sum())\n"
    ))  # fmt: skip
    old = node.buffer(100, "float32")
    old[:] = 1
    assert node.process(old) == 900.0
    assert (old == 9).all(), "shared"
    _break(node, None)
    old[:] = 2
    assert node.process(old) == 900.0
    assert (old == 2).all(), "a copy was changed"
    new = node.buffer(100, "float32")
    assert node.process(new) == 900.0
    assert (new == 9).all()
    assert numpy.shares_memory(old, new) is False


def test_a_lease_stays_open(restarting):
    """It belongs to the node."""
    node = restarting(Source(
        "import os, numpy as np\nclass N:\n    def process(self, x):\n        if x is None: os.abort()\n        return np.full(5000, x)\n"
    ))  # fmt: skip
    with node.lease():
        before = node.process(1.0)
        _break(node, None)
        after = node.process(2.0)
        assert (before == 1).all()
        assert (after == 2).all()
        assert not after.flags.owndata
        assert not after.flags.writeable


def test_a_clone_has_the_policy_too(restarting):
    """And a checkpoint of its own."""
    node = restarting(on_break="restore")
    node.process(5)
    with node.clone() as twin:
        twin.process(1)
        assert _break(twin).recovered == "restore"
        assert twin.process(0) == 6
        assert node.process(0) == 5


def test_a_restored_snapshot_may_have_one(runtime, restarting):
    """What it is restarted from is that snapshot."""
    node = restarting()
    node.process(3)
    with runtime.restore(node.snapshot(), on_break="restart") as back:
        back.process(10)
        assert _break(back).recovered == "restart"
        assert back.process(0) == 3


def test_services_are_there_again(runtime):
    """And what was recorded of them before the break."""
    grants = cloche.Grants(services={"add": lambda a, b: a + b})
    source = Source(
        "import os\nimport cloche_guest\nfrom cloche_guest import services\nclass N:\n    def process(self, x):\n"
        "        if x is None: os.abort()\n        return services.add(x, 1)\n"
    )
    with runtime.load(source, "N", grants=grants, on_break="restore") as node:
        assert node.process(1) == 2
        _break(node, None)
        assert node.process(2) == 3
        assert [record.service for record in node.service_calls] == ["add", "add"]


def test_a_stream_raises_after_the_outputs_before_and_resumes(restarting):
    """Nothing is fed again by itself: the error says where to go on."""
    node = restarting(STREAM, on_break="restore", checkpoint_every=4)
    items = ["p", "q", "r", "s", "break", "t"]
    outputs = []
    with pytest.raises(cloche.GuestTrapError) as caught:
        for output in node.stream(items):
            outputs.append(output)
    error = caught.value
    assert outputs == [[n, x, y] for n, x in enumerate("pqrs", 1) for y in "ab"]
    assert (error.item, error.data, error.recovered) == (4, ("break",), "restore")
    at = error.resume_at
    assert at is not None
    assert at.items <= 4
    assert node.stream_position == at
    rest = items[at.items :]
    rest.remove("break")
    again = list(node.resume(rest))
    assert outputs[: at.outputs] + again[:-1] == [[n, x, y] for n, x in enumerate("pqrst", 1) for y in "ab"]
    assert again[-1] == list("pqrst")
    assert node.stream_position is None
    assert node.get("closed") == 5


@pytest.mark.parametrize("every", [1, 2, 3, 5, 7])
def test_resume_at_any_interval(restarting, every):
    """A node over the whole input: its async generator, suspended in ``async for``, is in the checkpoint."""
    node = restarting(OVER_INPUT, on_break="restore", checkpoint_every=every)
    items: list[object] = list(range(1, 30))
    items[17] = "break"
    outputs: list[int] = []
    with pytest.raises(cloche.GuestTrapError) as caught:
        outputs.extend(node.stream(items))
    error = caught.value
    assert error.item == 17
    assert error.resume_at is not None
    del outputs[error.resume_at.outputs :]
    outputs += node.resume(item for item in items[error.resume_at.items :] if item != "break")
    expected = [sum(range(1, n + 1)) for n in range(1, 18)]
    assert outputs == expected + [expected[-1] + sum(range(19, n + 1)) for n in range(19, 30)]


def test_a_stream_with_many_bad_items_gets_through(restarting):
    """The loop of docs/how-to/recovery.md: each item that breaks the node is reported and left out."""
    node = restarting(OVER_INPUT, on_break="restore", checkpoint_every=2)
    items: list[object] = [1, "break", 2, 3, "break", "break", 4, 5, 6, "break"]
    bad = []
    last = None
    stream = node.stream(items)
    while True:
        try:
            for output in stream:
                last = output
            break
        except cloche.BrokenInstanceError as error:
            assert error.resume_at is not None
            bad.append(items.pop(error.item))
            stream = node.resume(items[error.resume_at.items :])
    assert (last, bad) == (21, ["break"] * 4)


def test_a_new_stream_closes_the_one_of_the_checkpoint(restarting):
    """Its generators' finally blocks run."""
    node = restarting(STREAM, on_break="restore")
    stream = node.stream(["p", "break"])
    assert [next(stream), next(stream)] == [[1, "p", "a"], [1, "p", "b"]]
    with pytest.raises(cloche.GuestTrapError):
        next(stream)
    assert list(node.stream(["q"])) == [[2, "q", "a"], [2, "q", "b"], ["p", "q"]]
    with pytest.raises(cloche.ClocheError, match="no stream to resume"):
        next(node.resume())


def test_after_a_restart_there_is_nothing_to_resume(restarting):
    """The loaded state has no stream."""
    node = restarting(STREAM)
    with pytest.raises(cloche.GuestTrapError) as caught:
        list(node.stream(["p", "break"]))
    assert (caught.value.recovered, caught.value.resume_at) == ("restart", None)
    assert list(node.stream(["q"]))[-1] == ["q"]


def test_an_iterator_of_a_lost_stream_says_so(restarting):
    """The node broke in between, by another call: going on silently from an older state would be wrong."""
    node = restarting(
        Source(
            "import os\nclass N:\n    def __init__(self): self.n = 0\n    def process(self, x):\n        if x == 'break': os.abort()\n"
            "        self.n += 1\n        return self.n\n"
        ),
        on_break="restore",
    )
    stream = node.stream(range(9))
    assert next(stream) == 1
    _break(node)
    resumed = node.resume(range(3))
    assert next(resumed) == 2
    with pytest.raises(cloche.ClocheError, match=r"this stream has ended, see Node\.resume"):
        next(stream)
    assert list(resumed) == [3, 4]


def test_a_snapshot_in_the_middle_of_a_stream_resumes_elsewhere(runtime, load):
    """The position is part of the snapshot, as the generators are."""
    node = load(OVER_INPUT.text, "N")
    stream = node.stream([1, 2, 3, 4])
    assert [next(stream), next(stream)] == [1, 3]
    data = node.snapshot().to_bytes()
    assert list(stream) == [6, 10]
    with runtime.restore(cloche.Snapshot.from_bytes(data)) as back:
        assert back.stream_position == cloche.StreamPosition(2, 2, wants=False)
        assert list(back.resume([3, 4])) == [6, 10]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_awaitable_twins(restarting, backend):
    """aprocess, astream, aresume; and a cancelled call costs an instance, not the node, nor does it count."""
    node = restarting(OVER_INPUT, on_break="restore", max_restarts=1)
    other = restarting(max_restarts=1)

    async def main() -> None:
        outputs = []
        with pytest.raises(cloche.GuestTrapError) as caught:
            async for output in node.astream([1, 2, "break"]):
                outputs.append(output)
        assert outputs == [1, 3]
        assert caught.value.resume_at is not None
        assert [output async for output in node.aresume([5])] == [8]
        with pytest.raises(cloche.GuestTrapError) as caught:
            await other.aprocess("break")
        assert caught.value.recovered == "restart"
        for _ in range(3):
            with anyio.move_on_after(0.2):
                await other.aprocess("loop")
        assert await other.aprocess(2) == 2

    anyio.run(main, backend=backend)
    assert not other.broken


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"on_break": "retry"}, "on_break is 'retry'"),
        ({"on_break": "restart", "checkpoint_every": 3}, "checkpoint_every is for on_break='restore'"),
        ({"checkpoint_every": 3}, "checkpoint_every is for on_break='restore'"),
        ({"on_break": "restore", "checkpoint_every": 0}, "checkpoint_every is 0"),
        ({"on_break": "restart", "max_restarts": 0}, "max_restarts is 0"),
    ],
)
def test_a_policy_without_meaning_is_refused(runtime, options, text):
    """Before anything is loaded."""
    with pytest.raises(ValueError, match=text):
        runtime.load(COUNTER, "N", **options)


def test_a_closed_runtime_brings_nothing_back(recorder):
    """The break is reported as it is."""
    with cloche.Runtime(logger=recorder, limits=patient()) as runtime:
        node = runtime.load(COUNTER, "N", on_break="restart")
        runtime._closed = True
        error = _break(node)
        runtime._closed = False
    assert error.recovered is None
    assert error.__notes__[-1:] == ["and it could not be brought back: the runtime is closed"]


def test_eight_threads_on_one_node_that_breaks(restarting):
    """Each gets its own answer or its own break; the count of both is right."""
    node = restarting(on_break="restore", max_restarts=1000)
    outcomes: list[str] = []

    def work(index: int) -> None:
        for step in range(6):
            try:
                node.process("break" if (index + step) % 3 == 0 else 1)
                outcomes.append("answer")
            except cloche.GuestTrapError as error:
                outcomes.append(str(error.recovered))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("answer") == 32
    assert outcomes.count("restore") == 16
    assert node.process(0) == 32
    assert node.stats.restarts == 16


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.isolation("none", reason="it weighs this process")
@pytest.mark.parametrize("on_break", ["raise", "restart", "restore"])
def test_broken_instances_are_freed_without_the_garbage_collector(runtime, on_break, thorough):
    """Of 20 MB each, a hundred with --all: the process does not grow by what ten of them have."""
    source = Source(
        "import os\nclass N:\n    def process(self, x):\n        self.big = bytearray(os.urandom(1)) * (20 << 20)\n        os.abort()\n"
    )

    options = {} if on_break == "raise" else {"max_restarts": 1000}

    def one(node: cloche.Node) -> cloche.Node:
        _break(node, 1)
        return node if not node.broken else runtime.load(source, "N", on_break=on_break, **options)

    node = runtime.load(source, "N", on_break=on_break, **options)
    for _ in range(5):
        node = one(node)
    gc.collect()
    gc.disable()
    try:
        before = _resident()
        for _ in range(100 if thorough else 25):
            node = one(node)
        assert _resident() - before < 200 << 20
    finally:
        gc.enable()
        node.close()
