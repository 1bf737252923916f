"""Compiles wasm/blas, and lists the Fortran functions that it replaces. docs/explanation/image.md says how the BLAS works."""

from __future__ import annotations

from pathlib import Path

from imagebuild.toolchain import Toolchain

NAME, VERSION = "cloche-blas", "1"
# The functions of numpy's own BLAS (Fortran, translated to C) that wasm/blas replaces.
_ALL = "gemm gemv trsm trmm"
_REAL = f"{_ALL} ger symv syrk syr2k"
_COMPLEX = f"{_ALL} geru gerc hemv herk her2k"
FORTRAN = tuple(f"{prefix}{name}_" for prefix in "sdcz" for name in (_REAL if prefix in "sd" else _COMPLEX).split())
# Complex products without a test for NaN, divisions after Smith: as Fortran has them.
FLAGS = ("-msimd128", "-fstrict-overflow", "-std=c11", "-fcomplex-arithmetic=improved", "-Wall", "-Wextra", "-Werror")


def build(toolchain: Toolchain, source: Path, out: Path) -> None:
    """Compile the C files at `source` into `out`/*.o."""
    toolchain.compile_all([(path, out / f"{path.stem}.o", FLAGS) for path in source.glob("*.c")])
