"""tests/sandbox/test_values.py, with the nodes in worker processes."""

from tests.sandbox.test_values import *  # noqa: F403
