"""The stages of the image: what each one reads and makes. Read it top to bottom to see the whole build."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from imagebuild import archive, cpython, driver, freeze, manifest, numpyext, selftest, sources, toolchain, wasmfile
from imagebuild.header import abi_header
from imagebuild.pins import Pins
from imagebuild.snapshot import snapshot
from imagebuild.stages import BuildError, Folders, Stage, file_digest
from imagebuild.toolchain import Toolchain

TOOLCHAIN_FLAGS = (
    *(toolchain.TARGET, *toolchain.FEATURES, *toolchain.OPTIMISE, *toolchain.EMULATED),
    *(toolchain.SOURCE_DATE_EPOCH,),
)
# Modules that CPython's core initialises itself, with what does it.
CORE_MODULES = {
    "marshal": "PyMarshal_Init",
    "_imp": "PyInit__imp",
    "_ast": "PyInit__ast",
    "_tokenize": "PyInit__tokenize",
    "builtins": None,
    "sys": None,
    "gc": "PyInit_gc",
    "_warnings": "_PyWarnings_Init",
    "_string": "PyInit__string",
}
# C++ exceptions are compiled out (-fignore-exceptions): what would throw ends the guest.
CXX_RUNTIME = """#include <stdlib.h>
void *__cxa_allocate_exception(size_t n) { return malloc(n); }
void __cxa_throw(void *thrown, void *type, void (*destroy)(void *)) { abort(); }
"""


@dataclass
class Recipe:
    """The build of one source tree.

    Attributes:
        tree: the checkout.
        downloads: where the verified files of all pins lie.
        build_root: where the stages' folders go.
        without: optional pins that could not be fetched.
        jobs: processes at a time.
    """

    tree: Path
    downloads: Path
    build_root: Path
    pins: Pins
    jobs: int = 2
    without: frozenset[str] = field(default=frozenset())

    def __post_init__(self) -> None:
        self.wasm = self.tree / "wasm"
        self.shim = self.wasm / "shim"
        self.wire = self.tree / "guest/cloche_wire"
        self.abi = driver.load_abi(self.wire)

    def stages(self) -> list[Stage]:
        """All stages, each after what it needs."""
        code = self.wasm / "imagebuild"
        tools = sorted(pin.name for pin in self.pins.group("toolchain"))
        libraries = cpython.libraries(self.wasm / "cpython")
        patches = [] if "cpython-patches" in self.without else ["cpython-patches"]

        def pinned(*names: str) -> tuple[str, ...]:
            return tuple(self.pins.digest_of(names))

        def files(*names: str) -> tuple[str, ...]:
            return tuple(file_digest(code / name) for name in names)

        def tree_digest(*folders: Path, suffix: str = "*") -> str:
            return file_digest(*sorted(path for folder in folders for path in folder.rglob(suffix) if path.is_file()))

        flags = TOOLCHAIN_FLAGS
        guest = (self.tree / "guest/cloche_guest", self.wire, self.wasm / "overlay")
        shim = sorted(path for path in self.shim.iterdir() if path.suffix in (".c", ".h"))
        runs = files("driver.py", "cbor.py") + (file_digest(self.wire / "abi.py"),)
        return [
            Stage("toolchain", (), (*pinned(*tools), "2"), self._toolchain),
            Stage("cpython-source", (), (*pinned("cpython", *patches), *files("patch.py", "sources.py")), self._cpython_source),
            Stage("numpy-source", (), pinned("numpy"), self._numpy_source),
            Stage("host-tools", (), pinned("cython", "ninja"), self._host_tools),
            Stage("config", ("cpython-source",), (file_digest(self.wasm / "cpython/pyconfig.answers"),), self._config),
            Stage(
                "libraries",
                ("toolchain",),
                (*pinned(*(library.pin for library in libraries)), *flags, file_digest(self.wasm / "cpython/libraries.toml")),
                self._libraries,
            ),
            Stage(
                "cpython",
                ("toolchain", "cpython-source", "config", "libraries"),
                (*flags, file_digest(self.wasm / "cpython/objects.toml")),
                self._cpython,
            ),
            Stage(
                "numpy",
                ("toolchain", "cpython-source", "config", "numpy-source", "host-tools"),
                (*flags, *toolchain.NUMPY_FEATURES, *files("numpyext.py")),
                self._numpy,
            ),
            Stage("pure", (), pinned("cloudpickle", "tzdata"), self._pure),
            Stage(
                "freezer",
                ("cpython",),
                (*toolchain.LINK, *runs, *files("snapshot.py", "wasmfile.py"))
                + (file_digest(self.shim / "freezer.c", self.shim / "wasi.c", self.shim / "boot.h", self.shim / "output.h"),),
                self._freezer,
            ),
            Stage("frozen-library", ("freezer", "pure"), files("freeze.py"), self._frozen_library),
            Stage("frozen-numpy", ("freezer", "numpy"), files("freeze.py"), self._frozen_numpy),
            Stage("frozen-guest", ("freezer",), (*files("freeze.py"), tree_digest(*guest, suffix="*.py")), self._frozen_guest),
            Stage("shim", ("toolchain", "cpython-source", "config"), (*flags, file_digest(*shim), *runs), self._shim),
            Stage(
                "link",
                ("toolchain", "cpython", "libraries", "numpy", "shim", "frozen-library", "frozen-numpy", "frozen-guest"),
                (*toolchain.LINK, *toolchain.LIBRARIES, *files("freeze.py")),
                self._link,
            ),
            Stage("snapshot", ("link",), (*runs, *files("snapshot.py", "wasmfile.py")), self._snapshot),
            Stage("test", ("snapshot",), (*runs, *files("selftest.py")), self._test),
        ]

    def _tools(self, folders: Folders) -> Toolchain:
        return Toolchain(folders["toolchain"], self.build_root, self.jobs)

    def _fetched(self, name: str) -> Path:
        return self.downloads / self.pins[name].filename

    # ---- what is unpacked
    def _toolchain(self, out: Path, folders: Folders) -> None:
        toolchain.unpack(self.pins.group("toolchain"), self.downloads, out)
        if not toolchain.missing_libraries(out):
            return
        toolchain.unpack(self.pins.group("toolchain-libs"), self.downloads, out)
        if lacking := toolchain.missing_libraries(out):
            raise BuildError(f"clang does not run here: {lacking}. apt install libedit2 libxml2 libffi8 libzstd1 zlib1g libstdc++6")

    def _cpython_source(self, out: Path, folders: Folders) -> None:
        patches = None if "cpython-patches" in self.without else self._fetched("cpython-patches")
        count = sources.unpack(self._fetched("cpython"), patches, out)
        (out / "patches.txt").write_text(f"{count}\n", "utf-8")

    def _numpy_source(self, out: Path, folders: Folders) -> None:
        numpyext.unpack(self._fetched("numpy"), out)

    def _host_tools(self, out: Path, folders: Folders) -> None:
        archive.unpack_wheel(self._fetched("cython"), out)
        archive.unpack_wheel(self._fetched("ninja"), out, lambda name: "bin/ninja" if name.endswith("/ninja") else None)
        (out / "bin/ninja").chmod(0o755)

    def _pure(self, out: Path, folders: Folders) -> None:
        archive.unpack_wheel(self._fetched("cloudpickle"), out, lambda n: n if n.startswith("cloudpickle/") else None)
        zones = out / "zones"
        archive.unpack_wheel(self._fetched("tzdata"), zones, lambda n: n if n.startswith("tzdata/zoneinfo/") else None)
        root, index, blob = zones / "tzdata/zoneinfo", {}, bytearray()
        for path in sorted(root.rglob("*"), key=lambda path: path.relative_to(root).as_posix()):
            if path.is_file() and (body := path.read_bytes()).startswith(b"TZif"):
                index[path.relative_to(root).as_posix()] = (len(blob), len(body))
                blob += body
        text = f"ZONES = {index!r}\nCOMPRESSED = {zlib.compress(bytes(blob), 9)!r}\n"
        (out / "cloche_tzblob.py").write_text(text, "utf-8")

    # ---- what is compiled
    def _config(self, out: Path, folders: Folders) -> None:
        template = (folders["cpython-source"] / "pyconfig.h.in").read_text("utf-8")
        answers = (self.wasm / "cpython/pyconfig.answers").read_text("utf-8")
        (out / "pyconfig.h").write_text(cpython.pyconfig(template, answers), "utf-8")

    def _libraries(self, out: Path, folders: Folders) -> None:
        described = cpython.libraries(self.wasm / "cpython")
        tarballs = {library.pin: self._fetched(library.pin) for library in described}
        cpython.compile_libraries(self._tools(folders), described, tarballs, out)

    def _cpython(self, out: Path, folders: Folders) -> None:
        source, config, headers = folders["cpython-source"], folders["config"], folders["libraries"] / "include"
        cpython.compile_objects(self._tools(folders), self.wasm / "cpython", source, config, headers, out)

    def _numpy(self, out: Path, folders: Folders) -> None:
        headers = [f"-I{folders['config']}", f"-I{folders['cpython-source'] / 'Include'}"]
        numpyext.build(self._tools(folders), folders["numpy-source"], headers, folders["host-tools"], out)

    def _shim(self, out: Path, folders: Folders) -> None:
        (out / "abi.h").write_text(abi_header(self.wire), "utf-8")
        flags = self._shim_flags(out, folders)
        names = sorted(path for path in self.shim.glob("*.c") if path.name != "freezer.c")
        self._tools(folders).compile_all([(path, out / f"{path.stem}.o", flags) for path in names])

    def _shim_flags(self, out: Path, folders: Folders) -> list[str]:
        include = cpython.includes(folders["cpython-source"], folders["config"])
        return [f"-I{out}", f"-I{self.shim}", *include, "-std=c11", f"-ffile-prefix-map={self.shim}/=", "-Wno-unused-parameter"]

    def _freezer(self, out: Path, folders: Folders) -> None:
        tools = self._tools(folders)
        (out / "abi.h").write_text(abi_header(self.wire), "utf-8")
        (out / "inittab.c").write_text(inittab([], {}), "utf-8")
        flags = self._shim_flags(out, folders)
        places = {"freezer": self.shim / "freezer.c", "wasi": self.shim / "wasi.c", "inittab": out / "inittab.c"}
        for name, path in places.items():
            tools.compile(path, out / f"{name}.o", flags)
        tools.link([*(out / f"{name}.o" for name in places), *cpython.objects(folders["cpython"])], out / "linked.wasm")
        (out / "freezer.wasm").write_bytes(snapshot((out / "linked.wasm").read_bytes(), self.abi, need_density=False).wasm)
        freeze.Freezer(out / "freezer.wasm", self.abi)  # leaves its native code for the stages that use it

    # ---- what is frozen
    def _freeze(self, out: Path, folders: Folders, symbol: str, modules: list[freeze.Source]) -> None:
        freezer = freeze.Freezer(folders["freezer"] / "freezer.wasm", self.abi)
        freeze.freeze(freezer, self._tools(folders), symbol, modules, out)

    def _frozen_library(self, out: Path, folders: Folders) -> None:
        library = freeze.sources(folders["cpython-source"] / "Lib", left_out=freeze.LEFT_OUT)
        pure = freeze.sources(folders["pure"], only=frozenset({"cloudpickle", "cloche_tzblob"}))
        self._freeze(out, folders, "frozen_library", library + pure)

    def _frozen_numpy(self, out: Path, folders: Folders) -> None:
        self._freeze(out, folders, "frozen_numpy", freeze.sources(folders["numpy"] / "python"))

    def _frozen_guest(self, out: Path, folders: Folders) -> None:
        packages = freeze.sources(self.tree / "guest", only=frozenset({"cloche_guest", "cloche_wire"}))
        self._freeze(out, folders, "frozen_guest", packages + freeze.sources(self.wasm / "overlay"))

    # ---- what is put together
    def _link(self, out: Path, folders: Folders) -> None:
        tools = self._tools(folders)
        blobs = {}
        for symbol in ("frozen_library", "frozen_numpy", "frozen_guest"):
            index = (folders[symbol.replace("_", "-")] / "index.json").read_text("utf-8")
            blobs[symbol] = [tuple(row) for row in json.loads(index)]
        (out / "table.c").write_text(freeze.table(blobs), "utf-8")
        builtin = cpython.builtin_modules(self.wasm / "cpython")
        (out / "inittab.c").write_text(inittab(builtin, {name: name.rsplit(".", 1)[-1] for name in numpyext.MODULES}), "utf-8")
        include = [*cpython.includes(folders["cpython-source"], folders["config"]), "-DPy_BUILD_CORE", "-std=c11", "-w"]
        (out / "cxx.c").write_text(CXX_RUNTIME, "utf-8")
        for name in ("table", "inittab", "cxx"):
            tools.compile(out / f"{name}.c", out / f"{name}.o", include)
        objects = [
            *cpython.objects(folders["shim"]),
            *(out / f"{name}.o" for name in ("table", "inittab", "cxx")),
            *(folders[symbol.replace("_", "-")] / f"{symbol}.o" for symbol in blobs),
            *cpython.objects(folders["cpython"]),
            *cpython.objects(folders["numpy"] / "objects"),
            *sorted((folders["numpy"] / "lib").glob("*.a")),
            *cpython.objects(folders["libraries"]),
        ]
        tools.link(objects, out / "linked.wasm", ["-Wl,--export=cloche_ring"], libraries=["-lc++", "-lc++abi"])

    def _snapshot(self, out: Path, folders: Folders) -> None:
        made = snapshot((folders["link"] / "linked.wasm").read_bytes(), self.abi)
        module = wasmfile.Module.parse(made.wasm)
        check_interface(module, self.abi)
        (out / "cloche.wasm").write_bytes(made.wasm)
        facts = {"pages": made.pages, "segments": made.segments, "data_bytes": made.data_bytes, "density": made.density}
        (out / "snapshot.json").write_text(json.dumps(facts | {"features": module.features()}), "utf-8")

    def _test(self, out: Path, folders: Folders) -> None:
        report = selftest.run((folders["snapshot"] / "cloche.wasm").read_bytes(), self.abi)
        (out / "report.txt").write_text(report, "utf-8")

    def write_manifest(self, folders: Folders, inputs_digest: str, target: Path) -> None:
        """manifest.json beside the image; see manifest.py."""
        manifest.write(target, self.pins, folders["snapshot"], self.abi, inputs_digest, self.without)


def inittab(builtin: list[str], extra: dict[str, str]) -> str:
    """C source of the table of built-in modules, and of image_inittab, which adds `extra` (name -> suffix of PyInit_)."""
    functions = [*(f"PyInit_{name}" for name in builtin), *(f"PyInit_{suffix}" for suffix in extra.values())]
    functions += [function for function in CORE_MODULES.values() if function]
    rows = {name: f"PyInit_{name}" for name in builtin} | CORE_MODULES
    lines = ["/* Generated. */", "#include <Python.h>"]
    lines += [f"extern PyObject *{function}(void);" for function in functions]
    lines += ["struct _inittab _PyImport_Inittab[] = {"]
    lines += [f'    {{"{name}", {function or "NULL"}}},' for name, function in rows.items()]
    lines += ["    {0, 0}", "};", "void image_inittab(void) {"]
    lines += [f'    PyImport_AppendInittab("{name}", PyInit_{suffix});' for name, suffix in extra.items()]
    return "\n".join([*lines, "}", ""])


def check_interface(module: wasmfile.Module, abi: driver.Abi) -> None:
    """The image imports and exports exactly what the ABI names.

    Raises:
        BuildError: it does not; the message says what is missing and what is too much.
    """
    types = module.types()
    functions = [found.type for found in module.imports() if found.kind == "function"]
    imports = {(found.module, found.name): found.type for found in module.imports()}
    wanted = {(abi["IMPORT_MODULE"], name): signature for name, signature in abi["IMPORTS"].items()}
    if imports != wanted:
        raise BuildError(f"the image's imports are {imports}, not {wanted}")
    declared = wasmfile.Reader(module.section(3))
    functions += [types[declared.unsigned()] for _ in range(declared.unsigned())]
    exports = {
        found.name: functions[found.index] if found.kind == "function" else found.kind for found in module.exports()
    }
    if exports != abi["EXPORTS"]:
        raise BuildError(f"the image's exports are {exports}, not {abi['EXPORTS']}")
