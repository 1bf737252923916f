"""The format of a file, and the optional libraries that some formats need."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, Final

from cloche.cli._console import InputError

__all__ = ["AUDIO", "ITEMS", "input_format_of", "numpy", "output_format_of", "soundfile"]

AUDIO: Final = {
    ".8svx": "SVX", ".aif": "AIFF", ".aifc": "AIFF", ".aiff": "AIFF", ".au": "AU", ".avr": "AVR", ".caf": "CAF", ".flac": "FLAC",
    ".htk": "", ".iff": "SVX", ".ircam": "IRCAM", ".mat": "MAT5", ".mp3": "MP3", ".mpc": "MPC2K", ".nist": "NIST", ".oga": "OGG",
    ".ogg": "OGG", ".opus": "OGG", ".paf": "PAF", ".pvf": "PVF", ".rf64": "RF64", ".sd2": "", ".sds": "SDS", ".sf": "IRCAM",
    ".snd": "AU", ".sph": "NIST", ".svx": "SVX", ".voc": "VOC", ".w64": "W64", ".wav": "WAV", ".wave": "WAV", ".wve": "",
    ".xi": "",
}  # fmt: skip
"""Suffixes of sound files, each with libsndfile's name of the format. "": it is read only, as a file that is written would lack its
second part, or say another rate.
"""
ITEMS: Final = {
    "csv": "CSV: each row is one item",
    "json": "JSON: a document is one item",
    "jsonl": "lines of JSON: each line is one item",
}
"""Formats of items that are not cut out of an array."""
_SUFFIXES: Final = {
    **dict.fromkeys(AUDIO, "audio"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    **dict.fromkeys((".raw", ".pcm", ".bin"), "raw"),
    ".json": "json",
    ".npy": "npy",
}
_TABLES: Final = dict.fromkeys((".csv", ".tsv"), "csv")
_NO_PIPES: Final = ("audio", "npy")


def input_format_of(path: str, chosen: str | None) -> str:
    """The format of an input, a file or ``-`` for stdin.

    Raises:
        InputError: the suffix is not known, or the format cannot be read from a pipe.
    """
    return _format_of(path, chosen, "--input-format", _SUFFIXES | _TABLES)


def output_format_of(path: str, chosen: str | None) -> str:
    """The format of an output, a file or ``-`` for stdout.

    Raises:
        InputError: the suffix is not known, or the format cannot be written to a pipe.
    """
    return _format_of(path, chosen, "--output-format", _SUFFIXES)


def _format_of(path: str, chosen: str | None, option: str, suffixes: dict[str, str]) -> str:
    formats = list(dict.fromkeys(suffixes.values()))
    if path == "-":
        found = chosen or "jsonl"
        if found in _NO_PIPES:
            streamable = [each for each in formats if each not in _NO_PIPES]
            raise InputError(f"{found} needs a file: a pipe can only be {' or '.join(streamable)} ({option})")
        return found
    by_suffix = chosen or suffixes.get(Path(path).suffix.lower())
    if by_suffix is None:
        raise InputError(f"what kind of file {path} is cannot be told from its name: give {option} {'|'.join(formats)}")
    return by_suffix


def numpy() -> Any:
    """The numpy module."""
    return _import("numpy", "numpy")


def soundfile() -> Any:
    """The soundfile module (libsndfile)."""
    return _import("soundfile", "audio")


def _import(name: str, extra: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: soundfile without its library
        raise InputError(f"this needs {name}: pip install 'cloche[{extra}]' ({error})") from error
