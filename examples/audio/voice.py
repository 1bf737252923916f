"""Finds where somebody speaks: a voice-activity detector that reports each segment as it closes.

An ordinary streaming node: one async generator over the whole input, with its state in local variables.
"""

import logging

import numpy as np

log = logging.getLogger(__name__)


class VoiceActivity:
    """Takes chunks of mono samples of any size, yields ``{"start", "end", "level_db"}`` (seconds) as each segment closes.

    A frame is speech when its level is `margin_db` above the background, which is followed as the slowly rising minimum of the
    level. A segment opens with the first such frame and closes after `hangover` seconds without one.

    Args:
        rate: samples per second.
        margin_db: how far above the background speech is.
        frame: seconds per frame.
        hangover: seconds of silence that end a segment.
        shortest: segments of fewer seconds are left out.
    """

    is_streaming = True

    def __init__(self, rate=16000, margin_db=12.0, frame=0.02, hangover=0.3, shortest=0.2):
        self.rate, self.margin, self.frame = rate, margin_db, int(rate * frame)
        self.hangover, self.shortest = hangover, shortest
        self.segments = 0

    def levels(self, samples):
        """Level of each whole frame in decibels."""
        frames = samples[: len(samples) // self.frame * self.frame].reshape(-1, self.frame)
        return 10 * np.log10(np.mean(np.square(frames, dtype=np.float64), axis=1) + 1e-10)

    async def process(self, chunks):
        rest = np.zeros(0)
        step = self.frame / self.rate
        now, background, start, spoken, loud = 0.0, None, None, 0.0, []
        async for chunk in chunks:
            rest = np.concatenate([rest, chunk])
            levels = self.levels(rest)
            rest = rest[len(levels) * self.frame :]
            for level in levels.tolist():
                background = level if background is None else min(background + 0.5 * step, level)
                if level > background + self.margin:
                    if start is None:
                        start, loud = now, []
                    spoken = now + step
                    loud.append(level)
                elif start is not None and now - spoken >= self.hangover:
                    if spoken - start >= self.shortest:
                        yield self.segment(start, spoken, loud)
                    start = None
                now += step
        if start is not None and spoken - start >= self.shortest:
            yield self.segment(start, spoken, loud)

    def segment(self, start, end, loud):
        self.segments += 1
        log.info("segment %d", self.segments, extra={"seconds": round(end - start, 2)})
        return {"start": round(start, 2), "end": round(end, 2), "level_db": round(float(np.mean(loud)), 1)}
