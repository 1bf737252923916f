"""tests/runtime/test_snapshots.py, with the nodes in worker processes."""

from tests.runtime.test_snapshots import *  # noqa: F403
