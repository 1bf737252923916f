"""Reads a file as a sequence of items for a node: chunks of samples or of rows, a JSON document, lines of JSON, or rows of CSV."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import select
import stat
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from cloche.cli import _formats
from cloche.cli._console import InputError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Form", "Input", "open_input"]

_BUFFER: Final = 1 << 16

_SEPARATORS: Final = ",;\t"
_MOST_OF_A_CELL: Final = (1 << 31) - 1
"""Characters of one cell of CSV. Python's own bound is 131072; the limits of the node hold for what is sent to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How an input is read, and what a node is given of it. Options of every command that reads one.

    Attributes:
        shape: what ``--as`` says.
        input_format: the format; None: the suffix decides.
        chunk: samples or rows of an item.
        dtype: type of the samples of sound and raw input.
        rate: samples per second, for formats that do not have it.
        channels: of raw input.
    """

    shape: str
    input_format: str | None
    chunk: int
    dtype: str
    rate: int | None
    channels: int


class Input(ExitStack, ABC):
    """An open input. Iterating it yields (item, number of samples, rows or lines in it).

    Attributes:
        total: how many samples, rows or lines there are; None: not known before the end.
        rate: samples per second; None if the input is no sound.
        subtype: libsndfile's name for how the samples are stored, e.g. "PCM_16"; None if the input is no sound file.
    """

    total: int | None = None
    rate: int | None = None
    subtype: str | None = None
    _pipe: _Pipe | None = None

    @abstractmethod
    def __iter__(self) -> Iterator[tuple[Any, int]]: ...

    def interrupt(self) -> None:
        """End the wait of another thread for what comes out of a pipe: the input ends there."""
        if self._pipe is not None:
            self._pipe.interrupt()

    def _open(self, path: str) -> IO[bytes]:
        """The file, or stdin for ``-``."""
        if path == "-":
            file: IO[bytes] = sys.stdin.buffer
        else:
            file = self.enter_context(Path(path).open("rb"))  # noqa: SIM115  # closed with this input
        try:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return file
        except io.UnsupportedOperation:  # a stdin that a program has put there
            return file
        self._pipe = _Pipe(file.fileno())
        return self.enter_context(io.BufferedReader(self._pipe, _BUFFER))


class _Audio(Input):
    def __init__(self, path: str, chunk: int, dtype: str) -> None:
        super().__init__()
        sounds = _formats.soundfile()
        if dtype not in ("float32", "float64", "int16", "int32"):
            raise InputError(f"sound cannot be read as {dtype}: give --dtype float32, float64, int16 or int32")
        _check_file(path)
        try:
            self._file = self.enter_context(sounds.SoundFile(path))
        except sounds.LibsndfileError as error:
            raise InputError(f"{path} is no sound file that can be read: {error}") from error
        self.total, self.rate, self.subtype = self._file.frames, self._file.samplerate, self._file.subtype
        self._chunk, self._dtype = chunk, dtype

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        while len(samples := self._file.read(self._chunk, dtype=self._dtype)):
            yield samples, len(samples)


class _Npy(Input):
    def __init__(self, path: str, chunk: int, rate: int | None) -> None:
        super().__init__()
        np = _formats.numpy()
        _check_file(path)
        try:
            self._array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise InputError(f"{path} is no .npy file that can be read: {error}") from error
        if not isinstance(self._array, np.ndarray):  # an .npz by another name
            raise InputError(f"{path} has several arrays: save the one that is meant as .npy")
        if self._array.ndim == 0:
            raise InputError(f"{path} has an array without dimensions, which cannot be cut into chunks")
        self.total, self.rate = len(self._array), rate
        self._chunk = chunk

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        for start in range(0, len(self._array), self._chunk):
            rows = self._array[start : start + self._chunk].copy()
            yield rows, len(rows)


class _Raw(Input):
    def __init__(self, path: str, chunk: int, dtype: str, channels: int, rate: int | None) -> None:
        super().__init__()
        np = _formats.numpy()
        try:
            self._dtype = np.dtype(dtype)
        except TypeError as error:
            raise InputError(f"{dtype!r} is no type of samples: {error}") from error
        if self._dtype.hasobject or not self._dtype.itemsize:
            raise InputError(f"raw input has no {dtype} samples")
        self._file = self._open(path)
        self._path, self._chunk, self._channels, self.rate = path, chunk, channels, rate
        if path != "-" and stat.S_ISREG((found := Path(path).stat()).st_mode):
            self.total = found.st_size // (self._dtype.itemsize * channels)

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        np = _formats.numpy()
        frame = self._dtype.itemsize * self._channels
        while block := self._file.read(self._chunk * frame):
            if len(block) % frame:
                raise InputError(f"{self._path} ends within a sample of {frame} bytes: is --dtype or --channels wrong?")
            samples = np.frombuffer(block, self._dtype)
            yield samples if self._channels == 1 else samples.reshape(-1, self._channels), len(block) // frame


class _Jsonl(Input):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._file = self._open(path)

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        for number, line in enumerate(self._file, 1):
            if line.strip():
                try:
                    item = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise InputError(f"{self._path}, line {number}: not JSON: {error}") from error
                yield item, 1


class _Json(Input):
    """A file with one JSON document, which is one item whatever it is."""

    total = 1

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._file = self._open(path)

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        try:
            item = json.loads(self._file.read())
        except (ValueError, RecursionError) as error:
            several = isinstance(error, json.JSONDecodeError) and error.msg == "Extra data"
            advice = ". For one document a line, give --input-format jsonl" if several else ""
            raise InputError(f"{self._path}: not one JSON document: {error}{advice}") from error
        yield item, 1


class _Csv(Input):
    """Rows of a table whose first row names the columns: a dict of texts each, since CSV has no types."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._file = self._open(path)

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        csv.field_size_limit(_MOST_OF_A_CELL)
        lines = self._lines()
        head = next(lines, None)
        if head is None:
            return
        rows = csv.reader(_chained(head, lines), delimiter=max(_SEPARATORS, key=head.count), strict=True)
        try:
            names = next(rows)
            repeated = [name for name in names if not name or names.count(name) > 1]
            if repeated:
                what = f"{repeated[0]!r} twice" if repeated[0] else "a column without a name"
                raise InputError(f"{self._path}: the first row has to name the columns, and has {what}")
            for row in rows:
                if not row:  # an empty line
                    continue
                if len(row) != len(names):
                    raise InputError(
                        f"{self._path}, line {rows.line_num}: {len(row)} cells, and the first row names {len(names)} columns"
                    )
                yield dict(zip(names, row, strict=True)), 1
        except csv.Error as error:
            raise InputError(f"{self._path}, line {rows.line_num}: not CSV: {error}") from error

    def _lines(self) -> Iterator[str]:
        """The lines with their ends, which belong to the cells between quotes."""
        for number, line in enumerate(self._file, 1):
            try:
                yield (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).decode()
            except UnicodeDecodeError as error:
                raise InputError(f"{self._path}, line {number}: not UTF-8: {error}") from error


def _chained(first: str, others: Iterator[str]) -> Iterator[str]:
    yield first
    yield from others


class _Nothing(Input):
    """No items: for a node that is a source."""

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        return iter(())


def _check_file(path: str) -> None:
    """Check that a path can be read more than once, at any place. Opening a pipe, to find out, would wait for its writer."""
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"no such file: {path}") from None
    if stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode) or stat.S_ISSOCK(found.st_mode):
        raise InputError(f"{path} is a pipe or a device: this format is read from files")
    with Path(path).open("rb"):  # libsndfile would say "System error" of a file that this user cannot read
        pass


class _Pipe(io.RawIOBase):
    """Reads from a descriptor until the end, or until another thread says that nobody wants more. It does not close the descriptor.

    A thread that waits in a plain ``read`` cannot be ended, and at exit Python waits for the lock that it holds.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._ended, self._end = os.pipe()
        self._poll = select.poll()
        for one in (descriptor, self._ended):
            self._poll.register(one, select.POLLIN)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not (ready := [one for one, _ in self._poll.poll()]):
            pass
        return 0 if self._ended in ready else os.readv(self._descriptor, [buffer])

    def interrupt(self) -> None:
        """End the wait, and the stream."""
        if not self.closed:
            os.write(self._end, b".")

    def close(self) -> None:
        if not self.closed:
            os.close(self._ended)
            os.close(self._end)
        super().close()


def open_input(path: str | None, form: Form) -> Input:
    """Open a file, or stdin for ``-``.

    Args:
        path: the file; None: no input.
        form: how to read it.

    Raises:
        InputError: the file has not this format.
        OSError: the file cannot be opened.
    """
    if path is None:
        return _Nothing()
    match _formats.input_format_of(path, form.input_format):
        case "audio":
            return _Audio(path, form.chunk, form.dtype)
        case "npy":
            return _Npy(path, form.chunk, form.rate)
        case "raw":
            return _Raw(path, form.chunk, form.dtype, form.channels, form.rate)
        case "json":
            return _Json(path)
        case "csv":
            return _Csv(path)
        case _:
            return _Jsonl(path)
