"""The list of files that may enter the build: wasm/pins.toml, checked."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

GROUPS = ("source", "toolchain", "toolchain-libs", "hosttool", "hosttool-native")


@dataclass(frozen=True)
class Pin:
    """One file, identified by its sha256; `source` only says where a copy can be had."""

    name: str
    version: str
    source: str
    sha256: str
    group: str
    licence: str
    optional: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"pin {self.name}: {self.sha256!r} is not a sha256")
        if not re.fullmatch(r"(debian|pypi):[^\s:]+/[^\s/:]+", self.source):
            raise ValueError(
                f"pin {self.name}: source {self.source!r} is neither debian:<path> nor pypi:<project>/<file>"
            )
        if self.group not in GROUPS:
            raise ValueError(f"pin {self.name}: group {self.group!r} is none of {', '.join(GROUPS)}")

    @property
    def filename(self) -> str:
        return self.source.rsplit("/", 1)[1]


@dataclass(frozen=True)
class Pins:
    """All pins, by name."""

    by_name: dict[str, Pin]

    @classmethod
    def load(cls, path: Path) -> Pins:
        """Read a pin file.

        Raises:
            ValueError: an entry lacks a field, has one too many, or a name comes twice.
        """
        by_name: dict[str, Pin] = {}
        for entry in tomllib.loads(path.read_text("utf-8"))["pin"]:
            try:
                pin = Pin(**entry)
            except TypeError as error:
                raise ValueError(f"{path.name}: {entry.get('name', '?')}: {error}") from None
            if pin.name in by_name:
                raise ValueError(f"{path.name}: {pin.name} comes twice")
            by_name[pin.name] = pin
        return cls(by_name)

    def __getitem__(self, name: str) -> Pin:
        return self.by_name[name]

    def group(self, *names: str) -> list[Pin]:
        return [pin for pin in self.by_name.values() if pin.group in names]

    def digest_of(self, names: Iterable[str]) -> list[str]:
        """What a stage that reads these files depends on."""
        return [f"{name}={self.by_name[name].sha256}" for name in sorted(names)]
