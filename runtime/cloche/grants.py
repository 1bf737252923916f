"""What a node may use besides its own code: packages, host functions, folders, variables, clocks. Nothing by default."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

from cloche._keywords import teaches_fields
from cloche._pickles import refuses_to_pickle
from cloche.clock import Clock, Mode
from cloche.errors import ClocheError
from cloche.mounts import Mount, checked_mounts, checked_scratch
from cloche.services import Service, checked
from cloche.source import packed, walk
from cloche.texts import short
from cloche_wire import tree

__all__ = ["Grants"]

MAX_ARCHIVE_BYTES: Final = 64 << 20


@teaches_fields
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Grants:
    """What a node may use. Each field gives the node access to something that it does not have otherwise.

    Attributes:
        packages: pure-Python packages that the node may import, and files that come with them. Each is a wheel, a zip or a folder,
            which the node sees as a read-only folder below ``/packages``. A folder is a package itself, a
            ``.dist-info`` folder, or holds packages and modules. Importing a compiled extension from one is an error.
        opaque: objects of any class may pass from this node to another node that has the same grant. They are pickled in one
            sandbox and unpickled in the other. The host holds them as `cloche.Opaque`, and never unpickles them.
        services: host functions that the node may call, by name: plain functions, or a `cloche.Service` with conditions. In the
            node: ``from cloche_guest import services``, then ``services.name(...)``. See docs/how-to/services.md.
        mounts: folders of the host that the node can open files in: path in the node -> folder. A plain path is mounted
            read-only; a `Mount` says whether the node may write, and how much.
        scratch_bytes: size of the node's private /tmp and home folder, in its own memory, which counts towards
            `Limits.memory_bytes`. 0: neither exists. None: 8 MiB, and 0 if something is mounted at or below /tmp.
        env: environment variables, the initial ``os.environ`` of the node. The node's changes are not seen outside of it.
        clock: "real": the host's clocks. "frozen": clocks that stand still. "virtual": clocks that only sleeping advances, and
            sleeping takes no time. A `cloche.Clock` also says at which time they start.
        seed: derives all randomness from this number: ``random``, numpy, ``uuid``, ``secrets``, ``os.urandom``. None: randomness
            is the operating system's. With a frozen or virtual clock as well, the same inputs give the same outputs.
    """

    packages: Sequence[str | os.PathLike[str]] = ()
    opaque: bool = False
    services: Mapping[str, Callable[..., Any] | Service] = field(default_factory=dict, hash=False)
    mounts: Mapping[str, str | os.PathLike[str] | Mount] = field(default_factory=dict, hash=False)
    scratch_bytes: int | None = None
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
        taken = [point for point in self.mounts if (point + "/").startswith("/packages/")]
        if taken and self.packages:
            raise ValueError(f"{taken[0]} is mounted, and granted packages are at /packages: mount it elsewhere")
        object.__setattr__(self, "env", MappingProxyType(_checked_env(self.env)))
        if not isinstance(self.clock, Clock):
            object.__setattr__(self, "clock", Clock(self.clock))
        if type(self.seed) not in (int, bytes, type(None)):
            raise TypeError(f"Grants.seed is {self.seed!r}: give an int or bytes")

    def __repr__(self) -> str:
        """What is granted. Services, variables and the seed without the values: they may be secrets, and reprs end up in logs."""
        shown = {
            "packages": [os.fspath(package) for package in self.packages],
            "opaque": self.opaque or None,
            "services": list(self.services),
            "mounts": dict(self.mounts),
            "scratch_bytes": self.scratch_bytes,
            "env": dict.fromkeys(self.env, _Hidden()),
            "clock": None if self.clock == Clock() else self.clock,
            "seed": None if self.seed is None else _Hidden(),
        }
        granted = [
            f"{name}={short(value)}" for name, value in shown.items() if value is not None and value not in ([], {})
        ]
        return f"Grants({', '.join(granted)})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the grants, with the values of `env`. Services are pickled by the names of their functions, as functions are."""
        for name, service in checked(self.services).items():
            for part in (service.function, service.gate):
                if part is not None and (reason := refuses_to_pickle(part)):
                    raise TypeError(
                        f"Grants.services[{name!r}] cannot be pickled ({reason}): define the function at the top of a module, or "
                        "make the Grants in the process that loads the node"
                    )
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return _granted, ({**plain, "services": dict(self.services), "env": dict(self.env)},)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # nothing in it changes, and a copy would need services that can be copied

    def archives(self) -> dict[str, bytes]:
        """Read the packages: archive name -> content of a wheel or zip, or a folder as a tree.

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
            found[name] = _tree(path.resolve()) if path.is_dir() else _archive(path)
        return found


class _Hidden:
    """Stands for a value that must not be shown."""

    def __repr__(self) -> str:
        return "<hidden>"


def _granted(values: dict[str, Any]) -> Grants:
    """Unpickle `Grants`: its fields are checked as those of any other."""
    return Grants(**values)


def _checked_env(env: Mapping[Any, Any]) -> dict[str, str]:
    if not isinstance(env, Mapping):
        raise TypeError(f"Grants.env is of type {type(env).__name__}: give a dict of texts")
    for name, value in env.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(
                f"Grants.env has {name!r}, whose value is of type {type(value).__name__}: give a dict of texts"
            )
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise ValueError(
                f"Grants.env has {name!r}: a name has no =, is not empty, and neither it nor its value has a NUL"
            )
        try:
            (name + value).encode()
        except UnicodeEncodeError:
            raise ValueError(f"Grants.env has {name!r}: the name or its value is not valid Unicode") from None
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


def _tree(folder: Path) -> bytes:
    """A folder as a tree. Paths in it are relative to the folder; for a package or metadata, to the folder that holds it."""
    is_inner = (folder / "__init__.py").exists() or folder.suffix in (".dist-info", ".egg-info")
    root = folder.parent if is_inner else folder
    found = {}
    for path in walk(folder):
        content = path.read_bytes()
        found[path.relative_to(root).as_posix()] = tree.File(content, len(content))
    return packed(folder.name, found)
