"""tests/runtime/test_async.py, with the nodes in worker processes."""

from tests.runtime.test_async import *  # noqa: F403
