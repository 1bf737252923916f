"""tests/sandbox/test_limits.py, with the nodes in worker processes."""

from tests.sandbox.test_limits import *  # noqa: F403
