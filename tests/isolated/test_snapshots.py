"""tests/sandbox/test_snapshots.py, with the nodes in worker processes."""

from tests.sandbox.test_snapshots import *  # noqa: F403
