"""The command line of the build, and the one function that others call: `build_image`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from imagebuild import fetch
from imagebuild.inputs import cache_folder, inputs_digest
from imagebuild.pins import Pins
from imagebuild.progress import Progress
from imagebuild.recipe import Recipe
from imagebuild.stages import BuildError, build, keys, locked

TREE = Path(__file__).resolve().parents[2]
ERRORS = (BuildError, fetch.FetchError, ValueError)


def build_image(
    tree: Path, *, jobs: int = 0, out: Path | None = None, work: Path | None = None, progress: Progress | None = None
) -> Path:
    """Build the image of a source tree, or find it built.

    Args:
        tree: the checkout.
        jobs: processes at a time; 0 means one for each CPU that this process may use.
        out: the folder for cloche.wasm and manifest.json; by default images/<digest> in the cache.
        work: where stages are kept; by default build/ in the cache.
        progress: told what happens.

    Raises:
        FetchError, BuildError: a pinned file cannot be had, or a step failed.
    """
    progress = progress or Progress()
    cache = cache_folder()
    digest = inputs_digest(tree)
    target = out or cache / "images" / digest
    work = work or cache / "build"
    with locked(work / "lock", progress):
        if out is None and (target / "manifest.json").exists():
            progress.say(f"up to date: {target}")
            return target
        _check_machine()
        recipe = prepare(tree, cache / "downloads", work, jobs, progress)
        folders = build(recipe.stages(), work, progress)
        _publish(recipe, folders, digest, target)
    progress.say(f"image: {target}")
    return target


def prepare(tree: Path, downloads: Path, work: Path, jobs: int, progress: Progress) -> Recipe:
    """Fetch and verify what is pinned."""
    pins = Pins.load(tree / "wasm/pins.toml")
    progress.say(f"checking {len(pins.group('source', 'toolchain', 'hosttool'))} pinned files in {downloads}")
    missing = fetch.fetch(pins.group("source", "toolchain", "hosttool"), downloads)
    for pin in missing:
        progress.say(f"WARNING: {pin.name} {pin.version} is no longer to be had; the image is built without it")
    return Recipe(tree, downloads, work, pins, jobs or len(os.sched_getaffinity(0)), frozenset(pin.name for pin in missing))


def _publish(recipe: Recipe, folders: dict[str, Path], digest: str, target: Path) -> None:
    """Put the finished image in place at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f"{target.name[:16]}.", suffix=".part", dir=target.parent))
    try:
        shutil.copyfile(folders["snapshot"] / "cloche.wasm", part / "cloche.wasm")
        recipe.write_manifest(folders, digest, part / "manifest.json")
        part.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check_machine() -> None:
    machine = os.uname()
    if (machine.sysname, machine.machine) != ("Linux", "x86_64"):
        raise BuildError(f"the image is built on Linux x86_64 (this is {machine.sysname} {machine.machine}); install a wheel instead")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="build.py", description="Build the guest image from pinned sources.")
    parser.add_argument("verb", nargs="?", default="build", choices=("build", "digest", "stages", "fetch", "prune", "verify"))
    parser.add_argument("--jobs", type=int, default=0, help="processes at a time (default: one for each CPU)")
    parser.add_argument("--out", type=Path, help="folder for cloche.wasm and manifest.json (default: in the cache)")
    parser.add_argument("--work", type=Path, help="folder for intermediate files (default: in the cache)")
    options = parser.parse_args(arguments)
    progress = Progress()
    work = (options.work or cache_folder() / "build").resolve()
    try:
        match options.verb:
            case "build":
                print(build_image(TREE, jobs=options.jobs, out=options.out, work=work, progress=progress))
            case "digest":
                print(inputs_digest(TREE))
            case "fetch":
                prepare(TREE, cache_folder() / "downloads", work, options.jobs, progress)
            case "stages":
                recipe = Recipe(TREE, cache_folder() / "downloads", work, Pins.load(TREE / "wasm/pins.toml"))
                for name, key in keys(recipe.stages()).items():
                    print(f"{name}-{key}", "built" if (work / f"{name}-{key}").exists() else "missing")
    except ERRORS as error:
        print(f"image build failed: {error}", file=sys.stderr)
        return 1
    return 0
