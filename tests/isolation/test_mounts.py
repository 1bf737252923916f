"""tests/runtime/test_mounts.py, with the nodes in worker processes: files are opened in the host."""

from tests.runtime.test_mounts import *  # noqa: F403
