"""Floating point that an integer type does not hold: what native numpy makes of it on x86-64, whatever the layout of the array.

Natively the result is the same for all layouts, but for uint32: there the loops with SIMD have another one than those without, which is the
one that the image has.
"""

from __future__ import annotations

import platform
from typing import Any

import pytest

import cloche

pytestmark = [
    pytest.mark.isolation("none", reason="a worker has the same image"),
    pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="compares with x86-64"),
]

SOURCE = '''
import numpy as np

EDGES = [0.5, 1, 1.5, 127, 128, 255, 256, 300, 32767, 32768, 65535, 65536, 70000, 1e5, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**32, 2**32 + 1,
         3e9, 5e9, 1e10, 2**53, 2**62, 2.0**63 - 1024, 2.0**63, 2.0**63 + 2048, 1.5 * 2.0**63, 2.0**64 - 2048, 2.0**64, 2.0**65, 1e20, 1e30, 1e38,
         1e308, np.inf, np.nan, 5e-324]
VALUES = [0.0, *(value for edge in EDGES for beside in (edge - 0.5, edge, edge + 0.5, edge + 1) for value in (beside, -beside))]

def plain(array):
    native = array.astype(array.dtype.newbyteorder("="))
    return (native.view("i8") if array.dtype.kind in "mM" else native).tolist()

def assigned(value, target):
    """What an item becomes that is set to one value: natively, some of those that do not fit raise."""
    array = np.zeros(1, target)
    try:
        array[0] = value
    except (OverflowError, ValueError) as error:
        return type(error).__name__
    return plain(array)[0]

def casts(source, target):
    """The values after a cast, by the layout of what is cast."""
    with np.errstate(all="ignore"):
        values = np.array(VALUES).astype(source)
        unaligned = np.zeros(values.nbytes + 1, "u1")
        unaligned[1:] = values.view("u1")
        whole = np.zeros(values.size, target)
        whole[...] = values
        structure = np.zeros(values.size, [("pad", "i1"), ("value", source)])
        structure["value"] = values
        found = {
            "contiguous": values.astype(target), "strided": np.repeat(values, 3)[::3].astype(target), "reversed": values[::-1].astype(target)[::-1],
            "unaligned": unaligned[1:].view(values.dtype).astype(target), "swapped": values.astype(values.dtype.newbyteorder()).astype(target),
            "to swapped": values.astype(np.dtype(target).newbyteorder()), "assigned": whole, "field": structure["value"].astype(target),
            "short": np.concatenate([values[at:at + 3].astype(target) for at in range(0, values.size, 3)]),
            "one": np.array([value.astype(target) for value in values]),
        }
        if np.dtype(source).kind != "c" and np.dtype(target).kind in "iu":
            out = np.zeros(values.size, target)
            found["ufunc"] = np.positive(values, out=out, casting="unsafe")
        return {name: plain(array) for name, array in found.items()} | {"item": [assigned(value, target) for value in values]}
'''
SOURCES = ("f2", "f4", "f8", "g", "c8", "c16", "G")
TARGETS = ("?", "b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "m8[s]", "M8[us]")
_native: dict[str, Any] = {}
exec(SOURCE, _native)


@pytest.fixture(scope="module")
def casts(runtime):
    with runtime.load(cloche.Source(SOURCE), "casts") as node:
        yield node.process


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
@pytest.mark.sampled
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_a_cast_gives_what_x86_64_gives(casts, source, target):
    """In every layout: the compiler makes different code for each, and C says nothing about such values."""
    natively = _native["casts"](source, target)
    for layout, values in casts(source, target).items():
        assert values == natively["item" if layout == "item" else "one"], layout
