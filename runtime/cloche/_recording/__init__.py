"""Recordings of a node's calls: how they are kept while it runs, and the files made of them. `cloche.replay` plays them."""

from cloche._recording.calls import Message, RecordedCall, calls_of
from cloche._recording.differences import Difference, changed_words, compare
from cloche._recording.recorder import NodeRecorder, recording_of
from cloche._recording.recording import MAX_BYTES, SUFFIX, Recording
from cloche._recording.settings import Record, Redact, record_of

__all__ = [
    "MAX_BYTES",
    "SUFFIX",
    "Difference",
    "Message",
    "NodeRecorder",
    "Record",
    "RecordedCall",
    "Recording",
    "Redact",
    "calls_of",
    "changed_words",
    "compare",
    "record_of",
    "recording_of",
]
