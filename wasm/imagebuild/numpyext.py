"""numpy for WASI without its meson build: generated headers and sources, objects, Python files."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from imagebuild import archive, blas, patch
from imagebuild.stages import BuildError, file_digest
from imagebuild.toolchain import NUMPY_FEATURES, Toolchain

# Everything but lapack_lite (its symbols clash with _umath_linalg's) and numpy's test modules.
MODULES = (
    "numpy._core._multiarray_umath",
    "numpy.fft._pocketfft_umath",
    "numpy.linalg._umath_linalg",
    "numpy.random._bounded_integers",
    "numpy.random._common",
    "numpy.random._generator",
    "numpy.random._mt19937",
    "numpy.random._pcg64",
    "numpy.random._philox",
    "numpy.random._sfc64",
    "numpy.random.bit_generator",
    "numpy.random.mtrand",
)
FLAGS = (
    "-fstrict-overflow",  # unlike CPython
    "-fvisibility=hidden",
    "-ftrapping-math",
    "-DNPY_DISABLE_OPTIMIZATION",
    "-D_FILE_OFFSET_BITS=64",
    "-D_LARGEFILE_SOURCE=1",
    "-D_LARGEFILE64_SOURCE=1",
    "-w",
)
LANGUAGE = {".c": ("-std=c11", "-fno-strict-aliasing"), ".cpp": ("-std=c++17",), ".cc": ("-std=c++17",)}
INCLUDES = (
    *("numpy/_core", "numpy/_core/include", "numpy/_core/src/common", "numpy/_core/src/multiarray"),
    *("numpy/_core/src/multiarray/stringdtype", "numpy/_core/src/npymath", "numpy/_core/src/umath"),
    *("numpy/_core/src/highway", "numpy/random", "numpy/random/src"),
)
QUESTIONS = "(digest of meson.build)"
"""The name of `questions` among the answers."""
CONFIG = "numpy/__config__.py"
CONFIGURED = {
    "numpy/_core/config.h.in": "config.h",
    "numpy/_core/include/numpy/_numpyconfig.h.in": "_numpyconfig.h",
    "meson_cpu/main_config.h.in": "npy_cpu_dispatch_config.h",
    f"{CONFIG}.in": CONFIG,
}
"""Templates that numpy's build fills in with what it has found out, and the files that these become."""
GENERATORS = (
    ("generate_umath", "-o", "__umath_generated.c"),
    ("generate_umath_doc", "-o", "_umath_doc_generated.h"),
    ("generate_numpy_api", "-o", ".", "--ignore", "__umath_generated.c"),
    ("generate_ufunc_api", "-o", "."),
)
"""Programs of numpy/_core/code_generators, and their arguments."""
# What numpy's build writes for a source that is compiled for one kind of processor only.
_DISPATCH = """#undef NPY__MTARGETS_EXPAND
#define NPY__MTARGETS_EXPAND(X) X
#undef NPY_MTARGETS_CONF_BASELINE
#define NPY_MTARGETS_CONF_BASELINE(EXEC_CB, ...) NPY__MTARGETS_EXPAND(EXEC_CB(__VA_ARGS__))
#undef NPY_MTARGETS_CONF_DISPATCH
#define NPY_MTARGETS_CONF_DISPATCH(TEST_CB, EXEC_CB, ...)
"""
# Fills in all templates of one kind; the arguments are pairs of paths.
_TEMPLATES = """import sys
sys.path.insert(0, sys.argv[1])
from conv_template import process_file
for name, target in zip(sys.argv[2::2], sys.argv[3::2]):
    with open(target, "w") as file:
        file.write(process_file(name))
"""
CYTHON = """import sys
sys.path.insert(0, {path!r})
from Cython.Compiler.Main import setuptools_main
setuptools_main()
"""
_LEFT_OUT = re.compile(r"numpy/(f2py|distutils|_build_utils|typing/tests)/.*|.*/tests/.*|.*/meson[^/]*|.*/setup\.py")
_FUNCTION = re.compile(r"\b(random_[a-z0-9_]+|logfactorial)\s*\(")
_ASKED = re.compile(r"^#mesondefine (\w+)$|@(\w+)@", re.MULTILINE)


@dataclass(frozen=True)
class Group:
    """Sources that are compiled with the same flags (numpy/objects.toml).

    Attributes:
        flags: beside FLAGS.
        sources: relative to numpy's source; with .src and .in if they are templates.
        before: a generated header that is included before each.
        headers: parsed once for all C files among them, and included before each.
        cxx_headers: the same for C++.
        folder: below the folder of objects, for sources that are compiled twice.
    """

    flags: list[str]
    sources: list[str]
    before: str = ""
    headers: list[str] = field(default_factory=list)
    cxx_headers: list[str] = field(default_factory=list)
    folder: str = ""


def groups(folder: Path) -> list[Group]:
    return [Group(**entry) for entry in tomllib.loads((folder / "objects.toml").read_text("utf-8"))["group"]]


def questions(source: Path) -> str:
    """A digest of the files that say what numpy's build asks, and what it compiles."""
    return file_digest(source, *source.glob("numpy/**/meson.build"), *source.glob("meson*/**/meson.build"))


def answers(folder: Path, source: Path) -> dict[str, str | None]:
    """What numpy's build asks the compiler and the machine (numpy/config.json), by the names in the templates.

    None stands for a macro that is not defined.

    Raises:
        BuildError: the answers are those of another source.
    """
    found: dict[str, str | None] = json.loads((folder / "config.json").read_text("utf-8"))
    if found.pop(QUESTIONS) != questions(source):
        raise BuildError("numpy's meson.build files are not those that config.json answers: run build.py configure")
    return found


def unpack(tarball: Path, changes: Path, out: Path) -> None:
    """Unpack numpy's sources, add the C of `changes` to them, and apply its patches."""
    archive.unpack_tar(tarball, out, lambda name: None if name.startswith(("doc/", "benchmarks/")) else name)
    for path in sorted(changes.glob("*.[ch]")):
        shutil.copyfile(path, out / "numpy/_core/src/common" / path.name)
    for path in sorted(changes.glob("*.patch")):
        try:
            patch.apply(path.read_text("utf-8"), out)
        except patch.PatchError as error:
            raise BuildError(f"{path.name}: {error}") from error


def configured(template: str, found: dict[str, str | None]) -> str:
    """A template with its answers.

    Raises:
        BuildError: there is no answer to something that it asks.
    """

    def answer(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in found:
            raise BuildError(f"numpy's source asks for {name}: run build.py configure")
        value = found[name]
        if not match[1]:
            return value or ""
        return f"/* #undef {name} */" if value is None else f"#define {name} {value}".rstrip()

    return _ASKED.sub(answer, template)


def build(
    toolchain: Toolchain, folder: Path, source: Path, python_headers: list[str], host_tools: Path, out: Path
) -> None:
    """Compile the sources of `folder`/objects.toml into `out`/objects."""
    made, described = out / "made", groups(folder)
    templates = {name for group in described for name in group.sources if name.endswith(".src")}
    _generate(toolchain, source, answers(folder, source), templates, made)
    cython = made / "cython.py"
    cython.write_text(CYTHON.format(path=str(host_tools)), "utf-8")
    common = [*python_headers, f"-I{made}", *(f"-I{source / name}" for name in INCLUDES), *NUMPY_FEATURES, *FLAGS]

    parsed: dict[tuple[int, str], list[str]] = {}
    for number, group in enumerate(described):
        for suffix, headers in ((".c", group.headers), (".cpp", group.cxx_headers)):
            flags = [*common, *LANGUAGE[suffix], *group.flags]
            if headers:
                target = made / f"{number}{suffix}.pch"
                parsed[number, suffix] = toolchain.precompile(headers, target, flags, cxx=suffix == ".cpp")

    def compiled(name: str, number: int) -> None:
        group = described[number]
        before = ["-include", str(made / group.before)] if group.before else []
        plain = name.removesuffix(".in").removesuffix(".src")
        place = source / name
        if name.endswith(".src"):
            place = made / Path(plain).name
        elif plain.endswith(".pyx"):
            place = made / "tree" / f"{plain}.c"
            _cythonise(toolchain, cython, made / "tree", plain)
        flags = [*parsed.get((number, place.suffix), []), *before, *common, *LANGUAGE[place.suffix], *group.flags]
        toolchain.compile(place, out / "objects" / group.folder / f"{plain}.o", flags)

    units = [(name, number) for number, group in enumerate(described) for name in group.sources]
    with ThreadPoolExecutor(toolchain.jobs) as pool:
        list(pool.map(lambda unit: compiled(*unit), sorted(units, key=lambda unit: _order(source, unit[0]))))
    shutil.rmtree(made)


def _order(source: Path, name: str) -> tuple[int, str]:
    """The longest first: C++ and templates make more of their text than C does, and Cython more than both."""
    suffix = name.removesuffix(".in").rpartition(".")[2]
    return (-{"c": 1, "pyx": 8}.get(suffix, 4) * (source / name).stat().st_size, name)


def _generate(
    toolchain: Toolchain, source: Path, found: dict[str, str | None], templates: set[str], made: Path
) -> None:
    """All headers and sources that numpy's build generates, but for Cython's, into `made`; Cython's inputs into `made`/tree."""
    made.mkdir()
    for name, target in CONFIGURED.items():
        if target != CONFIG:
            (made / target).write_text(configured((source / name).read_text("utf-8"), found), "utf-8")
    core = source / "numpy/_core"
    for path in core.rglob("*.dispatch.c*"):
        (made / f"{path.name.partition('.dispatch.')[0]}.dispatch.h").write_text(_DISPATCH, "utf-8")
    (made / "legacy.h").write_text(_legacy_names(source), "utf-8")
    weak = [*blas.FORTRAN, "xerbla_"]  # both modules with a BLAS below them have their own xerbla_, and the same
    (made / "weak.h").write_text("".join(f"#pragma weak {name}\n" for name in weak), "utf-8")

    included = [path for path in core.rglob("*.src") if path.name.endswith((".h.src", ".inc.src"))]
    wanted = sorted({*(source / name for name in templates), *(path for path in included if "_simd" not in path.parts)})
    pairs = [str(word) for path in wanted for word in (path, made / path.name.removesuffix(".src"))]
    script = made / "templates.py"
    script.write_text(_TEMPLATES, "utf-8")
    environment = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "PYTHONPATH": str(core)}
    toolchain.run([sys.executable, script, source / "numpy/_build_utils", *pairs], "numpy: templates", more=environment)
    for program, *arguments in GENERATORS:
        command = [sys.executable, "-m", f"code_generators.{program}", *arguments]
        toolchain.run(command, f"numpy: {program}", cwd=made, more=environment)
    _plant(source, made / "tree", toolchain, environment)


def _plant(source: Path, tree: Path, toolchain: Toolchain, environment: dict[str, str]) -> None:
    """What Cython reads: a package numpy with its .pxd and .pyx files."""
    (tree / "numpy/random").mkdir(parents=True)
    for folder in ("numpy", "numpy/random"):
        for path in (source / folder).iterdir():
            if path.suffix in (".pyx", ".pxd") or path.name == "__init__.py":
                shutil.copyfile(path, tree / folder / path.name)
    for path in (source / "numpy/random").glob("*.in"):
        tempita: list[str | Path] = [sys.executable, source / "numpy/_build_utils/tempita.py", path]
        target = tree / "numpy/random" / path.name.removesuffix(".in")
        toolchain.run([*tempita, "-o", target], f"numpy: {path.name}", more=environment)


def _cythonise(toolchain: Toolchain, cython: Path, tree: Path, name: str) -> None:
    command: list[str | Path] = [sys.executable, cython, "-3", "--fast-fail", "-Xfreethreading_compatible=True"]
    environment = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
    toolchain.run([*command, name, "-o", f"{name}.c"], f"cython {name}", cwd=tree, more=environment)


def _legacy_names(source: Path) -> str:
    """numpy.random.mtrand compiles its own copy of the distributions. In one static program their names would clash
    with the new ones (and merging them silently is wrong), so that copy gets a prefix.
    """
    names = set()
    for path in (source / "numpy/random/src/distributions").glob("*.c"):
        names |= set(_FUNCTION.findall(path.read_text("utf-8")))
    return "".join(f"#define {name} npleg_{name}\n" for name in sorted(names))


def write_python(folder: Path, source: Path, out: Path) -> None:
    """Copy numpy's Python files, as far as the image needs them, and fill in the one that tells how numpy was built."""
    for name, path in _python_files(source):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, out / name)
    template = (source / f"{CONFIG}.in").read_text("utf-8")
    (out / CONFIG).write_text(configured(template, answers(folder, source)), "utf-8")


def _python_files(source: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted((source / "numpy").rglob("*.py")):
        name = path.relative_to(source).as_posix()
        if not _LEFT_OUT.fullmatch(name):
            yield name, path
