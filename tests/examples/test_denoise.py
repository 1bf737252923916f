"""The example node does what the README says of it, natively and, with the same result, in the sandbox."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import cloche
from tests.loading import module_at

SOURCE = Path(__file__).parents[2] / "examples" / "audio" / "denoise.py"
RATE = 16_000


@pytest.fixture(scope="module")
def denoise() -> ModuleType:
    """The example, imported as its author would."""
    return module_at(SOURCE, "example_denoise")


def voice(seconds: float = 6.0) -> np.ndarray:
    """Something like speech: vowels of wandering pitch, in syllables with pauses between them."""
    rng = np.random.default_rng(7)
    t = np.arange(int(seconds * RATE)) / RATE
    pitch = 130 + 25 * np.sin(2 * np.pi * 0.7 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tone = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 16))
    syllables = np.clip(np.sin(2 * np.pi * 2.2 * t) * 1.5, 0, 1)
    return 0.1 * tone * syllables


def noisy(speech: np.ndarray, decibels: float) -> np.ndarray:
    noise = np.random.default_rng(8).standard_normal(len(speech))
    return speech + noise * np.sqrt(np.mean(speech**2) / np.mean(noise**2)) * 10 ** (-decibels / 20)


def snr(speech: np.ndarray, samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(speech**2) / np.mean((samples - speech) ** 2)))


def whole(node: Any, samples: np.ndarray, chunk: int) -> np.ndarray:
    parts = [node.process(samples[start : start + chunk]) for start in range(0, len(samples), chunk)]
    return np.concatenate([*parts, node.flush()])


@pytest.mark.parametrize("decibels", [0.0, 5.0, 10.0], ids=lambda level: f"{level:g}dB")
def test_the_noise_goes_down_by_four_decibels_at_least(denoise: ModuleType, decibels: float) -> None:
    """The stated gain on a voice with white noise, measured against the voice alone."""
    speech = voice()
    samples = noisy(speech, decibels)
    result = whole(denoise.Denoise(), samples, 4000)
    assert snr(speech, samples) == pytest.approx(decibels, abs=0.01)
    assert snr(speech, result) >= decibels + 4


def test_chunks_change_nothing(denoise: ModuleType) -> None:
    """State crosses the chunk borders: any cut gives the same samples, and as many as came in."""
    samples = noisy(voice(1.0), 5.0)
    wanted = whole(denoise.Denoise(), samples, len(samples))
    assert wanted.shape == samples.shape
    for chunk in (1, 127, 1000):
        assert np.array_equal(whole(denoise.Denoise(), samples, chunk), wanted)


def test_without_strength_it_is_the_identity(denoise: ModuleType) -> None:
    """The overlapping windows add up to one, from the first sample to the last."""
    samples = noisy(voice(1.0), 5.0)
    assert np.allclose(whole(denoise.Denoise(strength=0), samples, 999), samples, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_channels_and_dtype_are_kept(denoise: ModuleType, dtype: str) -> None:
    """Each channel is filtered by itself."""
    left = noisy(voice(1.0), 5.0)
    scale = 20_000 if dtype == "int16" else 1
    stereo = (np.stack([left, left[::-1]], axis=1) * scale).astype(dtype)
    result = whole(denoise.Denoise(), stereo, 3000)
    assert (result.shape, result.dtype) == (stereo.shape, stereo.dtype)
    assert np.array_equal(result[:, 0], whole(denoise.Denoise(), np.ascontiguousarray(stereo[:, 0]), 3000))


def test_a_wrong_parameter_is_refused(denoise: ModuleType) -> None:
    with pytest.raises(ValueError, match="strength is 2: give a number from 0 to 1"):
        denoise.Denoise(strength=2)


def test_the_sandbox_gives_the_same_samples(denoise: ModuleType, runtime: cloche.Runtime) -> None:
    """Native numpy and numpy in WebAssembly agree to the precision of float32."""
    samples = noisy(voice(2.0), 5.0).astype(np.float32)
    with runtime.load(SOURCE, "Denoise", {"strength": 0.9}) as node:
        inside = whole(node, samples, 4096)
    outside = whole(denoise.Denoise(strength=0.9), samples, 4096)
    assert inside.dtype == np.float32
    assert np.allclose(inside, outside, atol=1e-6)


def test_the_sandbox_delivers_its_logs(runtime: cloche.Runtime, logs: Any) -> None:
    """The node logs as any other program does."""
    with runtime.load(SOURCE, "Denoise") as node:
        node.process(np.zeros(1000, np.float32))
    assert ("info", "started") in [(level, message) for level, message, _ in logs.take()]
