"""The stages of the image: what each one reads and makes. Read it top to bottom to see the whole build."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path

from imagebuild import (
    archive,
    blas,
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
from imagebuild.header import WIRE_MODULES, write_headers
from imagebuild.pins import Pins
from imagebuild.snapshot import snapshot
from imagebuild.stages import BuildError, Folders, Stage, file_digest
from imagebuild.toolchain import Toolchain


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
        described = self.wasm / "cpython"
        libraries = [library.pin for library in cpython.libraries(described)]
        tools = [pin.name for pin in self.pins.group("toolchain")]
        patches = () if "cpython-patches" in self.without else ("cpython-patches",)
        shim = sorted(path for path in self.shim.iterdir() if path.suffix in (".c", ".h"))

        def stage(name: str, needs: str, *inputs: str) -> Stage:
            return Stage(name, tuple(needs.split()), inputs, getattr(self, f"_{name.replace('-', '_')}"))

        def pinned(*names: str) -> str:
            return " ".join(self.pins.digest_of(names))

        def code(*names: str) -> str:
            return file_digest(*(self.wasm / "imagebuild" / f"{name}.py" for name in names))

        numbers = code("header") + file_digest(*(self.wire / f"{name}.py" for name in WIRE_MODULES))
        runs = code("driver", "cbor") + file_digest(self.wire / "abi.py")
        return [
            # which of the compiler's own libraries it brings depends on the machine, and so is no part of the key
            replace(
                stage("toolchain", "", pinned(*tools), code("toolchain", "archive")),
                usable=lambda folder: not toolchain.missing_libraries(folder),
            ),
            stage("cpython-source", "", pinned("cpython", *patches), code("sources", "patch", "archive")),
            stage("numpy-source", "", pinned("numpy"), code("archive")),
            stage("host-tools", "", pinned("cython", "ninja"), code("archive")),
            stage("config", "cpython-source", file_digest(described / "pyconfig.answers"), code("cpython")),
            stage(
                "libraries",
                "toolchain",
                pinned(*libraries),
                file_digest(described / "libraries.toml"),
                code("cpython", "archive"),
            ),
            stage(
                "cpython",
                "toolchain cpython-source config libraries",
                file_digest(described / "objects.toml"),
                code("cpython", "handlers"),
            ),
            stage("blas", "toolchain", file_digest(*sorted((self.wasm / "blas").iterdir())), code("blas")),
            stage(
                "numpy", "toolchain cpython-source config numpy-source host-tools", code("numpyext", "archive", "blas")
            ),
            stage("pure", "", pinned("cloudpickle", "tzdata"), code("archive")),
            stage(
                "freezer",
                "toolchain cpython-source config cpython",
                file_digest(
                    *(
                        self.shim / name
                        for name in (
                            "freezer.c",
                            "freezer_files.c",
                            "wasi.c",
                            "notice.c",
                            "notice.h",
                            "boot.h",
                            "output.h",
                            "wasi.h",
                        )
                    )
                ),
                runs + code("header", "snapshot", "layout", "tables", "wasmfile", "wasmcode", "freeze", "link"),
            ),
            stage("frozen-library", "toolchain freezer cpython-source pure", code("freeze")),
            stage("frozen-numpy", "toolchain freezer numpy", code("freeze")),
            stage("frozen-guest", "toolchain freezer", code("freeze"), self._guest_sources()),
            stage(
                "shim",
                "toolchain cpython-source config",
                file_digest(*shim),
                runs,
                numbers,
                code("layout", "wasmcode", "link"),
            ),
            stage(
                "link",
                "toolchain cpython-source config cpython libraries blas numpy shim frozen-library frozen-numpy frozen-guest",
                code("freeze", "link"),
            ),
            stage(
                "snapshot",
                "link cpython",
                runs,
                code("snapshot", "layout", "tables", "wasmfile", "wasmcode", "stops", "stopcheck", "gate", "link"),
            ),
            stage("compiled", "snapshot cpython", code("stopcheck", "compiledcheck", "gate")),
            stage("test", "snapshot", runs, code("selftest")),
        ]

    def _guest_sources(self) -> str:
        folders = (self.tree / "guest/cloche_guest", self.wire, self.wasm / "overlay")
        found = sorted(path for folder in folders for path in folder.rglob("*.py"))
        return " ".join([file_digest(*found), *(path.relative_to(self.tree).as_posix() for path in found)])

    def _tools(self, out: Path, folders: Folders) -> Toolchain:
        """The compiler, with every path that a file could leak mapped to the name of its stage."""
        maps = {self.build_root: "build", self.shim: "shim", self.wasm / "blas": "blas"} | {
            folder: name for name, folder in folders.items()
        }
        maps[out] = out.name.rpartition("-")[0]
        return Toolchain(folders["toolchain"], tuple(maps.items()), self.jobs)

    def _fetched(self, name: str) -> Path:
        return self.downloads / self.pins[name].filename

    # ---- what is unpacked
    def _toolchain(self, out: Path, folders: Folders) -> None:
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
        cpython.compile_libraries(self._tools(out, folders), described, tarballs, out)

    def _cpython(self, out: Path, folders: Folders) -> None:
        source, config, headers = folders["cpython-source"], folders["config"], folders["libraries"] / "include"
        changed = handlers.write(source, out / "evaluator")
        plain = self._tools(out, folders)
        tools = handlers.Replacing(plain.tree, plain.maps, plain.jobs, changed)
        cpython.compile_objects(tools, self.wasm / "cpython", source, config, headers, out)

    def _blas(self, out: Path, folders: Folders) -> None:
        blas.build(self._tools(out, folders), self.wasm / "blas", out)

    def _numpy(self, out: Path, folders: Folders) -> None:
        headers = [f"-I{folders['config']}", f"-I{folders['cpython-source'] / 'Include'}"]
        numpyext.build(self._tools(out, folders), folders["numpy-source"], headers, folders["host-tools"], out)

    def _shim(self, out: Path, folders: Folders) -> None:
        numbers = {name: getattr(layout, name) for name in ("GRAIN", "BUCKETS", "EXACT")}
        write_headers(self.wire, out, numbers)
        flags = self._shim_flags(out, folders)
        names = sorted(path for path in self.shim.glob("*.c") if not path.name.startswith("freezer"))
        self._tools(out, folders).compile_all([(path, out / f"{path.stem}.o", flags) for path in names])
        link.check_validator((out / "check.o").read_bytes())

    def _shim_flags(self, out: Path, folders: Folders) -> list[str]:
        include = cpython.includes(folders["cpython-source"], folders["config"])
        return [
            f"-I{out}",
            f"-I{self.shim}",
            *include,
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-unused-parameter",
        ]

    def _freezer(self, out: Path, folders: Folders) -> None:
        tools = self._tools(out, folders)
        write_headers(self.wire, out)
        (out / "inittab.c").write_text(link.inittab([], {}), "utf-8")
        flags = self._shim_flags(out, folders)
        places = {name: self.shim / f"{name}.c" for name in ("freezer", "freezer_files", "wasi", "notice")}
        places["inittab"] = out / "inittab.c"
        for name, path in places.items():
            tools.compile(path, out / f"{name}.o", flags)
        tools.link([*(out / f"{name}.o" for name in places), *cpython.objects(folders["cpython"])], out / "linked.wasm")
        (out / "freezer.wasm").write_bytes(
            snapshot((out / "linked.wasm").read_bytes(), self.abi, need_density=False).wasm
        )
        freeze.Freezer(out / "freezer.wasm", self.abi)  # leaves its native code for the stages that use it

    # ---- what is frozen
    def _freeze(self, out: Path, folders: Folders, symbol: str, modules: list[freeze.Source]) -> None:
        freezer = freeze.Freezer(folders["freezer"] / "freezer.wasm", self.abi)
        freeze.freeze(freezer, self._tools(out, folders), symbol, modules, out)

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
            *cpython.objects(folders["numpy"] / "objects"),
            *cpython.objects(folders["blas"]),
            *sorted((folders["numpy"] / "lib").glob("*.a")),
            *cpython.objects(folders["libraries"]),
        ]
        exported = [f"-Wl,--export={name}" for name in ("cloche_ring", "cloche_notice", "cloche_layout")]
        flags = [*exported, f"-Wl,-Map={out / 'map.txt'}"]  # the map is for benches/dirty_pages.py
        tools.link(objects, out / "linked.wasm", flags, libraries=["-lc++", "-lc++abi"])

    def _snapshot(self, out: Path, folders: Folders) -> None:
        linked = wasmfile.Module.parse((folders["link"] / "linked.wasm").read_bytes())
        inserted = stops.stoppable(linked)
        made = snapshot(inserted.module.encode(), self.abi)
        module = wasmfile.Module.parse(made.wasm)
        link.check_interface(module, self.abi)
        link.check_entry(module)
        link.check_no_bulk_memory(made.wasm)
        gate.check_stops(made.wasm, self._spared(folders))
        (out / "cloche.wasm").write_bytes(made.wasm)
        facts = {"pages": made.pages, "segments": made.segments, "data_bytes": made.data_bytes, "density": made.density}
        (out / "snapshot.json").write_text(json.dumps(facts | {"features": module.features()}), "utf-8")

    def _spared(self, folders: Folders) -> list[int]:
        """The opcodes whose handlers have no load from the stop page (handlers.py)."""
        return [int(number) for number in (folders["cpython"] / "evaluator/spared.txt").read_text("ascii").split()]

    def _compiled(self, out: Path, folders: Folders) -> None:
        report = gate.check_compiled_stops((folders["snapshot"] / "cloche.wasm").read_bytes(), self._spared(folders))
        (out / "report.txt").write_text(report, "utf-8")

    def _test(self, out: Path, folders: Folders) -> None:
        report = selftest.run((folders["snapshot"] / "cloche.wasm").read_bytes(), self.abi)
        (out / "report.txt").write_text(report, "utf-8")

    def write_manifest(self, folders: Folders, inputs_digest: str, target: Path) -> None:
        """manifest.json beside the image; see manifest.py."""
        manifest.write(target, self.pins, folders["snapshot"], self.abi, inputs_digest, self.without)
