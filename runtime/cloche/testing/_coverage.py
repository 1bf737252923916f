"""`coverage`: which lines of nodes have run in their sandboxes, in the data format of coverage.py.

The guest notes the lines (`cloche_guest.coverage`), and the host takes the new ones after each call, as an observer of the sandbox.
What a guest says is untrusted: it names a line of a file whose text the host has sent, or nothing.
"""

from __future__ import annotations

import os
import struct
import threading
import warnings
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cloche.errors import ClocheError, ClosedError
from cloche.source import Source
from cloche.texts import name
from cloche_wire import Op, Reply

if TYPE_CHECKING:
    from cloche._runtime import NodeCalls, Runtime
    from cloche._sandbox import CheckedSandbox
    from cloche.source import Modules

__all__ = ["CoveredLines", "coverage"]

_LINE: Final = struct.Struct("<2I")
_NOTHING: Final = object()


@dataclass(frozen=True, slots=True)
class _File:
    """A file of a node.

    Attributes:
        path: where the host has it.
        guest: what the guest calls it.
        lines: number of its lines.
    """

    path: str
    guest: str
    lines: int


def _files(source: Source | str | os.PathLike[str], modules: Modules) -> list[_File]:
    """The files of a node that are files of this machine."""
    found = []
    for filename, text, _ in modules.files.values():
        if isinstance(source, Source):
            path = Path(filename)
            with suppress(OSError, ValueError):
                if path.suffix == ".py" and path.is_file() and path.read_text() == text:
                    found.append(_File(str(path.resolve()), filename, _count(text)))
            continue
        folder = Path(source).resolve()
        path = folder if modules.folder is None else folder.parent / filename
        found.append(_File(str(path), filename, _count(text)))
    return found


def _count(text: str) -> int:
    return text.count("\n") + 1


class CoveredLines:
    """The lines that have run so far. Thread-safe."""

    def __init__(self) -> None:
        self._lines: dict[str, set[int]] = {}
        self._problems: list[str] = []
        self._lock = threading.Lock()

    @property
    def lines(self) -> Mapping[str, frozenset[int]]:
        """Path of each file of a node that was loaded -> the numbers of the lines that have run."""
        with self._lock:
            return {path: frozenset(lines) for path, lines in self._lines.items()}

    @property
    def problems(self) -> tuple[str, ...]:
        """Why lines of a node may be missing; each was a RuntimeWarning, too."""
        with self._lock:
            return tuple(self._problems)

    def _add(self, path: str, lines: set[int]) -> None:
        with self._lock:
            self._lines.setdefault(path, set()).update(lines)

    def _note(self, problem: str) -> None:
        with self._lock:
            self._problems.append(problem)
        warnings.warn(f"coverage: {problem}", RuntimeWarning, stacklevel=2)


class _Follower:
    """Has one sandbox note its lines, and takes them after each call. An `Observer`.

    Args:
        sandbox: a sandbox at rest.
        files: the files of its node.
        covered: gets the lines.
    """

    def __init__(self, sandbox: CheckedSandbox, files: list[_File], covered: CoveredLines) -> None:
        self._sandbox = weakref.ref(sandbox)
        self._files = files
        self._covered = covered
        self._is_done = False
        for file in files:
            covered._add(file.path, set())  # noqa: SLF001  # of this module
        self._ask(sandbox, "cover", [file.guest for file in files])
        sandbox.observe(self)

    def begin(self) -> None:
        """See `Observer`."""

    def phase(self, name: str) -> None:
        """See `Observer`."""

    def end(self, op: int, call: int, failed: str) -> None:
        """See `Observer`. Take the lines of the call that has ended; those of one that broke the guest are gone with it."""
        sandbox = self._sandbox()
        if sandbox is None or sandbox.closed or self._is_done:
            return
        data = self._ask(sandbox, "covered")
        if data is _NOTHING:
            return
        if type(data) is not bytes or len(data) % _LINE.size:
            self._end(sandbox, "what it says of them is no list of lines")
            return
        fresh: dict[int, set[int]] = {}
        for number, line in _LINE.iter_unpack(data):
            if number >= len(self._files) or not 0 < line <= self._files[number].lines:
                self._end(sandbox, f"it names line {line} of file {number}, which it does not have")
                return
            fresh.setdefault(number, set()).add(line)
        for number, lines in fresh.items():
            self._covered._add(self._files[number].path, lines)  # noqa: SLF001  # of this module

    def _ask(self, sandbox: CheckedSandbox, *operands: Any) -> Any:
        """The guest's answer; _NOTHING if there is none, and then there will be none any more."""
        try:
            kind, value = sandbox.aside(Op.PROFILE, operands)
        except ClosedError:
            return _NOTHING
        except ClocheError as error:
            self._end(sandbox, str(error))
            return _NOTHING
        if kind is Reply.RESULT:
            return value
        self._end(sandbox, "it does not note them any more" if operands[0] == "covered" else "it cannot note them")
        return _NOTHING

    def _end(self, sandbox: CheckedSandbox, why: str) -> None:
        self._is_done = True
        self._covered._note(f"lines of node {name(sandbox.name)!r} may be missing: {name(why)}")  # noqa: SLF001  # of this module

    def leave(self, calls: NodeCalls) -> None:
        """End it, if it follows that node. Waits for the node's call under way."""
        sandbox = self._sandbox()
        if sandbox is not None and sandbox.observer is self and calls.name == sandbox.name:
            with suppress(ClocheError):
                calls.lock.run(self._leave, sandbox, calls)

    def _leave(self, sandbox: CheckedSandbox, calls: NodeCalls) -> None:
        calls.sandbox.end_observation(self)
        if sandbox.observer is not self:  # so it was this node's; others may have the same name
            calls.sandbox.aside(Op.PROFILE, ["uncover"])


@contextmanager
def coverage(runtime: Runtime, data_file: str | os.PathLike[str] | None = ".coverage") -> Iterator[CoveredLines]:
    """Note which lines run of nodes that are loaded inside the ``with`` block, and write them for coverage.py at its end.

    Lines of all the node's own files count, from its import on; of clones, pools, and nodes that are brought back after a break,
    too. Files of granted packages do not count, nor does code without a file. A line that runs often costs no more than without:
    the guest notes each once. After each call the host asks for the new ones. What a call has run that breaks its guest (a trap,
    a hard deadline) is not known. At the end of the block, calls under way are waited for.

    >>> import cloche
    >>> from cloche.testing import coverage
    >>> with cloche.Runtime() as runtime, coverage(runtime, data_file=None) as covered:
    ...     runtime.load(cloche.Source("def f(x): return x")).close()
    >>> covered.lines  # it has no file
    {}

    Args:
        runtime: the runtime that loads the nodes, with ``isolation="none"``.
        data_file: the file for ``coverage report`` and the like; lines are added to what is there. A name such as
            ".coverage.nodes" is one that ``coverage combine`` finds. None: no file, and coverage.py is not needed.

    Yields:
        the lines so far.

    Raises:
        ClocheError: coverage.py is not installed, or cannot write to `data_file`; or the runtime's nodes are in worker processes,
            or are being covered already.
    """
    if data_file is not None:
        _coverage_py()
    covered = CoveredLines()
    followers: list[_Follower] = []

    def follow(source: Source | str | os.PathLike[str], modules: Modules) -> Any:
        files = _files(source, modules)

        def begin(sandbox: CheckedSandbox) -> None:
            followers.append(_Follower(sandbox, files, covered))

        return begin if files else None

    runtime.follow_loads(follow)
    try:
        yield covered
    finally:
        runtime.follow_loads(None)
        for calls in runtime.living():
            for follower in followers:
                follower.leave(calls)
        if data_file is not None:
            _write(data_file, covered)


def _coverage_py() -> Any:
    try:
        import coverage
    except ImportError:
        raise ClocheError(
            "to write a file of coverage.py takes that package: pip install coverage, or give data_file=None"
        ) from None
    return coverage


def _write(data_file: str | os.PathLike[str], covered: CoveredLines) -> None:
    module, path = _coverage_py(), os.fspath(data_file)
    data = module.CoverageData(basename=path)
    try:
        data.read()
        data.add_lines(dict(covered.lines))
        data.touch_files(covered.lines)
        data.write()
    except module.CoverageException as error:
        raise ClocheError(
            f"the lines cannot be added to {path} ({error}): give another data_file. One with branches cannot have them"
        ) from error
    finally:
        data.close()
