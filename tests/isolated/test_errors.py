"""tests/sandbox/test_errors.py, with the nodes in worker processes."""

from tests.sandbox.test_errors import *  # noqa: F403
