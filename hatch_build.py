"""Build hook of hatchling: puts the guest image and the native core into the wheel, so that an installation needs no compiler.

Because of the core a wheel fits one platform only. It fits every version of Python: its tag is ``py3-none-<platform>``.
"""

from __future__ import annotations

import importlib.util
import platform
import sys
import tomllib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FILES = ("cloche.wasm", "manifest.json")
# platform tags of wheels; each has to fit the platform that TARGETS in runtime/native/build.py compiles the core for
PLATFORMS = {
    ("linux", "x86_64"): "manylinux_2_17_x86_64",
    ("linux", "aarch64"): "manylinux_2_17_aarch64",
    ("darwin", "x86_64"): "macosx_11_0_x86_64",
    ("darwin", "arm64"): "macosx_11_0_arm64",
}


class ImageHook(BuildHookInterface[Any]):
    """Adds the image and the core of this source tree to a wheel, and builds each that the cache does not have."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """The packages that this build needs: wasmtime, in the version that pyproject.toml pins, if the image has to be built."""
        if self._cached().is_dir():
            return []
        project = tomllib.loads((Path(self.root) / "pyproject.toml").read_text("utf-8"))["project"]
        return [text for text in project["dependencies"] if text.startswith("wasmtime")]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files to a wheel before hatchling writes it. An editable install gets none: it uses the cache.

        Args:
            version: "standard" or "editable", as hatchling calls the versions of a wheel.
            build_data: hatchling's instructions for the wheel, which are changed.
        """
        tag = PLATFORMS.get((sys.platform, platform.machine()))
        if tag is None:
            raise SystemExit(
                f"cloche does not run on {sys.platform} on {platform.machine()}: it needs Linux or macOS, on x86-64 or arm64. "
                "On Windows, use WSL 2"
            )
        if version == "editable":
            return
        folder = self._cached()
        if not folder.is_dir():
            print("cloche: the guest image is not in the cache; building it takes a few minutes", file=sys.stderr)
            folder = self._build()
        for name in FILES:
            build_data["force_include"][str(folder / name)] = f"cloche/_image/{name}"
        core = self._core()
        build_data["force_include"][str(core)] = f"cloche/_native/{core.name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{tag}"

    def _core(self) -> Path:
        """Path of the native core's library, built now if the cache does not have it."""
        script = Path(self.root) / "runtime" / "native" / "build.py"
        spec = importlib.util.spec_from_file_location("_cloche_build_core", script)
        assert spec is not None and spec.loader is not None  # the file is part of the tree
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return Path(module.build())

    def _cached(self) -> Path:
        """Folder of the cache for this source tree's image; it does not exist before the image is built."""
        self._import_build()
        from imagebuild.inputs import cache_folder, inputs_digest

        return cache_folder() / "images" / inputs_digest(Path(self.root))

    def _build(self) -> Path:
        """Build the image; its folder in the cache."""
        from imagebuild.command import build_image

        return build_image(Path(self.root))

    def _import_build(self) -> None:
        """Make the package `imagebuild` importable, which lies in wasm/ and is not installed."""
        folder = str(Path(self.root) / "wasm")
        if folder not in sys.path:
            sys.path.insert(0, folder)
