"""tests/runtime/test_clock.py and test_seed.py, with the nodes in worker processes: clocks and randomness are the worker's."""

from tests.runtime.test_clock import *  # noqa: F403
from tests.runtime.test_seed import *  # noqa: F403
