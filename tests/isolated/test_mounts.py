"""tests/sandbox/test_mounts.py, with the nodes in worker processes: files are opened in the host."""

from tests.sandbox.test_mounts import *  # noqa: F403
