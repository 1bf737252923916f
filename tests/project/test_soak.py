"""The soak: a glance. `scripts/soak` takes longer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benches import soak
from benches.soak import GROWTH, Weight, growth, leaks


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
@pytest.mark.thorough
@pytest.mark.timeout(300)
def test_nothing_grows(tmp_path: Path):
    """Calls, loads, breaks, clones and streams on eight threads: memory, descriptors, threads and mappings stay as they were."""
    written = tmp_path / "soak.json"
    command = [sys.executable, soak.__file__, "--minutes", "0.4", "--json", str(written)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    figures = json.loads(written.read_text())
    assert figures["leaks"] == {}
    counts = figures["counts"]
    assert counts["calls"] > 1000 and counts["loads"] > 100 and counts["breaks"] > 10, counts
    assert min(counts[what] for what in ("awaited", "clones", "failures", "granted", "recovered", "streams")) > 0, (
        counts
    )
