"""tests/sandbox/test_clock.py and test_seed.py, with the nodes in worker processes: clocks and randomness are the worker's."""

from tests.sandbox.test_clock import *  # noqa: F403
from tests.sandbox.test_seed import *  # noqa: F403
