"""Engines are made once for each metering; instances for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from cloche import Limits, LogRecord
from cloche._sandbox.instance import Instance
from cloche._wasm.engine import Engine, Module

from .guests import guest


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
            limits or Limits(memory_bytes=32 << 20),
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
