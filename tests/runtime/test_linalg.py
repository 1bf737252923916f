"""numpy's products and linear algebra in the image, beside the same expressions natively, on the same arrays."""

from __future__ import annotations

import numpy as np
import pytest

import cloche

pytestmark = pytest.mark.isolation("none", reason="a worker has the same image")

SOURCE = """
import numpy as np

def f(expression, arrays):
    with np.errstate(all="ignore"):
        return eval(expression, {"np": np, **arrays})
"""
DTYPES = ("f4", "f8", "c8", "c16")
PRODUCTS = {
    "matrices": "a @ b",
    "transposed": "a.T @ b.T",
    "Fortran order": "np.asfortranarray(a) @ b",
    "with itself": "a @ a.T, a.T @ a",
    "slices": "a[1:, ::2] @ b[::2, 3:], a[::2, 1:] @ b[1:]",
    "reversed": "a[::-1] @ b[:, ::-1]",
    "into": "np.matmul(a, b, out=np.full((len(a), len(b)), np.nan, a.dtype))",
    "rows and columns": "a[:1] @ b, a @ b[:, :1], a[:1] @ b[:, :1], a[:, :1] @ b[:1]",
    "vectors": "a @ b[0], a[0] @ b, a[0] @ b[0], a[:, 1] @ b[:, 2], a[::2, 0] @ b[::2, 1]",
    "broadcast": "a @ np.stack([b, b.T, b])",
    "empty": "a[:0] @ b, a[:, :0] @ b[:0], a @ b[:, :0]",
    "dot": "np.dot(a, b), np.dot(a[0], b), np.vdot(a, b), np.inner(a, b), np.outer(a[0], b[0]), np.tensordot(a, b, 2)",
    "einsum": "np.einsum('ij,jk->ik', a, b), np.einsum('ij,jk,kl->il', a, b, a, optimize=True)",
    "not a number": "np.where(a.real > 0.99, np.nan, a) @ b",
    "convolution": "np.convolve(a[0], b[0]), np.correlate(a[0], b[0], 'full')",
}
ALGEBRA = {
    "inv": "np.linalg.inv(a)",
    "solve": "np.linalg.solve(a, b), np.linalg.solve(a, b[0])",
    "det": "tuple(np.linalg.slogdet(a))",
    "cholesky": "np.linalg.cholesky(a @ a.conj().T + np.eye(len(a), dtype=a.dtype))",
    "singular values": "np.linalg.svd(a, compute_uv=False)",
    "svd": "(lambda u, s, v: (u * s) @ v)(*np.linalg.svd(a))",
    "qr": "(lambda q, r: (q @ r, abs(q.conj().T @ q)))(*np.linalg.qr(a))",
    "eigh": "(lambda w, v: (w, (v * w) @ v.conj().T))(*np.linalg.eigh(a + a.conj().T))",
    "eig": "(lambda w, v: abs(a @ v - v * w).max() < 1e-3)(*np.linalg.eig(a))",
    "lstsq": "np.linalg.lstsq(a[:, :5], b[:, 0])[:2]",
    "pinv": "np.linalg.pinv(a[:, :7])",
    "power": "np.linalg.matrix_power(a / len(a), 5)",
}


@pytest.fixture(scope="module")
def evaluate(runtime):
    with runtime.load(cloche.Source(SOURCE), "f") as node:
        yield node.process


def check(evaluate, expression, size, dtype):
    random = np.random.default_rng([size, len(expression)])
    arrays = {}
    for name in "ab":
        parts = random.uniform(-1, 1, (2, size, size))
        arrays[name] = (parts[0] + 1j * parts[1] if dtype[0] == "c" else parts[0]).astype(dtype)
        arrays[name][np.diag_indices(size)] += 3
    with np.errstate(all="ignore"):
        wanted = eval(expression, {"np": np, **arrays})
    found = evaluate(expression, arrays)
    tolerance = 3e-4 if dtype in ("f4", "c8") else 1e-11
    for one, other in zip(*(x if isinstance(x, tuple) else (x,) for x in (found, wanted)), strict=True):
        assert np.shape(one) == np.shape(other)
        assert np.asarray(one).dtype == np.asarray(other).dtype
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("expression", PRODUCTS.values(), ids=PRODUCTS)
def test_products(evaluate, expression, dtype):
    """Below a tile, around one, and beyond a block."""
    for size in (5, 17, 64, 301):
        check(evaluate, expression, size, dtype)


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("expression", ALGEBRA.values(), ids=ALGEBRA)
def test_linear_algebra(evaluate, expression, dtype):
    """LAPACK on top of our BLAS; what is only determined up to signs is put together again."""
    for size in (9, 40, 150):
        check(evaluate, expression, size, dtype)


def test_numpy_knows_its_blas(evaluate):
    """So that nobody looks for OpenBLAS."""
    assert evaluate("np.show_config(mode='dicts')['Build Dependencies']['blas']['name']", {}) == "cloche-blas"
