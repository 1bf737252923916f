"""A voice-activity detector: finds the segments of a recording in which somebody speaks, and reports each as it ends.

An ordinary streaming node: one async generator takes the whole input, and keeps its state in local variables.
"""

import logging

import numpy as np

log = logging.getLogger(__name__)


class VoiceActivity:
    """Takes chunks of mono samples of any size, and yields ``{"start", "end", "level_db"}`` as each segment ends.

    "start" and "end" are in seconds from the beginning. A frame counts as speech if its level is more than `margin_db` above the
    background. The background is the minimum of the level, which is let rise slowly. A segment begins with the first frame of
    speech and ends after `hangover` seconds without one.

    Args:
        rate: samples per second.
        margin_db: how much louder than the background speech is, in decibels.
        frame: length of a frame, in seconds.
        hangover: seconds without speech that end a segment.
        shortest: least length of a segment that is reported, in seconds.
    """

    is_streaming = True

    def __init__(self, rate=16000, margin_db=12.0, frame=0.02, hangover=0.3, shortest=0.2):
        self.rate, self.margin, self.frame = rate, margin_db, int(rate * frame)
        self.hangover, self.shortest = hangover, shortest
        self.segments = 0

    def levels(self, samples):
        """The level of each whole frame, in decibels of full scale."""
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
