"""Floating-point errors in the image: numpy's warnings, `errstate` and LinAlgError, beside native numpy's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cloche
from tests.runtime import float_errors_node as native

pytestmark = pytest.mark.isolation("none", reason="a worker has the same image")

UFUNCS = tuple(
    name
    for name in sorted(dir(np))
    if isinstance(function := getattr(np, name), np.ufunc)
    and function.__name__ == name
    and function.signature is None
    and name != "ldexp"  # its second operand is an integer
    and any(types[0] in "fd" for types in function.types)
)
UNDERFLOW = 4
# Of other functions native libraries report underflows that the result does not show; float32's `exp` does, too.
DEFINED = {
    "f": ("add", "subtract", "multiply", "divide", "square", "reciprocal", "sqrt", "rint", "absolute", "negative"),
    "d": (
        "add",
        "subtract",
        "multiply",
        "divide",
        "square",
        "reciprocal",
        "sqrt",
        "rint",
        "absolute",
        "negative",
        "exp",
    ),
    "e": (),
}
# Products and squares are left out: native numpy uses fused multiply-adds, which overflow less often.
COMPLEX = ("add", "subtract", "divide", "reciprocal", "less", "greater_equal", "equal", "absolute")
CASTS = (
    *(0.5, -0.5, 127.0, 128.0, 255.0, 256.0, -1.0, -129.0, 32767.0, 32768.0, 65504.0, 65520.0, -40000.0),
    *(
        2147483520.0,
        2147483647.0,
        2147483647.5,
        2147483648.0,
        -2147483648.0,
        -2147483648.5,
        -2147483649.0,
        4294967296.0,
    ),
    *(
        -1e10,
        9.223372036854774e18,
        9.223372036854775807e18,
        -9.223372036854775807e18,
        -9.3e18,
        1e19,
        1.8446744073709552e19,
    ),
    *(1e20, 3.4028235677973366e38, 1e39, 1e300, np.inf, -np.inf, np.nan, 1e-46, 1e-40, 1e-8, 1e-5),
)
PROGRAMS = {
    "divide": "r = np.array([1.0, -1.0, 0.0]) / 0",
    "scalar divide": "r = np.float64(1) / 0",
    "integer scalar divide": "r = np.int64(1) / np.int64(0)",
    "scalar multiply": "r = np.float32(3e38) * np.float32(10)",
    "scalar power": "r = np.float64(0.0) ** -1",
    "scalar floor_divide": "r = np.float64(1.0) // 0.0",
    "scalar remainder": "r = np.float64(1.0) % 0.0",
    "scalar subtract": "r = np.float64(inf) - np.float64(inf)",
    "half scalar": "r = np.float16(60000) + np.float16(60000)",
    "complex scalar": "r = np.complex128(1) / np.complex128(0)",
    "integers": "r = np.array([1, -5], 'i8') // np.array([0, 0], 'i8')",
    "integer remainder": "r = np.array([1, -5], 'i4') % np.array([0, 0], 'i4')",
    "integer overflow": "r = np.array([-2**63], 'i8') // np.array([-1], 'i8')",
    "integer scalar": "r = np.int32(2**31 - 1) + np.int32(1)",
    "sqrt": "r = np.sqrt(np.array([-1.0, 4.0]))",
    "log": "r = np.log(np.array([0.0, 1.0, -1.0]))",
    "exp": "r = np.exp(np.array([1000.0, 1.0]))",
    "exp of a number": "r = np.exp(1000.0)",
    "in place": "r = np.array([1e308, inf, nan, 1.0]); r *= 10",
    "in place, quietly": "r = np.array([inf, nan, 1.0]); r += 1",
    "in place, of itself": "r = np.array([1e200, 2.0]); r *= r",
    "divisor in place": "r = np.array([0.0, inf, 2.0]); np.divide(np.array([1.0, 1.0, 1.0]), r, out=r)",
    "power in place": "r = np.array([0.0, 1e-300, 2.0]); np.power(r, -2.0, out=r)",
    "overlap": "r = np.full(9, 1e300); np.multiply(r[:-1], r[1:], out=r[1:])",
    "reversed": "r = np.full(3000, 1.0); r[7] = 0; r = 1 / r[::-2]; r = r[np.isinf(r)]",
    "strided": "a = np.zeros((50, 40)); a[3, 5] = 1e308; a[:, ::5] *= 10; r = a.max()",
    "columns": "a = np.zeros((70, 5000)); a[:, 4999] = 1e308; r = a.sum(axis=0)[-2:]",
    "far away": "a = np.ones(100_000); a[99_999] = -1; r = np.log(a)[-1]",
    "far away, single": "a = np.ones(100_000, 'f4'); a[99_998] = 3e38; r = (a * a)[-3:]",
    "sum": "r = np.array([1e308, 1e308]).sum()",
    "sum of infinities": "r = np.array([inf, 1.0, -inf]).sum()",
    "sum with NaN": "r = np.array([nan, 1.0, inf]).sum()",
    "long sum": "r = np.full(10_000, 1e305).sum()",
    "complex sum": "r = np.array([1e308 + 1j, 1e308 + nan]).sum()",
    "prod": "r = np.full(500, 10.0).prod()",
    "prod with zero": "r = np.array([inf, 0.0]).prod()",
    "cumsum": "r = np.array([1e308, 1e308, -inf, 1.0]).cumsum()",
    "cumsum in place": "r = np.array([1e308, 1e308, 1.0]); np.add.accumulate(r, out=r)",
    "reduceat": "r = np.add.reduceat(np.array([1e308, 1e308, 1.0, 2.0]), [0, 2])",
    "divide.reduce": "r = np.divide.reduce(np.array([1.0, 0.0, 2.0]))",
    "at": "r = np.array([1e308, 1.0, inf]); np.add.at(r, [0, 1, 0, 2], 1e308)",
    "at, quietly": "r = np.array([1.0, inf]); np.add.at(r, [0, 1, 0], 1.0)",
    "divide.at": "r = np.array([1.0, 2.0]); np.divide.at(r, [0, 1], np.array([0.0, 1.0]))",
    "where": "r = np.divide([1.0, 1.0], [0.0, 2.0], where=[False, True], out=np.zeros(2))",
    "where it matters": "r = np.divide([1.0, 1.0], [0.0, 2.0], where=[True, False], out=np.zeros(2))",
    "mixed types": "r = np.array([1, 2], 'i4') / np.array([0.0, 1.0], 'f4')",
    "matmul": "r = np.array([[inf, 1.0]]) @ np.array([[0.0], [1.0]])",
    "matmul overflows": "r = np.array([[1e200]]) @ np.array([[1e200]])",
    "dot": "r = np.dot(np.array([1e200, 1.0]), np.array([1e200, 1.0]))",
    "inner": "r = np.inner(np.array([inf, 1.0]), np.array([0.0, 1.0]))",
    "mean of nothing": "r = np.mean([])",
    "deviation of one": "r = np.std([1.0], ddof=1)",
    "nanmean": "r = np.nanmean([nan])",
    "average": "r = np.average([1.0, 2.0], weights=[0.0, 0.0])",
    "corrcoef": "r = np.corrcoef([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])[0]",
    "cov of one": "r = np.cov([1.0])",
    "polyfit": "r = np.polyfit([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], 2).shape",
    "cast": "r = np.array([nan, inf, -1e300]).astype('i4')",
    "cast overflows": "r = np.array([1e300]).astype('f4')",
    "cast to half": "r = np.array([1e5]).astype('f2')",
    "cast of a scalar": "r = np.float32(np.float64(1e300))",
    "cast in an assignment": "r = np.zeros(2, 'f4'); r[:] = np.array([1e300, 1.0])",
    "cast in an index": "r = np.zeros(2, 'f4'); r[[0, 1]] = np.array([1e300, 1.0])",
    "fill": "r = np.zeros(2, 'f4'); r.fill(np.float64(1e300))",
    "time": "r = (np.array([1], 'm8[s]') / np.array([0], 'm8[s]'), (np.array([1], 'm8[s]') / 0.0).astype('i8'))",
    "comparisons": "r = (np.array([nan, 1.0]) < 1, np.maximum([nan], [1.0]), np.isnan([nan]), np.sign([nan]))",
    "nan_to_num": "r = np.nan_to_num(np.array([nan, inf]))",
    "raise": "with np.errstate(all='raise'): r = np.array([1.0]) / 0",
    "raise overflow": "with np.errstate(all='raise'): r = np.float64(1e308) * 10",
    "raise underflow": "with np.errstate(all='raise'): r = np.exp(np.array([-1000.0]))",
    "raise scalar underflow": "with np.errstate(under='raise'): r = np.float64(1e-300) * np.float64(1e-300)",
    "exact small": "with np.errstate(all='raise'): r = np.float64(5e-324) * 2, np.array([5e-324]) * 2, np.array([5e-324]) + 5e-324",
    "raise inexact small": "with np.errstate(all='raise'): r = np.array([5e-324]) * 1.5",
    "raise in a sum": "with np.errstate(over='raise'): r = np.full(9, 1e308).sum()",
    "raise in a cast": "with np.errstate(over='raise'): r = np.array([1e300]).astype('f4')",
    "ignored underflow": "with np.errstate(all='raise'): pass\nr = np.float64(1e-300) * np.float64(1e-300)",
    "nested": "with np.errstate(under='raise'):\n with np.errstate(under='ignore'): np.exp(-1000.0)\n r = np.float64(1e-300)**2",
    "ignore": "with np.errstate(all='ignore'): r = np.array([1.0]) / 0, np.float64(1) / 0, np.sqrt(-1.0)",
    "seterr": "old = np.seterr(divide='raise')\ntry: r = np.array([1.0]) / 0\nfinally: np.seterr(**old)",
    "seterrcall": "seen = []\nwith np.errstate(all='call', call=lambda *a: seen.append(a)): np.array([1.0, -1.0, 0.0]) / 0\nr = [list(map(str, s)) for s in seen]",
    "log to an object": "class Log:\n  def write(self, text): lines.append(text)\nlines = []\nwith np.errstate(all='log', call=Log()): np.log(0.0)\nr = lines",
    "warnings as errors": "import warnings\nwith warnings.catch_warnings():\n warnings.simplefilter('error')\n r = np.array([1.0]) / 0",
    "clip": "r = np.clip(np.array([nan, inf, 1.0]), 0, 2)",
    "vectorize": "r = np.vectorize(lambda x: 1 / x)(np.array([0.0, 1.0]))",
    "objects": "r = np.array([np.float64(1)], object) / np.array([np.float64(0)], object)",
    "linspace": "r = np.linspace(0, inf, 3)",
    "logspace": "r = np.logspace(1, 400, 3)",
    "histogram": "r = np.histogram([1.0, nan, 3.0])",
    "fft": "r = abs(np.fft.fft([1.0, inf, 2.0]))",
    "determinant": "r = np.linalg.det(np.array([[0.0, 0.0], [0.0, 0.0]])), np.linalg.slogdet(np.zeros((2, 2)))",
    "large determinant": "r = np.linalg.det(np.diag([1e200, 1e200]))",
}
MATRICES = {
    "singular": "[[1.0, 2], [2, 4]]",
    "zero": "[[0.0, 0], [0, 0]]",
    "regular": "[[2.0, 1], [1, 3]]",
    "indefinite": "[[1.0, 3], [3, 1]]",
    "nan": "[[nan, 1], [1, 2]]",
    "late nan": "[[1, 1], [1, nan]]",
    "all nan": "np.full((3, 3), nan)",
    "inf": "[[inf, 1], [1, 2]]",
    "empty": "np.zeros((0, 0))",
    "one": "[[0.0]]",
    "wide": "[[1.0, 2, 3], [4, 5, 6]]",
    "no rows": "np.zeros((0, 3))",
    "batch": "[[[1.0, 2], [2, 4]], [[2.0, 1], [1, 3]]]",
    "batch with nan": "[[[1.0, 2], [nan, 4]], [[2.0, 1], [1, 3]]]",
    "no batch": "np.zeros((0, 2, 2))",
    "vector": "[1.0, 2]",
    "rank one": "np.outer([1.0, 2, 3], [1.0, 2, 3])",
}
ALGEBRA = (
    *(
        "inv(a)",
        "det(a)",
        "cholesky(a)",
        "eigvals(a)",
        "eig(a)[0]",
        "eigh(a)[0]",
        "eigvalsh(a)",
        "svd(a)[1]",
        "pinv(a)",
    ),
    *(
        "qr(a)[1].shape",
        "matrix_rank(a)",
        "norm(a)",
        "norm(a, 2)",
        "cond(a)",
        "matrix_power(a, -1)",
        "matrix_power(a, 3)",
    ),
    *(
        "solve(a, np.ones(a.shape[-1], a.dtype))",
        "lstsq(a, np.ones(len(a), a.dtype), rcond=None)[2]",
        "tensorinv(a, 1)",
    ),
)


SINCE_2_5 = np.lib.NumpyVersion(np.__version__) >= "2.5.0"


def differs(function: str, matrix: str) -> str:
    """Why a function's outcome is not the native one; empty if it has to be."""
    if not SINCE_2_5 and function.startswith("cond") and "nan" in matrix:
        return "numpy 2.5 answers NaN"
    if not SINCE_2_5 and matrix == "inf" and function in ("svd(a)[1]", "pinv(a)", "matrix_rank(a)", "norm(a, 2)"):
        return "numpy 2.5 refuses infinities"
    if matrix == "inf" and function == "eigvalsh(a)":
        return "the image's LAPACK refuses infinities by ValueError, OpenBLAS's gives NaN"
    if matrix == "inf" and function == "matrix_power(a, 3)":
        return "no product is invalid: OpenBLAS multiplies infinity by zeros beside the matrix, and tells that"
    return ""


@pytest.fixture(scope="module")
def ask(runtime):
    source = Path(native.__file__).read_text("utf-8")
    with runtime.load(cloche.Source(source), "process") as node:
        yield node.process


@pytest.mark.few(20)
@pytest.mark.parametrize("name", UFUNCS)
def test_ufuncs_tell_the_errors_that_native_ones_tell(ask, name):
    """A node that looks for warnings, or raises, decides as it would natively, whatever the values."""
    for char in "efd":
        for count in (0, 1, 16):
            found, wanted = ask("ufunc", name, char, count), native.of_ufunc(name, char, count)
            ignored = 0 if name in DEFINED[char] else UNDERFLOW
            assert [one & ~ignored for one in found] == [one & ~ignored for one in wanted], (char, count)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", COMPLEX)
def test_complex_arithmetic_tells_the_errors_of_its_steps(ask, name):
    """(inf+0j) * (1+1j) is an invalid operation, because of what happens in between."""
    for char in "FD":
        found, wanted = ask("ufunc", name, char, 1), native.of_ufunc(name, char, 1)
        assert [one & ~UNDERFLOW for one in found] == [one & ~UNDERFLOW for one in wanted], char


@pytest.mark.parametrize("source", "efdFD")
def test_casts_tell_what_does_not_fit(ask, source):
    """A number that becomes another one without a word is the worst of errors."""
    found, wanted = ask("casts", source, CASTS, (0, 1, 16)), native.of_casts(source, CASTS, (0, 1, 16))
    for target, flags in wanted.items():
        assert found[target] == flags, target


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_programs_get_the_same_warnings_and_errors(ask, program):
    """Texts included: people filter warnings by them."""
    found, wanted = ask("outcome", program), native.outcome(program)
    assert list(found[1]) == wanted[1]
    assert repr(found[0]) == repr(wanted[0])


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("function", ALGEBRA)
def test_linear_algebra_raises_what_it_raises_natively(ask, function, matrix):
    """A singular matrix has no inverse; NaN in place of LinAlgError is a silently wrong answer."""
    if reason := differs(function, matrix):
        pytest.skip(reason)
    for char in "dfDF":
        program = f"a = np.array({MATRICES[matrix]}).astype('{char}'); r = np.linalg.{function}"
        (found, warned), (wanted, warnings) = ask("outcome", program), native.outcome(program)
        assert list(warned) == warnings, char
        assert isinstance(found, str) == isinstance(wanted, str), (found, wanted, char)
        if isinstance(wanted, str):
            assert found == wanted, char
