"""Adds os.fork, which refuses, when the modules of the image have been imported.

`random` and `asyncio` take its presence for that of os.register_at_fork, and concurrent.futures takes the latter's for a method of
locks that there is only where CPython can fork.
"""

import errno
import os
import posix

from cloche_refusal import PROCESSES, refusing

os.fork = posix.fork = refusing("os.fork", PROCESSES, OSError, errno.ENOSYS)
os.__all__.append("fork")
