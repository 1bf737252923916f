"""The live view of a pipeline on the terminal: a table that is drawn anew a few times a second."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from cloche.cli._watch import HOST_HEADS, cells, host_cells
from cloche.texts import name

if TYPE_CHECKING:
    from cloche.cli._watch import Watch

__all__ = ["LiveView"]

_A_SECOND: Final = 4
"""How often it is drawn."""
_WIDE: Final = 100
"""Characters of a terminal that shows all columns."""
_SPARED: Final = ("place", "p50", "retries")
"""Columns that a narrower one does not show."""
_TEXTS: Final = ("node", "place", "host", "machine", "chains")
_EVENTS: Final = 3
"""Events that are shown."""


class LiveView:
    """Shows a pipeline on stderr while the block runs. If stderr is no terminal, nothing is shown.

    Args:
        watch: the pipeline.
        title: what is above the table.
        quiet: show nothing.
    """

    def __init__(self, watch: Watch, title: str, quiet: bool) -> None:
        self._watch = watch
        self._title = title
        self._live: Any = None
        self._console: Any = None
        self._shows = not quiet and sys.stderr.isatty()

    def _table(self) -> Any:
        from rich.box import SIMPLE_HEAD
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        spared = () if self._console.width >= _WIDE else _SPARED
        table = Table(
            title=Text(name(self._title)),
            caption=Text(f"{self._watch.seconds:.0f} s"),
            title_justify="left",
            caption_justify="left",
            box=SIMPLE_HEAD,
            pad_edge=False,
        )
        heads = [head for head in self._watch.heads if head not in spared]
        for head in heads:
            table.add_column(head, justify="left" if head in _TEXTS else "right", no_wrap=True)
        for figures in self._watch.look():
            table.add_row(*map(Text, cells(figures, heads)))  # Text: a name is no markup
        hosts = self._watch.hosts()
        if not hosts:
            return table
        machines = Table(box=SIMPLE_HEAD, pad_edge=False, caption=Text(_last(self._watch)), caption_justify="left")
        for head in HOST_HEADS:
            machines.add_column(head, justify="left" if head in _TEXTS else "right", no_wrap=True)
        for host in hosts:
            machines.add_row(*map(Text, host_cells(host)))
        return Group(table, machines)

    def __enter__(self) -> Self:
        if self._shows:
            from rich.console import Console
            from rich.live import Live

            self._console = Console(stderr=True)
            self._live = Live(
                get_renderable=self._table,
                console=self._console,
                refresh_per_second=_A_SECOND,
                transient=True,
                redirect_stdout=False,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


def _last(watch: Watch) -> str:
    """What has happened last in the cluster."""
    return "\n".join(f"{apart:.0f} s ago: {text}" for apart, text in watch.events()[-_EVENTS:])
