"""The soak, in a process of its own beside the other tests (tests/conftest.py starts it): a glance; `scripts/soak` takes longer."""

from __future__ import annotations

import json

import pytest

from benches.soak import GROWTH, Weight, growth, leaks
from tests.conftest import SOAK


def _weights(**changing: list[int]) -> list[Weight]:
    rounds = len(next(iter(changing.values())))
    return [Weight(**{name: changing.get(name, [5] * rounds)[index] for name in GROWTH}) for index in range(rounds)]


def test_a_leak_is_seen():
    """Growth in the last quarter that the second one does not have; what grows at the start is warm-up."""
    start = [10 << 20, 60 << 20]
    assert leaks(_weights(anonymous_bytes=[*start, *[80 << 20] * 6])) == {}
    leaking = _weights(anonymous_bytes=[*start, *[(80 + 4 * n) << 20 for n in range(6)]], descriptors=[5] * 6 + [6] * 2)
    assert leaks(leaking) == {"anonymous_bytes": 16 << 20, "descriptors": 1}
    assert growth(leaking)["threads"] == 0


@pytest.mark.image
@pytest.mark.soak
@pytest.mark.timeout(900)
def test_nothing_grows(request: pytest.FixtureRequest):
    """Calls, loads, breaks, clones and streams on eight threads: memory, descriptors, threads and mappings stay as they were."""
    process, path = request.config.stash[SOAK]
    output, _ = process.communicate()
    print(output)
    assert process.returncode == 0, output
    figures = json.loads(path.read_text())
    assert figures["leaks"] == {}
    counts = figures["counts"]
    assert counts["calls"] > 1000 and counts["loads"] > 100 and counts["breaks"] > 10, counts
    assert min(counts[what] for what in ("awaited", "clones", "failures", "granted", "recovered", "streams")) > 0, (
        counts
    )
