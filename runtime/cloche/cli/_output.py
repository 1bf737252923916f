"""Writes the outputs of a node. A file appears under its name only when it is complete."""

from __future__ import annotations

import json
import math
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self, cast

from cloche._atomic_file import AtomicFile
from cloche.cli import _formats
from cloche.cli._console import InputError
from cloche.cli._journal import Journal
from cloche_wire.record import Record

__all__ = ["APPENDED", "Output", "open_output", "plain"]


class Output(ABC):
    """An open output, a file or stdout. A file that is left without `finish` does not appear under its name.

    Attributes:
        count: number of outputs written.
        note: a remark for the user at the end, e.g. on clipped samples, or "".
    """

    _is_patched = False
    """Whether the format's header is written last, when the length is known."""

    def __init__(self, path: str, journal: Journal | None = None) -> None:
        self.count = 0
        self.note = ""
        self._path = path
        self._journal = journal
        self._draft = None if path == "-" or journal is not None else AtomicFile(path)
        self._file: IO[bytes] = sys.stdout.buffer if self._draft is None else self._draft.file
        if journal is not None:
            self._file = cast("IO[bytes]", journal)  # it has the methods that formats of APPENDED use
        if self._is_patched and not self._file.seekable():
            self._discard()
            raise InputError(
                f"{path} is a pipe or a device, and a file of this format is completed at its beginning: give a file"
            )

    @abstractmethod
    def write(self, value: Any) -> None:
        """Add one output.

        Raises:
            InputError: the format cannot hold the value.
        """

    def finish(self) -> None:
        """Give the complete file its name."""
        self._file.flush()
        if self._journal is not None:
            self._journal.sync()
        if self._draft is not None:
            self._draft.commit()

    def _unfit(self, value: Any, what: str) -> InputError:
        place = "stdout" if self._path == "-" else self._path
        return InputError(f"output {self.count + 1} of the node is {_described(value)}; {place} takes {what}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._discard()

    def _discard(self) -> None:
        if self._journal is not None:
            self._journal.close()
        if self._draft is not None:
            self._draft.discard()


class _Jsonl(Output):
    def write(self, value: Any) -> None:
        try:
            line = _json(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise self._unfit(value, f"what JSON can say ({error})") from error
        self._file.write(line.encode() + b"\n")
        self._file.flush()  # the reader of a pipe gets each output at once
        self.count += 1


class _Json(Output):
    """One JSON document: the one output."""

    def write(self, value: Any) -> None:
        if self.count:
            raise InputError(
                f"output 2 of the node: {self._path} takes one JSON document. For one a line, write .jsonl"
            )
        try:
            text = _json(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise self._unfit(value, f"what JSON can say ({error})") from error
        self._file.write(text.encode() + b"\n")
        self.count += 1

    def finish(self) -> None:
        if not self.count:
            raise InputError(
                f"the node gave no output, and {self._path} takes one JSON document. For any number, write .jsonl"
            )
        super().finish()


class _Raw(Output):
    def write(self, value: Any) -> None:
        if isinstance(value, (bytes, bytearray)):
            self._file.write(value)
        else:
            array = _samples(value)
            if array is None:
                raise self._unfit(value, "arrays or bytes")
            self._file.write(array.tobytes())
        self.count += 1


class _Npy(Output):
    """Arrays, joined along the first axis. The header is written last, since it has the length."""

    _HEADER = 256
    _is_patched = True

    def __init__(self, path: str) -> None:
        _formats.numpy()  # an error now, not after the work
        super().__init__(path)
        self._file.write(bytes(self._HEADER))
        self._first: Any = None
        self._rows = 0

    def write(self, value: Any) -> None:
        np = _formats.numpy()
        array = np.asarray(value) if isinstance(value, (bool, int, float, complex)) else _samples(value)
        if array is None:
            raise self._unfit(value, "arrays or numbers")
        rows = np.atleast_1d(array)
        if self._first is None:
            self._first = rows[:0]
        if (rows.dtype, rows.shape[1:]) != (self._first.dtype, self._first.shape[1:]):
            shape = (self._rows, *self._first.shape[1:])
            raise self._unfit(value, f"more of the same after an array of {self._first.dtype}, {shape}")
        self._file.write(rows.tobytes())
        self._rows += len(rows)
        self.count += 1

    def finish(self) -> None:
        np = _formats.numpy()
        first = np.zeros(0, np.float32) if self._first is None else self._first
        header = {
            "descr": np.lib.format.dtype_to_descr(first.dtype),
            "fortran_order": False,
            "shape": (self._rows, *first.shape[1:]),
        }
        text = repr(header).encode("latin1")
        room = self._HEADER - len(np.lib.format.magic(1, 0)) - 2
        if len(text) >= room:
            raise InputError(f"{self._path}: a dtype with a header of {len(text)} bytes cannot be written")
        self._file.seek(0)
        self._file.write(np.lib.format.magic(1, 0) + room.to_bytes(2, "little") + text.ljust(room - 1) + b"\n")
        super().finish()


class _Audio(Output):
    """Sound, with samples stored as those of the input if the format can. Samples beyond full scale are clipped and counted."""

    _is_patched = True

    def __init__(self, path: str, rate: int | None, subtype: str | None) -> None:
        if rate is None:
            raise InputError(f"{path} needs a sample rate, and the input has none: give --rate")
        sounds = _formats.soundfile()
        suffix = Path(path).suffix.lower()
        self._format = _formats.AUDIO.get(suffix, "")
        if self._format not in sounds.available_formats():
            raise InputError(f"{path}: sound is not written with the suffix {suffix!r}: give .wav, .flac or another")
        if suffix == ".opus":
            subtype = "OPUS"
        self._subtype = subtype if subtype and sounds.check_format(self._format, subtype) else None
        self._rate = rate
        self._sound: Any = None
        self._clipped = 0
        super().__init__(path)

    def write(self, value: Any) -> None:
        array = _samples(value)
        if (
            array is None
            or array.ndim not in (1, 2)
            or array.dtype.name not in ("float32", "float64", "int16", "int32")
        ):
            raise self._unfit(
                value, "arrays of float32, float64, int16 or int32, of shape (samples,) or (samples, channels)"
            )
        channels = 1 if array.ndim == 1 else array.shape[1]
        if self._sound is None:
            self._open(channels)
        elif channels != self._sound.channels:
            raise self._unfit(value, f"{self._sound.channels} channels, as before")
        if array.dtype.kind == "f" and self._sound.subtype not in ("FLOAT", "DOUBLE"):
            self._clipped += int((abs(array) > 1).sum())
        self._sound.write(array)
        self.count += 1

    def _open(self, channels: int) -> None:
        sounds = _formats.soundfile()
        try:
            self._sound = sounds.SoundFile(
                self._file, "w", self._rate, channels, self._subtype, format=self._format, closefd=False
            )
        except sounds.LibsndfileError as error:
            raise InputError(
                f"{self._path} cannot be written with {channels} channels at {self._rate} Hz: {error}"
            ) from error

    def finish(self) -> None:
        if self._sound is None:
            self._open(1)
        self._sound.close()
        if self._clipped:
            self.note = f"{self._clipped} samples were beyond full scale and have been clipped"
        super().finish()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sound is not None:
            self._sound.close()
        super().__exit__(kind, error, trace)


def _samples(value: Any) -> Any:
    """The array of an output that is an array, ``{"samples": array}`` or ``(array, metadata)``; None for other outputs."""
    match value:
        case {"samples": samples}:
            value = samples
        case (samples, dict()):
            value = samples
    np = _formats.numpy()
    return value if isinstance(value, (np.ndarray, np.generic)) else None


_MAX_EMPTY: Final = 1 << 16
"""Empty lists that an array without items may become: a shape of a few bytes, (2**25, 0), asks for 33 million."""


def _json(value: Any) -> str:
    """A value as JSON, in ASCII: no terminal can be repainted by it."""
    text = json.dumps(value, default=plain)  # first: it refuses what contains itself
    todo = [value]
    while todo:
        one = todo.pop()
        if type(one) is Record:
            todo += one._asdict().values()
        elif isinstance(one, dict):
            if not all(type(key) is str for key in one):  # json makes texts of numbers, None and booleans
                _check_keys(one)
            todo += one.values()
        elif isinstance(one, (list, tuple)):
            todo += one
    return text


def _check_keys(value: dict[Any, Any]) -> None:
    seen: dict[str, Any] = {}
    for key in value:
        if key is not None and not isinstance(key, (str, int, float)):
            continue  # json refuses it
        text = key if isinstance(key, str) else json.dumps(key)
        if text in seen:
            raise ValueError(f"the keys {seen[text]!r} and {key!r} of one dict would be the same")
        seen[text] = key


def plain(value: Any) -> Any:
    """What JSON has no word for, said with what it has."""
    shape = getattr(value, "shape", ())
    if 0 in shape and math.prod(shape[: shape.index(0)]) > _MAX_EMPTY:
        raise TypeError(f"an array of shape {shape} is more than {_MAX_EMPTY} empty lists")
    if hasattr(value, "tolist"):  # arrays and numpy scalars
        return value.tolist()
    if isinstance(value, Record):
        return value._asdict()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"JSON has no form for {type(value).__name__}")


APPENDED: Final = ("jsonl", "raw")
"""Formats whose files grow at their end."""


def _described(value: Any) -> str:
    if hasattr(value, "dtype"):
        return f"an array of {value.dtype}, shape {value.shape}"
    return f"a value of type {type(value).__name__}"


def open_output(
    path: str, chosen: str | None, *, rate: int | None, subtype: str | None, journal: Journal | None = None
) -> Output:
    """Open a file, or stdout for ``-``.

    Args:
        path: the file.
        chosen: the format; None: the suffix decides.
        rate: samples per second, for sound.
        subtype: libsndfile's name for how the samples should be stored; ignored if the format has no such samples.
        journal: the file, if it is written in place, which few formats can be (`APPENDED`).

    Raises:
        InputError: the file cannot have this format.
        OSError: the file cannot be opened.
    """
    match _formats.output_format_of(path, chosen):
        case "audio":
            return _Audio(path, rate, subtype)
        case "npy":
            return _Npy(path)
        case "raw":
            return _Raw(path, journal)
        case "json":
            return _Json(path)
        case _:
            return _Jsonl(path, journal)
