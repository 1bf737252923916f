"""tests/runtime/test_pools.py, with the nodes in worker processes."""

from tests.runtime.test_pools import *  # noqa: F403
