"""``cloche run`` with a pipeline: feeds a file to its first nodes, and writes what its last ones make."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloche.cli._cluster import opened
from cloche.cli._console import InputError, logger, say
from cloche.cli._input import open_input
from cloche.cli._journal import Journal
from cloche.cli._letters import DeadLetters, trace
from cloche.cli._live import LiveView
from cloche.cli._output import APPENDED, open_output
from cloche.cli._resume import Progress
from cloche.cli._run import keep, shaped
from cloche.cli._serve import Server
from cloche.cli._watch import Watch, cells
from cloche.pipeline import Checkpoint, Pipeline, PipelineError
from cloche.replay import Recording
from cloche.texts import name

if TYPE_CHECKING:
    from cloche.cli._cluster import Chosen
    from cloche.cli._input import Form, Input
    from cloche.cli._manifest import Decided
    from cloche.cli._options import Address
    from cloche.cli._output import Output
    from cloche.cluster import Cluster
    from cloche.isolation import Isolation

__all__ = ["Job", "check_appends", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The options of ``cloche run`` with a pipeline, which describes each of them."""

    pipeline: Decided
    source: str | None
    target: str
    form: Form
    output_format: str | None
    isolation: Isolation
    level: int | None
    session: str | None
    checkpoint: str | None
    checkpoint_every: int
    resume: str | None
    dead_letters: str | None
    serve: Address | None
    record: Path | None
    on: Chosen | None
    quiet: bool

    @property
    def reading(self) -> dict[str, Any]:
        """How the input is cut into items."""
        return {
            "--chunk": self.form.chunk,
            "--as": self.form.shape,
            "--input-format": self.form.input_format,
            "--dtype": self.form.dtype,
            "--rate": self.form.rate,
            "--channels": self.form.channels,
        }


def run(job: Job) -> None:
    """Run the pipeline on all of the input, and print a summary on stderr.

    Raises:
        ClocheError, OSError: a node, the input or the output failed. What becomes of the output is said.
    """
    specs = job.pipeline.specs(job.level)
    progress = None if job.resume is None else Progress.load(job.resume)
    if progress is not None:
        progress.check_reading(job.reading)
    with ExitStack() as stack:
        source = stack.enter_context(open_input(job.source, job.form))
        journal = _journal(job, progress)
        target = stack.enter_context(
            open_output(
                job.target,
                job.output_format,
                rate=job.form.rate or source.rate,
                subtype=source.subtype,
                journal=journal,
            )
        )
        begin = None if progress is None else progress.checkpoint.items
        letters = None if job.dead_letters is None else stack.enter_context(DeadLetters(job.dead_letters, begin))
        title = name(job.pipeline.manifest.metadata.name)
        pipeline = stack.enter_context(
            Pipeline(
                specs,
                job.pipeline.manifest.edges,
                name=title,
                logger=logger(warnings_only=job.quiet),
                isolation=job.isolation,
                progress=say,
                record=job.record,
            )
        )
        items = _Items(source, job.form.shape, begin or 0)
        cluster = None if job.on is None else stack.enter_context(opened(job.on))
        watch = Watch(pipeline, cluster)
        if job.serve is not None:
            stack.enter_context(Server(job.serve, watch, pipeline.graph, title))
        with (
            LiveView(watch, title, job.quiet or (job.target == "-" and sys.stdout.isatty())),
            redirect_stdout(_Prints()),
        ):
            _work(job, pipeline, cluster, items, target, letters, progress, journal)
        summary = _summary(job, watch, items, target, letters)
    if not job.quiet:
        sys.stdout.flush()
        for text in summary:
            say(text)


class _Prints(io.TextIOBase):
    """What native nodes print: to stderr, as stdout has the results."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _journal(job: Job, progress: Progress | None) -> Journal | None:
    """The output, if the run can be gone on with."""
    if job.checkpoint is None and progress is None:
        return None
    return Journal(job.target, None if progress is None else progress.output)


def _work(
    job: Job,
    pipeline: Pipeline,
    cluster: Cluster | None,
    items: _Items,
    target: Output,
    letters: DeadLetters | None,
    progress: Progress | None,
    journal: Journal | None,
) -> None:
    def save(point: Checkpoint) -> None:
        assert job.checkpoint is not None
        assert journal is not None
        if letters is not None:
            letters.sync()
        Progress(point, journal.sync(), job.reading).save(job.checkpoint)

    options: dict[str, Any] = {"session_id": job.session, "on": cluster}
    if job.checkpoint is not None:
        options |= {"checkpoint_every": job.checkpoint_every, "on_checkpoint": save}
    if letters is not None:
        options["dead_letters"] = letters.add
    given = None if job.source is None else items
    try:
        outputs: Any = (
            pipeline.run(given, **options)
            if progress is None
            else pipeline.resume(progress.checkpoint, given, **options)
        )
        with closing(outputs):
            for value in outputs:
                target.write(value)
        target.finish()
        if job.record is not None:
            _keep(pipeline, job.record)
    except BrokenPipeError:  # the reader has enough, and wants to hear no more
        raise
    except BaseException as error:
        if isinstance(error, PipelineError) and (told := trace(error.__cause__)):
            say(told.rstrip("\n"))
        if recorded := getattr(error, "recording", ""):
            say(f"recorded: {recorded} (cloche replay makes the calls again)")
        say(f"stopped after {items.count} items: {_left(job, target)}")
        if isinstance(error, PipelineError) and (remedy := getattr(error.__cause__, "remedy", "")):
            say(remedy)
        if isinstance(error, ExceptionGroup):
            raise InputError(f"{error.message}: {'; '.join(map(str, error.exceptions))}") from error
        raise
    finally:
        items.close()


def _keep(pipeline: Pipeline, folder: Path) -> None:
    """Write the last calls of each recorded node to the folder."""
    stems = [Recording.file_name(node) for node in pipeline.recordings]
    for number, (node, recording) in enumerate(pipeline.recordings.items()):
        is_alone = stems.count(stems[number]) == 1  # of long ids, files have the beginnings
        keep(node if is_alone else f"{number}-{node}", recording, folder)


def _left(job: Job, target: Output) -> str:
    """What the user finds after a run that did not come to its end."""
    if job.target == "-":
        return f"{target.count} outputs have been written to stdout"
    if job.checkpoint is not None:
        return f"go on with --resume {job.checkpoint}, if it is there; {job.target} is cut to that place then"
    if job.resume is not None:
        return f"{job.target} has more than at --resume {job.resume}, with which you can go on again"
    return f"{job.target} was not written"


class _Items:
    """The items of an input, as ``--as`` shapes them. The pipeline takes them on a thread of its own.

    Args:
        source: the input.
        shape: of the items.
        skip: items that the interrupted run has worked on.

    Attributes:
        count: items that have been taken.
        units: samples, rows or lines in them.
        rate: samples per second; None: the input is no sound.
    """

    def __init__(self, source: Input, shape: str, skip: int) -> None:
        self.count = self.units = 0
        self.rate = source.rate
        self._source, self._shape, self._skip = source, shape, skip
        self._iterator = iter(source)
        self._lock = threading.Lock()
        self._is_closed = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with self._lock:
            for number in range(self._skip):
                if self._is_closed:
                    break
                if next(self._iterator, None) is None:
                    raise InputError(
                        f"--resume: the input has {number} items, and {self._skip} have been worked on: give the same input"
                    )
            self._skip = 0
            if self._is_closed:
                raise StopIteration
            item, size = next(self._iterator)
            self.count += 1
            self.units += size
            return shaped(item, self._shape, self.rate)

    def close(self) -> None:
        """Take no more items. When this returns, the input is not being read."""
        self._is_closed = True
        self._source.interrupt()
        with self._lock:
            pass


def _summary(job: Job, watch: Watch, items: _Items, target: Output, letters: DeadLetters | None) -> list[str]:
    seconds = watch.seconds
    rows = [("items in, out", f"{items.count:,}, {target.count:,}"), ("wall time", f"{seconds:.3f} s")]
    if items.rate:
        length = items.units / items.rate
        rows.append(("sound", f"{length:.1f} s, {length / seconds:.0f} times faster than real time"))
    if job.on is not None:
        hosts = watch.hosts()
        machines = {host.status.machine for host in hosts}
        rows.append(("cluster", f"{job.on.kind}, {_many(len(hosts), 'host')} on {_many(len(machines), 'machine')}"))
        rows += [("", text) for _, text in watch.events()]
    if letters is not None and letters.count:
        rows.append(("dead letters", f"{letters.count:,}, in {job.dead_letters}"))
    if job.target != "-":
        rows.append(("written", job.target))
    if target.note:
        rows.append(("note", target.note))
    return [f"{title and title + ':':15}{text}" for title, text in rows] + _table(watch, seconds)


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _table(watch: Watch, seconds: float) -> list[str]:
    """The figures of each node, as lines."""
    lines = [watch.heads, *(cells(figures, watch.heads, seconds=seconds) for figures in watch.look())]
    queue = watch.heads.index("queue")
    lines = [(*row[:queue], *row[queue + 1 :]) for row in lines]  # nothing waits any more
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = watch.heads.index("items")
    return ["  ".join(_padded(row, widths, texts)) for row in lines]


def _padded(row: Sequence[str], widths: Sequence[int], texts: int) -> Iterator[str]:
    """The cells of a row; numbers, which come behind that many texts, stand at the right."""
    for at, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if at < texts else cell.rjust(width)


def check_appends(target: str, chosen: str | None) -> None:
    """Check that an output can be gone on with.

    Raises:
        InputError: it is stdout, or its format is completed at the end.
    """
    from cloche.cli import _formats

    kind = _formats.output_format_of(target, chosen)
    if target == "-" or kind not in APPENDED:
        what = "stdout" if target == "-" else f"a file of the format {kind}"
        raise InputError(
            f"--checkpoint and --resume go on with the output: give --output FILE.jsonl or .raw, not {what}"
        )
