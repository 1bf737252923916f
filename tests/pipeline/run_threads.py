"""The threads of runs of pipelines, among all others that a process has."""

from __future__ import annotations

import threading

__all__ = ["run_threads"]

_KEPT = {"cloche-pool-clock", "cloche-services", "cloche-top", "cloche-workers"}
"""Names of the threads that Cloche keeps for the life of the process."""


def run_threads() -> dict[int | None, threading.Thread]:
    """The threads that belong to runs, by their idents."""
    return {t.ident: t for t in threading.enumerate() if t.name.startswith("cloche-") and t.name not in _KEPT}
