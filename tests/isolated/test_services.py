"""tests/sandbox/test_services.py and test_async_services.py, with the nodes in worker processes: services run in the host."""

from tests.sandbox.test_async_services import *  # noqa: F403
from tests.sandbox.test_services import *  # noqa: F403
