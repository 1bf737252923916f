"""The command line of the build, and the one function that others call: `build_image`."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from imagebuild import configure, cpython, fetch, numpyconfigure
from imagebuild.inputs import cache_folder, copy_inputs, inputs_digest
from imagebuild.pins import Pins
from imagebuild.progress import Progress
from imagebuild.recipe import stages
from imagebuild.stages import BuildError, build, keys, locked
from imagebuild.steps import Steps, native_tools
from imagebuild.toolchain import Toolchain

TREE = Path(__file__).resolve().parents[2]
ERRORS = (BuildError, fetch.FetchError)
NEEDED = ("source", "toolchain", "hosttool")
# `verify` builds these stages again; those with compiled objects only with --full.
REMADE = frozenset({"freezer", "frozen-library", "frozen-numpy", "frozen-guest", "shim", "link", "snapshot"})

DESCRIPTION = """Build the guest image from pinned sources.

build      build what is missing and print the image's folder (the default)
digest     print the digest of all inputs, which names that folder
fetch      download and verify what is pinned, so that a build needs no network
stages     list the steps and which of them are built
verify     freeze, link and snapshot again in another folder and compare; --full compiles again too
prune      remove what this tree's image does not need from the cache
configure  run CPython's configure and numpy's, rewrite wasm/cpython/pyconfig.answers and wasm/numpy/config.json
"""


def build_image(
    tree: Path,
    *,
    jobs: int = 0,
    out: Path | None = None,
    work: Path | None = None,
    progress: Progress | None = None,
    timed: bool = False,
) -> Path:
    """Build the image of a source tree, or find it built.

    Args:
        tree: the checkout.
        jobs: processes at a time; 0 means one for each CPU that this process may use.
        out: the folder for cloche.wasm and manifest.json; by default images/<digest> in the cache.
        work: where the stages are kept; by default build/ in the cache.
        progress: gets a line for each step.
        timed: print on stderr where the time went, also when the build fails.

    Raises:
        FetchError: a pinned file cannot be had.
        BuildError: a step failed.
    """
    progress = progress or Progress()
    cache = cache_folder().resolve()
    work = (work or cache / "build").resolve()
    with locked(work / "lock", progress):
        digest = inputs_digest(tree)
        if out is None and (cache / "images" / digest / "manifest.json").exists():
            progress.say(f"up to date: {cache / 'images' / digest}")
            return cache / "images" / digest
        copy = copy_inputs(tree, work / "inputs")
        digest = inputs_digest(copy)
        target = (out or cache / "images" / digest).resolve()
        steps = prepare(copy, work, jobs, progress)
        try:
            folders = build(stages(steps), work, progress, steps.slots, steps.timing)
        finally:
            if timed:
                print(steps.timing.table(), file=sys.stderr)
        _publish(steps, folders, digest, target)
    progress.say(f"image: {target}")
    return target


def prepare(tree: Path, work: Path, jobs: int, progress: Progress) -> Steps:
    """Check the machine, fetch and verify what is pinned."""
    machine = os.uname()
    if (machine.sysname, machine.machine) != ("Linux", "x86_64"):
        raise BuildError(
            f"the image is built on Linux x86_64, not {machine.sysname} {machine.machine}: install a wheel"
        )
    pins = Pins.load(tree / "wasm/pins.toml")
    downloads = cache_folder().resolve() / "downloads"
    wanted = [*pins.group(*NEEDED), *native_tools(pins)]
    progress.say(f"checking {len(wanted)} pinned files in {downloads}")
    missing = fetch.fetch(wanted, downloads)
    for pin in missing:
        progress.say(f"WARNING: {pin.name} {pin.version} is no longer to be had; the image is built without it")
    return Steps(
        tree, downloads, work, pins, jobs or len(os.sched_getaffinity(0)), frozenset(pin.name for pin in missing)
    )


def verify(tree: Path, jobs: int, work: Path, full: bool, progress: Progress) -> str:
    """Build a second time in another folder, and return the digest of both images.

    Raises:
        BuildError: the two images differ.
    """
    first = build_image(tree, jobs=jobs, work=work, progress=progress) / "cloche.wasm"
    with tempfile.TemporaryDirectory(prefix="cloche-verify-") as name, locked(work / "lock", progress):
        scratch = Path(name).resolve()
        steps = prepare(copy_inputs(tree, scratch / "inputs"), scratch, jobs, progress)
        if inputs_digest(steps.tree) != inputs_digest(tree) or first.parent.name != inputs_digest(tree):
            raise BuildError("the source tree changed meanwhile; try again")
        wanted = [stage for stage in stages(steps) if stage.name != "check"]
        if not full:
            for stage, key in keys(wanted).items():
                done = work / f"{stage}-{key}"
                if stage not in REMADE and done.exists():
                    (scratch / done.name).symlink_to(done)
        second = build(wanted, scratch, progress, steps.slots)["snapshot"] / "cloche.wasm"
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (first, second)]
    if digests[0] != digests[1]:
        raise BuildError(
            f"the same inputs gave two images: {digests[0]} in {first.parent}, {digests[1]} in a scratch folder"
        )
    return digests[0]


def prune(steps: Steps, digest: str, work: Path, progress: Progress) -> None:
    """Remove the stages and images that the tree as it is does not use."""
    kept = {f"{name}-{key}" for name, key in keys(stages(steps)).items()} | {digest}
    for folder in (*work.iterdir(), *(cache_folder() / "images").glob("*")):
        if folder.is_dir() and folder.name not in (*kept, "inputs"):
            progress.say(f"removing {folder}")
            shutil.rmtree(folder)


def reconfigure(steps: Steps, work: Path, progress: Progress) -> None:
    """Rewrite cpython/pyconfig.answers and numpy/config.json."""
    path = steps.wasm / "cpython/pyconfig.answers"
    comment = "".join(line for line in path.read_text("utf-8").splitlines(keepends=True) if line.startswith("#"))
    tools = Toolchain(_built(steps, work, progress, "toolchain")["toolchain"], (), steps.jobs)
    path.write_text(comment + configure.answers(tools, steps.downloads / steps.pins["cpython"].filename), "utf-8")
    progress.say(f"wrote {path}")
    # numpy's build sees the answers that were just written
    folders = _built(steps, work, progress, "toolchain", "cpython-source", "config", "numpy-source", "host-tools")
    headers = cpython.includes(folders["cpython-source"], folders["config"])
    found = numpyconfigure.answers(tools, folders["numpy-source"], headers, folders["host-tools"], steps.wasm / "numpy")
    (steps.wasm / "numpy/config.json").write_text(found, "utf-8")
    progress.say(f"wrote {steps.wasm / 'numpy/config.json'}")


def _built(steps: Steps, work: Path, progress: Progress, *names: str) -> dict[str, Path]:
    return build([stage for stage in stages(steps) if stage.name in names], work, progress)


def _publish(steps: Steps, folders: dict[str, Path], digest: str, target: Path) -> None:
    """Put the finished image in place at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f"{target.name[:16]}.", suffix=".part", dir=target.parent))
    try:
        shutil.copyfile(folders["snapshot"] / "cloche.wasm", part / "cloche.wasm")
        steps.write_manifest(folders, digest, part / "manifest.json")
        part.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="build.py", description=DESCRIPTION, formatter_class=argparse.RawTextHelpFormatter
    )
    verbs = ("build", "digest", "fetch", "stages", "verify", "prune", "configure")
    parser.add_argument("verb", nargs="?", default="build", choices=verbs, metavar="verb")
    parser.add_argument("--jobs", type=int, default=0, help="processes at a time (default: one for each CPU)")
    parser.add_argument("--out", type=Path, help="folder for cloche.wasm and manifest.json (default: in the cache)")
    parser.add_argument("--work", type=Path, help="folder for intermediate files (default: in the cache)")
    parser.add_argument("--full", action="store_true", help="verify: compile everything again")
    parser.add_argument("--timing", action="store_true", help="build: print where the time went")
    parser.add_argument("--quiet", action="store_true", help="no progress lines")
    options = parser.parse_args(arguments)
    progress = Progress(quiet=options.quiet)
    work = (options.work or cache_folder() / "build").resolve()
    try:
        match options.verb:
            case "build":
                where = {"out": options.out, "work": work}
                print(build_image(TREE, jobs=options.jobs, **where, progress=progress, timed=options.timing))
            case "digest":
                print(inputs_digest(TREE))
            case "verify":
                print(verify(TREE, options.jobs, work, options.full, progress))
            case verb:
                steps = prepare(TREE, work, options.jobs, progress)
                if verb == "stages":
                    for name, key in keys(stages(steps)).items():
                        print(f"{name}-{key}", "built" if (work / f"{name}-{key}").exists() else "missing")
                elif verb == "prune":
                    prune(steps, inputs_digest(TREE), work, progress)
                elif verb == "configure":
                    reconfigure(steps, work, progress)
    except ERRORS as error:
        print(f"image build failed: {error}", file=sys.stderr)
        return 1
    return 0
