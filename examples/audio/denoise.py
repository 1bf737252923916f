"""A noise reducer for speech: a Wiener filter over overlapping frames, with the noise tracked as it goes.

An ordinary numpy node. It knows nothing of the sandbox it may run in.
"""

import logging

import numpy as np


class Denoise:
    """Takes chunks of samples of any size, gives back as many in all: what is still owed comes from `flush()`.

    The gain per frequency is Wiener's, from a decision-directed estimate of the signal-to-noise ratio (Ephraim and
    Malah, 1984). The noise is the least power of the recent past, smoothed and corrected for its bias, so that a steady
    background is learned within the first words and followed when it drifts (after Martin, 2001).

    Args:
        strength: how much of the noise goes, from 0 (none) to 1 (all but the floor).
        floor_db: the most that a frequency is lowered, in decibels.
        frame: samples per frame, a multiple of four; 512 suits speech at 16 kHz.
        memory: frames over which the least power is sought.
    """

    def __init__(self, strength=1.0, floor_db=-18.0, frame=512, memory=320):
        if not 0 <= strength <= 1:
            raise ValueError(f"strength is {strength}: give a number from 0 to 1")
        if frame < 16 or frame % 4:
            raise ValueError(f"frame is {frame}: give a multiple of four, at least 16")
        self.strength, self.frame, self.hop = strength, frame, frame // 4
        self.floor = 10 ** (floor_db / 20)
        # Hann, once before and once after: the squares of four overlapping windows add up to 1.5
        self.window = np.hanning(frame + 1)[:-1] / np.sqrt(1.5)
        self.memory = memory
        self.logger = logging.getLogger("Denoise")
        self.initialize()

    def initialize(self):
        self.samples_in = self.samples_out = 0
        self.channels = None

    def _start(self, channels):
        bins = self.frame // 2 + 1
        self.channels = channels
        self.pending = np.zeros((channels, self.frame - self.hop))  # input that later frames still need
        self.overlap = np.zeros((channels, self.frame - self.hop))  # output that later frames still add to
        self.lead = self.frame - self.hop  # zeros put before the first sample, taken off the output again
        self.power = None
        self.least = np.full((4, channels, bins), np.inf)  # the least power of each quarter of the memory
        self.speech = np.zeros((channels, bins))  # the last frame's clean power over noise
        self.frames = 0
        self.logger.info("started", extra={"channels": channels, "frame": self.frame, "strength": self.strength})

    def process(self, samples):
        """Samples of shape (n,) or (n, channels); returns those that are ready, in the same form and dtype."""
        samples = np.asarray(samples)
        block = np.atleast_2d(samples.T).astype(np.float64)
        if self.channels is None:
            self._start(len(block))
        elif self.channels != len(block):
            raise ValueError(f"{len(block)} channels after {self.channels}: call initialize() between recordings")
        self.samples_in += block.shape[1]
        self.dtype, self.flat = samples.dtype, samples.ndim == 1
        return self._emit(self._advance(block))

    def flush(self):
        """The rest: as many samples as came in and have not gone out."""
        if self.channels is None:
            return None
        owed = self.samples_in - self.samples_out
        tail = self._advance(np.zeros((self.channels, self.frame + owed)))[:, :owed]
        noise = 10 * np.log10(self._noise().mean() / (self.window**2).sum() + 1e-20)
        self.logger.info("finished", extra={"samples": self.samples_in, "noise_db": round(float(noise), 1)})
        result = self._emit(tail)
        self.initialize()
        return result

    def _emit(self, block):
        self.samples_out += block.shape[1]
        if np.issubdtype(self.dtype, np.integer):
            limits = np.iinfo(self.dtype)
            block = np.clip(np.rint(block), limits.min, limits.max)
        out = np.ascontiguousarray(block.T, dtype=self.dtype)
        return out[:, 0] if self.flat else out

    def _advance(self, block):
        """Every frame that the new block completes, filtered and added up."""
        block = np.concatenate([self.pending, block], axis=1)
        count = max(0, (block.shape[1] - self.frame) // self.hop + 1)
        self.pending = block[:, count * self.hop :]
        if not count:
            return np.zeros((self.channels, 0))
        frames = np.lib.stride_tricks.sliding_window_view(block, self.frame, axis=1)[:, : count * self.hop : self.hop]
        spectra = np.fft.rfft(frames * self.window, axis=2)
        powers = np.abs(spectra) ** 2
        for n in range(count):
            spectra[:, n] *= self._gain(powers[:, n])
        frames = np.fft.irfft(spectra, self.frame, axis=2) * self.window
        out = np.zeros((self.channels, count * self.hop + self.frame - self.hop))
        out[:, : self.overlap.shape[1]] = self.overlap
        for n in range(count):
            out[:, n * self.hop : n * self.hop + self.frame] += frames[:, n]
        self.overlap = out[:, count * self.hop :]
        ready = out[:, : count * self.hop]
        ready, self.lead = ready[:, self.lead :], max(0, self.lead - ready.shape[1])
        return ready

    def _gain(self, power):
        """Wiener's gain for one frame, and what the next frames need to know of it."""
        self.power = power if self.power is None else 0.8 * self.power + 0.2 * power
        if self.frames % (self.memory // 4) == 0:
            self.least = np.roll(self.least, 1, axis=0)
            self.least[0] = np.inf
        self.least[0] = np.minimum(self.least[0], self.power)
        self.frames += 1
        noise = self._noise() + 1e-20
        posterior = power / noise
        prior = 0.96 * self.speech + 0.04 * np.maximum(posterior - 1, 0)
        wiener = prior / (1 + prior)
        self.speech = wiener**2 * posterior
        return 1 - self.strength * (1 - np.maximum(wiener, self.floor))

    def _noise(self):
        return 1.8 * self.least.min(axis=0)  # the least of a smoothed power lies well below its mean
