"""Streams a long recording through a sandboxed voice-activity node, and prints each segment of speech as it ends.

Usage: segments.py RECORDING [MINUTES]    the recording (wav, flac, ...) is repeated until the stream has MINUTES
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

import cloche

CHUNK = 4096
"""Samples in one item of the stream."""


def chunks(path: str, minutes: float) -> Iterator[np.ndarray]:
    """Read the recording in chunks, again and again until the chunks last `minutes`. A chunk is read when the stream takes it."""
    left = int(minutes * 60 * soundfile.info(path).samplerate)
    while left > 0:
        for block in soundfile.blocks(path, blocksize=CHUNK, dtype="float32"):
            yield block[:left]
            left -= len(block)
            if left <= 0:
                return


def main() -> None:
    path = sys.argv[1]
    minutes = float(sys.argv[2]) if len(sys.argv) > 2 else soundfile.info(path).duration / 60
    rate = soundfile.info(path).samplerate
    began = time.perf_counter()
    node_file = Path(__file__).with_name("voice.py")
    with cloche.Runtime() as runtime, runtime.load(node_file, "VoiceActivity", {"rate": rate}) as node:
        spoken = 0.0
        for segment in node.stream(chunks(path, minutes)):
            spoken += segment["end"] - segment["start"]
            print(f"{segment['start']:9.2f} s .. {segment['end']:9.2f} s   {segment['level_db']:6.1f} dB", flush=True)
        seconds = time.perf_counter() - began
        print(
            f"{node.get('segments')} segments, {spoken:.1f} s of speech in {minutes * 60:.1f} s, "
            f"{minutes * 60 / seconds:.0f} times real time, guest memory {node.stats.memory_bytes / 2**20:.0f} MiB",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
