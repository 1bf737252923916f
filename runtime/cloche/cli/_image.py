"""The commands of ``cloche image``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cloche.image as images
from cloche.cli._console import say
from cloche.errors import ImageError
from cloche.metering import Metering

__all__ = ["build", "info", "prepare", "prune", "verify"]


def build(quiet: bool) -> None:
    """Build the image that belongs to this checkout.

    Raises:
        ImageError: this is no checkout, or the build failed, which has printed the reason on stderr.
    """
    tree = images.source_tree()
    if tree is None:
        raise ImageError("this is an installed package, which carries its image: only a source checkout builds one")
    try:
        found = images.find()
    except ImageError:
        code = subprocess.run(
            [sys.executable, str(tree / "wasm" / "build.py")], stdout=sys.stderr, check=False
        ).returncode
        if code:
            raise ImageError(f"the build of the image failed (exit code {code})") from None
        found = images.find()
    if not quiet:
        say(f"the image is up to date: {found.wasm}")


def prepare(metering: Metering, target: str | None, output: str | None, quiet: bool) -> None:
    """Compile the image into a cache.

    Raises:
        ImageError: there is no image, or it was altered, or this machine cannot compile for the target.
        OSError: the cache cannot be written.
    """
    path = images.prepare(metering=metering, target=target, output=output, progress=say)
    if path and not quiet:
        say(f"the image is compiled: {path}")


def prune(unused_days: float, dry_run: bool, quiet: bool) -> None:
    """Remove what is not used, and say what that frees.

    Raises:
        ImageError: this user has no cache.
    """
    found = images.prune(unused_days, dry_run=dry_run)
    if not quiet:
        for each in found:
            print(f"{each.bytes / 1e6:9.1f} MB  {each.kind:9} {each.idle_days:5.0f} days  {each.path}")
    total = sum(each.bytes for each in found)
    print(f"{'would free' if dry_run else 'freed'} {total / 1e6:.1f} MB in {len(found)} places")


def verify(folder: Path | None) -> None:
    """Compare the module's bytes with the manifest.

    Raises:
        ImageError: they differ.
    """
    found = images.find(folder)
    found.verify()
    print(f"{found.wasm}: sha256 {found.sha256} as in its manifest")


def info(folder: Path | None) -> None:
    """Print the manifest."""
    print(json.dumps(images.find(folder).manifest, indent=2))
