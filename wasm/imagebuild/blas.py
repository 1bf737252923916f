"""The BLAS of wasm/blas: what it is called, what it replaces, how it is compiled. docs/explanation/image.md says how it works."""

from __future__ import annotations

from pathlib import Path

from imagebuild.toolchain import Toolchain

NAME, VERSION = "cloche-blas", "1"
# What is replaced of the Fortran BLAS that numpy's LAPACK brings as a translation.
_ALL = "gemm gemv trsm trmm"
_REAL = f"{_ALL} ger symv syrk syr2k"
_COMPLEX = f"{_ALL} geru gerc hemv herk her2k"
FORTRAN = tuple(f"{prefix}{name}_" for prefix in "sdcz" for name in (_REAL if prefix in "sd" else _COMPLEX).split())
# Complex products without a test for NaN, divisions after Smith: as Fortran has them.
FLAGS = ("-msimd128", "-fstrict-overflow", "-std=c11", "-fcomplex-arithmetic=improved", "-Wall", "-Wextra", "-Werror")


def build(toolchain: Toolchain, source: Path, out: Path) -> None:
    """Compile the C files at `source` into `out`/*.o."""
    toolchain.compile_all([(path, out / f"{path.stem}.o", FLAGS) for path in source.glob("*.c")])
