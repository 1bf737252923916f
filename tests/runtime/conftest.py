"""Every test here that has a node runs twice, with nodes in this process and in worker processes.

A test for which the second run would say nothing new has the marker ``isolation("none", reason=...)``, or a module has it in its `pytestmark`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import cloche
from cloche._runtime.runtime import Isolation
from cloche.testing import LocalGuest

ISOLATIONS: tuple[Isolation, ...] = ("none", "process")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One run for each isolation, or for the one that the nearest marker names."""
    if "isolation" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("isolation")
        if only is None:
            metafunc.parametrize("isolation", ISOLATIONS, indirect=True, scope="session")
        elif only.args != ("none",):
            metafunc.parametrize("isolation", only.args, indirect=True, scope="session")


@pytest.fixture(params=["local", *ISOLATIONS])
def make(
    request: pytest.FixtureRequest, runtimes: Callable[[Isolation], cloche.Runtime]
) -> Iterator[Callable[..., LocalGuest | cloche.Node]]:
    """Load source text as a node, in each of the places where one can live; closed at the end of the test."""
    load = LocalGuest if request.param == "local" else runtimes(request.param).load
    nodes: list[LocalGuest | cloche.Node] = []

    def made(text: str, *arguments: Any, **options: Any) -> LocalGuest | cloche.Node:
        nodes.append(load(cloche.Source(text, "node.py"), *arguments, **options))
        return nodes[-1]

    yield made
    for node in nodes:
        node.close()
