"""How the program starts and ends, whatever its streams are and whoever ends it: nothing is left behind, and nothing is harmed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import cloche
from tests.forked import Forking

NODES = """
import logging, time

def echo(item):
    return item
def endless(item):
    logging.warning("it has begun")
    while item == 2:
        pass
def asleep(item):
    logging.warning("it has begun")
    time.sleep(1000 if item == 2 else 0)
class Many:
    is_source = True
    def process(self):
        yield from range(10**7)
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
ANY_SHELL = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
"""The shell that the option names counts: the tests may run without one."""
COMMAND = (sys.executable, "-m", "cloche")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "nodes.py").write_text(NODES)
    (tmp_path / "one.jsonl").write_text("41\n")
    return tmp_path


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(folder: Path, forked: Forking) -> Run:
    """Run ``python -m cloche`` in the folder of the nodes."""

    def call(line: str, **options: object) -> subprocess.CompletedProcess[str]:
        if not options:
            return forked.run(*line.split(), cwd=folder, env=ENVIRONMENT)
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENVIRONMENT} | options
        return subprocess.run(
            [*COMMAND, *line.split()], cwd=folder, text=True, timeout=300, check=False, **streams  # type: ignore[call-overload]
        )  # fmt: skip

    return call


def test_version(run: Run) -> None:
    assert run("--version", env=ENVIRONMENT).stdout == f"cloche {cloche.__version__}\n"


@pytest.mark.few(2)
@pytest.mark.parametrize("line", ["", "run ", "check ", "bench ", "image ", "image prepare "])
def test_h_is_help(run: Run, line: str) -> None:
    short, long = run(f"{line}-h"), run(f"{line}--help")
    assert short.returncode == long.returncode == 0
    assert short.stdout == long.stdout and "Usage: cloche" in short.stdout


def test_completion_is_installed_where_the_shell_looks(run: Run, tmp_path: Path) -> None:
    """In a home folder of the test's."""
    home = tmp_path / "home"
    home.mkdir()
    done = run("--install-completion bash", env={**ENVIRONMENT, **ANY_SHELL, "HOME": str(home)})
    assert done.returncode == 0, done.stderr
    assert "cloche" in (home / ".bashrc").read_text()
    asked = {"COMP_WORDS": "cloche ima", "COMP_CWORD": "1", "_CLOCHE_COMPLETE": "complete_bash"}
    assert run("", env={**ENVIRONMENT, **asked}).stdout.split() == ["image"]


WITHOUT = """
import sys
for name in {names!r}:
    sys.modules[name] = None  # as if it were not installed
from cloche.cli import main
main()
"""


@pytest.mark.parametrize("missing", [("typer",), ("typer", "rich"), ("rich",)], ids="-".join)
def test_without_its_extra_the_command_says_what_to_install(missing: tuple[str, ...]) -> None:
    """One line, and no traceback. Typer needs rich itself."""
    if missing == ("rich",):
        missing = ("rich", "typer")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(names=missing), "run", "nodes.py"],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "cloche: the command line needs typer: pip install 'cloche[cli]'\n"


def begun(folder: Path, line: str, *, items: bytes, mark: bytes = b"it has begun") -> subprocess.Popen[bytes]:
    """A run whose node has logged the mark. It was given a first item, and the others, if there are some."""
    process = subprocess.Popen(
        [*COMMAND, *line.split()], cwd=folder, env=ENVIRONMENT, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None and process.stderr is not None
    process.stdin.write(b"1\n")
    process.stdin.flush()
    process.stdin.write(items)
    process.stdin.flush()
    for text in process.stderr:
        if mark in text:
            break
    return process


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("entry", "items"), [("endless", b"2\n"), ("asleep", b"2\n"), ("endless", b"")], ids=["computes", "sleeps", "waits"]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_the_old_file_and_no_draft(
    folder: Path, entry: str, items: bytes, number: signal.Signals
) -> None:
    """And the parent process sees the signal, or, as ever after Ctrl-C, 130."""
    (folder / "out.jsonl").write_text("old")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits "ignore"
    process = begun(folder, f"run nodes.py:{entry} --input - --output out.jsonl --deadline none", items=items)
    signal.signal(signal.SIGINT, before)
    assert len(list(folder.glob(".out.jsonl.*.part"))) == 1
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert b"stopped after " in errors and b" items: out.jsonl was not written" in errors
    assert b"Traceback" not in errors
    assert sorted(path.name for path in folder.iterdir()) == ["nodes.py", "one.jsonl", "out.jsonl"]
    assert (folder / "out.jsonl").read_text() == "old"


def test_a_hangup_that_is_ignored_stays_ignored(folder: Path) -> None:
    """Under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    process = begun(folder, "run nodes.py:endless --input - --deadline none", items=b"2\n")
    signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGTERM


def test_a_reader_that_has_gone_ends_the_run_quietly(folder: Path) -> None:
    """As ``cloche run ... | head -1``: no message, and the code that a shell reports of SIGPIPE."""
    with subprocess.Popen(
        [*COMMAND, "run", "nodes.py:Many"], cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(300) == 128 + signal.SIGPIPE


def test_a_reader_that_has_gone_before_the_end(folder: Path) -> None:
    """What was still in the buffer is noticed at the end, as by every other tool."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, "image", "info"], cwd=folder, env=ENVIRONMENT, stdout=writing, stderr=subprocess.PIPE, timeout=300, check=False
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_a_stderr_that_nobody_reads_costs_nothing(folder: Path) -> None:
    """The results are complete."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, "run", "nodes.py:echo", "--input", "one.jsonl"],
        cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=writing, timeout=300, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stdout) == (0, b"41\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("line", ["image info", "run nodes.py:echo --input one.jsonl --quiet"])
def test_a_stdout_without_room_is_an_error(folder: Path, line: str) -> None:
    """One that is said, once."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, *line.split()], cwd=folder, env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300,
            check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("No space left on device") == 1
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize("closed", [0, 1, 2, (0, 1, 2)], ids=["stdin", "stdout", "stderr", "all"])
def test_a_stream_that_is_closed_is_not_taken_by_a_file(folder: Path, closed: int | tuple[int, ...]) -> None:
    """Otherwise the first file that is opened would have the number of stdout or stderr, and get what is printed."""
    numbers = (closed,) if isinstance(closed, int) else closed

    def close() -> None:
        for number in numbers:
            os.close(number)

    done = subprocess.run(
        [*COMMAND, "run", "nodes.py:echo", "--input", "one.jsonl", "--output", "out.jsonl"],
        cwd=folder, env=ENVIRONMENT, preexec_fn=close, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert (folder / "out.jsonl").read_text() == "41\n"


def test_results_for_a_stdout_that_is_closed_are_an_error(folder: Path, run: Run) -> None:
    done = run("run nodes.py:echo --input one.jsonl -q", stdout=None, preexec_fn=lambda: os.close(1))
    assert done.returncode == 1
    assert "Bad file descriptor" in done.stderr


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_stdout_by_another_name_is_written_in_place(folder: Path, name: str, kind: str) -> None:
    """As root as well, which could replace the device. A file that stdout was redirected to is replaced, as it would be by name."""
    line = f"run nodes.py:echo --input one.jsonl --quiet --output {name} --output-format jsonl"
    with (folder / "got").open("wb") as file:
        streams = {"stdout": subprocess.PIPE if kind == "pipe" else file}
        done = subprocess.run(
            [*COMMAND, *line.split()], cwd=folder, env=ENVIRONMENT, timeout=300, check=False, **streams
        )  # type: ignore[call-overload]
    assert done.returncode == 0
    assert (done.stdout if kind == "pipe" else (folder / "got").read_bytes()) == b"41\n"
    assert Path("/dev/stdout").is_symlink()
    assert not list(folder.glob(".*"))


def test_a_fifo_is_written_in_place(folder: Path, run: Run) -> None:
    os.mkfifo(folder / "fifo")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((folder / "fifo").read_bytes()))
    reader.start()
    done = run("run nodes.py:echo --input one.jsonl --output fifo --output-format jsonl")
    reader.join(60)
    assert (done.returncode, got) == (0, [b"41\n"])
    assert stat.S_ISFIFO((folder / "fifo").stat().st_mode)


def test_a_planted_link_is_not_followed(folder: Path, run: Run) -> None:
    """The draft's name cannot be guessed; the old one was ``out.jsonl.part`` beside the file."""
    (folder / "victim").write_text("precious")
    for name in (".out.jsonl.part", "out.jsonl.part"):
        (folder / name).symlink_to("victim")
    assert run("run nodes.py:echo --input one.jsonl --output out.jsonl").returncode == 0
    assert (folder / "victim").read_text() == "precious"
    assert (folder / "out.jsonl").read_text() == "41\n"


def test_permissions_and_links_are_kept(folder: Path, run: Run) -> None:
    (folder / "real").mkdir()
    (folder / "real" / "file.jsonl").write_text("old")
    (folder / "real" / "file.jsonl").chmod(0o640)
    (folder / "out.jsonl").symlink_to("real/file.jsonl")
    assert run("run nodes.py:echo --input one.jsonl --output out.jsonl").returncode == 0
    assert (folder / "out.jsonl").is_symlink()
    assert (folder / "real" / "file.jsonl").read_text() == "41\n"
    assert stat.S_IMODE((folder / "real" / "file.jsonl").stat().st_mode) == 0o640


def test_a_file_can_be_its_own_input(folder: Path, run: Run) -> None:
    assert run("run nodes.py:echo --input one.jsonl --output one.jsonl").returncode == 0
    assert (folder / "one.jsonl").read_text() == "41\n"


REFUSED = {
    "run {echo} --output no/out.jsonl": "--output: there is no folder {folder}/no for no/out.jsonl",
    "run {echo} --output data --output-format jsonl": "--output: data is a folder",
    "run {echo} --output new/ --output-format jsonl": "--output: new/ is a folder",
    "run {echo} --output nodes.py --output-format raw": "--output nodes.py is also the node's own",
    "run {echo} --profile no/p.json": "--profile: there is no folder {folder}/no for no/p.json",
    "run {echo} --profile data": "--profile: data is a folder",
    "run {echo} --profile -": "--profile is '-': give the path of a file",
    "run {echo} --output p.json --output-format jsonl --profile p.json": "--profile p.json is also --output",
    "run {echo} --output a.json --output-format jsonl --profile link.json": "--profile link.json is also --output",
    "run {echo} --mount no:/m": "--mount: there is no folder {folder}/no to mount at /m",
    "run {echo} --mount one.jsonl:/m": "is no folder, and cannot be mounted at /m",
    "run {echo} --package no": "no such package: no",
    "run {echo} --package one.jsonl": "package one.jsonl is not a wheel, a zip or a folder",
    "run missing.py": "no such file",
    "check nodes.py:echo --input no.jsonl": "No such file or directory: 'no.jsonl'",
    "check nodes.py:echo --mount no:/m": "--mount: there is no folder",
    "bench --json no/r.json": "--json: there is no folder",
    "bench --csv data": "--csv: data is a folder",
    "bench --html r.html --markdown r.html": "--markdown r.html is also --html",
    "bench --figures one.jsonl": "one.jsonl is no folder",
    "bench nodes.py:echo --input one.jsonl --package no": "no such package: no",
    "bench nodes.py:echo --input no.jsonl": "No such file or directory: 'no.jsonl'",
    "bench --contenders native --wasi-python no/python": "add it to --contenders",
    "bench nodes.py:echo --native --contenders guard,epoch --input one.jsonl": "--native is for the contenders native and pipe",
}


@pytest.mark.parametrize("line", REFUSED)
def test_paths_are_checked_before_the_work_begins(
    folder: Path, line: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """No sandbox is made, no file is opened for writing."""
    from cloche.cli._app import app

    (folder / "data").mkdir()
    (folder / "link.json").symlink_to("a.json")
    before = sorted(folder.rglob("*"))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(cloche.Runtime, "__init__", lambda *_, **__: pytest.fail("the work has begun"))
    with pytest.raises(SystemExit) as ended:
        app(line.format(echo="nodes.py:echo --input one.jsonl").split(), prog_name="cloche")
    found = capfd.readouterr()
    assert ended.value.code == 1
    assert REFUSED[line].format(folder=folder) in found.err
    assert sorted(folder.rglob("*")) == before


@pytest.mark.skipif(os.getuid() == 0, reason="root can write everywhere")
@pytest.mark.parametrize(
    "line", ["run nodes.py:echo --output closed/out.jsonl", "run nodes.py:echo --profile closed/p.json"]
)
def test_a_folder_that_cannot_be_written_is_found_before_the_work(folder: Path, run: Run, line: str) -> None:
    (folder / "closed").mkdir(mode=0o500)
    done = run(f"{line} --input one.jsonl")
    assert done.returncode == 1
    assert "cannot be written: this user cannot put files into" in done.stderr


def test_a_node_s_prints_appear_while_it_works_and_once(folder: Path, run: Run) -> None:
    """In order."""
    (folder / "talks.py").write_text(
        "import logging\ndef talk(x):\n    print('first', x)\n    logging.warning('second', extra={'x': x})\n"
        "    while x == 2: pass\n    return x\n"
    )
    process = begun(folder, "run talks.py:talk --input - --deadline none", items=b"2\n", mark=b"first 2")
    assert process.stderr is not None
    assert b"second" in process.stderr.readline(), "the call still runs"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert b"first" not in errors and b"second" not in errors
    (folder / "two.jsonl").write_text("1\n3\n")
    said = run("run talks.py:talk --input two.jsonl").stderr
    assert [line for line in ("first 1", "first 3") if said.count(line) != 1] == []
    assert said.count("second") == 2
    assert "guest={'x': 3}" in said
