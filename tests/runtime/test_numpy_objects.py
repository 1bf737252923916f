"""Attributes and methods of numpy's objects in the image that CPython calls with more arguments than their C functions use.

Other machines drop what a function does not take. WebAssembly stops the program, so each has to be declared as it is called
(wasm/numpy/signatures.patch).
"""

from __future__ import annotations

import pytest

import cloche

pytestmark = pytest.mark.isolation("none", reason="a worker has the same image")

SOURCE = """
import copy, pickle, warnings
import numpy as np
from numpy._core import _multiarray_umath as umath

def set_dtype(array, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if dtype is None:
            del array.dtype
        else:
            array.dtype = dtype
    return array

def run(expression):
    try:
        return eval(expression)
    except Exception as error:
        return [type(error).__name__, str(error)]
"""


@pytest.fixture(scope="module")
def evaluate(runtime):
    with runtime.load(cloche.Source(SOURCE), "run") as node:
        yield node.process


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("float(copy.copy(np.float64(1.5)))", 1.5),
        ("str(np.str_('a').__copy__())", "a"),
        ("copy.copy(np.datetime64('2020-01-01')).item().isoformat()", "2020-01-01"),
        ("copy.copy({'a': np.int64(3)})['a'].item()", 3),
        ("set_dtype(np.array([1, 2], 'i8'), 'i4').tolist()", [1, 0, 2, 0]),
        (
            "set_dtype(np.broadcast_to(np.ones(1), 10), 'i1')",
            [
                "ValueError",
                "To change to a dtype of a different size, the last axis must be contiguous",
            ],
        ),
        ("set_dtype(np.ones(2), None)", ["AttributeError", "Cannot delete array dtype"]),
        ("umath._array_converter(1, np.ones(2)).scalar_input", (True, False)),
        ("umath._get_castingimpl(np.dtypes.Float64DType, np.dtypes.Int64DType)._supports_unaligned", True),
        ("umath._get_sfloat_dtype()(2.0).__reduce__()[1]", (2.0,)),
    ],
)
def test_values(evaluate, expression, value):
    assert evaluate(expression) == value
