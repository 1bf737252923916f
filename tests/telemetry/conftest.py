"""Runtimes with telemetry, whose spans and metrics end in the SDK's in-memory exporters. Without the SDK these tests are skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any

import pytest

import cloche
from cloche.isolation import Isolation
from tests.limits import patient
from tests.telemetry.recorded import Ignored, Recorded


@pytest.fixture(scope="session")
def sdk() -> None:
    """Skips the test where OpenTelemetry's SDK is not installed; scripts/setup installs it."""
    pytest.importorskip("opentelemetry.sdk.trace", reason="opentelemetry-sdk is not installed")


@pytest.fixture(scope="session")
def recordings(sdk: None) -> Iterator[Callable[[Isolation], tuple[Recorded, cloche.Runtime]]]:
    """A runtime for each isolation, made when the first test asks for it."""
    with ExitStack() as stack:

        @cache
        def made(isolation: Isolation) -> tuple[Recorded, cloche.Runtime]:
            recorded = Recorded()
            runtime = cloche.Runtime(
                isolation=isolation,
                workers=1 if isolation == "process" else None,
                limits=patient(),
                telemetry=recorded.telemetry,
                logger=Ignored(),
            )
            return recorded, stack.enter_context(runtime)

        yield made


@pytest.fixture
def recorded(recordings: Callable[[Isolation], tuple[Recorded, cloche.Runtime]], isolation: Isolation) -> Recorded:
    """What the nodes of `traced` record, from now on."""
    found = recordings(isolation)[0]
    found.take()
    return found


@pytest.fixture
def traced(
    recordings: Callable[[Isolation], tuple[Recorded, cloche.Runtime]], isolation: Isolation
) -> Iterator[Callable[..., cloche.Node]]:
    """Load a node into a runtime with telemetry; closed at the end of the test."""
    runtime = recordings(isolation)[1]
    nodes: list[cloche.Node] = []

    def load(text: str, **options: Any) -> cloche.Node:
        nodes.append(runtime.load(cloche.Source(text, "node.py"), **options))
        return nodes[-1]

    yield load
    for node in nodes:
        node.close()


@pytest.fixture
def fresh(sdk: None) -> Callable[..., Recorded]:
    """Make a `Recorded` of the test's own; its arguments are those of `Telemetry`."""
    return Recorded
