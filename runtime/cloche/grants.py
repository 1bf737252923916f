"""What a node is given beyond its own code. Nothing by default."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from cloche.clock import Clock, Mode
from cloche.errors import ClocheError
from cloche.mounts import Mount, checked_mounts, checked_scratch
from cloche.services import Service, checked
from cloche.source import walk

__all__ = ["Grants"]

MAX_ARCHIVE_BYTES: Final = 64 << 20
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What a node may use; each field widens what it can reach.

    Attributes:
        packages: pure-Python packages made importable, in memory and read-only: a wheel, a zip, or a folder, which is either a
            package itself or holds packages and modules. Compiled extensions in them cannot be imported, and say so.
        opaque: objects of any class may leave this node for another one that has the same grant: pickled in one sandbox and
            unpickled in the other, on the host only a `cloche.Opaque`, which nothing unpickles.
        services: host functions that the node may call, by name: plain functions, or `cloche.Service` for conditions. In the node:
            ``from cloche_guest import services``, then ``services.name(...)``. See docs/how-to/services.md.
        mounts: folders of the host that the node's file functions reach: path in the node -> folder, or a `Mount` that says
            what may be written. A path alone is read-only.
        scratch_bytes: size of a private /tmp in the node's own memory, which counts for `Limits.memory_bytes`; 0: there is none.
        env: environment variables: ``os.environ`` as the node finds it. What it changes there stays its own.
        clock: "real": the host's clocks. "frozen": they stand still. "virtual": they advance by sleeping, which takes no time.
            Or a `cloche.Clock`, to say when they start.
        seed: makes all randomness a function of it: ``random``, numpy, ``uuid``, ``secrets``, ``os.urandom``. None: it is
            the operating system's. With a clock that is not real as well, the same inputs give the same outputs.
    """

    packages: Sequence[str | os.PathLike[str]] = ()
    opaque: bool = False
    services: Mapping[str, Callable[..., Any] | Service] = field(default_factory=dict, hash=False)
    mounts: Mapping[str, str | os.PathLike[str] | Mount] = field(default_factory=dict, hash=False)
    scratch_bytes: int = 0
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    clock: Clock | Mode = "real"
    seed: int | bytes | None = None

    def __post_init__(self) -> None:
        if isinstance(self.packages, (str, os.PathLike)):
            raise TypeError(f"Grants.packages is {self.packages!r}: give a list of paths")
        object.__setattr__(self, "packages", tuple(self.packages))
        object.__setattr__(self, "services", MappingProxyType(checked(self.services)))
        object.__setattr__(self, "mounts", checked_mounts(self.mounts))
        checked_scratch(self.scratch_bytes, self.mounts)
        object.__setattr__(self, "env", MappingProxyType(_checked_env(self.env)))
        if not isinstance(self.clock, Clock):
            object.__setattr__(self, "clock", Clock(self.clock))
        if type(self.seed) not in (int, bytes, type(None)):
            raise TypeError(f"Grants.seed is {self.seed!r}: give an int or bytes")

    def archives(self) -> dict[str, bytes]:
        """Read the packages: archive name -> content of a wheel or zip.

        Raises:
            FileNotFoundError: no such path.
            ClocheError: it is no wheel, zip or folder, or too large.
        """
        found: dict[str, bytes] = {}
        for package in self.packages:
            path = Path(package)
            name = path.resolve().name
            if name in found:
                raise ClocheError(f"two granted packages are called {name}: rename one")
            found[name] = _zipped(path.resolve()) if path.is_dir() else _archive(path)
        return found


def _checked_env(env: Mapping[Any, Any]) -> dict[str, str]:
    if not isinstance(env, Mapping):
        raise TypeError(f"Grants.env is {env!r}: give a dict of texts")
    for name, value in env.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"Grants.env has {name!r}: {value!r}: give a dict of texts")
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise ValueError(
                f"Grants.env has {name!r}: a name has no =, is not empty, and neither it nor its value has a NUL"
            )
        try:
            (name + value).encode()
        except UnicodeEncodeError:
            raise ValueError(f"Grants.env has {name!r}: {value!r}, which is not valid Unicode") from None
    return dict(env)


def _archive(path: Path) -> bytes:
    if not path.exists():
        raise FileNotFoundError(f"no such package: {path}")
    if path.stat().st_size > MAX_ARCHIVE_BYTES:
        raise ClocheError(f"package {path.name} has more than {MAX_ARCHIVE_BYTES} bytes")
    import zipfile  # slow to import, and rarely needed

    if not zipfile.is_zipfile(path):
        raise ClocheError(f"package {path.name} is not a wheel, a zip or a folder")
    return path.read_bytes()


def _zipped(folder: Path) -> bytes:
    """A folder as a zip: what is in it keeps its path below the folder, or below its parent for a package itself."""
    import zipfile  # as above

    root = folder.parent if (folder / "__init__.py").exists() else folder
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in walk(folder):
            archive.writestr(zipfile.ZipInfo(path.relative_to(root).as_posix(), _EPOCH), path.read_bytes())
    return content.getvalue()
