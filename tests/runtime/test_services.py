"""Host functions that a node may call: what crosses, who decides, what the node is told, and what the host keeps for itself."""

from __future__ import annotations

import threading
import time
from typing import Literal

import numpy as np
import pytest

import cloche
from cloche import Grants, Limits, Service, ServiceError, Source
from cloche._requests.service_threads import MAX_ABANDONED

CALLER = """
from cloche_guest import services
import asyncio

class Node:
    def process(self, name, *args):
        return getattr(services, name)(*args)
"""


@pytest.fixture
def call(make):
    """Load a node that calls ``name(*args)``, with those services; natively and in the sandbox."""
    return lambda text=CALLER, limits=None, **services: make(text, grants=Grants(services=services), limits=limits)


@pytest.fixture
def granted(load):
    """The same, in the sandbox only."""
    return lambda text=CALLER, limits=None, **services: load(text, grants=Grants(services=services), limits=limits)


def failure(node, *data):
    with pytest.raises(cloche.NodeRaisedError) as caught:
        node.process(*data)
    return caught.value.exc_type, caught.value.message


VALUES = [
    None, True, 3, 1 << 80, 2.5, "text", "\ud800", b"bytes", "x" * 10_000, b"y" * 10_000, [1, [2]], (1, (2,)), {1, 2},
    {"a": {1: (2, 3)}}, 1 + 2j, list(range(1000)),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_arguments_and_results_are_values_like_any_other(call, value):
    """The same table of types as between host and node."""
    seen = []
    node = call(echo=lambda x: seen.append(x) or x)
    back = node.process("echo", value)
    assert (back, type(back)) == (value, type(value))
    assert (seen, type(seen[0])) == ([value], type(value))


@pytest.mark.parametrize("size", [3, 100_000])
def test_arrays_cross_both_ways(call, size):
    """In line or beside the message; the service gets a copy of its own that it may change and keep."""
    kept = []

    def double(a: np.ndarray) -> np.ndarray:
        kept.append(a)
        return a * 2

    node = call(double=double)
    sent = np.arange(size, dtype=np.float32)
    assert np.array_equal(node.process("double", sent), sent * 2)
    node.process("double", sent + 1)
    assert np.array_equal(kept[0], sent) and kept[0].flags.writeable


def test_keyword_arguments(call):
    """As names."""
    node = call(
        "from cloche_guest import services\ndef f(x): return services.lookup(x, n=3)", lookup=lambda key, n: (key, n)
    )
    assert node.process("k") == ("k", 3)


def test_the_signature_is_checked(call):
    """The node is told what is wrong with its call; the function is not entered."""
    node = call(lookup=lambda key, *, n=1: None)
    assert failure(node, "lookup") == ("TypeError", "lookup(): missing a required argument: 'key'")
    assert failure(node, "lookup", 1, 2) == ("TypeError", "lookup(): too many positional arguments")


def typed(
    key: str,
    n: int = 1,
    scale: float = 1.0,
    rows: list[int] | None = None,
    mode: Literal["a", "b"] = "a",
    x: np.ndarray = None,
    *more: bytes,
):
    """Its annotations are checked."""
    return "fits"


@pytest.mark.parametrize(
    "args",
    [("k",), ("k", 1 << 70), ("k", 1, 2), ("k", 1, 2.5, [1, 2]), ("k", 1, 1.0, None, "b", np.zeros(3), b"x", b"y")],
)
def test_arguments_that_fit_the_annotations_pass(call, args):
    """An int passes for a float, as it does for a type checker."""
    assert call(typed=typed).process("typed", *args) == "fits"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((1,), "argument 'key' is int, not str"),
        (("k", 1.5), "argument 'n' is float, not int"),
        (("k", True), "argument 'n' is bool, not int"),
        (("k", 1, "x"), "argument 'scale' is str, not float"),
        (("k", 1, 1.0, ["x"]), "argument 'rows' is another list, not list[int] | None"),
        (("k", 1, 1.0, None, "c"), "argument 'mode' is str, not Literal['a', 'b']"),
        (("k", 1, 1.0, None, "a", [1]), "argument 'x' is list, not numpy.ndarray"),
        (("k", 1, 1.0, None, "a", np.zeros(1), "y"), "argument 'more' is str, not bytes"),
    ],
)
def test_arguments_that_do_not_fit_the_annotations_are_refused(call, args, message):
    """So that a service need not look at the types of what a stranger sends."""
    kind, text = failure(call(typed=typed), "typed", *args)
    assert (kind, text.replace("typing.", "")) == ("TypeError", f"typed(): {message}")


def test_what_cannot_be_sent_is_named_by_its_place(call):
    """In the node's own terms."""
    node = call(
        "from cloche_guest import services\ndef f(x):\n    return services.echo(1, {'a': [f]}) if x else services.echo(k=f)",
        echo=lambda *a, **k: None,
    )
    kind, text = failure(node, 1)
    assert kind == "TypeError" and text.startswith("echo() argument [1].a[0]: cannot encode")
    kind, text = failure(node, 0)
    assert kind == "TypeError" and text.startswith("echo() argument k: cannot encode")


def test_an_unknown_service_names_what_is_granted(call):
    """Nothing else of the host can be reached."""
    node = call(lookup=len, store=len)
    assert failure(node, "lokup", 1) == ("AttributeError", "no service 'lokup': granted are lookup, store")


def test_without_grants_nothing_can_be_called(load):
    """Deny by default."""
    assert failure(load(CALLER), "lookup", 1)[0] == "AttributeError"


SECRET = "/etc/secret of the host"


class Leaky(Exception):
    def __str__(self):
        return SECRET


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ValueError(SECRET), "ValueError"), (KeyError(SECRET), "KeyError"), (Leaky(), "RuntimeError"), (FileNotFoundError(2, SECRET), "FileNotFoundError"),
     (UnicodeError(SECRET), "ValueError"), (StopIteration(SECRET), "RuntimeError"), (MemoryError(SECRET), "RuntimeError"), (cloche.ClocheError(SECRET), "RuntimeError")],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_an_exception_reaches_the_node_without_its_details(granted, logs, error, kind):
    """Its kind and no more; the host's log has the rest."""

    def broken():
        raise error

    node = granted(broken=broken)
    with pytest.raises(cloche.NodeRaisedError) as caught:
        node.process("broken")
    raised = caught.value
    told = "'service \\'broken\\' failed on the host'" if kind == "KeyError" else "service 'broken' failed on the host"
    assert (raised.exc_type, raised.message.replace('"', "'").replace("\\'", "'")) == (kind, told.replace("\\'", "'"))
    assert SECRET not in repr(raised.failure) and "test_services" not in repr(raised.failure)
    (entry,) = [event for event in logs.take() if event[0] == "error"]
    assert entry[1] == "service raised"
    assert entry[2]["exc_info"] is error and entry[2]["service"] == "broken" and entry[2]["node"] == "Node"


class Gone(ServiceError, LookupError):
    """For the node: a LookupError."""


@pytest.mark.parametrize(
    ("error", "kind"), [(ServiceError("no such key"), "RuntimeError"), (Gone("no such key"), "LookupError")]
)
def test_a_service_error_is_what_the_node_is_meant_to_read(call, error, kind):
    """Its text crosses."""

    def broken():
        raise error

    assert failure(call(broken=broken), "broken") == (kind, "no such key")


def test_a_flood_of_failures_is_not_a_flood_of_logs(granted, logs):
    """A node can provoke any number of them."""
    source = """
from cloche_guest import services
def f(n):
    for _ in range(n):
        try: services.broken()
        except ZeroDivisionError: pass
"""
    node = granted(source, broken=lambda: 1 / 0)
    node.process(100)
    failures = [event for event in logs.take() if event[0] == "error"]
    assert len(failures) == 10 and "not logged" in failures[-1][2]["note"]
    node.process(1)
    assert len([event for event in logs.take() if event[0] == "error"]) == 1


@pytest.mark.parametrize("result", [object(), 1 + 1j, {1: object()}], ids=["object", "complex", "nested"])
def test_a_result_that_cannot_be_sent_is_the_hosts_mistake(granted, logs, result):
    """The node is told no more than that; the host's log names the value."""
    node = granted(bad=lambda: result)
    if isinstance(result, complex):
        assert node.process("bad") == result
        return
    assert failure(node, "bad") == ("TypeError", "service 'bad' returned what cannot be sent to a node")
    (entry,) = [event for event in logs.take() if event[0] == "error"]
    assert "object" in str(entry[2]["exc_info"])


def test_the_gate_decides(call):
    """It sees who calls what with what."""
    seen = []

    def gate(asked):
        seen.append(asked)
        return asked.arguments[0] != "secret" or "that key is not for you"

    node = call(lookup=Service(lambda key: f"value of {key}", gate=gate))
    assert node.process("lookup", "public") == "value of public"
    assert failure(node, "lookup", "secret") == ("PermissionError", "that key is not for you")
    assert [(s.service, s.node, s.call, s.arguments, s.keywords) for s in seen] == [
        ("lookup", "Node", 2, ("public",), {}),
        ("lookup", "Node", 3, ("secret",), {}),
    ]
    assert seen[0].request_bytes > len("lookup" + "public")


@pytest.mark.parametrize("verdict", [False, None, 1, [], "no"], ids=repr)
def test_anything_but_true_is_a_refusal(call, verdict):
    """A gate that forgets to answer does not open."""
    kind, text = failure(call(f=Service(lambda: 1, gate=lambda _: verdict)), "f")
    assert (kind, text) == ("PermissionError", verdict if isinstance(verdict, str) else "service 'f' refused this call")


def test_a_gate_that_raises_is_a_refusal(granted, logs):
    """And its reason is the host's."""
    kind, text = failure(granted(f=Service(lambda: 1, gate=lambda _: 1 / 0)), "f")
    assert (kind, text) == ("PermissionError", "service 'f' refused this call")
    assert [event[1] for event in logs.take() if event[0] == "error"] == ["gate of a service raised"]


def test_max_calls_counts_for_each_call_on_the_node(call):
    """A budget of the node's single call."""
    source = "from cloche_guest import services\ndef f(n):\n    return [services.tick() for _ in range(n)]"
    node = call(source, tick=Service(lambda: 1, max_calls=3))
    assert node.process(3) == [1, 1, 1]
    assert failure(node, 4) == ("RuntimeError", "service 'tick' may be called 3 times in one call (max_calls)")
    assert node.process(2) == [1, 1]


def test_a_service_that_takes_too_long_is_a_timeout_in_the_node(call):
    """Its own deadline; the node goes on."""
    release = threading.Event()
    node = call(slow=Service(release.wait, deadline_s=0.05), quick=Service(lambda: 1, deadline_s=60))
    try:
        assert failure(node, "slow") == ("TimeoutError", "service 'slow' took longer than 0.05 s")
        assert node.process("quick") == 1
    finally:
        release.set()


def test_services_that_never_end_are_bounded(call):
    """Threads cannot be stopped: so many may be left behind, then services of that kind are refused."""
    release = threading.Event()
    node = call(slow=Service(release.wait, deadline_s=0.01), plain=lambda: 1)
    try:
        kinds: list[str] = []
        while "RuntimeError" not in kinds:
            kinds.append(failure(node, "slow")[0])
            assert len(kinds) < 100 * MAX_ABANDONED  # on a slow machine some end before their thread has begun
        assert kinds[:-1] == ["TimeoutError"] * (len(kinds) - 1)
        assert len(kinds) > MAX_ABANDONED
        assert node.process("plain") == 1
    finally:
        release.set()
    until = time.monotonic() + 60
    while True:  # they have been let go: soon there is room again, and a thread that answers in time
        try:
            assert node.process("slow") is True
            break
        except cloche.NodeRaisedError:
            assert time.monotonic() < until


@pytest.mark.sampled
@pytest.mark.parametrize("grace_s", [0.0, 60.0], ids=["hard", "soft"])
@pytest.mark.parametrize("own", [None, 30.0], ids=["none", "own"])
@pytest.mark.parametrize("metering", ["guard", "epoch", "fuel", "none"])
def test_a_service_that_outlives_the_calls_deadline_ends_it(own, metering, grace_s):
    """With a deadline of its own at once, without one as soon as it returns."""
    release = threading.Event()
    limits = Limits(deadline_s=0.2, grace_s=grace_s)
    wait = (lambda: release.wait(100)) if own else (lambda: time.sleep(0.3))
    with cloche.Runtime(limits=limits, metering=metering) as runtime:
        node = runtime.load(Source(CALLER), grants=Grants(services={"slow": Service(wait, deadline_s=own)}))
        with pytest.raises(cloche.DeadlineError, match=r"deadline_s=0\.2"):
            node.process("slow")
        assert node.broken is (not grace_s)
        assert node.service_calls[-1].outcome == ("stopped" if own else "returned")
        release.set()


def test_ctrl_c_in_a_service_ends_the_call(granted):
    """It is meant for the host. The node is told to end its call, and is usable afterwards."""

    def interrupted():
        raise KeyboardInterrupt

    node = granted(plain=interrupted)
    with pytest.raises(KeyboardInterrupt):
        node.process("plain")
    assert not node.broken
    assert failure(node, "no such service")[0] == "AttributeError"
    node = granted(elsewhere=Service(interrupted, deadline_s=60))
    with pytest.raises(KeyboardInterrupt):
        node.process("elsewhere")


@pytest.mark.parametrize("deadline", [None, 5.0], ids=["none", "own"])
def test_a_service_may_call_other_nodes_but_not_its_own(load, logs, deadline):
    """Its own waits for it: an error, not a deadlock, on whatever thread it runs."""
    other = load("def f(x): return x + 1")
    errors = []

    def through(x):
        return other.process(x)

    def back(x):
        try:
            return node.process("through", x)
        except cloche.ClocheError as error:
            errors.append(str(error))
            raise

    services = {"through": Service(through, deadline_s=deadline), "back": Service(back, deadline_s=deadline)}
    node = load(CALLER, grants=Grants(services=services))
    assert node.process("through", 1) == 2
    assert failure(node, "back", 1)[0] == "RuntimeError"
    assert errors == ["node 'Node' was called from inside its own call"]
    assert node.process("through", 2) == 3


def test_closing_the_node_from_its_own_service_is_refused(granted, logs):
    """The instance is in use."""
    node = granted(close=lambda: node.close())
    assert failure(node, "close")[0] == "RuntimeError"
    assert not node.broken


def test_calls_are_recorded(granted, logs):
    """On the node, and at debug level in its log."""
    node = granted(ok=lambda x: x, bad=lambda: 1 / 0, closed=Service(lambda: 1, gate=lambda _: False))
    node.process("ok", b"x" * 10_000)
    failure(node, "bad")
    failure(node, "closed")
    kept = node.service_calls
    assert [(r.service, r.node, r.call, r.outcome) for r in kept] == [
        ("ok", "Node", 2, "returned"),
        ("bad", "Node", 3, "raised"),
        ("closed", "Node", 4, "refused"),
    ]
    assert kept[0].request_bytes > 10_000 and 0 <= kept[0].seconds < 20
    logged = [fields for level, text, fields in logs.take() if (level, text) == ("debug", "service called")]
    assert [(f["service"], f["call"], f["outcome"]) for f in logged] == [
        ("ok", 2, "returned"),
        ("bad", 3, "raised"),
        ("closed", 4, "refused"),
    ]
    node.close()
    assert node.service_calls == kept


def test_records_are_bounded(granted, logs):
    """A node may make any number of calls."""
    node = granted(
        "from cloche_guest import services\ndef f(n):\n    for i in range(n): services.tick(i)",
        tick=lambda i: None,
        limits=Limits(deadline_s=60, log_records=5),
    )
    node.process(300)
    assert len(node.service_calls) == 100
    assert len([event for event in logs.take() if event[1] == "service called"]) == 5


EVERYWHERE = """
from cloche_guest import services
from cloche_guest.services import count
at_import = count("import")

class Node:
    def __init__(self):
        self.at_init = services.count("init")
    def initialize(self):
        return services.count("initialize")
    def process(self, x):
        services.count("before")
        yield x
        services.count("after")
    async def flush(self):
        return await services.count.acall("flush")
    def cleanup(self):
        services.count("cleanup")
"""


def test_services_work_wherever_the_nodes_code_runs(call):
    """At import, in __init__, in generators, in coroutines, at the end."""
    seen = []
    node = call(EVERYWHERE, count=lambda where: seen.append(where) or len(seen))
    assert node.initialize() == 3
    assert list(node.stream([1, 2])) == [1, 2, 8]
    node.close()
    assert seen == ["import", "init", "initialize", "before", "after", "before", "after", "flush", "cleanup"]


def test_clones_and_pools_have_the_nodes_services_and_snapshots_have_none(load, runtime):
    """Functions cannot be saved: who restores grants anew."""
    lock, seen = threading.Lock(), []

    def note(x):
        with lock:
            seen.append(x)
        return x

    grants = Grants(services={"note": note})
    node = load(CALLER, grants=grants)
    with node.clone() as twin:
        assert twin.process("note", 1) == 1
    saved = cloche.Snapshot.from_bytes(node.snapshot().to_bytes())
    with runtime.restore(saved) as bare:
        assert failure(bare, "note", 2)[0] == "AttributeError"
    with runtime.restore(saved, grants=Grants(services={"note": lambda x: -x})) as other:
        assert other.process("note", 3) == -3
    with runtime.pool(
        Source(CALLER.replace("name, *args", "args").replace("(services, name)(*args)", "(services, 'note')(args)")),
        size=2,
        grants=grants,
    ) as pool:
        assert list(pool.map(range(20))) == list(range(20))
    assert sorted(seen) == sorted([1, *range(20)])


def test_a_large_answer_needs_the_guests_memory(granted):
    """What does not fit is an ordinary MemoryError, and the node goes on."""
    node = granted(blob=lambda n: bytes(n), limits=Limits(deadline_s=60, memory_bytes=64 << 20, request_bytes=1 << 30))
    assert failure(node, "blob", 100 << 20)[0] == "MemoryError"
    assert len(node.process("blob", 1000)) == 1000


def test_budgets_hold_for_requests_and_answers(granted, logs):
    """reply_bytes and value_nodes for what the node sends, request_bytes for what it gets."""
    limits = Limits(deadline_s=60, reply_bytes=100_000, request_bytes=100_000, value_nodes=1000)
    node = granted(
        "from cloche_guest import services\ndef f(k):\n    return len(services.echo(bytes(200_000) if k == 'bytes' else [[i] for i in range(2000)] if k == 'nodes' else k))",
        echo=lambda x: bytes(200_000) if x == "large" else x,
        limits=limits,
    )
    assert failure(node, "bytes")[0] == "ValueError"
    assert failure(node, "nodes") == (
        "ValueError",
        "echo() argument [0]: the value has 2005 items or more; the limit value_nodes is 1000",
    )
    assert failure(node, "large") == ("TypeError", "service 'echo' returned what cannot be sent to a node")
    assert node.process("fine") == 4


@pytest.mark.parametrize(
    ("services", "error"),
    [
        ({"a b": len}, ValueError), ({"_x": len}, ValueError), ({"class": len}, ValueError), ({1: len}, TypeError),
        ({"x": 1}, TypeError), ([len], TypeError), ({"x" * 65: len}, ValueError),
    ],
)  # fmt: skip
def test_grants_check_services(services, error):
    """Where they are given, not when a node calls."""
    with pytest.raises(error, match="services"):
        Grants(services=services)


@pytest.mark.parametrize(
    "fields", [{"deadline_s": 0}, {"deadline_s": float("inf")}, {"max_calls": 0}, {"max_calls": True}], ids=repr
)
def test_service_checks_its_conditions(fields):
    """As Limits does."""
    with pytest.raises(ValueError, match=next(iter(fields))):
        Service(len, **fields)


def test_services_of_eight_nodes_run_at_once(load):
    """Each on its node's own thread, none in another's way."""
    barrier = threading.Barrier(8, timeout=20)
    nodes = [load(CALLER, grants=Grants(services={"meet": lambda: barrier.wait() >= 0})) for _ in range(8)]
    results = []
    threads = [threading.Thread(target=lambda n=node: results.append(n.process("meet"))) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8
