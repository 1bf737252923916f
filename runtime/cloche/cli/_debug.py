"""``cloche debug``: a node's calls under a debugger, on the terminal or in an editor."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from cloche import Runtime
from cloche.cli._console import LiveLog, say
from cloche.cli._input import Form, open_input
from cloche.cli._output import open_output
from cloche.texts import clean, short

if TYPE_CHECKING:
    from cloche import Node
    from cloche.cli._options import NodeOptions
    from cloche.debug import Debugging
    from cloche.limits import Limits

__all__ = ["Job", "replay", "run"]

_FORM = Form(shape="array", input_format=None, chunk=1, dtype="float32", rate=None, channels=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The options of ``cloche debug``, which describes each of them."""

    node: NodeOptions
    source: str | None
    limits: Limits
    breakpoints: tuple[str, ...]
    port: int | None
    stdio: bool


def run(job: Job) -> None:
    """Debug the node on all of the input. Results are printed as lines of JSON.

    Raises:
        ClocheError, OSError: the node, the input or the output failed.
    """
    log = LiveLog()
    with ExitStack() as stack:
        streams = stack.enter_context(_Stdio()) if job.stdio else None
        items = _items(job, stack)
        runtime = stack.enter_context(Runtime(limits=job.limits, logger=log, progress=say))
        loaded = runtime.load(job.node.path, job.node.entry, job.node.params, grants=job.node.grants)
        node = log.attach(loaded)
        with _debugged(node, job, streams), open_output("-", "jsonl", rate=None, subtype=None) as target:
            node.initialize()
            for item in items:
                target.write(node.process(*item))
            target.finish()


def replay(path: str, breakpoints: tuple[str, ...], port: int | None, stdio: bool) -> None:
    """Debug the last call of a recording; with breakpoints, all of them.

    Raises:
        ClocheError: the file is no recording, or cannot be replayed.
        OSError: it cannot be read.
    """
    from cloche.replay import Recording
    from cloche.replay.debugging import debugging

    recording = Recording.open(path)
    calls = len(recording.calls)
    with ExitStack() as stack:
        streams = stack.enter_context(_Stdio()) if stdio else None
        runtime = stack.enter_context(Runtime(progress=say))
        debugged = stack.enter_context(
            debugging(
                recording,
                runtime=runtime,
                skip=0 if breakpoints else max(0, calls - 1),
                port=port,
                streams=None if streams is None else (streams.source, streams.send),
                breakpoints=breakpoints,
                stop_on_entry=not breakpoints,
            )
        )
        while (step := debugged.step()) is not None:
            outcome = clean(str(step.error)) if step.error is not None else short(step.value)
            say(f"{step.call.op}: {outcome}")


def _items(job: Job, stack: ExitStack) -> Iterable[tuple[Any, ...]]:
    """The arguments of each call."""
    if job.source is None:
        return [()]
    return ((item,) for item, _ in stack.enter_context(open_input(job.source, _FORM)))


def _debugged(node: Node, job: Job, streams: _Stdio | None) -> AbstractContextManager[Debugging]:
    places = [f"{job.node.path}:{place}" if place.isdigit() else place for place in job.breakpoints]
    return node.debug(
        port=job.port,
        streams=None if streams is None else (streams.source, streams.send),
        breakpoints=places,
        paths=dict(_paths(Path(job.node.path).absolute())),
    )


def _paths(path: Path) -> Iterator[tuple[str, str]]:
    """What the node's tracebacks call each of its files, and its path."""
    if path.is_dir():
        for file in path.rglob("*.py"):
            yield file.relative_to(path.parent).as_posix(), str(file)
    else:
        yield path.name, str(path)


class _Stdio:
    """Takes stdin and stdout for an editor. What else is printed meanwhile goes to stderr.

    Attributes:
        source: the editor's messages.
    """

    source: IO[bytes]

    def __enter__(self) -> Self:
        # descriptors of their own: a thread may still be reading when the interpreter ends, and closes sys.stdin
        self.source = os.fdopen(os.dup(0), "rb")
        self._target = os.fdopen(os.dup(1), "wb")
        self._stdout, sys.stdout = sys.stdout, sys.stderr
        return self

    def send(self, data: bytes) -> None:
        """Send bytes to the editor."""
        self._target.write(data)
        self._target.flush()

    def __exit__(self, *_: object) -> None:
        sys.stdout = self._stdout
