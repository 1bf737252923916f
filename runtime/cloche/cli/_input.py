"""Reads a file as a sequence of items for a node: chunks of samples or of rows, or lines of JSON."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import IO, Any

from cloche.cli import _formats
from cloche.cli._console import InputError

__all__ = ["Input", "open_input"]


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

    @abstractmethod
    def __iter__(self) -> Iterator[tuple[Any, int]]: ...


class _Audio(Input):
    def __init__(self, path: str, chunk: int, dtype: str) -> None:
        super().__init__()
        sounds = _formats.soundfile()
        if dtype not in ("float32", "float64", "int16", "int32"):
            raise InputError(f"sound cannot be read as {dtype}: give --dtype float32, float64, int16 or int32")
        if not Path(path).exists():
            raise FileNotFoundError(f"no such file: {path}")
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
        try:
            self._array = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise InputError(f"{path} is no .npy file that can be read: {error}") from error
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
        self._file = self.enter_context(_binary(path))
        self._path, self._chunk, self._channels, self.rate = path, chunk, channels, rate
        if path != "-":
            self.total = Path(path).stat().st_size // (self._dtype.itemsize * channels)

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
        self._file = self.enter_context(_binary(path))

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        for number, line in enumerate(self._file, 1):
            if line.strip():
                try:
                    item = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise InputError(f"{self._path}, line {number}: not JSON: {error}") from error
                yield item, 1


class _Nothing(Input):
    """No items: for a node that is a source."""

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        return iter(())


def _binary(path: str) -> AbstractContextManager[IO[bytes]]:
    return nullcontext(sys.stdin.buffer) if path == "-" else Path(path).open("rb")


def open_input(
    path: str | None, chosen: str | None, *, chunk: int, dtype: str, channels: int, rate: int | None
) -> Input:
    """Open a file, or stdin for ``-``.

    Args:
        path: the file; None: no input.
        chosen: the format; None: the suffix decides.
        chunk: samples or rows of an item.
        dtype: type of the samples of sound and raw input.
        channels: of raw input.
        rate: samples per second, for formats that do not have it.

    Raises:
        InputError: the file has not this format.
        OSError: the file cannot be opened.
    """
    if path is None:
        return _Nothing()
    match _formats.format_of(path, chosen, "--input-format"):
        case "audio":
            return _Audio(path, chunk, dtype)
        case "npy":
            return _Npy(path, chunk, rate)
        case "raw":
            return _Raw(path, chunk, dtype, channels, rate)
        case _:
            return _Jsonl(path)
