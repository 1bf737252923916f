"""How telemetry is switched on: by a runtime's argument, by the instrumentor; and what is imported where it is not."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import cloche
from cloche._runtime.tracing import Tracing
from cloche._sandbox import Watched
from tests.limits import patient

NODE = cloche.Source("def f(x): return x")


def test_without_it_nothing_of_opentelemetry_is_imported() -> None:
    """Nor are sandboxes made that would be followed."""
    program = """
import sys
import cloche
from cloche._sandbox import Watched
from cloche.pipeline import NodeSpec, Pipeline
with cloche.Runtime() as runtime:
    node = runtime.load(cloche.Source("def f(x): return x"))
    node.process(1)
    assert not isinstance(node.__cloche__.sandbox, Watched)
    with Pipeline([NodeSpec(cloche.Source("def f(x): return x"))], runtime=runtime) as pipeline:
        list(pipeline.run([1]))
print([name for name in sys.modules if name.startswith(("opentelemetry", "cloche.telemetry"))])
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.check_output([sys.executable, "-c", program], env=environment, text=True, timeout=300) == "[]\n"


def test_without_the_package_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['opentelemetry'] = None\nimport cloche.telemetry"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, text=True, timeout=300, capture_output=True)
    assert done.stderr.splitlines()[-1] == (
        "ImportError: cloche.telemetry needs OpenTelemetry's API: pip install 'cloche[otel]'"
    )


@pytest.mark.parametrize("value", ["x", 1, object])
def test_a_runtime_refuses_what_is_no_telemetry(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^telemetry is .*: give a cloche\.telemetry\.Telemetry, or None$"):
        cloche.Runtime(telemetry=value)


@pytest.fixture
def instrumentor(sdk: None) -> Iterator[Any]:
    from cloche.telemetry import ClocheInstrumentor

    assert Tracing.default is None
    made = ClocheInstrumentor()
    yield made
    made.uninstrument()
    assert Tracing.default is None


def test_the_instrumentor_follows_runtimes_that_are_made_afterwards(instrumentor: Any, fresh: Any) -> None:
    recorded = fresh()
    with cloche.Runtime(limits=patient()) as before:
        instrumentor.instrument(tracer_provider=recorded.spans, meter_provider=recorded.metrics, skip_dep_check=True)
        instrumentor.instrument(
            tracer_provider=recorded.spans, meter_provider=recorded.metrics
        )  # again: no second span
        with cloche.Runtime(limits=patient()) as runtime:
            runtime.load(NODE).process(1)
            assert [span.name for span in recorded.take()] == ["load node", "process f"]
        before.load(NODE).process(1)
        assert recorded.take() == []
    instrumentor.uninstrument()
    with cloche.Runtime(limits=patient()) as runtime:
        node = runtime.load(NODE)
        assert not isinstance(node.__cloche__.sandbox, Watched)


def test_a_runtimes_own_telemetry_comes_first(instrumentor: Any, fresh: Any) -> None:
    recorded, other = fresh(), fresh()
    instrumentor.instrument(tracer_provider=other.spans)
    with cloche.Runtime(telemetry=recorded.telemetry, limits=patient()) as runtime:
        assert runtime.telemetry is recorded.telemetry
        runtime.load(NODE).process(1)
    assert len(recorded.take()) == 2
    assert other.take() == []


def test_opentelemetry_instrument_finds_it(sdk: None) -> None:
    """By the entry point of the installed package, which is made from pyproject.toml."""
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    ((name, value),) = project["entry-points"]["opentelemetry_instrumentor"].items()
    found = importlib.metadata.EntryPoint(name, value, "opentelemetry_instrumentor").load()()
    assert found.instrumentation_dependencies() == ()
    found.instrument()  # of the program's global providers, of which there are none
    try:
        with cloche.Runtime(limits=patient()) as runtime:
            assert runtime.load(NODE).process(1) == 1
    finally:
        found.uninstrument()
