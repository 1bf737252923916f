"""A noise reducer for speech: a Wiener filter over overlapping frames, which estimates the noise from the recording itself.

An ordinary numpy class. Nothing in it is made for the sandbox.
"""

import logging

import numpy as np


class Denoise:
    """Takes chunks of samples of any size, and returns the same number of samples in all, the last ones from `flush`.

    The gain of each frequency is Wiener's, from a decision-directed estimate of the signal-to-noise ratio (Ephraim and
    Malah, 1984). The noise of a frequency is estimated as its least power in the recent past, smoothed and corrected for bias. So
    the filter learns a steady background within the first words, and follows it when it changes slowly (after Martin, 2001).

    Args:
        strength: how much of the noise is removed, from 0 (nothing) to 1 (down to the floor).
        floor_db: gain in decibels below which no frequency is lowered.
        frame: samples per frame, a multiple of four; 512 suits speech at 16 kHz.
        memory: number of frames in which the least power is searched.
    """

    def __init__(self, strength=1.0, floor_db=-18.0, frame=512, memory=320):
        if not 0 <= strength <= 1:
            raise ValueError(f"strength is {strength}: give a number from 0 to 1")
        if frame < 16 or frame % 4:
            raise ValueError(f"frame is {frame}: give a multiple of four, at least 16")
        self.strength, self.frame, self.hop = strength, frame, frame // 4
        self.floor = 10 ** (floor_db / 20)
        # Hann, before and after the filter: the squares of four overlapping windows add up to 1.5, so sqrt(1.5) keeps the level
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
        self.lead = self.frame - self.hop  # zeros before the first sample, which the output must not contain
        self.power = None
        self.least = np.full((4, channels, bins), np.inf)  # the least power of each quarter of the memory
        self.speech = np.zeros((channels, bins))  # the last frame's clean power over noise
        self.frames = 0
        self.logger.info("started", extra={"channels": channels, "frame": self.frame, "strength": self.strength})

    def process(self, samples):
        """Filter a chunk.

        Args:
            samples: array of shape (n,) or (n, channels).

        Returns:
            the filtered samples that are complete, with the same number of dimensions and the same dtype.
        """
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
        """The filtered samples that `process` has not returned yet. Ends the recording; None if there was none."""
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
        """Filter all frames that the new block completes; the samples to which no later frame will add."""
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
        """Wiener's gain of each frequency in one frame. Updates the estimates for the next frames."""
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
        # without the factor the noise is underestimated: the minimum of a smoothed power lies below its mean
        return 1.8 * self.least.min(axis=0)
