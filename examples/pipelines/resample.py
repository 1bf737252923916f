"""Changes the sample rate of a recording, chunk by chunk. It runs natively: it is ours, and touches every sample."""

from fractions import Fraction

import numpy as np


class Resample:
    """Takes chunks of mono samples, and returns them at another rate: a windowed sinc filter, evaluated only where an output is.

    The filter's delay is removed, so that a sample keeps its time; the last outputs come from `flush`.

    Args:
        rate: samples per second of the input.
        to: samples per second of the output.
        half_width: zero crossings of the sinc on each side.
    """

    def __init__(self, rate, to=16000, half_width=16):
        ratio = Fraction(to, rate)
        self.up, self.down = ratio.numerator, ratio.denominator
        cutoff = min(1.0, self.up / self.down)
        self.reach = int(np.ceil(half_width / cutoff))
        taps = np.arange(-self.reach * self.up, self.reach * self.up + 1) / self.up
        window = np.blackman(len(taps) + 2)[1:-1]
        self.filter = (np.sinc(taps * cutoff) * window * cutoff).astype(np.float32)
        self.held = np.zeros(self.reach, np.float32)
        self.first = -self.reach  # number of the input sample that held[0] is
        self.made = 0

    def process(self, chunk):
        self.held = np.concatenate([self.held, np.asarray(chunk, np.float32)])
        last = self.first + len(self.held) - self.reach  # the outputs before this input sample can be computed
        count = max(0, -(-last * self.up // self.down)) - self.made
        if count <= 0:
            return None
        positions = (self.made + np.arange(count)) * self.down  # in units of 1/up input samples
        centre, phase = positions // self.up, positions % self.up
        window = np.arange(-self.reach + 1, self.reach + 1)
        samples = self.held[(centre[:, None] + window - self.first).clip(0, len(self.held) - 1)]
        taps = self.filter[self.reach * self.up + phase[:, None] - window * self.up]
        self.made += count
        drop = max(0, self.made * self.down // self.up - self.reach - self.first)
        self.held, self.first = self.held[drop:], self.first + drop
        return np.einsum("ij,ij->i", samples, taps, dtype=np.float32)

    def flush(self):
        return self.process(np.zeros(self.reach, np.float32))
