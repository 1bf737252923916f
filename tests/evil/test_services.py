"""60: services that outlive the deadline; and what a node can do to the host through services: malformed, huge, endless requests."""

from __future__ import annotations

import threading
import time

import pytest

import cloche
from cloche import Grants, Service

from .programs import Program
from .test_programs import BYSTANDER, LIMITS, attack

pytestmark = pytest.mark.evil


def _p(name: str, ends: str, body: str) -> Program:
    return Program(60, name, body, frozenset(ends.split()))


ASK = "import _cloche; _cloche.call"
PROGRAMS = [
    # requests that break the protocol: the shim's own function with anything that can be encoded
    *(
        _p(f"malformed-{i}", "protocol", f"{ASK}({request})")
        for i, request in enumerate(
            [
                "[]",
                "5",
                "None",
                "'x'",
                "{}",
                "[2.5]",
                "['x']",
                "[True]",
                "[1]",
                "[1, 'ok']",
                "[1, 5, [], {}]",
                "[1, 'ok', {}, []]",
                "[1, 'ok', [], {1: 2}]",
                "[1, 'ok', (), {}]",
                "[1, 'ok', [], {}, 5]",
            ]
        )
    ),
    _p("unknown", "value", "import _cloche\nfor n in (99, -1, 1 << 70): assert _cloche.call([n]) == [False, 52]"),
    _p("extra", "value", "import _cloche\nassert _cloche.call([2, 1, 2])[1][-1] == 'slow'"),
    # keys of one hash: a few are within what a request may cost, many are refused, in the node
    _p("colliding", "value", f"{ASK}([1, 'ok', [{{i * ((1 << 61) - 1): 0 for i in range(1, 2000)}}], {{}}])"),
    _p(
        "colliding-many",
        "node",
        "import _cloche; assert not _cloche.call([1, 'ok', [{i * ((1 << 61) - 1): 0 for i in range(1, 9000)}], {}])[0]",
    ),
    # size
    _p("huge", "node memory", "from cloche_guest import services; services.ok(bytes(1 << 30))"),
    _p("too-large", "node", "from cloche_guest import services; services.ok(bytes(2 << 20))"),
    _p("too-many", "node", "from cloche_guest import services; services.ok([[i] for i in range(20000)])"),
    _p("nested", "node", "a = []\nfor _ in range(10**4): a = [a]\nfrom cloche_guest import services; services.ok(a)"),
    _p("keywords", "node", "from cloche_guest import services; services.ok(**{str(i): i for i in range(5000)})"),
    _p("long-name", "node", "from cloche_guest import services; getattr(services, 'x' * 10**6)"),
    # floods
    _p("flood", "deadline", "from cloche_guest import services\nwhile True: services.ok(1)"),
    _p(
        "flood-of-names",
        "deadline",
        "from cloche_guest import services\nwhile True:\n    try: services.nothing\n    except AttributeError: pass",
    ),
    _p(
        "flood-of-failures",
        "deadline",
        "from cloche_guest import services\nwhile True:\n    try: services.broken()\n    except RuntimeError: pass",
    ),
    _p(
        "flood-of-refusals",
        "deadline",
        "from cloche_guest import services\nwhile True:\n    try: services.locked()\n    except PermissionError: pass",
    ),
    _p(
        "flood-of-timeouts",
        "deadline",
        "from cloche_guest import services\nwhile True:\n    try: services.quick()\n    except Exception: pass",
    ),
    # time
    _p("outlives", "deadline", "from cloche_guest import services; services.slow()"),
    _p(
        "outlives-and-swallows",
        "deadline",
        "from cloche_guest import services\nwhile True:\n    try: services.slow()\n    except BaseException: pass",
    ),
    _p("never-ends", "deadline", "from cloche_guest import services; services.forever()"),
    # tampering
    _p(
        "own-ask",
        "node value",
        "from cloche_guest import asking, services\nasking._call = lambda r: [True, r]\nservices.ok(1)",
    ),
    _p(
        "forged",
        "node value",
        "import _cloche\n_cloche.call = lambda r: [True, 'forged']\nfrom cloche_guest import services\nservices.ok(1)",
    ),
]


@pytest.fixture
def grants():
    """Services of all kinds, and what lets go of those that never end."""
    release = threading.Event()

    def broken() -> None:
        raise RuntimeError("secret")

    services = {
        "ok": lambda *a, **k: 1,
        "broken": broken,
        "slow": lambda: time.sleep(0.7),
        "forever": Service(release.wait, deadline_s=60),
        "quick": Service(release.wait, deadline_s=0.001),
        "locked": Service(lambda: 1, gate=lambda _: False),
    }
    yield Grants(services=services)
    release.set()


@pytest.mark.sampled
@pytest.mark.parametrize("made", ["runtime", "epoch_runtime"])
@pytest.mark.parametrize("entry", ["import", "process", "finally", "cleanup"])
@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_program_ends_within_its_limit(request, grants, program, entry, made):
    """With the right error class; another node answers afterwards."""
    runtime = request.getfixturevalue(made)
    ended = attack(runtime, program, entry, grants)
    assert ended in program.ends
    with runtime.load(BYSTANDER) as node:
        assert node.process(1) == 2


@pytest.mark.parametrize("made", ["runtime", "epoch_runtime"])
def test_services_that_block_past_the_deadline_on_eight_threads(request, grants, made):
    """Each call ends by its own deadline, on its own thread, whatever the services do."""
    runtime = request.getfixturevalue(made)
    source = cloche.Source("from cloche_guest import services\ndef f(name): return getattr(services, name)()")
    ended: list[str] = []

    def work(name: str) -> None:
        for _ in range(3):
            try:
                with runtime.load(source, limits=LIMITS, grants=grants) as node:
                    node.process(name)
                ended.append("value")
            except cloche.DeadlineError:
                ended.append("deadline")
            except cloche.NodeRaisedError as error:  # sixteen others have been left behind
                ended.append(error.exc_type)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("slow", "forever") * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 24 and set(ended) <= {"deadline", "RuntimeError"} and ended.count("deadline") >= 12
    with runtime.load(BYSTANDER) as node:
        assert node.process(1) == 2


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, KeyboardInterrupt], ids=lambda kind: kind.__name__)
def test_an_exception_that_is_no_error_ends_the_call(runtime, kind):
    """It is the host's affair. The guest is told to end its call, and stopped if it goes on regardless."""

    def leave() -> None:
        raise kind

    text = (
        "from cloche_guest import services\ndef f(x):\n    try: services.leave()\n    except BaseException:\n        {}"
    )
    grants = Grants(services={"leave": leave})
    obeying = runtime.load(cloche.Source(text.format("return 'caught'")), grants=grants)
    with pytest.raises(kind):
        obeying.process(1)
    assert not obeying.broken
    for rest in (
        "while True: pass",
        "next(filter(None, iter(int, 1)))",
        "while True:\n            try: f(x)\n            except BaseException: pass",
    ):
        node = runtime.load(cloche.Source(text.format(rest)), grants=grants)
        with pytest.raises(kind):
            node.process(1)
        assert node.broken or rest == "while True: pass"
    with runtime.load(BYSTANDER) as other:
        assert other.process(1) == 2
