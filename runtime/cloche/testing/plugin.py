"""A pytest plugin for authors of nodes: one test, run natively and in the sandbox.

In a conftest.py::

    pytest_plugins = ["cloche.testing.plugin"]

and in a test::

    def test_doubles(load_node):
        node = load_node("nodes/double.py", "Double")
        assert node.process(21) == 42

A recording (a file ``*.cloche``) in the folder of the tests is a test as well: its replay has to give what was recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cloche._runtime import Node, Runtime
from cloche.replay import SUFFIX
from cloche.testing import LocalGuest, replay

__all__ = ["cloche_runtime", "load_node"]


@pytest.fixture(scope="session")
def cloche_runtime() -> Iterator[Runtime]:
    """The runtime in which `load_node` runs the sandboxed half. Redefine this fixture to choose an image, limits or metering."""
    with Runtime() as runtime:
        yield runtime


@pytest.fixture(params=["local", "sandbox"])
def load_node(request: pytest.FixtureRequest) -> Iterator[Callable[..., Node]]:
    """A function like `Runtime.load`. The test runs twice: natively (`LocalGuest`) and in the sandbox. Nodes are closed at its end.

    Without a guest image the sandboxed half is an error, not a skip: a skipped test would look like a passed one.
    """
    local = request.param == "local"
    load: Callable[..., Any] = LocalGuest if local else request.getfixturevalue("cloche_runtime").load
    with ExitStack() as nodes:

        def load_and_close(*args: Any, **options: Any) -> Node:
            node: Node = nodes.enter_context(load(*args, **options))
            return node

        yield load_and_close


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A recording among the tests is a test: its replay has to give the same."""
    return _RecordingFile.from_parent(parent, path=file_path) if file_path.suffix == SUFFIX else None


class _RecordingFile(pytest.File):
    def collect(self) -> Iterator[pytest.Item]:
        yield _Replay.from_parent(self, name="replay")


class _Replay(pytest.Item):
    def runtest(self) -> None:
        replay(self.path)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, AssertionError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"replay of {self.path.name}"
