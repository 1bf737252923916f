"""Log records of a node that lies about them, in a worker that has other nodes."""

from __future__ import annotations

import cloche
from cloche._wasm.core import Word
from tests.limits import patient


def test_a_ring_that_claims_more_lost_records_than_a_number_holds(own):
    """It costs its node's records, and neither the call nor the worker, which has other nodes."""
    text = (
        "import numpy as np\n"
        "def f(ring):\n"
        "    class Header:\n        __array_interface__ = {'data': (ring, False), 'shape': (8,), 'typestr': '<u4', 'version': 3}\n"
        "    np.asarray(Header())[:] = 0xFFFFFFFF\n"
        "    return ring\n"
    )
    with cloche.Runtime(limits=patient()) as here, here.load(cloche.Source("def f(x):\n    return x\n")) as probe:
        ring = probe._sandbox._words[Word.RING]
    with own.load(cloche.Source(text), "f") as node:
        assert [node.process(ring), node.process(ring)] == [ring, ring]
        assert node.stats.dropped_records >= 2 * 0xFFFF_FFFF
