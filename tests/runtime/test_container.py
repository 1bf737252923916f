"""The Dockerfile of docs/how-to/deploy.md: root prepares the image, and a user who owns nothing runs a service."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche import image
from cloche._wasm import image as _image
from cloche._wasm import targets
from cloche._wasm.checkout import built_core, cache_folder
from cloche.metering import DEFAULT_METERING

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "deploy.md"
SERVICE = """
import ctypes, os, cloche

def serve():
    lines = []
    with cloche.Runtime(progress=lines.append) as runtime:
        source = cloche.Source("import numpy, os\\ndef f(n): return float(numpy.arange(n).sum())")
        with runtime.load(source, "f") as node:
            return node.process(10), lines

serve()  # imports everything, also what the other user may not read
os.setgroups([]), os.setgid(65534), os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE, as after an exec: else /proc/self is root's
print(*serve(), flush=True)
os._exit(0)  # files of this interpreter are root's
"""


def dockerfile() -> list[str]:
    (text,) = re.findall(r"```dockerfile.*?\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    return [line for line in text.splitlines() if line]


@pytest.fixture
def root() -> Iterator[Path]:
    """The file system of the container: a folder that every user can reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="root prepares, and another user runs")
@pytest.mark.skipif("x86-64-v3" not in targets.runnable(), reason="the Dockerfile is for x86-64-v3")
@pytest.mark.parametrize(
    "anew", [False, pytest.param(True, marks=pytest.mark.thorough)], ids=["compiled before", "compiled"]
)
def test_its_lines_work(root: Path, anew: bool) -> None:
    """The service compiles nothing, says nothing, writes nothing, and needs no home."""
    (place,) = [line.removeprefix("ENV CLOCHE_CACHE=") for line in dockerfile() if line.startswith("ENV ")]
    cache = root / place.removeprefix("/")
    core, own = built_core(""), image.find()
    assert core is not None
    shutil.copytree(own.folder, cache / "images" / own.folder.name)  # a wheel has them inside, a checkout in its cache
    shutil.copytree(core, cache / "native" / core.name)
    if not anew:
        kept = image.prepare(target="x86-64-v3")
        assert kept is not None
        (cache / "aot").mkdir()
        shutil.copyfile(kept, cache / "aot" / kept.name)
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "CLOCHE_CACHE": str(cache), "HOME": str(root / "nonexistent")
    }  # fmt: skip
    lines = [line.removeprefix("RUN ") for line in dockerfile() if line.startswith("RUN cloche ")]
    assert lines
    for line in lines:
        command = re.sub(r"^cloche ", f"{sys.executable} -m cloche ", line)
        subprocess.run(command, shell=True, env=environment, check=True, timeout=390, umask=0o022)
    before = sorted(cache.rglob("*"))
    assert any(line.startswith("USER ") for line in dockerfile())
    done = subprocess.run(
        [sys.executable, "-c", SERVICE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        umask=0o022,
    )
    assert (done.returncode, done.stdout) == (0, "45.0 []\n"), done.stderr
    assert sorted(cache.rglob("*")) == before
    for path in [cache, *cache.rglob("*")]:
        assert path.stat().st_uid == 0 and not stat.S_IMODE(path.stat().st_mode) & 0o022, path


def test_the_page_and_the_code_name_the_same_targets() -> None:
    rows = re.findall(r"^\| `(x86-64[-v0-9]*)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert tuple(rows) == image.TARGETS


def test_a_prepared_folder_is_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``--output`` writes is where ``CLOCHE_CACHE`` looks."""
    own = image.find()
    path = _image.artifact(own, DEFAULT_METERING, "x86-64-v2", tmp_path)
    assert path.is_relative_to(tmp_path)
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
