"""The rehearsal before the snapshot: it answers as it should, and leaves nothing behind."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any

import numpy  # noqa: F401  # the rehearsal takes arrays along where there is numpy

from cloche_guest import values, warm


class Codec:
    """Stands in for the C codec natively: values pass as they are."""

    handle: Any = None

    def loads(self, value: Any) -> Any:
        return value

    dumps = loads

    def register(self, handle: Any, *hooks: Any) -> None:
        self.handle = handle


def test_the_rehearsal_leaves_the_interpreter_as_it_was() -> None:
    """Modules, finders, streams, loggers and filters: an instance must not see that there was one."""

    def state() -> tuple[Any, ...]:
        root = logging.getLogger()
        return (
            set(sys.modules),
            sys.meta_path[:],
            (sys.stdin, sys.stdout, sys.stderr),
            root.handlers[:],
            logging.root.manager.disable,
            set(root.manager.loggerDict),
            warnings.filters[:],
        )

    level = logging.getLogger().level
    warm.rehearse(Codec(), values.encode, values.decode)  # imports what it needs
    before = state()
    codec = Codec()
    warm.rehearse(codec, values.encode, values.decode)
    assert state() == before
    assert codec.handle is not None
    logging.getLogger().setLevel(level)
