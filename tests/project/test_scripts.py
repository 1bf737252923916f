"""The scripts say what a machine lacks, and how to get it, before they do anything else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
SCRIPTS = sorted(path.name for path in (TREE / "scripts").iterdir() if path.stat().st_mode & 0o111 and path.is_file())


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What `scripts/_setup.sh` needs of a fresh clone."""
    shutil.copytree(TREE / "scripts", tmp_path / "scripts")
    shutil.copy(TREE / "pyproject.toml", tmp_path)
    return tmp_path


def run(clone: Path, script: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [clone / "scripts" / script],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def fake_python(clone: Path, body: str) -> str:
    path = clone / "fake-python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("script", ["setup", "demo", "test", "check", "audit", "docs"])
def test_a_missing_python_is_named(clone: Path, script: str) -> None:
    done = run(clone, script, PYTHON="python-that-is-not-there")
    assert done.returncode == 1
    assert done.stderr == "== python-that-is-not-there is missing: apt-get install python3 python3-venv\n"


def test_an_old_python_is_refused(clone: Path) -> None:
    """The fake fails the version check and tells its version."""
    old = fake_python(clone, '[ "$1" = --version ] && echo Python 3.9.2 && exit 0; exit 1')
    done = run(clone, "setup", PYTHON=old)
    assert done.returncode == 1
    assert done.stderr == "== Python 3.9.2 is too old, 3.11 or newer is needed: set PYTHON to one\n"


def test_a_missing_venv_package_is_named(clone: Path) -> None:
    """Debian ships ensurepip apart from Python."""
    bare = fake_python(clone, 'case "$*" in *ensurepip*) exit 1;; *) exec python3 "$@";; esac')
    done = run(clone, "setup", PYTHON=bare)
    assert done.returncode == 1
    assert done.stderr == "== Python cannot make virtual environments: apt-get install python3-venv\n"
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_plain_sh_that_parses(script: str) -> None:
    """Debian's /bin/sh is dash: no bashisms."""
    path = TREE / "scripts" / script
    assert path.read_text().startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n", path], check=True, timeout=10)


def test_the_tree_names_no_machine_of_its_authors() -> None:
    """No absolute path of somebody's machine, and no registry's host: a clone works anywhere."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=TREE, capture_output=True, text=True, check=True, timeout=10
    ).stdout
    of_nodes = b"/home" + b"/node"  # inside of the sandbox
    hosts = ("py" + "pi.org", "pythonhosted" + ".org", "deb.debian" + ".org", "registry.npmjs" + ".org")
    offenders = [
        f"{name}: {word}"
        for name in listed.splitlines()
        if not name.startswith("licenses/") and (TREE / name).is_file()
        for word in (*hosts, "/wo" + "rk/", "/ro" + "ot/", "/home" + "/")
        if word.encode() in (TREE / name).read_bytes().replace(of_nodes, b"")
    ]
    assert offenders == []
