"""Three nodes for speech: a noise gate, a detector of voice activity, and a few features of each segment that it finds.

They could be anybody's, so the pipeline runs each in a sandbox of its own. Nothing in them is made for that.
"""

import logging

import numpy as np

log = logging.getLogger(__name__)


class Gate:
    """Takes chunks of samples, and returns them with what is quieter than a threshold turned down.

    Args:
        rate: samples per second.
        threshold_db: level below which the gate closes, in decibels of full scale.
        floor_db: what the closed gate lets through, in decibels.
        frame: length of a step of the gate, in seconds.
    """

    def __init__(self, rate=16000, threshold_db=-50.0, floor_db=-24.0, frame=0.01):
        self.step = max(1, int(rate * frame))
        self.threshold, self.floor = 10 ** (threshold_db / 20), 10 ** (floor_db / 20)
        self.gain = self.floor

    def process(self, chunk):
        samples = np.array(chunk, np.float32)
        for start in range(0, len(samples), self.step):
            frame = samples[start : start + self.step]
            wanted = 1.0 if np.sqrt(np.mean(np.square(frame))) > self.threshold else self.floor
            step = 0.5 if wanted > self.gain else 0.1  # opens quickly, closes slowly
            end = self.gain + step * (wanted - self.gain)
            frame *= np.linspace(self.gain, end, len(frame), dtype=np.float32)
            self.gain = end
        return samples


class Voice:
    """Takes chunks of samples, and yields ``{"start", "samples"}`` for each segment in which somebody speaks, as it ends.

    Args:
        rate: samples per second.
        margin_db: how much louder than the background speech is, in decibels.
        least_db: the least level of speech, in decibels of full scale.
        frame: length of a frame, in seconds.
        hangover: seconds without speech that end a segment.
        shortest: least length of a segment, in seconds.
    """

    def __init__(self, rate=16000, margin_db=12.0, least_db=-40.0, frame=0.02, hangover=0.2, shortest=0.2):
        self.frame, self.margin, self.least = int(rate * frame), margin_db, least_db
        self.rate, self.patience, self.shortest = rate, int(hangover / frame), shortest
        self.rest = np.zeros(0, np.float32)
        self.background, self.quiet, self.now = None, 0, 0
        self.frames, self.began = [], 0

    def process(self, chunk):
        samples = np.concatenate([self.rest, chunk])
        count = len(samples) // self.frame
        self.rest = samples[count * self.frame :]
        for frame in samples[: count * self.frame].reshape(count, self.frame):
            level = 10 * np.log10(np.mean(np.square(frame, dtype=np.float64)) + 1e-10)
            self.background = level if self.background is None else min(self.background + 0.01, level)
            if level > max(self.background + self.margin, self.least):
                if not self.frames:
                    self.began = self.now
                self.quiet = 0
                self.frames.append(frame.copy())
            elif self.frames:
                self.quiet += 1
                self.frames.append(frame.copy())
                if self.quiet > self.patience:
                    yield from self.segment()
            self.now += 1

    def flush(self):
        yield from self.segment()

    def segment(self):
        spoken = self.frames[: len(self.frames) - self.quiet]
        self.frames, self.quiet = [], 0
        if len(spoken) * self.frame < self.shortest * self.rate:
            return
        start = self.began * self.frame / self.rate
        log.info("speech at %.2f s", start)
        yield {"start": round(start, 2), "samples": np.concatenate(spoken)}


class Features:
    """Describes a segment: its end, level, pitch and brightness.

    Args:
        rate: samples per second.
        lowest: lowest pitch that is looked for, in hertz.
        highest: highest pitch that is looked for, in hertz.
    """

    def __init__(self, rate=16000, lowest=70.0, highest=400.0):
        self.rate = rate
        self.lags = int(rate / highest), int(rate / lowest)

    def process(self, segment):
        samples = np.asarray(segment["samples"], np.float64)
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
        frequencies = np.fft.rfftfreq(len(samples), 1 / self.rate)
        return {
            "start": segment["start"],
            "end": round(segment["start"] + len(samples) / self.rate, 2),
            "level_db": round(float(10 * np.log10(np.mean(samples**2) + 1e-12)), 1),
            "pitch_hz": self.pitch(samples),
            "centroid_hz": round(float(spectrum @ frequencies / (spectrum.sum() + 1e-12))),
        }

    def pitch(self, samples):
        """The frequency at which the samples resemble themselves most; None if there is none."""
        power = np.abs(np.fft.rfft(samples, 2 * len(samples))) ** 2
        likeness = np.fft.irfft(power)[: len(samples)]
        least, most = self.lags
        if most >= len(samples) or likeness[0] <= 0:
            return None
        lag = least + int(np.argmax(likeness[least:most]))
        return round(self.rate / lag, 1) if likeness[lag] > 0.2 * likeness[0] else None
