"""The work of ``cloche check``: the report on the sources, and the matrix of the nodes in them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloche import Runtime
from cloche.cli import _check, _paths
from cloche.cli._comparing import matrix, targets
from cloche.cli._console import Bar, say
from cloche.cli._input import Form, open_input
from cloche.cli._manifest import is_manifest
from cloche.cli._report import Finding, Report
from cloche.cli._run import shaped

if TYPE_CHECKING:
    from cloche.cli._comparing.rows import Row
    from cloche.cli._options import NodeOptions
    from cloche.isolation import Isolation
    from cloche.limits import Limits
    from cloche.metering import Metering

__all__ = ["Job", "check_paths", "checked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The options of ``cloche check``, which describes each of them."""

    node: NodeOptions
    limits: Limits
    metering: Metering
    isolation: Isolation
    source: str | None
    form: Form
    native: bool
    examples: int


def check_paths(node: NodeOptions) -> None:
    """Check that what is to be checked is there.

    Raises:
        ClocheError, OSError: it is not, or cannot be read.
    """
    if not is_manifest(node.path):
        _paths.check_node(node)
        return
    with Path(node.path).open("rb"):
        pass
    node.grants.archives()


def checked(job: Job) -> Report:
    """Check the sources, and then each node.

    Raises:
        ClocheError, OSError: nothing could be checked at all.
    """
    items = None if job.source is None else _items(job.source, job.form)
    with (
        tempfile.TemporaryDirectory(prefix="cloche-check-") as copies,
        Runtime(
            limits=job.limits, metering=job.metering, logger=matrix.Silent(), isolation=job.isolation, progress=say
        ) as runtime,
    ):
        if is_manifest(job.node.path):
            found = targets.in_manifest(job.node.path, job.node, runtime, job.limits, Path(copies))
            report = _of_sources(job, list(dict.fromkeys(target.path for target in found if target.path)))
        else:
            found = targets.in_source(job.node, runtime, job.limits)
            report = _reported(job, job.node, loads=len(found) == 1)
        settings = matrix.Settings(native=job.native, items=items, examples=job.examples, limits=job.limits)
        made = []
        is_called = job.native or job.examples or items is not None
        tried = found if is_called or len(found) > 1 else []  # the report says of a single node whether it loads
        with Bar("check", len(tried)) as bar:
            for target in tried:
                made.append(_advised(matrix.row(target, runtime, settings), report.findings))
                bar.advance(1)
    return replace(report, nodes=made)


def _items(source: str, form: Form) -> list[Any]:
    with open_input(source, form) as opened:
        return [shaped(item, form.shape, opened.rate) for item, _ in islice(opened, matrix.MOST_GIVEN)]


def _reported(job: Job, node: NodeOptions, *, loads: bool) -> Report:
    return _check.check(
        node, job.limits, job.metering, job.isolation, source=job.source if loads else None, form=job.form, loads=loads
    )


def _of_sources(job: Job, paths: Sequence[str]) -> Report:
    """One report on the sources of a pipeline's nodes."""
    reports = [_reported(job, replace(job.node, path=path, entry=None), loads=False) for path in paths]
    return Report(
        node=job.node.path,
        imports=[one for report in reports for one in report.imports],
        modules=[one for report in reports for one in report.modules],
        findings=[one for report in reports for one in report.findings],
        unread=[one for report in reports for one in report.unread],
        skipped=sum(report.skipped for report in reports),
        load=None,
        entry=None,
        call=None,
    )


def _advised(row: Row, findings: Sequence[Finding]) -> Row:
    """The row with the remedy of what was found in its source, if the node fails of that."""
    if row.verdict != "broken" or row.workaround:
        return row
    for found in findings:
        if f"{found.file}:{found.line}" in row.at or row.why.endswith(found.problem):
            return replace(row, workaround=f"{found.file}:{found.line}: {found.remedy}")
    return row
