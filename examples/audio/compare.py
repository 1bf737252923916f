"""Compares a noisy and a cleaned recording with the original speech, and prints a table.

Usage: compare.py SPEECH.wav NOISY.wav CLEAN.wav
"""

import sys

import numpy as np
import soundfile


def decibels(power: float) -> float:
    """A power in decibels; 0 dB is the power 1."""
    return float(10 * np.log10(power + 1e-12))


def snr(speech: np.ndarray, samples: np.ndarray) -> float:
    """Signal-to-noise ratio over the whole recording, in decibels. Every difference from the speech counts as noise."""
    return decibels(np.mean(speech**2) / (np.mean((samples - speech) ** 2) + 1e-20))


def pause_level(speech: np.ndarray, samples: np.ndarray, frame: int = 800) -> float:
    """Level in the pauses of the speech, in decibels of full scale. The pauses are the quietest tenth of the original's frames."""
    count = len(speech) // frame
    power = np.mean(speech[: count * frame].reshape(count, frame) ** 2, axis=1)
    quiet = np.argsort(power)[: max(1, count // 10)]
    return decibels(np.mean(samples[: count * frame].reshape(count, frame)[quiet] ** 2))


def main() -> None:
    (speech, rate), *others = (soundfile.read(path) for path in sys.argv[1:4])
    print(f"{'':12}{'seconds':>9}{'peak':>8}{'level dB':>10}{'pauses dB':>11}{'SNR dB':>8}")
    for name, samples in zip(("speech", "noisy", "clean"), (speech, *(samples for samples, _ in others)), strict=True):
        if len(samples) != len(speech):
            sys.exit(f"compare.py: {name} has {len(samples)} samples, the original {len(speech)}")
        ratio = "" if samples is speech else f"{snr(speech, samples):.1f}"
        print(
            f"{name:12}{len(samples) / rate:9.1f}{np.abs(samples).max():8.3f}{decibels(np.mean(samples**2)):10.1f}"
            f"{pause_level(speech, samples):11.1f}{ratio:>8}"
        )


if __name__ == "__main__":
    main()
