"""The BLAS of the image against numpy's own, function by function, in a module of its own: any order, transpose, leading dimension, step
and factor, also those that numpy never passes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wasmtime

from imagebuild.blas import FORTRAN
from imagebuild.command import prepare
from imagebuild.cpython import objects
from imagebuild.inputs import cache_folder
from imagebuild.progress import Progress
from imagebuild.recipe import stages
from imagebuild.stages import build, locked
from imagebuild.toolchain import Toolchain
from tests.image.conftest import TREE

pytestmark = [pytest.mark.image, pytest.mark.few(2)]

TYPES = {"s": np.dtype("f4"), "d": np.dtype("f8"), "c": np.dtype("c8"), "z": np.dtype("c16")}
ROW_MAJOR, COLUMN_MAJOR = 101, 102
PLAIN, TRANSPOSED, CONJUGATED = 111, 112, 113
UPPER, LOWER = 121, 122
LETTERS = {PLAIN: b"N", TRANSPOSED: b"T", CONJUGATED: b"c"}
# Nothing, one, less than a vector, a tile and its edges, a panel and its edges, more than a block in each direction.
SIZES = (0, 1, 3, 7, 8, 9, 16, 31, 70, 97, 130, 260, 520)
ROUNDS = 60


class Blas:
    """The compiled functions in an instance; arrays are passed by a copy in its memory."""

    def __init__(self, wasm: Path) -> None:
        engine = wasmtime.Engine()
        self.store = wasmtime.Store(engine)
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        self.store.set_wasi(wasmtime.WasiConfig())
        self.exports: Any = linker.instantiate(self.store, wasmtime.Module.from_file(engine, str(wasm))).exports(
            self.store
        )
        self.exports["_initialize"](self.store)
        self.placed: list[int] = []

    def put(self, array: np.ndarray[Any, Any] | bytes) -> int:
        body = array if isinstance(array, bytes) else array.tobytes()
        address: int = self.exports["malloc"](self.store, max(len(body), 16))
        self.exports["memory"].write(self.store, body, address)
        self.placed.append(address)
        return address

    def call(self, name: str, *arguments: Any) -> Any:
        """Numbers are passed as they are, arrays and bytes by address; answers (what it returns, the arrays as they are after)."""
        places = [self.put(a) if isinstance(a, (np.ndarray, bytes)) else a for a in arguments]
        result = self.exports[name](self.store, *places)
        after = []
        for argument, place in zip(arguments, places, strict=True):
            if isinstance(argument, np.ndarray):
                body = self.exports["memory"].read(self.store, place, place + argument.nbytes)
                after.append(np.frombuffer(bytes(body), argument.dtype))
        while self.placed:
            self.exports["free"](self.store, self.placed.pop())
        return result, after

    def fortran(self, name: str, *arguments: Any) -> list[np.ndarray[Any, Any]]:
        """Everything by address; ints are 32 bits."""
        result: list[np.ndarray[Any, Any]] = self.call(
            name, *(np.int32(a).tobytes() if isinstance(a, int) else a for a in arguments)
        )[1]
        return result


@pytest.fixture(scope="module")
def blas(tmp_path_factory: pytest.TempPathFactory) -> Blas:
    work = cache_folder().resolve() / "build"
    wanted = [stage for stage in stages(prepare(TREE, work, 0, Progress())) if stage.name in ("toolchain", "blas")]
    with locked(work / "lock", Progress()):
        folders = build(wanted, work, Progress())
    wasm = tmp_path_factory.mktemp("blas") / "blas.wasm"
    Toolchain(folders["toolchain"], ()).link(
        objects(folders["blas"]), wasm, ["-Wl,--export-all", "-Wl,--no-gc-sections"]
    )
    return Blas(wasm)


class Draw:
    """Random arguments, the same in each run."""

    def __init__(self, prefix: str, seed: int) -> None:
        self.random = np.random.default_rng([seed, ord(prefix)])
        self.prefix, self.dtype = prefix, TYPES[prefix]
        self.complex = self.dtype.kind == "c"

    def one(self, *choices: Any) -> Any:
        return choices[self.random.integers(len(choices))]

    def size(self) -> int:
        return int(self.random.choice(SIZES, p=np.array([8, 8, 8, 8, 8, 8, 8, 8, 4, 3, 2, 1, 1]) / 75))

    def step(self) -> int:
        return int(self.one(1, 1, 2, 3, -1, -2))

    def factor(self) -> Any:
        return self.one(0, 1, 1, -1, 0.5, 2 - 1j if self.complex else 3)

    def numbers(self, count: int) -> np.ndarray[Any, Any]:
        parts = self.random.uniform(-1, 1, (2, count))
        return (parts[0] + 1j * parts[1] if self.complex else parts[0]).astype(self.dtype)

    def matrix(self, rows: int, columns: int, order: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int]:
        """A buffer, the matrix in it, and its leading dimension, which is sometimes more than it needs."""
        leading = max(1, (columns if order == ROW_MAJOR else rows) + int(self.random.integers(4)))
        buffer = self.numbers(leading * max(rows, columns) + 4)
        return buffer, self.view(buffer, rows, columns, order, leading), leading

    def view(self, buffer: Any, rows: int, columns: int, order: int, leading: int) -> np.ndarray[Any, Any]:
        near, far = self.dtype.itemsize, leading * self.dtype.itemsize
        strides = (far, near) if order == ROW_MAJOR else (near, far)
        return np.lib.stride_tricks.as_strided(buffer, (rows, columns), strides)

    def vector(self, count: int, step: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """A buffer and the vector in it; with a negative step it begins at its end."""
        buffer = self.numbers(count * abs(step) + 4)
        return buffer, buffer[: count * abs(step)][:: abs(step)][:: 1 if step > 0 else -1]

    def scalar(self, value: Any) -> Any:
        """As CBLAS takes it."""
        return np.array(value, self.dtype).tobytes() if self.complex else float(value)


def op(matrix: np.ndarray[Any, Any], transpose: int) -> np.ndarray[Any, Any]:
    return matrix if transpose == PLAIN else matrix.T if transpose == TRANSPOSED else matrix.conj().T


def scaled(factor: Any, array: np.ndarray[Any, Any]) -> Any:
    """0 times anything is 0: what is there is not even read."""
    return np.zeros_like(array) if factor == 0 else factor * array


def assert_close(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any], terms: int) -> None:
    """To rounding in sums of so many terms; what is around the result is untouched, so whole buffers are compared."""
    tolerance = (terms + 4) * (2e-6 if wanted.dtype.char in "fF" else 1e-14)
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.fixture(params=TYPES)
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_gemm(blas: Blas, prefix: str) -> None:
    """C = alpha op(A) op(B) + beta C; a beta of 0 hides what was there, be it NaN."""
    for seed in range(ROUNDS):
        draw = Draw(prefix, seed)
        m, n, k = draw.size(), draw.size(), draw.size()
        order, alpha, beta = draw.one(ROW_MAJOR, COLUMN_MAJOR), draw.factor(), draw.factor()
        left, right = draw.one(*LETTERS), draw.one(*LETTERS)
        a, a_matrix, lda = draw.matrix(*((m, k) if left == PLAIN else (k, m)), order)
        b, b_matrix, ldb = draw.matrix(*((k, n) if right == PLAIN else (n, k)), order)
        c, c_matrix, ldc = draw.matrix(m, n, order)
        if beta == 0:
            c_matrix[...] = np.nan
        wanted = c.copy()
        place = draw.view(wanted, m, n, order, ldc)
        place[...] = alpha * (op(a_matrix, left) @ op(b_matrix, right)) + scaled(beta, place)
        sizes, factors = (m, n, k), (draw.scalar(alpha), draw.scalar(beta))
        _, (*_, found) = blas.call(
            f"cblas_{prefix}gemm", order, left, right, *sizes, factors[0], a, lda, b, ldb, factors[1], c, ldc
        )
        assert_close(found, wanted, k)
        if order == COLUMN_MAJOR:
            one, other = (np.array([value], draw.dtype) for value in (alpha, beta))
            found = blas.fortran(
                f"{prefix}gemm_", LETTERS[left], LETTERS[right], *sizes, one, a, lda, b, ldb, other, c, ldc
            )[-1]
            assert_close(found, wanted, k)


def test_syrk(blas: Blas, prefix: str) -> None:
    """One triangle of A A' or A' A; the other keeps what it has."""
    for seed in range(ROUNDS):
        draw = Draw(prefix, seed)
        n, k = draw.size(), draw.size()
        order, alpha, beta = draw.one(ROW_MAJOR, COLUMN_MAJOR), draw.factor(), draw.factor()
        transpose, triangle = draw.one(PLAIN, TRANSPOSED), draw.one(UPPER, LOWER)
        a, a_matrix, lda = draw.matrix(*((n, k) if transpose == PLAIN else (k, n)), order)
        c, _, ldc = draw.matrix(n, n, order)
        wanted = c.copy()
        place = draw.view(wanted, n, n, order, ldc)
        full = alpha * (op(a_matrix, transpose) @ op(a_matrix, transpose).T) + scaled(beta, place)
        kept = np.triu(np.ones((n, n), bool)) if triangle == UPPER else np.tril(np.ones((n, n), bool))
        place[kept] = full[kept]
        arguments = (order, triangle, transpose, n, k, draw.scalar(alpha), a, lda, draw.scalar(beta), c, ldc)
        assert_close(blas.call(f"cblas_{prefix}syrk", *arguments)[1][-1], wanted, k)


def test_gemv(blas: Blas, prefix: str) -> None:
    """y = alpha op(A) x + beta y, with steps of either sign."""
    for seed in range(ROUNDS):
        draw = Draw(prefix, seed)
        m, n = draw.size(), draw.size()
        order, transpose = draw.one(ROW_MAJOR, COLUMN_MAJOR), draw.one(*LETTERS)
        alpha, beta, incx, incy = draw.factor(), draw.factor(), draw.step(), draw.step()
        a, a_matrix, lda = draw.matrix(m, n, order)
        left = op(a_matrix, transpose)
        x, x_vector = draw.vector(left.shape[1], incx)
        y, y_vector = draw.vector(left.shape[0], incy)
        if beta == 0:
            y_vector[...] = np.nan
        wanted = y.copy()
        place = wanted[: left.shape[0] * abs(incy)][:: abs(incy)][:: 1 if incy > 0 else -1]
        place[...] = alpha * (left @ x_vector) + scaled(beta, place)
        _, (*_, found) = blas.call(
            f"cblas_{prefix}gemv",
            order,
            transpose,
            m,
            n,
            draw.scalar(alpha),
            a,
            lda,
            x,
            incx,
            draw.scalar(beta),
            y,
            incy,
        )
        assert_close(found, wanted, m + n)
        if order == COLUMN_MAJOR:
            one, other = (np.array([value], draw.dtype) for value in (alpha, beta))
            found = blas.fortran(f"{prefix}gemv_", LETTERS[transpose], m, n, one, a, lda, x, incx, other, y, incy)[-1]
            assert_close(found, wanted, m + n)


def test_dot_and_axpy(blas: Blas, prefix: str) -> None:
    """Sums of products, conjugated or not, and y += alpha x."""
    for seed in range(ROUNDS):
        draw = Draw(prefix, seed)
        n, incx, incy, alpha = draw.size(), draw.step(), draw.step(), draw.factor()
        (x, x_vector), (y, y_vector) = draw.vector(n, incx), draw.vector(n, incy)
        if draw.complex:
            for name, first in (("dotu", x_vector), ("dotc", x_vector.conj())):
                _, (_, _, found) = blas.call(f"cblas_{prefix}{name}_sub", n, x, incx, y, incy, np.zeros(1, draw.dtype))
                assert_close(found, np.array([first @ y_vector]), n)
        else:
            found, _ = blas.call(f"cblas_{prefix}dot", n, x, incx, y, incy)
            assert_close(np.array([found], draw.dtype), np.array([x_vector @ y_vector]), n)
        _, (_, found) = blas.call(f"cblas_{prefix}axpy", n, draw.scalar(alpha), x, incx, y, incy)
        y_vector += np.array(alpha, draw.dtype) * x_vector
        assert_close(found, y, 1)


def test_trsm_and_trmm(blas: Blas, prefix: str) -> None:
    """Triangular systems and products, from either side; the other triangle is not read."""
    for seed in range(ROUNDS):
        draw = Draw(prefix, seed)
        m, n, alpha = draw.size(), draw.size(), draw.factor()
        side, uplo, diag = draw.one(b"L", b"r"), draw.one(b"U", b"l"), draw.one(b"N", b"u")
        transpose = draw.one(*LETTERS)
        size = m if side == b"L" else n
        a, matrix, lda = draw.matrix(size, size, COLUMN_MAJOR)
        matrix /= max(size, 1)
        matrix[np.diag_indices(size)] += 1
        full = op(np.triu(matrix) if uplo == b"U" else np.tril(matrix), transpose).copy()
        matrix[np.tril_indices(size, -1) if uplo == b"U" else np.triu_indices(size, 1)] = np.nan
        if diag == b"u":
            np.fill_diagonal(full, 1)
            matrix[np.diag_indices(size)] = np.nan
        full = np.linalg.inv(full)
        for name in ("trsm", "trmm"):
            b, _, ldb = draw.matrix(m, n, COLUMN_MAJOR)
            wanted = b.copy()
            place = draw.view(wanted, m, n, COLUMN_MAJOR, ldb)
            place[...] = alpha * (full @ place if side == b"L" else place @ full)
            one = np.array([alpha], draw.dtype)
            found = blas.fortran(f"{prefix}{name}_", side, uplo, LETTERS[transpose], diag, m, n, one, a, lda, b, ldb)[
                -1
            ]
            assert_close(found, wanted, 8 * size)
            full = np.linalg.inv(full)


def test_fortran_rank_updates(blas: Blas, prefix: str) -> None:
    """One triangle of A A' and of A B' + B A', conjugated for complex types; and A + x y'."""
    for seed in range(ROUNDS):
        draw = Draw(prefix, seed)
        n, k = draw.size(), draw.size()
        uplo, transpose = draw.one(b"U", b"l"), draw.one(PLAIN, CONJUGATED if draw.complex else TRANSPOSED)
        shape = (n, k) if transpose == PLAIN else (k, n)
        (a, a_matrix, lda), (b, b_matrix, ldb) = draw.matrix(*shape, COLUMN_MAJOR), draw.matrix(*shape, COLUMN_MAJOR)
        c, c_matrix, ldc = draw.matrix(n, n, COLUMN_MAJOR)
        c_matrix[np.diag_indices(n)] = c_matrix.diagonal().real
        left, right = op(a_matrix, transpose), op(b_matrix, transpose)
        alpha, beta = draw.factor(), draw.one(0, 1, -0.5)
        kept = np.triu_indices(n) if uplo == b"U" else np.tril_indices(n)
        real = np.dtype(draw.dtype.char.lower())
        for double in (False, True):
            factor = alpha if double else np.real(alpha)
            full = factor * (left @ (right if double else left).conj().T)
            full = full + full.conj().T if double else full
            wanted = c.copy()
            place = draw.view(wanted, n, n, COLUMN_MAJOR, ldc)
            place[kept] = (full + scaled(beta, place))[kept]
            name = ("her" if draw.complex else "syr") + ("2k" if double else "k")
            scalar = np.array([factor], draw.dtype if double else real)
            second = (b, ldb) if double else ()
            found = blas.fortran(
                f"{prefix}{name}_",
                uplo,
                LETTERS[transpose],
                n,
                k,
                scalar,
                a,
                lda,
                *second,
                np.array([beta], real),
                c,
                ldc,
            )[-1]
            assert_close(found, wanted, 2 * k)
        incx, incy = draw.step(), draw.step()
        (x, x_vector), (y, y_vector) = draw.vector(n, incx), draw.vector(k, incy)
        for name, right in (("geru", y_vector), ("gerc", y_vector.conj())) if draw.complex else (("ger", y_vector),):
            a, a_matrix, lda = draw.matrix(n, k, COLUMN_MAJOR)
            wanted = a.copy()
            draw.view(wanted, n, k, COLUMN_MAJOR, lda)[...] += alpha * np.outer(x_vector, right)
            scalar = np.array([alpha], draw.dtype)
            assert_close(blas.fortran(f"{prefix}{name}_", n, k, scalar, x, incx, y, incy, a, lda)[-1], wanted, 2)


def test_symmetric_matrix_times_vector(blas: Blas, prefix: str) -> None:
    """Only one triangle is read, and of a Hermitian matrix only the real part of the diagonal."""
    for seed in range(ROUNDS):
        draw = Draw(prefix, seed)
        n, uplo, alpha, beta = draw.size(), draw.one(b"U", b"l"), draw.factor(), draw.factor()
        incx, incy = draw.step(), draw.step()
        a, matrix, lda = draw.matrix(n, n, COLUMN_MAJOR)
        triangle = np.triu(matrix, 1) if uplo == b"U" else np.tril(matrix, -1)
        full = triangle + triangle.conj().T + np.diag(matrix.diagonal().real)
        matrix[np.tril_indices(n, -1) if uplo == b"U" else np.triu_indices(n, 1)] = np.nan
        (x, x_vector), (y, y_vector) = draw.vector(n, incx), draw.vector(n, incy)
        if beta == 0:
            y_vector[...] = np.nan
        wanted = y.copy()
        place = wanted[: n * abs(incy)][:: abs(incy)][:: 1 if incy > 0 else -1]
        place[...] = alpha * (full @ x_vector) + scaled(beta, place)
        one, other = (np.array([value], draw.dtype) for value in (alpha, beta))
        name = f"{prefix}{'he' if draw.complex else 'sy'}mv_"
        assert_close(blas.fortran(name, uplo, n, one, a, lda, x, incx, other, y, incy)[-1], wanted, n)


def test_not_a_number_and_infinity(blas: Blas, prefix: str) -> None:
    """They go where arithmetic takes them, in whole tiles and at the edges, and nowhere else."""
    n = 37
    draw = Draw(prefix, 0)
    a, b = draw.numbers(n * n).reshape(n, n), draw.numbers(n * n).reshape(n, n)
    a[3, 5], a[36, 36], b[7, 30] = np.nan, np.inf, -np.inf
    c = np.zeros((n, n), draw.dtype)
    with np.errstate(invalid="ignore"):
        wanted = a @ b
    _, (*_, found) = blas.call(
        f"cblas_{prefix}gemm", ROW_MAJOR, PLAIN, PLAIN, n, n, n, draw.scalar(1), a, n, b, n, draw.scalar(0), c, n
    )
    assert np.array_equal(np.isfinite(found.reshape(n, n)), np.isfinite(wanted))
    finite = np.isfinite(wanted)
    assert_close(found.reshape(n, n)[finite], wanted[finite], n)


def test_without_memory_for_panels_it_only_takes_longer(blas: Blas, prefix: str) -> None:
    """A node at its limit of memory still gets its product."""
    n = 300
    draw = Draw(prefix, 1)
    a, b = draw.numbers(n * n), draw.numbers(n * n)
    places = [blas.put(array) for array in (a, b, np.zeros(n * n, draw.dtype))]
    scalars = [blas.put(s) if isinstance(s := draw.scalar(value), bytes) else s for value in (1, 0)]
    size, last = 1 << 24, []
    blas.store.set_limits(memory_size=blas.exports["memory"].data_len(blas.store))
    while size >= 1 << 10:
        if address := blas.exports["malloc"](blas.store, size):
            last.append(address)
        else:
            size //= 2
    blas.exports[f"cblas_{prefix}gemm"](
        blas.store, ROW_MAJOR, PLAIN, PLAIN, n, n, n, scalars[0], places[0], n, places[1], n, scalars[1], places[2], n
    )
    found = blas.exports["memory"].read(blas.store, places[2], places[2] + a.nbytes)
    for address in (*last, *blas.placed):
        blas.exports["free"](blas.store, address)
    blas.placed.clear()
    blas.store.set_limits(memory_size=-1)
    assert_close(np.frombuffer(bytes(found), draw.dtype).reshape(n, n), a.reshape(n, n) @ b.reshape(n, n), n)


def test_every_function_that_is_replaced_is_there(blas: Blas) -> None:
    """The list makes numpy's translation give way; a name without a function would be a broken link."""
    assert set(FORTRAN) <= set(blas.exports.keys())
