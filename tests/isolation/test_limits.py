"""tests/runtime/test_limits.py, with the nodes in worker processes."""

from tests.runtime.test_limits import *  # noqa: F403
