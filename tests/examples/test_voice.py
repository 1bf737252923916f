"""The streaming example: segments come out as they close, and are where the speech is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import cloche

SOURCE = Path(__file__).parents[2] / "examples" / "audio" / "voice.py"
RATE = 16_000


def talk(bursts: list[tuple[float, float]], seconds: float) -> np.ndarray:
    """Quiet noise with loud bursts at the given times."""
    rng = np.random.default_rng(3)
    samples = 0.001 * rng.standard_normal(int(seconds * RATE))
    for start, end in bursts:
        a, b = int(start * RATE), int(end * RATE)
        samples[a:b] += 0.1 * rng.standard_normal(b - a)
    return samples.astype(np.float32)


@pytest.mark.parametrize("chunk", [160, 1000, 48_000])
def test_segments_are_where_the_speech_is(runtime: cloche.Runtime, chunk: int) -> None:
    """Whatever the size of the chunks."""
    samples = talk([(1.0, 2.0), (3.5, 4.25), (6.0, 6.1)], 8.0)
    with runtime.load(SOURCE, "VoiceActivity") as node:
        found = list(node.stream(samples[i : i + chunk] for i in range(0, len(samples), chunk)))
    assert [(s["start"], s["end"]) for s in found] == [
        (pytest.approx(1.0, abs=0.03), pytest.approx(2.0, abs=0.03)),
        (pytest.approx(3.5, abs=0.03), pytest.approx(4.25, abs=0.03)),
    ]


def test_a_segment_appears_as_soon_as_it_closes(runtime: cloche.Runtime) -> None:
    """Of an endless recording, after the chunk that ended it."""
    taken = 0

    def chunks() -> Iterator[np.ndarray]:
        nonlocal taken
        once = talk([(1.0, 2.0)], 4.0)
        for i in itertools.count():
            taken += 1
            yield np.resize(once, 1600 * (i + 1))[-1600:]

    with runtime.load(SOURCE, "VoiceActivity") as node:
        stream = node.stream(chunks())
        first = next(stream)
        assert first["end"] == pytest.approx(2.0, abs=0.03)
        assert taken <= 25, "2.0 s of speech and 0.3 s of silence are 23 chunks of 0.1 s"
        stream.close()
        assert node.get("segments") == 1
