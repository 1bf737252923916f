"""Pruning takes what this installation does not need and nobody has used, and touches nothing that is not Cloche's."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import cloche.image as images
from cloche._wasm import image as _image
from cloche._wasm.checkout import built_core

OTHER = "0" * 64


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with the image in use, and with things of others. All were last used a hundred days ago."""
    own = images.find()
    core = built_core("")
    assert core is not None
    monkeypatch.setattr(_image, "find", lambda: own)
    folder = tmp_path / "cache"
    monkeypatch.setenv("CLOCHE_CACHE", str(folder))
    files = [
        folder / "images" / OTHER / "cloche.wasm",
        folder / "native" / OTHER / "libcloche.so",
        folder / "native" / core.name / "libcloche.so",
        _image.artifact(own, "guard", None, folder),
        _image.artifact(own, "epoch", "x86-64-v2", folder),
        folder / "aot" / f"{OTHER[:32]}.cwasm",
        folder / "aot" / f"{OTHER[:32]}.lock",
        folder / "aot" / f"{OTHER[:32]}.x86-64-v3.cwasm",
        folder / "aot" / f".a.cwasm.{OTHER[:16]}.part",
        folder / "packages" / f"{OTHER}.tree",
        folder / "packages" / f"{OTHER}-given-up.tree",
        folder / "packages" / "mine.tree",
        folder / "aot" / "mine.txt",
        folder / "downloads" / OTHER,
        folder / "mine" / OTHER,
    ]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(5000))
    for path in folder.rglob("*"):
        age(path, 100)
    return folder


def age(path: Path, days: float) -> None:
    then = time.time() - days * 86400
    os.utime(path, (then, then))


def names(cache: Path, found: list[images.Pruned]) -> dict[str, str]:
    return {each.path.relative_to(cache).as_posix(): each.kind for each in found}


def test_what_is_not_used_is_removed(cache: Path) -> None:
    """A dry run says the same, and removes nothing."""
    before = sorted(cache.rglob("*"))
    dry = images.prune(dry_run=True)
    assert sorted(cache.rglob("*")) == before
    found = images.prune()
    assert names(cache, found) == names(cache, dry) == {
        f"images/{OTHER}": "image",
        f"native/{OTHER}": "core",
        f"aot/{OTHER[:32]}.cwasm": "artifact",
        f"aot/{OTHER[:32]}.x86-64-v3.cwasm": "artifact",
        f"aot/.a.cwasm.{OTHER[:16]}.part": "draft",
        f"packages/{OTHER}.tree": "package",
        f"packages/{OTHER}-given-up.tree": "package",
    }  # fmt: skip
    assert all(each.bytes >= 5000 and 99 < each.idle_days < 101 for each in found)
    left = {path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()}
    own = {
        _image.artifact(_image.find(), "guard", None, cache),
        _image.artifact(_image.find(), "epoch", "x86-64-v2", cache),
    }
    core = built_core("")
    assert core is not None
    assert left == {
        "packages/mine.tree", "aot/mine.txt", f"downloads/{OTHER}", f"mine/{OTHER}", f"native/{core.name}/libcloche.so",
        *(path.relative_to(cache).as_posix() for path in own),
    }  # fmt: skip
    assert images.prune(0) == []


def test_what_somebody_has_used_lately_stays(cache: Path) -> None:
    """Another checkout's, perhaps. With 0 days, nobody else counts."""
    for path in cache.rglob("*"):
        age(path, 5)
    assert set(names(cache, images.prune()).values()) == {"draft"}
    assert len(images.prune(5.5)) == 0
    assert len(images.prune(4.5)) == 6


def test_a_draft_of_the_moment_stays(cache: Path) -> None:
    """It is being written."""
    (draft,) = (cache / "aot").glob(".*.part")
    age(draft, 0)
    images.prune(0)
    assert draft.exists()


def test_links_are_not_followed(cache: Path, tmp_path: Path) -> None:
    """Neither of an entry, nor of a whole folder: another cache's, which others use."""
    outside = tmp_path / "outside"
    (outside / OTHER.replace("0", "1")).mkdir(parents=True)
    (outside / "file").write_text("precious")
    (cache / "images" / OTHER.replace("0", "2")).symlink_to(outside)
    os.utime(cache / "images" / OTHER.replace("0", "2"), (0, 0), follow_symlinks=False)
    (cache / "packages").rename(tmp_path / "packages")
    (cache / "packages").symlink_to(tmp_path / "packages")
    found = names(cache, images.prune())
    assert f"images/{OTHER.replace('0', '2')}" in found and "package" not in found.values()
    assert (outside / "file").read_text() == "precious"
    assert (tmp_path / "packages" / f"{OTHER}.tree").exists()


def test_loading_an_artifact_counts_as_a_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cloche

    with cloche.Runtime(metering="guard"):
        pass
    kept = _image.kept(images.find(), "guard")
    assert kept is not None
    age(kept, 100)
    with cloche.Runtime(metering="guard"):
        pass
    assert time.time() - kept.stat().st_mtime < 86400


@pytest.mark.parametrize("days", [-1, float("nan")])
def test_days_below_none_are_refused(days: float) -> None:
    with pytest.raises(ValueError, match="unused_days is"):
        images.prune(days)


def test_a_cache_that_is_not_there_has_nothing_to_prune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = images.find()
    monkeypatch.setattr(_image, "find", lambda: own)
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "no"))
    assert images.prune(0) == []
    assert not (tmp_path / "no").exists()
