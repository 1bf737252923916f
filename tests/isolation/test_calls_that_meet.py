"""tests/runtime/test_calls_that_meet.py, with the nodes in worker processes."""

from tests.runtime.test_calls_that_meet import *  # noqa: F403
