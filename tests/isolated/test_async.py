"""tests/sandbox/test_async.py, with the nodes in worker processes."""

from tests.sandbox.test_async import *  # noqa: F403
