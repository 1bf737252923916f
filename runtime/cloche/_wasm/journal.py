"""The buffers of a recorded guest, which the native core fills: the journal of what the imports answer, and the tape of frames.

runtime/native/journal.c and tape.c have the formats. The bytes that are replayed may be a stranger's: they are answers to a guest.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from typing import Any, Final, NamedTuple

from cloche._wasm.core import JournalMode, State, Taped, Word

__all__ = ["JOURNAL_BYTES", "Journal", "Noted"]

JOURNAL_BYTES: Final = 4 << 20
"""Room for the answers of the imports in one call: more than a million readings of clocks."""
_TAPE_BYTES: Final = 16 << 20
"""Room for the frames of one call. The kernel supplies pages of both buffers when they are used."""
_PRIVATE: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
_ENTRY: Final = struct.Struct("<BI")
_END: Final = struct.Struct("<IIB?")
_CODE: Final = struct.Struct("<BB")
_KEPT_BYTES: Final = 1 << 20
_JOURNAL_AT, _LOST = int(Word.JOURNAL_AT), int(Word.JOURNAL_LOST)
_TAPE_AT, _WANTS, _CALLS = int(Word.TAPE_AT), int(Word.TAPE_WANTS), int(Word.TAPE_CALLS)
_ANSWERED, _ENDED = int(Taped.ANSWERED), int(Taped.ENDED)


class Journal:
    """The journal and the tape of one guest. They are off until `record` or `replay`.

    Args:
        words: the guest's `cloche._wasm.slot.Slot.words`. The guest must not run any more when this object is freed, or `off` must
            have been called.
    """

    __slots__ = ("_anchors", "_journal", "_tape", "_words")

    def __init__(self, words: Any) -> None:
        self._words = words
        # private: a child by `os.fork` must not write into its parent's
        self._journal, self._tape = (mmap.mmap(-1, size, flags=_PRIVATE) for size in (JOURNAL_BYTES, _TAPE_BYTES))
        self._anchors = [ctypes.c_char.from_buffer(buffer) for buffer in (self._journal, self._tape)]
        words[Word.JOURNAL], words[Word.TAPE] = map(ctypes.addressof, self._anchors)
        words[Word.JOURNAL_BYTES], words[Word.TAPE_BYTES] = JOURNAL_BYTES, _TAPE_BYTES
        self.off()

    def off(self) -> None:
        """Neither note anything nor answer anything."""
        words = self._words
        words[Word.JOURNAL_MODE] = JournalMode.OFF
        words[_JOURNAL_AT] = words[_LOST] = words[Word.JOURNAL_TOLD] = words[_TAPE_AT] = words[_WANTS] = words[
            _CALLS
        ] = 0

    def record(self, most_calls: int) -> None:
        """Note what passes from now on.

        Args:
            most_calls: number of calls after which `Word.TAPE_WANTS` is set.
        """
        self._words[Word.TAPE_MOST] = most_calls
        self._words[Word.JOURNAL_MODE] = JournalMode.RECORD

    def replay(self, answers: bytes) -> None:
        """Have the imports answer this in the next call, a journal of `take`, and note the frames. At most `JOURNAL_BYTES`."""
        words = self._words
        self._journal[: len(answers)] = answers
        words[Word.JOURNAL_BYTES] = len(answers)
        words[_JOURNAL_AT] = words[_LOST] = 0
        words[Word.JOURNAL_MODE] = JournalMode.REPLAY

    @property
    def is_followed(self) -> bool:
        """Whether the guest has taken the answers of `replay` so far, all of them and no others."""
        words = self._words
        return not words[_LOST] and words[_JOURNAL_AT] == words[Word.JOURNAL_BYTES]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was noted since the last `take`."""
        return not self._words[_TAPE_AT]

    def take(self) -> Noted | None:
        """What was noted since the last time; None: nothing. A reply that is on it may not be decoded yet."""
        words = self._words
        size = words[_TAPE_AT]
        if not size:
            return None
        is_reading = words[Word.JOURNAL_MODE] == JournalMode.REPLAY
        calls = int(words[_CALLS])
        # only the end of a call refers to the journal: what is taken in the middle of one need not have it
        journal = b"" if is_reading or not calls else self._journal[: words[_JOURNAL_AT]]
        noted = Noted(self._tape[:size], journal, calls, not words[_WANTS] & 2)
        words[_TAPE_AT] = words[_WANTS] = words[_CALLS] = 0
        if size > _KEPT_BYTES:
            self._tape.madvise(mmap.MADV_DONTNEED)
        if not is_reading and not self.is_in_call:  # in the middle of a call, its end will refer to the journal
            words[_JOURNAL_AT] = 0
        return noted

    @property
    def is_in_call(self) -> bool:
        """Whether the guest waits for the answer to a request, in the middle of a call."""
        return bool(self._words[Word.STATE] == State.WAITING)

    def want(self) -> None:
        """Set `Word.TAPE_WANTS`, so that the buffers are looked at after the next call."""
        self._words[_WANTS] |= 1


class Noted(NamedTuple):
    """What the core has noted of one or more calls, or of a part of one.

    Attributes:
        tape: the entries.
        journal: what the imports have answered.
        calls: number of calls that have ended.
        is_exact: whether these can be replayed.
    """

    tape: bytes
    journal: bytes
    calls: int
    is_exact: bool

    def entries(self) -> list[tuple[Any, ...]]:
        """The entries: (number of its `Taped`, its fields).

        Those of SENT and CAME are a frame; of ANSWERED code and reason; of ENDED the journal of the call, the reason for which the
        guest was told to stop, and whether the call can be replayed.
        """
        tape, found = self.tape, []
        at = 0
        entry: tuple[Any, ...]
        while at < len(tape):
            kind, length = _ENTRY.unpack_from(tape, at)
            at += _ENTRY.size
            if kind == _ENDED:
                start, end, told, is_exact = _END.unpack_from(tape, at)
                entry = kind, self.journal[start:end], told, is_exact
            elif kind == _ANSWERED:
                entry = kind, *_CODE.unpack_from(tape, at)
            else:
                entry = kind, tape[at : at + length]
            found.append(entry)
            at += length
        return found
