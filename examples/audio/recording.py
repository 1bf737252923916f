"""Gets the demo's recording: five sentences of a LibriVox reading of "Sense and Sensibility", and a noisy copy of them.

The recording is in the public domain. It is a part of Debian's package pocketsphinx-testdata, which is fetched from the mirrors
that apt is configured with. The recording is rather clean, so white noise from a fixed seed is added to a copy, NOISE_DB below the
speech. The clean original then shows how much of the noise the node removes.

Usage: recording.py FOLDER    writes FOLDER/speech.wav and FOLDER/noisy.wav (16 kHz, mono, 16 bit)
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "wasm"))
from imagebuild.archive import unpack_deb
from imagebuild.fetch import FetchError, fetch
from imagebuild.inputs import cache_folder
from imagebuild.pins import Pin

PIN = Pin(
    name="pocketsphinx-testdata",
    version="0.8+5prealpha+1-15",
    source="debian:p/pocketsphinx/pocketsphinx-testdata_0.8+5prealpha+1-15_all.deb",
    sha256="eaeb7a01d54f20b799d1a81ef110ec544b2cb47ea006614078220737a33019f0",
    group="source",
    licence="BSD-2-Clause, the recording itself public domain",
)
NOISE_DB = 5.0
"""Signal-to-noise ratio of the noisy copy, in decibels."""
SEED = 20_240_811
"""Seed of the noise."""


def speech() -> tuple[np.ndarray, int]:
    """The five sentences, one after the other, as float64 between -1 and 1; and the samples per second."""
    cache = cache_folder() / "downloads"
    if not (cache / PIN.filename).exists():
        print(f"== fetching the recording ({PIN.filename}, 1.8 MB, once)", file=sys.stderr)
    fetch([PIN], cache)
    with tempfile.TemporaryDirectory() as folder:
        unpack_deb(cache / PIN.filename, Path(folder), keep=lambda name: name if "/librivox/" in name else None)
        sentences = [soundfile.read(path) for path in sorted(Path(folder).rglob("*.wav"))]
    if len(sentences) != 5 or len({rate for _, rate in sentences}) != 1:
        raise ValueError(f"{PIN.filename} does not have the five sentences it should")
    return np.concatenate([samples for samples, _ in sentences]), sentences[0][1]


def noisy(samples: np.ndarray) -> np.ndarray:
    """A copy of the samples with white noise, whose mean power is NOISE_DB below theirs."""
    noise = np.random.default_rng(SEED).standard_normal(len(samples))
    return samples + noise * np.sqrt(np.mean(samples**2) / np.mean(noise**2)) * 10 ** (-NOISE_DB / 20)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        samples, rate = speech()
    except FetchError as error:
        sys.exit(f"recording.py: {error}")
    soundfile.write(folder / "speech.wav", samples, rate, subtype="PCM_16")
    soundfile.write(folder / "noisy.wav", noisy(samples), rate, subtype="PCM_16")
    print(f"== {folder}/noisy.wav: {len(samples) / rate:.1f} s of speech with white noise added", file=sys.stderr)


if __name__ == "__main__":
    main()
