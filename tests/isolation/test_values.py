"""Values whose bodies the host asks the worker for."""

from __future__ import annotations

import pytest

import cloche
from tests.runtime.test_values import HOSTILE


@pytest.mark.parametrize("place", [[0xFFFF_FFF0, 100], [0, 5000], [1 << 40, 5000], [1 << 70, 5000], [65536, 1 << 27]])
def test_a_guest_that_lies_about_places_does_not_harm_its_worker(load, runtime, place):
    """The host asks the worker for what a reply names; that it is not there breaks the one instance."""
    nodes = [load(HOSTILE, "Hostile") for _ in range(4)]
    before = runtime.workers
    with pytest.raises(cloche.ProtocolError):
        nodes[0].process([49604, place])
    assert nodes[0].broken
    assert [worker.pid for worker in runtime.workers] == [worker.pid for worker in before]
    for node in nodes[1:]:
        assert node.stats.calls == 1
        with pytest.raises(cloche.ProtocolError):
            node.process([49604, place])
