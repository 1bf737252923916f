"""tests/runtime/test_errors.py, with the nodes in worker processes."""

from tests.runtime.test_errors import *  # noqa: F403
