"""tests/sandbox/test_pools.py, with the nodes in worker processes."""

from tests.sandbox.test_pools import *  # noqa: F403
