"""``cloche run``: feeds a file to a node, chunk by chunk, and writes the outputs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cloche import Runtime, profile
from cloche.cli._console import Bar, LiveLog, say
from cloche.cli._input import open_input
from cloche.cli._output import open_output
from cloche.cli._profile import samples_table, table
from cloche.profiling import SampledProfile, sample
from cloche.replay import SUFFIX, Recording

if TYPE_CHECKING:
    from pathlib import Path

    from cloche import Node, Profile
    from cloche.cli._input import Form, Input
    from cloche.cli._options import NodeOptions
    from cloche.cli._output import Output
    from cloche.isolation import Isolation
    from cloche.limits import Limits
    from cloche.metering import Metering

__all__ = ["Job", "keep", "run", "shaped"]

_OPENS_HTML = "a page: open it in a browser"
_OPENS_JSON = ("open it in speedscope.app or ui.perfetto.dev", "open it in speedscope.app")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The options of ``cloche run``, which describes each of them."""

    node: NodeOptions
    method: str | None
    source: str | None
    target: str
    form: Form
    output_format: str | None
    limits: Limits
    metering: Metering
    isolation: Isolation
    profile: str | None
    record: Path | None
    sample: bool
    quiet: bool


def run(job: Job) -> None:
    """Run the node on all of the input, and print a summary on stderr.

    Raises:
        ClocheError, OSError: the node, the input or the output failed. No output file is left.
    """
    log = LiveLog()
    with (
        open_input(job.source, job.form) as source,
        open_output(job.target, job.output_format, rate=job.form.rate or source.rate, subtype=source.subtype) as target,
        Runtime(limits=job.limits, metering=job.metering, logger=log, isolation=job.isolation, progress=say) as runtime,
        Bar(job.node.entry or job.node.path, source.total, job.quiet) as bar,
    ):
        progress = _Progress(source, job.form.shape, bar)
        began = time.perf_counter()
        try:
            loaded = runtime.load(
                job.node.path, job.node.entry, job.node.params, grants=job.node.grants, record=job.record
            )
            node = log.attach(loaded)
            with _profiled(node, job):
                node.initialize()
                for value in _outputs(node, job, progress):
                    target.write(value)
            target.finish()
            if job.record is not None:
                keep(node.name, node.recording, job.record)
        except BrokenPipeError:  # the reader has enough, and wants to hear no more
            raise
        except BaseException as error:
            if recorded := getattr(error, "recording", ""):
                say(f"recorded: {recorded} (cloche replay makes the calls again)")
            written = (
                f"{target.count} outputs have been written to stdout"
                if job.target == "-"
                else f"{job.target} was not written"
            )
            say(f"stopped after {progress.items} items: {written}")
            raise
        seconds = time.perf_counter() - began
        summary = _summary(node, progress, target, seconds)
        node.close()
    if not job.quiet:
        _show(job, summary, target.note)


def keep(node: str, recording: Recording, folder: Path) -> None:
    """Write the last calls of a node to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    recording.save(folder / f"{Recording.file_name(node)}-last{SUFFIX}")


def _outputs(node: Node, job: Job, items: Iterable[Any]) -> Iterator[Any]:
    """What the node makes of the items, one at a time. A method is called for each item, or once if there is no input."""
    if job.method is None:
        return node.stream(None if job.source is None else items)
    results = [node.call(job.method)] if job.source is None else (node.call(job.method, item) for item in items)
    return (result for result in results if result is not None)


@contextmanager
def _profiled(node: Node, job: Job) -> Iterator[None]:
    """With ``--profile``, profile the calls in the block. The profile is written also when a call fails."""
    if job.profile is None:
        yield
        return
    found: Profile | SampledProfile
    with sample(node) if job.sample else profile(node) as found:
        try:
            yield
        finally:
            found.save(job.profile)
            if not job.quiet:
                lines = samples_table(found) if isinstance(found, SampledProfile) else table(found)
                for line in lines:
                    say(line)
                say(f"{'profile:':15}{job.profile} ({_OPENS_HTML if _is_page(job) else _OPENS_JSON[job.sample]})")


def _is_page(job: Job) -> bool:
    """Whether the profile is written as a page, which shows itself."""
    return job.sample and (job.profile or "").lower().endswith(".html")


class _Progress:
    """The items of an input, as ``--as`` shapes them. Counts them, and advances the progress bar."""

    def __init__(self, source: Input, shape: str, bar: Bar) -> None:
        self.items = self.units = 0
        self.rate = source.rate
        self._source, self._shape, self._bar = source, shape, bar

    def __iter__(self) -> Iterator[Any]:
        for item, size in self._source:
            yield shaped(item, self._shape, self.rate)
            self.items += 1
            self.units += size
            self._bar.advance(size)


def shaped(samples: Any, shape: str, rate: int | None) -> Any:
    """An item in the shape that ``--as`` asks for."""
    match shape:
        case "dict":
            return {"samples": samples, "sample_rate": rate}
        case "tuple":
            return samples, {"sample_rate": rate}
        case _:
            return samples


def _summary(node: Node, progress: _Progress, target: Output, seconds: float) -> list[tuple[str, str]]:
    stats = node.stats
    rows = [
        ("node", f"{node.info['entry']}, in CPython on WebAssembly"),
        ("items in, out", f"{progress.items:,}, {target.count:,}"),
        ("calls", f"{stats.calls:,}, {stats.seconds / max(1, stats.calls) * 1e3:.3f} ms each on average"),
        ("wall time", f"{seconds:.3f} s, {stats.seconds:.3f} s of it in the node"),
        ("guest memory", f"{stats.memory_bytes / (1 << 20):.1f} MiB"),
    ]
    if progress.rate:
        length = progress.units / progress.rate
        rows.insert(3, ("sound", f"{length:.1f} s, {length / seconds:.0f} times faster than real time"))
    if stats.dropped_records:
        rows.append(("log records", f"{stats.dropped_records:,} dropped"))
    return rows


def _show(job: Job, rows: list[tuple[str, str]], note: str) -> None:
    if job.target != "-":
        rows = [*rows, ("written", job.target)]
    sys.stdout.flush()
    for name, value in rows:
        say(f"{name + ':':15}{value}")
    if note:
        say(f"note: {note}")
