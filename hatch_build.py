"""Puts the guest image into the wheel as ``cloche/_image/``: what is installed needs no compiler and no checkout."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FILES = ("cloche.wasm", "manifest.json")


class ImageHook(BuildHookInterface[Any]):
    """Adds the image of this source tree; builds it if the cache does not have it."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """wasmtime, if the image has to be built: in the version that the project itself depends on."""
        if self._cached().is_dir():
            return []
        project = tomllib.loads((Path(self.root) / "pyproject.toml").read_text("utf-8"))["project"]
        return [text for text in project["dependencies"] if text.startswith("wasmtime")]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the wheel is written. An editable install uses the cache, so it carries no image."""
        if version == "editable":
            return
        folder = self._cached()
        if not folder.is_dir():
            print("cloche: the guest image is not in the cache; building it takes a few minutes", file=sys.stderr)
            folder = self._build()
        for name in FILES:
            build_data["force_include"][str(folder / name)] = f"cloche/_image/{name}"

    def _cached(self) -> Path:
        self._import_build()
        from imagebuild.inputs import cache_folder, inputs_digest

        return cache_folder() / "images" / inputs_digest(Path(self.root))

    def _build(self) -> Path:
        from imagebuild.command import build_image

        return build_image(Path(self.root))

    def _import_build(self) -> None:
        folder = str(Path(self.root) / "wasm")
        if folder not in sys.path:
            sys.path.insert(0, folder)
