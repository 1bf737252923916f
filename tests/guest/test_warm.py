"""The rehearsal before the snapshot: it answers as it should, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import logging, sys, warnings
import numpy  # the rehearsal takes arrays along where there is numpy
from cloche_guest import services, values, warm  # services: as in the image, where boot has imported it


class Codec:  # stands in for the C codec natively: values pass as they are
    handle = None

    def loads(self, value):
        return value

    dumps = loads

    def register(self, handle, *hooks):
        self.handle = handle


def state():
    root = logging.getLogger()
    return {
        "modules": set(sys.modules),
        "finders": sys.meta_path[:],
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "handlers": root.handlers[:],
        "disabled": logging.root.manager.disable,
        "loggers": set(root.manager.loggerDict),
        "filters": warnings.filters[:],
    }


warm.rehearse(Codec(), values.encode, values.decode)  # imports what it needs
before = state()
codec = Codec()
warm.rehearse(codec, values.encode, values.decode)
after = state()
assert after == before, {name: (before[name], after[name]) for name in before if before[name] != after[name]}
assert codec.handle is not None
"""


def test_the_rehearsal_leaves_the_interpreter_as_it_was() -> None:
    """Modules, finders, streams, loggers and filters: an instance must not see that there was one."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
