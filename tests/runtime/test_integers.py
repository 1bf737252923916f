"""numpy's integers in the image, beside the same expressions natively: an image for 32-bit addresses, where numpy's integers are those of
every 64-bit machine.

Every case gives value, dtype and type, or the type of the exception.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import cloche

pytestmark = [
    pytest.mark.isolation("none", reason="a worker has the same image"),
    pytest.mark.skipif(
        sys.maxsize < 2**63 - 1 or np.dtype("l").itemsize < 8,
        reason="compares with a 64-bit machine whose long has 64 bits",
    ),
]

SOURCE = '''
import array, copy, datetime, decimal, fractions, io, operator, pickle, struct, warnings
import numpy as np

SCOPE = {name: value for name, value in globals().items() if not name.startswith("__")}

def shown(value):
    """A value as plain data that tells types and dtypes apart."""
    if isinstance(value, np.ndarray):
        return [type(value).__name__, shown(value.dtype), list(value.shape), shown(value.tolist()) if value.dtype.kind in "OV"
                else value.astype("f8" if value.dtype.kind == "f" else value.dtype).tobytes() if value.dtype.kind in "fiub" else
                [str(item) for item in value.ravel()]]
    if isinstance(value, np.generic):
        return [type(value).__name__, shown(value.dtype), str(value)]
    if isinstance(value, np.dtype):
        if value.char in "OT":  # made of pointers, which have 4 bytes
            return ["dtype", value.char]
        return ["dtype", value.str, value.char, value.name, value.num, value.itemsize, value.alignment]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *map(shown, value)]
    if isinstance(value, dict):
        return ["dict", *(shown(item) for item in value.items())]
    return [type(value).__name__, value if isinstance(value, (int, float, str, bytes, bool, type(None))) else str(value)]

def evaluate(expression):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return shown(eval(expression, dict(SCOPE)))
        except Exception as error:
            return ["raised", type(error).__name__]
'''
_native: dict[str, Any] = {"__name__": "native"}
exec(SOURCE, _native)

DEFAULTS = """
np.arange(3)
np.arange(100_001).sum()
np.arange(3) * 1000 + 1700000000000
np.arange(2**31, 2**31 + 3)
np.arange(5, 2**33, 2**31)
np.arange(3.0)
np.arange(np.int32(4))
np.arange(0, 10, 2, dtype=int)
np.array([1, 2])
np.array([1, 2**31])
np.array([2**63 - 1, -2**63])
np.array([2**63])
np.array([2**64])
np.array([1, 2**64 - 1])
np.array([True, 2])
np.array(5)
np.array([[1, 2], [3, 4]]) << 33
np.array([1, 2]) << 33
np.array([255]) << 24
np.array([1700000000]) * 1000
np.array([3e9]).astype(int)
np.array(["5000000000"]).astype(int)
np.array(["-1", "9223372036854775807"]).astype(np.int64)
np.array([5000000000]).astype(str)
np.zeros(3, int)
np.ones(2, dtype="int")
np.full(2, 2**40)
np.full(3, 7)
np.empty(0, int)
np.int_(2**40)
np.intp(2**40)
np.uintp(2**63)
np.uint(2**63)
np.long(2**40)
np.ulong(2**40)
np.longlong(3)
np.int64(2**31) * 2
np.int32(2**31 - 1) + np.int32(1)
np.int64(5) // 2, np.int64(-7) % 3, np.int64(2) ** 40, divmod(np.int64(-7), 2)
np.int64(2**62) + 2**62
np.uint64(2**63) + np.uint64(2**62)
np.int64(1) << 40, np.int64(2**40) >> 3, np.int64(1) << 64, np.int64(1) << 2**32, np.int64(-1) >> 2**33
np.array([1, 1, 1, -1]) << np.array([0, 63, 64, 2**32]), np.array([-8, 8]) >> np.array([2**32, 2**32])
~np.int64(5), -np.int64(2**62), abs(np.int64(-2**62))
np.array([7, 8]) & 2**40, np.array([7, 8]) | 2**40, np.array([7, 8]) ^ 2**40
np.array([7]) + 2**63
np.array([7], "i4") + 2**31
np.array([7], "i4") * 10**6
np.array([7], "i2") + np.array([1], "u2"), np.array([1], "u4") + np.array([1], "i4"), np.array([1], "u8") + np.array([1], "i8")
np.bitwise_count(np.array([2**40 + 1, -1, 0])), np.bitwise_count(np.int64(-2**40))
np.gcd(2**40, 2**35 * 3), np.lcm(2**20, 3**10), np.gcd.reduce(np.array([12, 18, 24]))
np.power(np.array([2, 3]), 33), np.power(2, np.array([40, 62, 63]))
np.array([2]) ** -1
np.array([3]) ** 4294967298, np.array([3.0]) ** 4294967298, np.array([2]) ** 2
np.linspace(0, 10**10, 3, dtype=int)
np.floor_divide(-7, 2), np.remainder(np.array([-7, 7]), 3), np.fmod(np.array([-7, 7]), 3)
np.invert(np.array([0])), np.negative(np.array([2**40])), np.sign(np.array([-2**40]))
np.clip(np.array([1, 2**40]), 0, 2**35)
np.abs(np.array([-2**63])), np.array([-2**63]) // -1
np.array([1.5]).astype("l"), np.array([2**33 + 0.5]).astype("L"), np.array([1]).astype("q")
np.array([5], "l") + np.array([5], "q"), np.array([5], "q") * 2
"""
SUMS = """
np.ones(5, bool).sum(), np.ones(5, "i1").sum(), np.ones(5, "u1").sum(), np.ones(5, "i4").sum(), np.ones(5, "u4").sum()
np.full(3, 2**31 - 1, "i4").sum(), np.full(3, 2**32 - 1, "u4").sum(), np.full(3, 2**31 - 1, "i4").cumsum()
np.array([True, True]).cumsum(), np.array([2, 3], "i4").prod(), np.full(4, 10**9, "i4").cumprod()
np.sum([2**31, 2**31]), np.prod([2**20, 2**20]), np.mean([2**40, 2**41]), np.mean(np.full(3, 2**31 - 1, "i4"))
np.add.reduce(np.full(3, 2**31 - 1, "i4")), np.add.accumulate(np.full(3, 2**31 - 1, "i4")), np.add.reduceat(np.arange(8), [0, 3, 5])
np.add.reduceat(np.arange(8, dtype="i4"), np.array([0, 4], np.int64)), np.add.at(np.zeros(3), np.array([0, 1], np.int64), 1)
np.multiply.outer(np.arange(3), np.arange(2)), np.subtract.outer([2**40], [1])
np.trace(np.full((2, 2), 2**31 - 1, "i4")), np.trace(np.arange(9).reshape(3, 3))
np.dot([2**20], [2**20]), np.dot(np.full(2, 2**30, "i4"), np.full(2, 2, "i4")), np.array([[2**20]]) @ np.array([[2**20]])
np.einsum("i,i", np.array([2**20, 1]), np.array([2**20, 1])), np.einsum("ij->", np.full((2, 2), 2**31))
np.inner([2**20], [2**20]), np.vdot([2**20], [2**20]), np.tensordot([2**20], [2**20], 1), np.kron([2**20], [2**20])
np.cross([2**20, 0, 0], [0, 2**20, 0]), np.convolve([2**20, 1], [2**20, 1]), np.correlate([2**20, 1], [2**20])
np.count_nonzero([1, 0, 2]), np.count_nonzero(np.eye(3), axis=0), np.eye(3, dtype=int), np.identity(2, int), np.tri(2, dtype=int)
np.ptp([1, 2**40]), np.max([2**40, 1]), np.min([2**40, -2**40]), np.median([2**40, 2**41]), np.var([1, 2**20])
np.diff([1, 2**40]), np.ediff1d([1, 2**40]), np.cumsum([2**31, 2**31]), np.nansum(np.array([2**31 - 1] * 2, "i4")), np.nancumsum([2**40])
np.sqrt(((np.array([0, 0]) - np.array([60000, 60000])) ** 2).sum())
np.bincount([0, 1, 1, 5]), np.bincount(np.array([1, 2], np.int64), [0.5, 1.5]), np.bincount(np.array([1], "u1"), minlength=4)
np.histogram([1, 2, 2, 9], bins=3), np.histogram2d([1, 2], [1, 2], 2), np.histogram_bin_edges(np.arange(10), 3)
np.average([1, 2**40], weights=[1, 1]), np.round(np.array([5, 2**40]), -1), np.around(np.int64(2**40 + 5), -1)
"""
INDICES = """
np.argsort([3, 1, 2]) * 10**10
np.argsort(np.array([3.0, 1, 2]), kind="stable"), np.argsort(["b", "a"]), np.argsort(np.array([2, 1], "i2")), np.array([3, 1]).argsort()
np.argmax([1, 3, 2]), np.argmin([1, 3, 2]), np.argmax(np.eye(3), 1), np.argmax([[1, 2], [4, 3]], axis=0, keepdims=True)
np.nonzero([1, 0, 2]), np.flatnonzero([1, 0, 2]), np.argwhere([[1, 0], [0, 1]]), np.where([True, False]), np.where([True, False], 1, 2**40)
np.searchsorted([1, 2, 3], [2, 5]), np.searchsorted([1, 2, 3], 2), np.array([1, 2**40]).searchsorted(2**40, side="right")
np.digitize([1, 5], [0, 3, 6]), np.unravel_index(7, (3, 4)), np.unravel_index([7, 8], (3, 4)), np.ravel_multi_index(([1, 2], [3, 0]), (3, 4))
np.unravel_index(2**40, (2**30, 2**30)), np.ravel_multi_index((2**20, 5), (2**30, 2**30)), np.unravel_index(2**62 - 1, (2**31, 2**31))
np.unique([3, 1, 3]), np.unique([3, 1, 3], return_index=True, return_inverse=True, return_counts=True), np.unique_counts([1, 1])
np.unique(["b", "a", "b"], return_counts=True), np.unique(np.array([1.5, 1.5, 2]), return_inverse=True), np.unique([[1, 2], [1, 2]], axis=0)
np.indices((2, 3)), np.mgrid[0:2, 0:3], np.ogrid[0:2, 0:3], np.ix_([0, 1], [2, 3]), np.diag_indices(2), np.tril_indices(3), np.triu_indices(2)
np.take(np.arange(5) * 2**40, np.array([1, 2], np.int64)), np.take([1, 2, 3], [-1, 5], mode="wrap"), np.take([1, 2, 3], 7, mode="clip")
np.repeat(np.arange(3), np.array([1, 2, 0], np.int64)), np.repeat([1, 2], 2), np.repeat([1, 2], [1, 2]), np.tile([1, 2], 2), np.tile([1], (2, 2))
np.choose(np.array([0, 1], np.int64), [[1, 2], [2**40, 4]]), np.select([[True, False]], [[1, 2]], 2**40), np.compress([0, 1], [1, 2**40])
np.put_along_axis(np.zeros((2, 2)), np.array([[0], [1]]), 5, 1), np.take_along_axis(np.eye(2), np.array([[1], [0]]), 1)
np.argpartition([3, 1, 2], 1)[1], np.partition([3, 1, 2], 1)[1], np.lexsort(([1, 2, 1], [2, 1, 0])), np.sort([2**40, 1])
np.roll([1, 2, 3], 1), np.roll([1, 2, 3], 2**40), np.rot90([[1, 2], [3, 4]]), np.flip([1, 2]), np.insert([1, 2], 1, 2**40), np.delete([1, 2, 3], 1)
np.arange(10)[np.int64(3)], np.arange(10)[np.array([1, -1], np.int64)], np.arange(10)[np.uint64(3)], np.arange(10)[[True] * 5 + [False] * 5]
np.arange(10)[2**32]
np.arange(10)[-2**32]
np.arange(10)[np.int64(2**32 + 1)]
np.arange(10)[[2**32 + 1]]
np.arange(10)[np.array([2**32], np.uint64)]
np.arange(10)[2**64]
np.arange(10)[np.array([2**63], np.uint64)]
np.arange(10).take(2**32)
np.arange(10).take([25, -11], mode="wrap"), np.arange(10).take([2**40], mode="clip"), np.arange(10).take([-2**40], mode="clip")
np.arange(10).item(2**32)
np.arange(10).flat[2**32]
np.arange(10).flat[3], np.arange(10).flat[[1, 2]], np.arange(10).flat[2:2**40], np.arange(10).flat[::-3]
np.arange(10).put([2**32], 5)
np.choose([2**32], [[1], [2]])
np.arange(10)[2:2**40], np.arange(10)[-2**40:3], np.arange(10)[::2**40], np.arange(10)[::-2**70], np.arange(10)[2**40:], np.arange(10)[5:2:-1]
np.arange(10)[np.int64(2):np.int64(5)], np.arange(24).reshape(2, 3, 4)[..., 1], np.arange(24).reshape(2, 3, 4)[:, np.newaxis, [0, 2], 1:3]
np.delete(np.arange(5), 2**32)
np.insert(np.arange(5), 2**32, 1)
np.zeros((3, 3))[2**32, 0]
np.zeros((3, 3))[0, [0, 2**32]]
np.expand_dims([1], 2**31)
np.swapaxes(np.eye(2), 0, 2**32)
np.sum([1], axis=2**32)
np.split(np.arange(6), [2, 2**40]), np.array_split(np.arange(5), 3)
np.ndindex(2, 2).__class__.__name__, list(np.ndindex(2, 2)), list(np.ndenumerate([5, 6]))
np.isin([1, 2**40], [2**40]), np.in1d if hasattr(np, "in1d") else None, np.intersect1d([1, 2**40], [2**40]), np.union1d([2], [1]), np.setdiff1d([1, 2], [2])
np.packbits([1, 0, 1]), np.unpackbits(np.array([5], "u1")), np.packbits(np.array([[1, 2**40]]))
operator.index(np.int64(5)), int(np.int64(2**40)), [hash(kind(value)) == hash(value) for kind in (np.int32, np.uint32, np.int64, np.uint64, np.longlong) for value in (0, 5, -1, 2**31 - 1, 2**31, 2**32 - 1, -2**31, 2**61 - 1, 2**63) if np.iinfo(kind).min <= value <= np.iinfo(kind).max], {np.uint32(4 * 10**9): 1}[4 * 10**9], {2**31 - 1: 2}[np.int32(2**31 - 1)]
[5, 6, 7][np.int64(1)], range(np.int64(3)), "ab" * np.int64(2), bytes(np.int64(3)), round(np.int64(15), -1), np.int64(2**40).bit_count()
"""
TYPES = """
np.dtype("l"), np.dtype("L"), np.dtype("q"), np.dtype("Q"), np.dtype("i"), np.dtype("p"), np.dtype("P"), np.dtype("n"), np.dtype("N")
np.dtype(int), np.dtype("int"), np.dtype("uint"), np.dtype("int_"), np.dtype("intp"), np.dtype("uintp"), np.dtype("long"), np.dtype("ulong")
np.dtype("i8"), np.dtype("<i8"), np.dtype(">i8"), np.dtype("int64"), np.dtype("u8"), np.dtype("i4"), np.dtype("longlong"), np.dtype("intc")
np.intp is np.int64, np.int_ is np.int64, np.long is np.int64, np.uintp is np.uint64, np.longlong is np.int64, np.intc is np.int32, np.uint is np.uint64
np.iinfo(int).max, np.iinfo("l").min, np.iinfo(np.intp).max, np.iinfo(np.uintp).max, np.iinfo("i4").bits, np.iinfo("p").bits
np.result_type(int, "i4"), np.result_type("i4", "u4"), np.result_type("i4", "f4"), np.result_type("i8", "f4"), np.result_type("l", "q"), np.promote_types("p", "u4")
np.min_scalar_type(2**31), np.min_scalar_type(-2**31 - 1), np.min_scalar_type(2**63), np.can_cast("i8", "p"), np.can_cast("p", "i4"), np.can_cast("q", "l")
np.typename("l"), np.mintypecode("ld"), np.typecodes["AllInteger"], sorted(str(t) for t in np.sctypeDict if isinstance(t, str) and "int" in t)
np.issubdtype("l", np.integer), np.isdtype(np.dtype("l"), "signed integer"), np.common_type(np.arange(2)), np.array(1).dtype.type.__name__
repr(np.arange(3)), repr(np.array([1], "i4")), repr(np.int64(5)), repr(np.longlong(5)), str(np.array([2**40])), repr(np.array([], int)), repr(np.dtype("l"))
pickle.loads(pickle.dumps(np.arange(3))), pickle.loads(pickle.dumps(np.int64(2**40))), pickle.loads(pickle.dumps(np.dtype("l"))), pickle.loads(pickle.dumps(np.dtype(">i8")))
pickle.dumps(np.arange(3), 2), pickle.dumps(np.int64(2**40), 4), pickle.dumps(np.dtype([("a", "i8"), ("b", "l")]), 4), pickle.dumps(np.arange(3), 5)
copy.deepcopy(np.arange(3)), np.arange(3).__reduce__()[2][1:3], np.dtype("l").__reduce__()[2], np.int64(5).__reduce__()[1][1]
np.dtype([("a", int), ("b", "i4"), ("c", "l")]), np.dtype([("a", "i1"), ("b", "p")], align=True).itemsize, np.dtype([("a", "i1"), ("b", "i8")], align=True).fields["b"][1]
np.dtype((int, 3)), np.dtype(("i4", (2, 2))).shape, np.zeros(2, [("a", int), ("b", (int, 2))]), np.array([(1, 2**40)], "i8,l"), np.rec.array([(1, 2**40)])
np.array([(2**40, 1)], [("a", int), ("b", "i4")])["a"] * 2, np.zeros(1, "l,i4")[0], np.zeros(2, [("x", "l")]).view("i8"), np.arange(4).view("i4")
np.dtype({"names": ["a"], "formats": ["i8"], "offsets": [4], "itemsize": 16}), np.dtype("V5"), np.dtype([("a", "i8")])["a"], np.dtype([("a", "i8")])[0]
np.dtype([("a", "i8")])[2**32]
np.zeros(1, [("a", "i8")])[0][2**32]
np.arange(3).tobytes(), np.arange(3).nbytes, np.arange(3).strides, np.arange(3).itemsize, np.arange(6).reshape(2, 3).T.strides
np.frombuffer(np.arange(3).tobytes(), int), np.frombuffer(struct.pack("<3q", 1, 2, 2**40), "i8"), np.frombuffer(b"abcd", "u1", 2, 1), np.frombuffer(b"ab" * 8, "i8", -1)
np.frombuffer(b"abcd", "u1", 2**32)
np.frombuffer(b"abcd", "u1", 2, 2**32)
memoryview(np.arange(3)).tolist(), memoryview(np.arange(3)).itemsize, memoryview(np.arange(3))[1], memoryview(np.array([2**40])).cast("B").tolist(), np.asarray(memoryview(np.arange(3)))
np.array(memoryview(np.array([2**40]))), np.asarray(array.array("q", [1, 2**40])).tolist(), np.asarray(array.array("i", [1])), np.asarray(array.array("h", [1])), np.array(array.array("d", [1]))
np.asarray(bytearray(b"ab")), bytes(memoryview(np.arange(2, dtype=">i8"))), memoryview(np.zeros(2, [("a", "i8"), ("b", "i4")])).itemsize, memoryview(np.arange(6).reshape(2, 3)).shape
np.fromstring("1 2 5000000000", int, sep=" "), np.fromstring("1,2", "i8", sep=","), np.array("1 2 3".split(), int), np.loadtxt(io.StringIO("1 5000000000"), dtype=int), np.genfromtxt(io.StringIO("1 5000000000"), dtype=None)
np.fromiter((x for x in [1, 2**40]), int), np.fromiter(range(3), "i8", 3), np.fromfunction(lambda i, j: i + j, (2, 2), dtype=int)
np.loadtxt(io.StringIO("9223372036854775807"), dtype="l"), np.loadtxt(io.StringIO("9223372036854775808"), dtype="u8")
np.loadtxt(io.StringIO("9223372036854775808"), dtype="l")
np.array([2**63], dtype="l")
np.array([-1], dtype="L")
np.array([2**31], dtype="i4")
np.int32(2**31)
np.int64(2**63)
np.uint64(-1)
np.array([1], int).astype("i4").dtype, np.array([2**32 + 5]).astype("i4"), np.array([-1]).astype("u4"), np.array([2**40 + 300]).astype("u1"), np.array([-1], "i4").astype("l")
np.array([10**20, 1], object).astype(object).dtype, np.array([1, 2**40], object).astype(int), np.array([True]).astype("l"), np.array([2**40], object) + 1
np.array([10**20], object).astype(int)
np.array([1.0, 2**40], object).astype("i8"), np.array([fractions.Fraction(7, 2)], object).astype(int), np.array([decimal.Decimal("5000000000")], object).astype(int)
np.array("5000000000").astype("i8"), np.array([b"5000000000"]).astype(int), np.array(["5"], dtype="T").astype(int), np.array([5000000000]).astype("T"), np.array([7]).astype("S"), np.array([2**40]).astype("U")
np.array([1], int).astype("S").dtype, np.array([1], "i4").astype("U").dtype, np.array([5]).astype("V8"), np.str_(np.int64(2**40)), np.int64("5000000000"), np.intp("7")
np.concatenate([np.arange(2), np.arange(2, dtype="i4")]), np.stack([[1], [2**40]]), np.block([[1, 2**40]]), np.append([1], 2**40), np.r_[1:3, 2**40], np.c_[[1], [2]]
np.asarray(range(3)), np.array(range(2**31, 2**31 + 2)), np.array((1, 2**35)), np.array([np.int32(1), 2**35]), np.array([np.int64(1), 1.5]), np.array([[]], int)
np.can_cast(np.int64(5), "i4") if False else None, np.array([1]).astype("i8", casting="safe"), np.array([1, 2]).dtype == np.intp, np.dtype("l") == np.dtype("q")
np.array([1]).astype("i4", casting="safe")
np.array([2**40]).astype("i4", casting="same_value") if "same_value" in np.ndarray.astype.__doc__ else np.int32("x")
np.array([5]).astype("i4", casting="same_value") if "same_value" in np.ndarray.astype.__doc__ else np.array([5], "i4")
np.array([1, 2], int).tolist(), np.int64(2**40).item(), np.arange(2).item(1), [type(x).__name__ for x in np.arange(2)], type(np.arange(2)[0]).__name__
np.set_printoptions(threshold=1000), np.array2string(np.array([2**40, 1])), np.format_float_positional(2.0**40), np.base_repr(2**40, 7), np.binary_repr(2**40), np.binary_repr(-5, 64)
np.ma.array([1, 2**40], mask=[0, 1]).sum(), np.ma.arange(3), np.ma.array([1, 2]).count(), np.ma.argsort(np.ma.array([3, 1]))
np.polynomial.Polynomial([1, 2])(2**40), np.poly1d([1, 2])(2**20), np.polyval([1, 0], 2**40), np.vander([1, 2**20], 3)
np.datetime64("2024-01-01") + np.arange(3), np.datetime64("2024-01-01", "ns").astype(int), np.timedelta64(5_000_000_000, "ns").astype(int), np.timedelta64(3, "D") / np.timedelta64(1, "s")
np.timedelta64(5_000_000_000, "ns"), np.datetime64(5_000_000_000, "s"), np.timedelta64(2**40, "us").item(), np.datetime64("2024-01-01").astype("M8[ns]").view("i8"), np.array([2**40]).view("M8[us]")
np.arange("2024-01", "2024-04", dtype="M8[M]"), np.diff(np.array(["2024-01-01", "2024-03-01"], "M8[D]")), np.timedelta64(1, "D") * 2**40, np.timedelta64(7, "D") // 2, np.timedelta64(7, "D") % np.timedelta64(2, "D")
np.busday_count("2024-01-01", "2024-02-01"), np.busday_offset("2024-01-01", 2**20), np.is_busday("2024-01-01"), np.datetime_data("M8[25s]"), np.dtype("m8[7ns]")
np.timedelta64(3, "s") + 2**40, np.array([1, 2], "m8[s]").sum(), np.array([1, 2], "m8[s]") * 2.5, np.datetime64("NaT").astype("i8"), np.array(["NaT"], "M8[s]").astype(int), str(np.timedelta64(2**40, "s")), repr(np.timedelta64(2**40, "s"))
np.array([datetime.datetime(2024, 1, 1)], "M8[us]").astype("i8"), np.datetime64(datetime.date(2024, 1, 1)), np.timedelta64(datetime.timedelta(days=10**5)), np.array([np.nan, 1.5, 1e300]).astype("m8[s]")
np.array([1, 2**40], "m8[s]").astype("i4"), np.array([1.5]).astype("M8[s]").astype("i8"), np.datetime64(1, "Y").astype("M8[as]") if False else None, np.datetime64(2**33, "ns")
"""
SHAPES = """
np.zeros((2**40, 0)).shape, np.zeros((2**40, 0)).size, np.empty((2**62, 0), "i1").nbytes, np.empty((0, 2**31, 2**20), "i1").strides
np.zeros((0, 2**31, 2**31)).strides
len(np.broadcast_to(1, 5)), bool(np.zeros((2**40, 0)).size)
np.broadcast_to(1, (2**33,)).size, np.broadcast_to(np.int8(1), (2**33, 2)).shape, np.broadcast_to(1, (2**20, 2**20)).nbytes, np.broadcast_to(1, 2**33)[2**32 + 5]
np.broadcast_to(1, 2**33)[2**32:].shape, np.broadcast_to(1, 2**33)[::2**31].shape, np.broadcast_to(1, 2**33)[-1], np.broadcast_to(1, 2**33)[-2**32:2**32].shape, np.broadcast_to(1, 2**33)[::-2**30].shape
np.broadcast_to(1, 2**33)[2**33]
np.broadcast_to(np.arange(3), (2**33, 3))[2**32 + 1], np.broadcast_to(np.arange(3)[:, None], (3, 2**33))[:, 2**32], np.broadcast_to(1, (2**33,))[[2**32, 2**33 - 1]]
np.broadcast_shapes((2**40, 1), (1, 5)), np.broadcast(np.broadcast_to(1, 2**33), 1).size, np.broadcast_to(5, (2**33, 1)).T.shape, np.moveaxis(np.zeros((2**40, 0, 1)), 0, 2).shape
np.zeros((2**40, 0)).sum(), np.zeros((2**40, 0)).sum(axis=1, initial=0).shape if False else None, np.zeros((0, 2**40)).reshape(2**40, 0).shape, np.zeros((2**40, 0)).T.copy().shape
np.lib.stride_tricks.as_strided(np.arange(10), (3, 4), (8, 16)), np.lib.stride_tricks.sliding_window_view(np.arange(5), 3), np.lib.stride_tricks.as_strided(np.arange(3), (2**33,), (0,))[2**32], np.lib.stride_tricks.as_strided(np.arange(3), (1, 2), (2**40, 8))
np.ndarray((2, 2), int, np.arange(8), 8, (16, 8)), np.ndarray((3,), "i8", bytearray(24)), np.arange(8).reshape(2, -1), np.arange(8).reshape(np.int64(2), np.int64(4)), np.resize(np.arange(3), 5)
np.ndarray((2, 2), int, np.arange(8), 2**32)
np.ndarray((2**32 + 1,), "i1", bytearray(24))
np.ndarray((2,), "i1", bytearray(24), 0, (2**32,))
np.zeros(-1)
np.arange(8).reshape(2**32, -1)
np.arange(8).reshape(2**32 + 2, 4)
np.arange(0, 2**64)
np.broadcast_to(1, (2**40, 2**40))
np.nditer(np.arange(6).reshape(2, 3), ["multi_index"]).multi_index, [int(x) for x in np.nditer(np.arange(3))], np.nditer([np.arange(3), None]).nop, np.nditer(np.arange(6), ["c_index"]).index, np.nditer(np.broadcast_to(1, 2**33)).itersize
[[y.copy() for y in x] for x in np.nditer([np.arange(3), np.arange(3.0)], ["external_loop", "buffered"], casting="safe", op_dtypes=["f8", "f8"])], np.nditer(np.arange(9), ["ranged"]).iterrange, np.nditer(np.arange(9), ["ranged", "external_loop", "buffered"]).itersize
(lambda it: (setattr(it, "iterrange", (2, 5)), [int(x) for x in it]))(np.nditer(np.arange(9), ["ranged"])), (lambda it: [it.iterindex for _ in it])(np.nditer(np.arange(3))), (lambda it: (setattr(it, "iterindex", 2), int(it[0])))(np.nditer(np.arange(3)))
np.nditer(np.arange(3))[2**32]
[(int(x), it.index) for it in [np.nditer(np.arange(6).reshape(2, 3), ["f_index"])] for x in it], [it.index for it in [np.nditer([np.arange(4), np.arange(4.0)], ["c_index"])] for _ in it]
np.add(np.arange(3, dtype="i4"), np.arange(3, dtype="i8")), np.add(np.arange(3), 1.5, dtype="f4", casting="unsafe"), np.add(np.arange(3)[::-1], np.arange(3, dtype=">i4")), np.arange(20000, dtype="i2").astype("f8")[::3].sum()
np.shares_memory(np.arange(3), np.arange(3)), (lambda a: (np.shares_memory(a[::2], a[1::2]), np.may_share_memory(a, a[1:]), np.shares_memory(a, a[::2], max_work=2**40)))(np.arange(9)), np.byte_bounds(np.arange(0)) if hasattr(np, "byte_bounds") else None
np.pad([1, 2], 1), np.pad([1, 2], (2, 1), constant_values=2**40), np.meshgrid([1, 2], [3]), np.apply_along_axis(sum, 0, np.eye(2, dtype=int)), np.vectorize(lambda x: x * 2**40)([1, 2]), np.frompyfunc(lambda x: x + 1, 1, 1)(np.arange(2))
np.char.multiply(["ab"], np.array([2])), np.strings.str_len(["abc"]), np.strings.find(["abc"], "c"), np.strings.count(["aab"], "a"), np.char.center(["a"], 3), np.strings.slice(["abcdef"], 1, 4) if hasattr(np.strings, "slice") else None
np.strings.slice(np.array(["abcdef"], "T"), 1, 2**40) if hasattr(np.strings, "slice") else None, np.strings.slice(["abcdef"], None, None, -2) if hasattr(np.strings, "slice") else None, np.strings.slice(["abc"], -2**40) if hasattr(np.strings, "slice") else None, np.strings.startswith(["abc"], "b", 1), np.strings.find(["abc"], "b", 0, 2**40)
np.fft.fft([1, 2**20]).real, np.fft.fftfreq(4), np.fft.fftshift(np.arange(4)), np.fft.rfft(np.arange(4)).shape, np.linalg.matrix_rank(np.eye(2)), np.linalg.matrix_power(np.array([[2]]), 40), np.linalg.slogdet(np.eye(2))[0]
"""
RANDOM = """
np.random.RandomState(1).randint(0, 2**32), np.random.RandomState(1).randint(0, 2**32, 3), np.random.RandomState(1).randint(10, size=5), np.random.RandomState(1).randint(2**40, size=3), np.random.RandomState(2).randint(-2**63, 2**63 - 1, 3)
np.random.RandomState(1).randint(5, size=3, dtype="i4"), np.random.RandomState(1).randint(2, size=3, dtype=bool), np.random.RandomState(1).randint(0, 2**64, 2, dtype="u8"), np.random.RandomState(1).randint([1, 2], [5, 2**40]), np.random.RandomState(1).randint(0, 256, 4, "u1")
np.random.RandomState(1).random_integers(5, size=3), np.random.RandomState(1).tomaxint(), np.random.RandomState(1).tomaxint(3), np.random.RandomState(1).bytes(5), np.random.RandomState(3).get_state()[1][:5]
np.random.RandomState(1).poisson(5, 4), np.random.RandomState(1).poisson(1e12, 3), np.random.RandomState(1).poisson([1, 1e6]), np.random.RandomState(1).poisson(3)
np.random.RandomState(1).poisson(1e19)
np.random.RandomState(1).binomial(10, 0.5, 4), np.random.RandomState(1).binomial(2**40, 0.25, 3), np.random.RandomState(1).binomial([10, 2**33], 0.5), np.random.RandomState(1).binomial(100, 0.5)
np.random.RandomState(1).negative_binomial(3, 0.2, 4), np.random.RandomState(1).geometric(0.1, 4), np.random.RandomState(1).geometric(1e-12, 3), np.random.RandomState(1).hypergeometric(10, 20, 5, 4), np.random.RandomState(1).logseries(0.9, 4), np.random.RandomState(1).zipf(1.5, 6), np.random.RandomState(1).zipf(1.01, 6)
np.random.RandomState(1).multinomial(100, [0.2, 0.3, 0.5]), np.random.RandomState(1).multinomial(2**40, [0.5, 0.5], 2), np.random.RandomState(1).noncentral_chisquare(3, 2e10), np.random.RandomState(1).dirichlet([1, 2])
np.random.RandomState(1).permutation(10), np.random.RandomState(1).permutation([3, 1, 2]), np.random.RandomState(1).permutation(np.int32(5)), np.random.RandomState(1).choice(10, 4), np.random.RandomState(1).choice(10, 4, replace=False), np.random.RandomState(1).choice(5, 3, p=[0.1, 0.2, 0.3, 0.2, 0.2]), np.random.RandomState(1).choice([2**40, 5], 3), np.random.RandomState(1).choice(5, 3, False, [0.1, 0.2, 0.3, 0.2, 0.2])
(lambda r, a: (r.shuffle(a), a))(np.random.RandomState(1), np.arange(9)), (lambda r, a: (r.shuffle(a), a))(np.random.RandomState(1), list(range(9))), (lambda r, a: (r.shuffle(a), a))(np.random.RandomState(1), np.arange(12).reshape(4, 3))
np.random.RandomState(2**32 - 1).randint(9), np.random.RandomState([1, 2**31]).randint(9), np.random.RandomState(np.array([2**32 - 1, 5], np.int64)).randint(9), np.random.RandomState(1).rand(2), np.random.RandomState(1).randn(2), np.random.RandomState(1).standard_gamma(2), np.random.RandomState(1).triangular(1, 2, 3)
np.random.RandomState(2**32)
np.random.RandomState(-1)
np.random.RandomState(1).randint(2**64)
np.random.default_rng(1).integers(10, size=5), np.random.default_rng(1).integers(2**40), np.random.default_rng(1).integers(0, 2**63, 3), np.random.default_rng(1).integers(5, size=4, dtype="i4"), np.random.default_rng(1).integers(0, 2**32, 3, "u8"), np.random.default_rng(1).integers([1, 2], 2**35), np.random.default_rng(1).integers(0, 1, endpoint=True, size=5)
np.random.default_rng(1).permutation(9), np.random.default_rng(1).permutation(np.arange(6).reshape(3, 2), axis=1), np.random.default_rng(1).permuted(np.arange(6).reshape(2, 3), axis=1), (lambda r, a: (r.shuffle(a), a))(np.random.default_rng(1), np.arange(9)), np.random.default_rng(1).choice(9, 4), np.random.default_rng(1).choice(9, 4, replace=False), np.random.default_rng(1).choice(20000, 3, replace=False), np.random.default_rng(1).choice(9, 3, p=np.full(9, 1 / 9)), np.random.default_rng(1).choice(2**40, 3), np.random.default_rng(1).choice(10**6, 3, replace=False, shuffle=False)
np.random.default_rng(1).poisson(5, 4), np.random.default_rng(1).poisson(1e15, 2), np.random.default_rng(1).binomial(2**40, 0.3, 3), np.random.default_rng(1).geometric(1e-10, 2), np.random.default_rng(1).hypergeometric(10**8, 10**8, 10**7, 3), np.random.default_rng(1).multinomial(2**40, [0.3, 0.7]), np.random.default_rng(1).multivariate_hypergeometric([5, 10, 20], 8, 2), np.random.default_rng(1).multivariate_hypergeometric([5, 10, 20], 8, method="count"), np.random.default_rng(1).logseries(0.99, 3), np.random.default_rng(1).zipf(1.2, 5), np.random.default_rng(1).negative_binomial(2**20, 0.1, 2), np.random.default_rng(1).bytes(7)
np.random.default_rng(2**100).integers(9, size=3), np.random.default_rng([1, 2**40]).integers(9, size=3), np.random.SeedSequence(2**70).generate_state(3), np.random.SeedSequence(5).spawn(2)[1].generate_state(2, "u8"), np.random.SeedSequence(12345).entropy
np.random.Generator(np.random.MT19937(5)).integers(2**40, size=3), np.random.Generator(np.random.Philox(5)).integers(2**40, size=3), np.random.Generator(np.random.SFC64(5)).integers(2**40, size=3), np.random.Generator(np.random.PCG64DXSM(5)).integers(2**40, size=3), np.random.Generator(np.random.MT19937(5).jumped()).integers(2**40, size=2), np.random.Generator(np.random.PCG64(5).jumped(3)).integers(9, size=3), np.random.Generator(np.random.Philox(key=2**100, counter=7)).integers(2**40, size=3), np.random.Generator(np.random.PCG64(5).advance(2**70)).integers(2**40)
pickle.loads(pickle.dumps(np.random.default_rng(3))).integers(2**40), pickle.loads(pickle.dumps(np.random.RandomState(3))).randint(2**40), np.random.default_rng(3).bit_generator.state["state"], np.random.MT19937(3).random_raw(3), np.random.PCG64(3).random_raw(), np.random.default_rng(3).spawn(1)[0].integers(99)
np.random.default_rng(1).choice(-1)
np.random.default_rng(1).integers(5, 5)
"""


def cases() -> list[Any]:
    """Each line is a case, as is each member of a line that is a tuple."""
    groups = {
        "defaults": DEFAULTS,
        "sums": SUMS,
        "indices": INDICES,
        "types": TYPES,
        "shapes": SHAPES,
        "random": RANDOM,
    }
    return [
        pytest.param(line, id=f"{name} {number}")
        for name, text in groups.items()
        for number, line in enumerate(text.strip().splitlines())
    ]


REFUSED = """
np.strings.multiply(["ab"], 2**40)
np.strings.multiply(["ab"], 2**32 + 1)
np.strings.multiply(np.array(["ab"], "T"), 2**40)
np.strings.multiply(np.array(["ab"], "T"), 2**32)
np.strings.ljust(np.array(["ab"], "T"), 2**32 + 5)
np.strings.center(np.array(["ab"], "T"), 2**40)
np.strings.zfill(np.array(["ab"], "T"), 2**32 + 1)
np.char.rjust(["ab"], 2**32 + 1)
np.zeros(2**63)
np.zeros(2**62)
np.zeros(2**32)
np.zeros(2**29)
np.zeros(2**31, "i1")
np.ones((2**16, 2**16), "i1")
np.empty((2**32 + 1,), "i1")
np.empty((2**32, 2**32))
np.empty((2**33, 2**33), "V0")
np.full((2**32 + 3,), 1)
np.arange(2**32)
np.arange(2**40)
np.arange(8).reshape(2**33, 2**33)
np.arange(10).repeat(2**62)
np.arange(10).repeat(2**32)
np.repeat(np.int8(1), 2**32 + 2)
np.arange(2).resize(2**62)
np.arange(2).resize(2**32 + 1)
np.tile([1, 2], 2**31)
np.resize([1], 2**32 + 1)
np.fromiter(range(3), int, 2**40)
np.fromiter(range(3), "i1", 2**32 + 3)
np.broadcast_to(1, 2**33).copy()
np.broadcast_to(np.int8(1), 2**32 + 2).copy()
np.broadcast_to(1, 2**33).tolist()
np.broadcast_to(1, 2**32 + 1).tolist()
np.broadcast_to(np.int8(1), 2**32 + 1).tobytes()
np.broadcast_to(1, 2**33) + 1
np.broadcast_to(1, 2**32 + 1) > 0
np.broadcast_to(1, 2**33).astype("f8")
np.broadcast_to(1, 2**32 + 1).ravel()
np.broadcast_to(1, 2**32 + 1).flatten()
np.broadcast_to(1, 2**32 + 1).nonzero()
np.broadcast_to(1, 2**32 + 1).argsort()
np.broadcast_to(1, 2**32 + 1).cumsum()
np.broadcast_to(1, 2**32 + 1).reshape(-1, 1).copy()
np.lexsort((np.broadcast_to(1, 2**32 + 1),))
np.concatenate([np.broadcast_to(np.int8(1), 2**31)] * 2)
np.stack([np.broadcast_to(np.int8(1), 2**31)] * 2)
np.outer(np.broadcast_to(1, 2**16 + 1), np.broadcast_to(1, 2**16))
np.broadcast_to(1, (2**16 + 1, 1)) @ np.broadcast_to(1, (1, 2**16))
np.broadcast_to(1.0, (2**16 + 1, 1)) @ np.broadcast_to(1.0, (1, 2**16))
np.einsum("i,j->ij", np.broadcast_to(1, 2**16 + 1), np.broadcast_to(1, 2**16))
np.take(np.arange(3), np.broadcast_to(1, 2**32 + 1))
np.arange(3)[np.broadcast_to(1, 2**32 + 1)]
np.bincount([2**32])
np.bincount([1], minlength=2**32 + 2)
np.zeros((2**20, 2**20, 0)).sum(axis=2)
np.pad([1], 2**32)
np.unpackbits(np.broadcast_to(np.uint8(1), 2**29 + 1))
np.eye(2**16)
np.indices((2**16, 2**16))
np.triu_indices(2**17)
np.memoryview if hasattr(np, "memoryview") else memoryview(np.broadcast_to(1, 2**32 + 1))
len(np.broadcast_to(1, 2**32 + 1))
list(np.broadcast_to(1, 2**32 + 1).flat.__class__ and [len(np.broadcast_to(1, 2**32 + 1).flat)])
np.random.default_rng(1).bytes(2**40)
np.random.default_rng(1).bytes(2**34 + 4)
np.random.default_rng(1).random(2**32 + 1)
np.random.default_rng(1).integers(5, size=2**32 + 1)
np.random.RandomState(1).bytes(2**34 + 4)
np.random.RandomState(1).rand(2**32 + 1)
np.random.RandomState(1).randint(5, size=(2**16, 2**16))
np.random.RandomState(1).permutation(2**33)
np.random.RandomState(1).multinomial(3, [0.5, 0.5], 2**31)
np.random.default_rng(1).multivariate_hypergeometric([2**40, 5], 8, method="count")
np.random.default_rng(1).permutation(2**32 + 1)
np.random.default_rng(1).choice(5, 2**32 + 1)
np.random.default_rng(1).choice(2**33, 2**32 + 2, replace=False)
np.ndarray((2**32 + 1,), "i1")
np.array(["x" * 3]).astype("U2147483647")
np.dtype("U2147483647")
np.zeros(3, "V2147483647")
np.frombuffer(b"abcd", "u1", 2**32 + 2)
np.ndarray((2**31,), "i8", b"abcd")
np.loadtxt(io.StringIO("1"), max_rows=2**40, dtype="V1000")
np.nditer([np.broadcast_to(1, 2**32 + 1), None]).operands
np.nditer(np.broadcast_to(1, 2**32 + 1), ["c_index"]).index
np.lib.stride_tricks.sliding_window_view(np.arange(10), 3).repeat(2**40)
np.void(b"x").__class__(2**32)
"""


@pytest.mark.few(24)
@pytest.mark.parametrize("expression", REFUSED.strip().splitlines())
def test_more_than_the_address_space_is_refused(evaluate, expression):
    """Sizes with a remainder below 2**32 too: cut off to 32 bits they would be small, and memory overwritten."""
    kind, error = evaluate(expression)
    assert (
        kind,
        error in ("MemoryError", "ValueError", "OverflowError", "BufferError", "IndexError", "TypeError"),
    ) == (
        "raised",
        True,
    ), error


@pytest.fixture(scope="module")
def evaluate(runtime):
    with runtime.load(cloche.Source(SOURCE), "evaluate") as node:
        yield node.process


@pytest.mark.parametrize("expression", cases())
def test_an_expression_gives_what_a_64_bit_machine_gives(evaluate, expression):
    """Value, dtype and type, or the exception's type."""
    assert evaluate(expression) == _native["evaluate"](expression)
