"""tests/runtime/test_streams.py, with the nodes in worker processes."""

from tests.runtime.test_streams import *  # noqa: F403

del test_memory_is_flat_over_a_hundred_thousand_items  # noqa: F821  # a minute of switching between processes
