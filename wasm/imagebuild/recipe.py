"""The table of the build's stages. Read it top to bottom to see what is made from what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MethodType

from imagebuild import toolchain, uses
from imagebuild.header import WIRE_MODULES
from imagebuild.stages import Folders, Stage, file_digest
from imagebuild.steps import Steps


@dataclass(frozen=True)
class Row:
    """One stage and what its result depends on, as lists of words. The code of the build that makes it is found (uses.py).

    Attributes:
        name: the stage.
        run: the function that makes it.
        needs: stages it reads.
        pins: pinned files it reads; ``@group`` is every pin of a group.
        files: files of the tree it reads, as patterns relative to the tree.
        in_process: see `Stage.in_process`.
        usable: see `Stage.usable`.
    """

    name: str
    run: Callable[[Steps, Path, Folders], None]
    needs: str = ""
    pins: str = ""
    files: str = ""
    in_process: bool = False
    usable: Callable[[Path], bool] | None = None


AROUND = frozenset("fetch pins progress slots stages timing".split())
"""Modules that decide when stages run and what of the build is shown, but not what a stage makes."""

_ABI = "guest/cloche_wire/abi.py"
_NUMBERS = " ".join(f"guest/cloche_wire/{name}.py" for name in WIRE_MODULES)  # C gets these modules' numbers as headers
_FREEZER = " ".join(
    f"wasm/shim/{name}"
    for name in ("freezer.c", "freezer_files.c", "wasi.c", "notice.c", "notice.h", "boot.h", "output.h", "wasi.h")
)
_GUEST = "guest/cloche_guest/**/*.py guest/cloche_wire/**/*.py wasm/overlay/**/*.py"


def _runs_here(folder: Path) -> bool:
    """Which of the compiler's own libraries the stage brings depends on the machine, so that no key could tell."""
    return not toolchain.missing_libraries(folder)


TABLE = (
    # What is unpacked.
    Row(
        "toolchain",
        Steps.unpack_toolchain,
        pins="@toolchain",
        in_process=True,
        usable=_runs_here,
    ),
    Row(
        "cpython-source",
        Steps.unpack_cpython,
        pins="cpython cpython-patches",
        in_process=True,
    ),
    Row(
        "library-source",
        Steps.unpack_libraries,
        pins="zlib bzip2 xz-utils sqlite",
        files="wasm/cpython/libraries.toml",
        in_process=True,
    ),
    Row(
        "numpy-source",
        Steps.unpack_numpy,
        pins="numpy",
        files="wasm/numpy/*.[ch] wasm/numpy/*.patch",
        in_process=True,
    ),
    Row(
        "numpy-python",
        Steps.copy_numpy_python,
        needs="numpy-source",
        files="wasm/numpy/config.json",
        in_process=True,
    ),
    # without the pins of "hosttool-native": what they write does not depend on which of them is used
    Row("host-tools", Steps.unpack_host_tools, pins="cython ninja", in_process=True),
    Row("pure", Steps.unpack_pure, pins="cloudpickle tzdata", in_process=True),
    # What is compiled.
    Row(
        "config",
        Steps.write_config,
        needs="cpython-source",
        files="wasm/cpython/pyconfig.answers",
    ),
    Row("evaluator", Steps.write_evaluator, needs="cpython-source"),
    Row(
        "interpreter",
        Steps.compile_interpreter,
        needs="toolchain cpython-source config evaluator",
        files="wasm/cpython/objects.toml",
    ),
    Row(
        "cpython",
        Steps.compile_cpython,
        needs="toolchain cpython-source config evaluator library-source",
        files="wasm/cpython/objects.toml wasm/cpython/include/**/*.h",
    ),
    Row(
        "libraries",
        Steps.compile_libraries,
        needs="toolchain library-source",
        files="wasm/cpython/libraries.toml",
    ),
    Row("blas", Steps.compile_blas, needs="toolchain", files="wasm/blas/*"),
    Row(
        "numpy",
        Steps.compile_numpy,
        needs="toolchain cpython-source config numpy-source host-tools",
        files="wasm/numpy/objects.toml wasm/numpy/config.json",
    ),
    Row(
        "shim",
        Steps.compile_shim,
        needs="toolchain cpython-source config library-source",
        files=f"wasm/shim/*.[ch] wasm/cpython/include/**/*.h {_NUMBERS}",
    ),
    # What is frozen.
    Row(
        "freezer",
        Steps.make_freezer,
        needs="toolchain cpython-source config interpreter cpython",
        files=f"{_FREEZER} {_NUMBERS}",
    ),
    Row(
        "frozen-library",
        Steps.freeze_library,
        needs="toolchain freezer cpython-source pure",
        files="wasm/additions/*.py",
    ),
    Row("frozen-numpy", Steps.freeze_numpy, needs="toolchain freezer numpy-python"),
    Row("frozen-guest", Steps.freeze_guest, needs="toolchain freezer", files=_GUEST),
    # What is put together, and checked.
    Row(
        "link",
        Steps.link_image,
        needs="toolchain cpython-source config interpreter cpython libraries blas numpy shim"
        " frozen-library frozen-numpy frozen-guest",
    ),
    Row(
        "snapshot",
        Steps.take_snapshot,
        needs="link",
        files=_ABI,
    ),
    Row(
        "check",
        Steps.check_image,
        needs="snapshot evaluator",
        files=_ABI,
    ),
)


def stages(steps: Steps) -> list[Stage]:
    """The table's stages for one source tree."""

    def pinned(word: str) -> list[str]:
        if word.startswith("@"):
            return [pin.name for pin in steps.pins.group(word[1:])]
        return [] if word in steps.without else [word]

    def stage(row: Row) -> Stage:
        files = [path for pattern in row.files.split() for path in steps.tree.glob(pattern)]
        pins = [name for word in row.pins.split() for name in pinned(word)]
        code = [steps.wasm / "imagebuild" / f"{name}.py" for name in uses.modules(row.run, AROUND)]
        inputs = (*steps.pins.digest_of(pins), file_digest(steps.tree, *files, *code))
        return Stage(row.name, tuple(row.needs.split()), inputs, MethodType(row.run, steps), row.usable, row.in_process)

    return [stage(row) for row in TABLE]
