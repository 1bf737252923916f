"""`PoolItemsTrace`: measures the items of one pool. Their calls have spans of their own."""

from __future__ import annotations

from cloche.telemetry import _names as names
from cloche.telemetry._calls import Host

__all__ = ["PoolItemsTrace"]


class PoolItemsTrace:
    """See `cloche._runtime.tracing.PoolTrace`.

    Args:
        host: the `Telemetry`.
        label: label of the pool.
    """

    def __init__(self, host: Host, label: str) -> None:
        self._host = host
        self._labels = {names.POOL: label}

    def ended(self, outcome: str, waited_s: float | None) -> None:
        """See `PoolTrace`."""
        self._host.guarded(self._measure, outcome, waited_s)

    def _measure(self, outcome: str, waited_s: float | None) -> None:
        instruments = self._host.instruments
        instruments.pool_items.add(1, {**self._labels, names.POOL_OUTCOME: outcome})
        if waited_s is not None:
            instruments.pool_wait.record(waited_s, self._labels)
