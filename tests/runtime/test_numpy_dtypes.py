"""numpy's dtypes in the image, beside the same expressions natively: as pickles, repeated, as buffers, and made of ctypes' types."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import cloche

pytestmark = pytest.mark.isolation("none", reason="a worker has the same image")

SOURCE = '''
import copy, ctypes, pickle
import numpy as np

def again(value):
    """The value after each protocol, where these agree."""
    copies = [pickle.loads(pickle.dumps(value, protocol)) for protocol in range(2, 6)]
    assert all(repr(made) == repr(value) for made in copies)
    return copies[-1]

class Pair(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("one", ctypes.c_uint8), ("two", ctypes.c_int32), ("three", ctypes.c_double * 2)]

class Either(ctypes.Union):
    _fields_ = [("a", ctypes.c_uint32), ("b", ctypes.c_int64)]

class Big(ctypes.BigEndianStructure):
    _fields_ = [("one", ctypes.c_uint16), ("two", ctypes.c_uint32)]

def run(expression):
    try:
        return repr(eval(expression))
    except Exception as error:
        return [type(error).__name__, str(error)]
'''
_native: dict[str, Any] = {"__name__": "native"}
exec(SOURCE, _native)

STRUCTURES = [
    [("a", "i4"), ("b", "f8")],
    {"names": ["a", "b"], "formats": ["i4", "u1"], "offsets": [4, 16], "itemsize": 40},
    [("a", ">f4", (2, 1)), ("b", [("c", "S3"), ("d", "U2")])],
    [(("title", "a"), "u1")],
    "U5",
    "S3",
    "V7",
    "M8[25us]",
]
STRUCTURE_NAMES = ["plain", "padded", "nested", "titled", "texts", "bytes", "void", "times"]


@pytest.fixture(scope="module")
def evaluate(runtime):
    with runtime.load(cloche.Source(SOURCE), "run") as node:
        yield node.process


@pytest.mark.parametrize("structure", STRUCTURES, ids=STRUCTURE_NAMES)
@pytest.mark.parametrize(
    "form",
    [
        "again(np.dtype({}))",
        "again(np.dtype({}, align=True)).itemsize",
        "again(np.zeros(3, {}))",
        "copy.deepcopy(np.dtype({}))",
    ],
    ids=["dtype", "aligned", "array", "copy"],
)
def test_dtypes_are_pickled_whole(evaluate, form, structure):
    """The size of a dtype was lost on the way, and an array of it could not be unpickled."""
    expression = form.format(repr(structure))
    assert evaluate(expression) == _native["run"](expression)


@pytest.mark.parametrize("structure", STRUCTURES, ids=STRUCTURE_NAMES)
@pytest.mark.parametrize("protocol", [2, 5])
def test_a_pickle_of_the_host_is_read(evaluate, structure, protocol):
    array = np.zeros(2, structure)
    assert evaluate(f"pickle.loads({pickle.dumps(array, protocol)!r})") == repr(array)


@pytest.mark.parametrize(
    "expression",
    [
        "np.dtype('i4') * 3",
        "np.dtype([('a', 'i4')]) * 2",
        "[np.dtype('f8') * n for n in (1, 2, 7)]",
        "np.dtype('f8') * -1",
    ],
)
def test_repeated(evaluate, expression):
    assert evaluate(expression) == _native["run"](expression)


@pytest.mark.parametrize(
    "expression",
    [
        *(f"np.dtype(ctypes.c_{kind}{bits}).str" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
        *(
            f"[np.dtype(t).itemsize == ctypes.sizeof(t) for t in ({t},)]"
            for t in ("ctypes.c_long", "ctypes.c_ulong", "ctypes.c_size_t")
        ),
        "np.dtype(ctypes.c_void_p).itemsize == ctypes.sizeof(ctypes.c_void_p)",
        "np.dtype(Pair)",
        "np.dtype(Either)",
        "np.dtype(Big)",
        "np.ctypeslib.as_ctypes(np.arange(3, dtype='i4'))[:]",
        "np.ctypeslib.as_ctypes(np.arange(3, dtype='u4'))[:]",
        "np.ctypeslib.as_ctypes(np.arange(3) << 40)[:]",
        "np.ctypeslib.as_array((ctypes.c_int32 * 3)(1, -2, 3))",
        "np.dtype(np.ctypeslib.as_ctypes_type(np.dtype([('a', 'i4'), ('b', 'u8')])))",
        "np.frombuffer(Pair(1, -2, (3.0, 4.0)), np.dtype(Pair))",
        "ctypes.sizeof(np.ctypeslib.c_intp) == np.intp(0).itemsize",
        "np.zeros((2, 3)).ctypes.strides[:]",
        "np.broadcast_to(np.int8(1), 2**40).ctypes.shape[:]",
    ],
)
def test_types_of_ctypes(evaluate, expression):
    """C's int and long are one type of 32 bits there, and numpy's long has 64."""
    assert evaluate(expression) == _native["run"](expression)


@pytest.mark.parametrize(
    "expression",
    [
        "memoryview(np.int64(-(2**40))).tolist()",
        "memoryview(np.uint64(2**63)).tolist()",
        "memoryview(np.intp(2**40))[()]",
        "np.array(memoryview(np.int64(2**40)))",
        "memoryview(np.int32(5)).format",
        "[memoryview(t(0)).itemsize for t in (np.intc, np.int_, np.longlong, np.uintc, np.uint, np.ulonglong)]",
        "[memoryview(np.zeros(1, t)).tolist() for t in 'bhilqBHILQ']",
    ],
)
def test_a_scalar_is_a_buffer_of_its_value(evaluate, expression):
    """The format of an int64 was `l`, which has 32 bits there: its value arrived as 0."""
    assert evaluate(expression) == _native["run"](expression)
