"""What each stage of the build does. `recipe` has the table that says what each depends on."""

from __future__ import annotations

import json
import sys
import zlib
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from imagebuild import (
    archive,
    blas,
    compiledcheck,
    cpython,
    driver,
    fetch,
    freeze,
    gate,
    handlers,
    layout,
    link,
    manifest,
    numpyext,
    selftest,
    sources,
    stops,
    toolchain,
    wasmfile,
)
from imagebuild.header import write_headers
from imagebuild.pins import Pin, Pins
from imagebuild.slots import Slots
from imagebuild.snapshot import snapshot
from imagebuild.stages import BuildError, Folders
from imagebuild.timing import Timing
from imagebuild.toolchain import Toolchain


def native_tools(pins: Pins) -> list[Pin]:
    """Cython, compiled for this Python: it takes a third of the time of the pure one, and writes the same C."""
    name = f"cython-{sys.implementation.cache_tag}"
    return [pin for pin in pins.group("hosttool-native") if pin.name == name]


@dataclass
class Steps:
    """One method for each stage, which fills the empty folder `out` from the stages' folders, and what all of them share.

    Attributes:
        tree: the checkout.
        downloads: where the verified files of all pins lie.
        build_root: where the stages' folders go.
        without: optional pins that could not be fetched.
        jobs: processes at a time.
        timing: where the tools' processor time is noted.
    """

    tree: Path
    downloads: Path
    build_root: Path
    pins: Pins
    jobs: int = 2
    without: frozenset[str] = field(default=frozenset())
    timing: Timing = field(default_factory=Timing)

    def __post_init__(self) -> None:
        self.slots = Slots(self.jobs)

    # Properties, so that a stage's key tells which of them the stage uses (uses.py).
    @property
    def wasm(self) -> Path:
        return self.tree / "wasm"

    @property
    def shim(self) -> Path:
        return self.wasm / "shim"

    @property
    def wire(self) -> Path:
        return self.tree / "guest/cloche_wire"

    @cached_property
    def abi(self) -> driver.Abi:
        return driver.load_abi(self.wire)

    def _tools(self, out: Path, folders: Folders) -> Toolchain:
        """The compiler, with every path that a file could leak mapped to the name of its stage."""
        maps = {self.build_root: "build", self.shim: "shim", self.wasm / "blas": "blas"} | {
            folder: name for name, folder in folders.items()
        }
        name = maps[out] = out.name.rpartition("-")[0]
        note, slot = partial(self.timing.process, name), partial(self.slots.take, name)
        return Toolchain(folders["toolchain"], tuple(maps.items()), self.jobs, note, slot)

    def _fetched(self, name: str) -> Path:
        return self.downloads / self.pins[name].filename

    # ---- what is unpacked
    def unpack_toolchain(self, out: Path, folders: Folders) -> None:
        toolchain.unpack(self.pins.group("toolchain"), self.downloads, out)
        if not toolchain.missing_libraries(out):
            return
        libraries = self.pins.group("toolchain-libs")
        fetch.fetch(libraries, self.downloads)
        toolchain.unpack(libraries, self.downloads, out)
        if lacking := toolchain.missing_libraries(out):
            raise BuildError(
                f"clang does not run here: {lacking}. apt install libedit2 libxml2 libffi8 libzstd1 zlib1g libstdc++6"
            )

    def unpack_cpython(self, out: Path, folders: Folders) -> None:
        patches = None if "cpython-patches" in self.without else self._fetched("cpython-patches")
        count = sources.unpack(self._fetched("cpython"), patches, out)
        (out / "patches.txt").write_text(f"{count}\n", "utf-8")

    def unpack_numpy(self, out: Path, folders: Folders) -> None:
        numpyext.unpack(self._fetched("numpy"), self.wasm / "numpy", out)

    def unpack_host_tools(self, out: Path, folders: Folders) -> None:
        cython = next((pin.name for pin in native_tools(self.pins)), "cython")
        archive.unpack_wheel(self._fetched(cython), out)
        archive.unpack_wheel(self._fetched("ninja"), out, lambda name: "bin/ninja" if name.endswith("/ninja") else None)
        (out / "bin/ninja").chmod(0o755)

    def unpack_pure(self, out: Path, folders: Folders) -> None:
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
    def write_config(self, out: Path, folders: Folders) -> None:
        template = (folders["cpython-source"] / "pyconfig.h.in").read_text("utf-8")
        answers = (self.wasm / "cpython/pyconfig.answers").read_text("utf-8")
        (out / "pyconfig.h").write_text(cpython.pyconfig(template, answers), "utf-8")

    def unpack_libraries(self, out: Path, folders: Folders) -> None:
        described = cpython.libraries(self.wasm / "cpython")
        cpython.unpack_libraries(described, {library.pin: self._fetched(library.pin) for library in described}, out)

    def compile_libraries(self, out: Path, folders: Folders) -> None:
        described = cpython.libraries(self.wasm / "cpython")
        cpython.compile_libraries(self._tools(out, folders), described, folders["library-source"], out)

    def write_evaluator(self, out: Path, folders: Folders) -> None:
        handlers.write(folders["cpython-source"], out)

    def _cpython_tools(self, out: Path, folders: Folders) -> Toolchain:
        plain, changed = self._tools(out, folders), handlers.copies(folders["cpython-source"], folders["evaluator"])
        return handlers.Replacing(plain.tree, plain.maps, plain.jobs, plain.note, plain.slot, changed)

    def compile_interpreter(self, out: Path, folders: Folders) -> None:
        groups = [group for group in cpython.groups(self.wasm / "cpython") if group.whole]
        source, tools = folders["cpython-source"], self._cpython_tools(out, folders)
        cpython.compile_whole(tools, groups, source, cpython.includes(source, folders["config"]), out)

    def compile_cpython(self, out: Path, folders: Folders) -> None:
        groups = [group for group in cpython.groups(self.wasm / "cpython") if not group.whole]
        source, tools = folders["cpython-source"], self._cpython_tools(out, folders)
        flags = [*cpython.includes(source, folders["config"]), f"-I{self.wasm / 'cpython/include'}"]
        flags += [f"-I{folders['library-source'] / 'include'}"]
        cpython.compile_objects(tools, groups, source, flags, out)

    def compile_blas(self, out: Path, folders: Folders) -> None:
        blas.build(self._tools(out, folders), self.wasm / "blas", out)

    def compile_numpy(self, out: Path, folders: Folders) -> None:
        headers = [f"-I{folders['config']}", f"-I{folders['cpython-source'] / 'Include'}"]
        tools, described = self._tools(out, folders), self.wasm / "numpy"
        numpyext.build(tools, described, folders["numpy-source"], headers, folders["host-tools"], out)

    def copy_numpy_python(self, out: Path, folders: Folders) -> None:
        numpyext.write_python(self.wasm / "numpy", folders["numpy-source"], out)

    def compile_shim(self, out: Path, folders: Folders) -> None:
        write_headers(self.wire, out, {name: getattr(layout, name) for name in ("GRAIN", "BUCKETS", "EXACT")})
        flags = link.shim_flags(self.shim, out, cpython.includes(folders["cpython-source"], folders["config"]))
        flags += [f"-I{self.wasm / 'cpython/include'}", "-D_WASI_EMULATED_MMAN", "-D_GNU_SOURCE"]  # foreign.c, maps.c
        flags += [f"-I{folders['library-source'] / 'include'}"]  # queries.c
        names = sorted(path for path in self.shim.glob("*.c") if not path.name.startswith("freezer"))
        self._tools(out, folders).compile_all([(path, out / f"{path.stem}.o", flags) for path in names])
        link.check_validator((out / "check.o").read_bytes())

    def make_freezer(self, out: Path, folders: Folders) -> None:
        tools = self._tools(out, folders)
        write_headers(self.wire, out)
        (out / "inittab.c").write_text(link.inittab([], {}), "utf-8")
        flags = link.shim_flags(self.shim, out, cpython.includes(folders["cpython-source"], folders["config"]))
        places = {name: self.shim / f"{name}.c" for name in ("freezer", "freezer_files", "wasi", "notice")}
        places["inittab"] = out / "inittab.c"
        for name, path in places.items():
            tools.compile(path, out / f"{name}.o", flags)
        objects = [*cpython.objects(folders["interpreter"]), *cpython.objects(folders["cpython"])]
        tools.link([*(out / f"{name}.o" for name in places), *objects], out / "linked.wasm")
        (out / "freezer.wasm").write_bytes(
            snapshot((out / "linked.wasm").read_bytes(), self.abi, need_density=False).wasm
        )
        freeze.Freezer(out / "freezer.wasm", self.abi)  # leaves its native code for the stages that use it

    # ---- what is frozen
    def _freeze(self, out: Path, folders: Folders, symbol: str, modules: list[freeze.Source]) -> None:
        freezer = freeze.Freezer(folders["freezer"] / "freezer.wasm", self.abi)
        freeze.freeze(freezer, self._tools(out, folders), symbol, modules, out)

    def freeze_library(self, out: Path, folders: Folders) -> None:
        library = freeze.sources(folders["cpython-source"] / "Lib", left_out=freeze.LEFT_OUT)
        library = freeze.with_additions(library, self.wasm / "additions")
        pure = freeze.sources(folders["pure"], only=frozenset({"cloudpickle", "cloche_tzblob"}))
        self._freeze(out, folders, "frozen_library", library + pure)

    def freeze_numpy(self, out: Path, folders: Folders) -> None:
        self._freeze(out, folders, "frozen_numpy", freeze.sources(folders["numpy-python"]))

    def freeze_guest(self, out: Path, folders: Folders) -> None:
        packages = freeze.sources(self.tree / "guest", only=frozenset({"cloche_guest", "cloche_wire"}))
        self._freeze(out, folders, "frozen_guest", packages + freeze.sources(self.wasm / "overlay", parts=True))

    # ---- what is put together
    def link_image(self, out: Path, folders: Folders) -> None:
        tools = self._tools(out, folders)
        blobs = {}
        for symbol in ("frozen_library", "frozen_numpy", "frozen_guest"):
            index = (folders[symbol.replace("_", "-")] / "index.json").read_text("utf-8")
            blobs[symbol] = [tuple(row) for row in json.loads(index)]
        (out / "table.c").write_text(freeze.table(blobs), "utf-8")
        builtin = cpython.builtin_modules(self.wasm / "cpython")
        (out / "inittab.c").write_text(
            link.inittab(builtin, {name: name.rsplit(".", 1)[-1] for name in numpyext.MODULES}), "utf-8"
        )
        include = [*cpython.includes(folders["cpython-source"], folders["config"]), "-DPy_BUILD_CORE", "-std=c11", "-w"]
        (out / "cxx.c").write_text(link.CXX_RUNTIME, "utf-8")
        for name in ("table", "inittab", "cxx"):
            tools.compile(out / f"{name}.c", out / f"{name}.o", include)
        objects = [
            *cpython.objects(folders["shim"]),
            *(out / f"{name}.o" for name in ("table", "inittab", "cxx")),
            *(folders[symbol.replace("_", "-")] / f"{symbol}.o" for symbol in blobs),
            *cpython.objects(folders["cpython"]),
            *cpython.objects(folders["interpreter"]),  # laid out before the others, small calls take 3 to 7 % longer
            *cpython.objects(folders["numpy"] / "objects"),
            *cpython.objects(folders["blas"]),
            *cpython.objects(folders["libraries"]),
        ]
        options = [f"-Wl,--export={name}" for name in ("cloche_ring", "cloche_notice", "cloche_layout")]
        options += [f"-Wl,--wrap={name}" for name in ("fstat", "__wasilibc_nocwd_fstatat")]  # shim/process.c
        flags = [*options, f"-Wl,-Map={out / 'map.txt'}"]  # the map is for benches/dirty_pages.py
        tools.link(objects, out / "linked.wasm", flags, libraries=["-lc++", "-lc++abi"])

    def take_snapshot(self, out: Path, folders: Folders) -> None:
        linked = wasmfile.Module.parse((folders["link"] / "linked.wasm").read_bytes())
        inserted = stops.stoppable(linked)
        made = snapshot(inserted.module.encode(), self.abi)
        module = wasmfile.Module.parse(made.wasm)
        link.check_interface(module, self.abi)
        link.check_entry(module)
        link.check_no_bulk_memory(made.wasm)
        (out / "cloche.wasm").write_bytes(made.wasm)
        facts = {"pages": made.pages, "segments": made.segments, "data_bytes": made.data_bytes, "density": made.density}
        (out / "snapshot.json").write_text(json.dumps(facts | {"features": module.features()}), "utf-8")

    def check_image(self, out: Path, folders: Folders) -> None:
        wasm = (folders["snapshot"] / "cloche.wasm").read_bytes()
        spared = (folders["evaluator"] / "spared.txt").read_text("ascii")  # opcodes that have no load in C
        engine = compiledcheck.engine()
        module, report = gate.check_compiled_stops(engine, wasm, [int(number) for number in spared.split()])
        (out / "report.txt").write_text(report + selftest.run(engine, module, self.abi), "utf-8")

    def write_manifest(self, folders: Folders, inputs_digest: str, target: Path) -> None:
        """manifest.json beside the image; see manifest.py."""
        manifest.write(target, self.pins, folders["snapshot"], self.abi, inputs_digest, self.without)
