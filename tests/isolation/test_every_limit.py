"""tests/runtime/test_every_limit.py, with the nodes in worker processes."""

from tests.runtime.test_every_limit import *  # noqa: F403
