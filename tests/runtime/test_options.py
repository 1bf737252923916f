"""Options of single calls: `Node.with_options` and `Pool.with_options`."""

from __future__ import annotations

import threading

import anyio
import pytest

import cloche
from cloche import Limits, Source
from tests.injection import every, within

LOOPS = """
import time

class N:
    \"\"\"Computes, sleeps or does not listen, as it is asked to.\"\"\"
    def process(self, kind, *, more=None):
        while kind == "deaf":
            try:
                while True: pass
            except BaseException: pass
        if kind == "sleep": time.sleep(1000)
        while kind == "spin": pass
        return kind
    def spin(self):
        while True: pass
    initialize = flush = cleanup = spin
    @property
    def slow(self):
        while True: pass
    def count(self, n):
        yield from range(n)
"""
FOREVER = "def f(n):\n    for i in range(n): yield i\n    while n == 3: pass\n"
ENDLESS = Limits(deadline_s=None, grace_s=20, load_s=None)


def expect(error: cloche.DeadlineError, seconds: float) -> None:
    """It names the deadline that was given."""
    assert (error.limit, error.value) == ("deadline_s", seconds)
    assert error.reached >= seconds
    assert f"(with_options(deadline_s={seconds}))" in str(error) and "Limits" not in str(error)


CALLS = {
    "process": lambda node: node.process("spin"),
    "sleep": lambda node: node.process("sleep"),
    "keywords": lambda node: node.process("spin", more=1),
    "call": lambda node: node.call("spin"),
    "initialize": lambda node: node.initialize(),
    "flush": lambda node: node.flush(),
    "cleanup": lambda node: node.cleanup(),
    "get": lambda node: node.get("slow"),
    "stream": lambda node: list(node.stream(["spin"])),
    "aprocess": lambda node: anyio.run(node.aprocess, "spin"),
    "acall": lambda node: anyio.run(node.acall, "spin"),
    "aflush": lambda node: anyio.run(node.aflush),
    "astream": lambda node: anyio.run(_all, node, ["spin"]),
}


async def _all(node, items):
    return [output async for output in node.astream(items)]


@pytest.mark.parametrize("on_break", ["raise", "restart"])
@pytest.mark.parametrize("name", CALLS)
def test_every_call_of_a_view_has_its_deadline(load, name, on_break):
    """The node has none of its own. It stays usable, and without a deadline."""
    node = load(LOOPS, "N", limits=ENDLESS, on_break=on_break)
    view = node.with_options(deadline_s=0.05)
    with pytest.raises(cloche.DeadlineError) as caught:
        CALLS[name](view)
    expect(caught.value, 0.05)
    assert node.process("fast") == view.process("fast") == "fast"
    node.__cloche__.discard()  # its cleanup would never end


def test_a_view_lifts_the_node_s_deadline(load):
    """None is no deadline; a longer one is longer."""
    node = load(
        "import time\ndef f(s):\n    until = time.monotonic() + s\n    while time.monotonic() < until: pass\n    return s",
        limits=Limits(deadline_s=0.05, grace_s=20),
    )
    assert node.with_options(deadline_s=None).process(0.2) == 0.2
    assert node.with_options(deadline_s=30).process(0.2) == 0.2
    with pytest.raises(cloche.DeadlineError, match=r"\(Limits.deadline_s=0.05\)"):
        node.process(10)


def test_a_node_that_does_not_listen_is_stopped(load):
    """After the grace, as at any deadline; the next instance has the deadline of its limits."""
    node = load(LOOPS, "N", limits=Limits(deadline_s=None, grace_s=0.05), on_break="restart")
    with pytest.raises(cloche.HardDeadlineError) as caught:
        node.with_options(deadline_s=0.05).process("deaf")
    expect(caught.value, 0.05)
    assert node.process("fast") == "fast"
    node.__cloche__.discard()


def test_threads_with_different_deadlines_share_a_node(load):
    """Each gets its own."""
    node = load(LOOPS, "N", limits=ENDLESS)
    wrong = []

    def call(seconds: float) -> None:
        for _ in range(3):
            try:
                node.with_options(deadline_s=seconds).process("spin")
            except cloche.DeadlineError as error:
                if error.value != seconds:
                    wrong.append((seconds, error.value))
            if node.with_options(deadline_s=None).process("fast") != "fast":
                wrong.append(seconds)

    threads = [threading.Thread(target=call, args=(seconds,)) for seconds in (0.02, 0.03, 0.05)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    node.__cloche__.discard()


def test_a_stream_s_steps_have_the_deadline_and_the_stream_its_own_limit(load):
    """stream_s counts when there is no deadline, wherever that comes from."""
    limits = Limits(deadline_s=20, stream_s=0.2, grace_s=20)
    node = load(FOREVER, "f", limits=limits)
    outputs = []
    with pytest.raises(cloche.DeadlineError) as caught:
        for output in node.with_options(deadline_s=0.05).stream([3]):
            outputs.append(output)
    expect(caught.value, 0.05)
    assert outputs == [0, 1, 2]
    with pytest.raises(cloche.DeadlineError, match=r"\(Limits.stream_s=0.2\)"):
        list(node.with_options(deadline_s=None).stream([3]))
    assert list(node.stream([2])) == [0, 1]


def test_a_view_is_the_node(load):
    """Its state, name and end; options of a view of a view are joined."""
    node = load(
        "class C:\n    n = 0\n    def process(self, d):\n        self.n += d\n        return self.n\n", name="c"
    )
    view = node.with_options(deadline_s=30)
    assert (node.process(1), view.process(2), view.get("n")) == (1, 3, 3)
    assert (view.name, view.info) == ("c", node.info)
    assert repr(view) == "<cloche.Node 'c' ready, deadline_s=30>"
    assert repr(view.with_options()) == repr(view)
    assert repr(view.with_options(deadline_s=None)) == "<cloche.Node 'c' ready, deadline_s=None>"
    assert isinstance(view, cloche.Node)
    view.close()
    with pytest.raises(cloche.ClosedError):
        node.process(1)
    with pytest.raises(cloche.ClosedError):
        view.process(1)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0, ValueError, "deadline_s is 0: give a number from 0.001 to 31536000.0"),
        (float("nan"), ValueError, "deadline_s is nan: give a number from 0.001 to 31536000.0"),
        ("2", TypeError, "deadline_s is '2': give a number or None"),
        (True, TypeError, "deadline_s is True: give a number or None"),
    ],
)
def test_a_deadline_is_checked(load, value, kind, text):
    """When it is given, not when a call is made."""
    node = load("def f(x): return x")
    with pytest.raises(kind) as caught:
        node.with_options(deadline_s=value)
    assert str(caught.value) == text


def test_a_call_from_inside_the_node_s_own_call_changes_nothing(load):
    """It is refused, and the outer call keeps its deadline."""
    refused = []

    def again():
        try:
            node.with_options(deadline_s=0.001).process("again")
        except cloche.ClocheError as error:
            refused.append(str(error))

    text = "from cloche_guest import services\ndef f(x):\n    services.again()\n    for _ in range(10**5): pass\n    return x\n"
    node = load(text, name="own", grants=cloche.Grants(services={"again": again}))
    assert node.process(3) == 3
    assert refused == ["node 'own' was called from inside its own call"]


@pytest.mark.isolation("none", reason="the host's side is the same")
@pytest.mark.parametrize("on_break", ["raise", "restart"])
def test_an_interrupt_anywhere_leaves_the_deadline_to_no_other_call(load, on_break, thorough):
    """At every bytecode: a later call of the node has the node's own."""
    node = load("def f(x): return x", limits=Limits(deadline_s=77.0), on_break=on_break)
    view = node.with_options(deadline_s=55.0)
    where = within("/cloche/_runtime/", "/cloche/_sandbox/")
    for injected in every(lambda: view.process(1), KeyboardInterrupt, where, step=1 if thorough else 3):
        sandbox = node._sandbox
        bound = (getattr(sandbox, "_sandbox", sandbox))._bound
        assert bound == ("deadline_s", 77.0), injected.place
        assert node.process(2) == 2, injected.place


def test_a_pool_s_views(runtime):
    """submit, map, imap_unordered and their awaited twins."""
    source = Source("def f(x):\n    while x == 'spin': pass\n    return x\n")
    with runtime.pool(source, size=1, limits=Limits(deadline_s=None, grace_s=20)) as pool:
        view = pool.with_options(deadline_s=0.05)
        assert repr(view) == "<cloche.Pool of 1 open, deadline_s=0.05>"

        async def amap() -> None:
            async for _ in view.amap(["spin"]):
                pass

        for act in (
            lambda: view.submit("spin").result(),
            lambda: list(view.map(["spin"])),
            lambda: list(view.imap_unordered(["spin"])),
            lambda: anyio.run(view.asubmit, "spin"),
            lambda: anyio.run(amap),
        ):
            with pytest.raises(cloche.DeadlineError) as caught:
                act()
            expect(caught.value, 0.05)
        assert list(pool.map([1, 2])) == list(view.map([1, 2])) == [1, 2]
        with pytest.raises(ValueError, match="deadline_s is 0"):
            pool.with_options(deadline_s=0)
