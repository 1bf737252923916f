"""tests/sandbox/test_logs.py, with the nodes in worker processes."""

from tests.sandbox.test_logs import *  # noqa: F403
