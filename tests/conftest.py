"""The fixture ladder: `runtime` is made once for each isolation (it loads the real image), `load` makes nodes for one test."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from typing import Any

import pytest

import cloche
from cloche import Limits, LogRecord
from cloche._runtime.runtime import Isolation
from cloche._sandbox.instance import Instance
from cloche._wasm.engine import Engine, Module
from tests.fake_guests import guest
from tests.forked import Forking, forking
from tests.limits import patient
from tests.tiers import split


def pytest_configure(config: pytest.Config) -> None:
    """Ctrl-C is a subject of the tests. A shell starts jobs in the background with SIGINT ignored, and Python leaves that as it is."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Some tests draw their inputs from seeds: a few in CI, as many as you like by hand."""
    parser.addoption("--all", action="store_true", help="every case of every test: see tests/README.md")
    parser.addoption("--seeds", type=int, default=40, help="seeds of tests/codec/test_cost.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only ``--all`` runs. A case that is asked for by its name runs in any case."""
    if config.getoption("--all") or config.getoption("keyword") or any("::" in argument for argument in config.args):
        return
    items[:], left_out = split(items)
    config.hook.pytest_deselected(items=left_out)


def pytest_collection_finish() -> None:
    """Thousands of tests are objects too: without this, each of the tests' own `gc.collect` would visit them all, for a fifth of a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def thorough(pytestconfig: pytest.Config) -> bool:
    """Whether ``--all`` was given: tests that try many moments, frames or seeds then try more of them."""
    return bool(pytestconfig.getoption("--all"))


class Recorder:
    """A structlog-shaped logger that keeps what it is given: (level, message, fields)."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda message, **fields: self.events.append((level, message, fields))

    def take(self) -> list[tuple[str, str, dict[str, Any]]]:
        """The events so far; forgets them."""
        events, self.events = self.events, []
        return events


@pytest.fixture(scope="session")
def recorder() -> Recorder:
    """What every node of `runtime` logs to."""
    return Recorder()


@pytest.fixture(scope="session")
def isolation(request: pytest.FixtureRequest) -> Isolation:
    """Where `runtime` has its nodes: "none" (in this process), unless a test is parametrised: see tests/runtime/conftest.py."""
    return getattr(request, "param", "none")


@pytest.fixture(scope="session")
def runtimes(recorder: Recorder) -> Iterator[Callable[[Isolation], cloche.Runtime]]:
    """`runtimes("process")`: the runtime of all tests that have their nodes there, made when the first one asks for it."""
    with ExitStack() as stack:

        @cache
        def made(isolation: Isolation) -> cloche.Runtime:
            workers = 2 if isolation == "process" else None
            runtime = stack.enter_context(
                cloche.Runtime(logger=recorder, limits=patient(), isolation=isolation, workers=workers)
            )
            if workers:  # start both now: tests that count descriptors or processes need not know
                source = cloche.Source("def f(x): return x")
                with runtime.load(source), runtime.load(source):
                    pass
            return runtime

        yield made


@pytest.fixture(scope="session")
def runtime(runtimes: Callable[[Isolation], cloche.Runtime], isolation: Isolation) -> cloche.Runtime:
    """The real image. Without one this is an error, not a skip: scripts/test builds it."""
    return runtimes(isolation)


@pytest.fixture(scope="session")
def epoch_runtime(recorder: Recorder) -> Iterator[cloche.Runtime]:
    """As `runtime`, with deadlines by epochs, where that is not the default."""
    with cloche.Runtime(logger=recorder, limits=patient(), metering="epoch") as made:
        yield made


@pytest.fixture(scope="session")
def forked() -> Iterator[Forking]:
    """Runs the command line in processes that start fast."""
    with forking() as made:
        yield made


@pytest.fixture
def logs(recorder: Recorder) -> Recorder:
    """The recorder, emptied."""
    recorder.take()
    return recorder


@pytest.fixture
def load(runtime: cloche.Runtime) -> Iterator[Callable[..., cloche.Node]]:
    """Load source text as a node; closed at the end of the test."""
    nodes: list[cloche.Node] = []

    def make(text: str, entry: str | None = None, params: dict[str, Any] | None = None, **options: Any) -> cloche.Node:
        node = runtime.load(cloche.Source(text, "node.py"), entry, params, **options)
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.close()


@pytest.fixture
def enter(request: pytest.FixtureRequest) -> Iterator[Callable[..., Instance]]:
    """Make an `Instance` of a fake guest; its delivered records are in `.records` of the factory."""
    engines: list[Engine] = []
    instances: list[Instance] = []
    records: list[LogRecord] = []

    def make(
        body: str | None = None,
        *,
        metering: Any = "epoch",
        limits: Limits | None = None,
        handlers: Sequence[Any] = (),
        **parts: Any,
    ) -> Instance:
        wasm = guest(**parts) if body is None else guest(body, **parts)
        engine = Engine(metering, lambda engine: Module.compiled(engine, bytes(wasm)))
        engines.append(engine)
        instance = Instance(
            engine,
            limits or patient(memory_bytes=32 << 20),
            "fake",
            lambda made, name: records.extend(made),
            handlers=handlers,
        )
        instances.append(instance)
        return instance

    make.records = records  # type: ignore[attr-defined]  # a function is an object too
    yield make
    for instance in instances:
        instance.close()
    for engine in engines:
        engine.close()
