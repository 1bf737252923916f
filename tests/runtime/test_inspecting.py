"""What a process shows of its nodes to ``cloche top``, to whom, and what one that looks believes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import cloche
from cloche._runtime import inspecting
from cloche._runtime.runtime import _is_inspectable
from tests.limits import patient

pytestmark = pytest.mark.isolation("none", reason="one place says how a node is doing, whichever sandbox it has")
SOURCE = cloche.Source(
    "from cloche_guest import services\ndef f(x):\n    return services.wait() if x else x\n", "\x1b[2J" + "n" * 300
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the sockets, for this test alone; and a process that has never shown itself."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "cloche"


@pytest.fixture
def inspector(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    made = inspecting._Inspector()
    monkeypatch.setattr(inspecting, "inspector", made)
    yield made
    made._end()
    if made._listening is not None:
        made._listening.close()


@pytest.fixture
def shown(inspector: Any) -> Iterator[cloche.Runtime]:
    with cloche.Runtime(inspectable=True, limits=patient()) as made:
        yield made


def nodes() -> list[dict[str, Any]]:
    """What this process says of its nodes."""
    answer = inspecting.ask(os.getpid())
    assert answer is not None
    return [node for runtime in answer["runtimes"] for node in runtime["nodes"]]


def test_a_process_shows_its_nodes(shown: cloche.Runtime, place: Path) -> None:
    """Their figures, and where those are that are in a call; closed ones are gone."""
    assert place.stat().st_mode & 0o777 == 0o700
    assert inspecting.processes() == [os.getpid()]
    go_on, inside = threading.Event(), threading.Event()

    def wait() -> int:
        inside.set()
        return go_on.wait(60)

    grants = cloche.Grants(services={"wait": wait})
    with shown.load(SOURCE, grants=grants, name="\x1b[1m" + "x" * 500) as node, ThreadPoolExecutor() as pool:
        for _ in range(9):
            node.process(0)
        (one,) = nodes()
        assert one["calls"] == 10 and 0 < one["p50_s"] <= one["p99_s"]
        assert one["private_bytes"] > 0 and one["memory_bytes"] > one["private_bytes"]
        assert not one["busy"] and one["where"] == []
        assert one["name"].startswith("\\x1b[1mx") and len(one["name"]) == 200
        done = pool.submit(node.process, 1)
        inside.wait(60)
        try:
            (two,) = nodes()
        finally:
            go_on.set()
        assert two["busy"] and two["id"] == one["id"]
        assert two["where"][-1][1:] == [3, "f"] and two["where"][-1][0].startswith("\\x1b[2Jn")
        assert done.result(60) is True
    assert nodes() == []


def test_times_go_on_after_a_break(shown: cloche.Runtime) -> None:
    """They are the node's, not the sandbox's."""
    source = cloche.Source("import os\ndef f(x):\n    if x: os._exit(1)\n")
    with shown.load(source, on_break="restart") as node:
        with pytest.raises(cloche.BrokenInstanceError):
            node.process(1)
        node.process(0)
        (one,) = nodes()
    assert (one["breaks"], one["restarts"]) == (1, 1) and one["p99_s"] > 0


def test_what_is_not_asked_for_is_not_there(runtime: cloche.Runtime, inspector: Any) -> None:
    """Neither a socket, nor a thread, nor a watch that times calls."""
    assert inspecting.processes() == []
    assert inspecting.ask(os.getpid()) is None
    assert type(runtime.load(SOURCE).__cloche__.sandbox).__name__ == "Instance"


@pytest.mark.parametrize(
    ("asked", "variable", "wanted"),
    [(None, None, False), (None, "1", True), (None, "0", False), (False, "1", False), (True, None, True)],
)
def test_who_decides(monkeypatch: pytest.MonkeyPatch, asked: bool | None, variable: str | None, wanted: bool) -> None:
    """The program, or else who starts it."""
    monkeypatch.delenv("CLOCHE_TOP", raising=False)
    if variable is not None:
        monkeypatch.setenv("CLOCHE_TOP", variable)
    assert _is_inspectable(asked) is wanted


@pytest.mark.parametrize("how", ["open to others", "a link", "a file"])
def test_a_folder_that_others_could_use(
    inspector: Any, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Is an error for who has asked for it, and otherwise a warning; nobody looks there."""
    if how == "open to others":
        place.mkdir()
        place.chmod(0o755)
    elif how == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.write_text("")
    with pytest.raises(cloche.ClocheError, match="of yours alone"):
        cloche.Runtime(inspectable=True)
    monkeypatch.setenv("CLOCHE_TOP", "1")
    with pytest.warns(RuntimeWarning, match="cannot show itself to cloche top"), cloche.Runtime():
        pass
    with pytest.raises(cloche.ClocheError, match="of yours alone"):
        inspecting.processes()


def test_strangers_get_nothing(shown: cloche.Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """On either side of the socket."""
    real = os.getuid()
    path = inspecting.folder() / f"top-{os.getpid()}.sock"
    monkeypatch.setattr(inspecting, "_is_trusted", lambda connection: False)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.settimeout(60)
        stranger.connect(str(path))
        assert stranger.recv(1) == b""
    with pytest.raises(cloche.ClocheError, match="is another user's"):
        inspecting.ask(os.getpid())
    monkeypatch.undo()
    first, second = socket.socketpair()
    with first, second:
        assert inspecting._is_trusted(first)
        if sys.platform == "linux" and real:
            monkeypatch.setattr(os, "getuid", lambda: real + 1)
            assert not inspecting._is_trusted(first)


def test_one_that_reads_nothing_stops_nobody(shown: cloche.Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left alone after a while."""
    monkeypatch.setattr(inspecting, "_TIMEOUT_S", 0.05)
    monkeypatch.setattr(inspecting._Inspector, "_answer", lambda self: bytes(8 << 20))
    path = inspecting.folder() / f"top-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as lazy:
        lazy.connect(str(path))
        monkeypatch.setattr(inspecting._Inspector, "_answer", lambda self: b"{}")
        with socket.socket(socket.AF_UNIX) as other:
            other.settimeout(60)
            other.connect(str(path))
            while data := other.recv(1 << 20):
                assert data[:1] in (b"{", b"\x00")
                if data == b"{}":
                    break


GOOD: dict[str, Any] = {
    "version": 1, "pid": 1, "program": "p", "at": 1.0,
    "runtimes": [{"nodes": [{
        "id": 1, "name": "n", "busy": True, "calls": 1, "seconds": 0.5, "p50_s": None, "p99_s": 0.5, "memory_bytes": 1,
        "private_bytes": None, "breaks": 0, "restarts": 0, "where": [["f.py", 1, "f"]],
    }]}],
}  # fmt: skip


def changed(key: str, value: Any) -> dict[str, Any]:
    """A good answer with one thing of its node that makes no sense."""
    return {**GOOD, "runtimes": [{"nodes": [{**GOOD["runtimes"][0]["nodes"][0], key: value}]}]}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "something else"),
        (b"[1]", "something else"),
        (b"[" * 100_000, "something else"),
        (b"\xff\xfe{}", "something else"),
        ({**GOOD, "version": 2}, "another version"),
        ({"version": 1, "error": "\x1b[1mKeyError"}, r"\\x1b\[1mKeyError"),
        ({**GOOD, "at": "now"}, "something else"),
        ({**GOOD, "runtimes": None}, "something else"),
        (changed("name", 1), "something else"),
        (changed("calls", "many"), "something else"),
        (changed("where", [["f.py", "1", "f"]]), "something else"),
        (changed("where", [[]]), "something else"),
        (GOOD, ""),
    ],
)
def test_what_a_process_says_is_checked(place: Path, answer: Any, why: str) -> None:
    """Any program of this user's could have such a socket."""
    place.mkdir(mode=0o700)
    data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    with socket.socket(socket.AF_UNIX) as listening, ThreadPoolExecutor() as pool:
        listening.bind(str(place / "top-77.sock"))
        listening.listen()

        def say() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(data)

        said = pool.submit(say)
        if why:
            with pytest.raises(cloche.ClocheError, match=why):
                inspecting.ask(77)
        else:
            assert inspecting.ask(77) == GOOD
        said.result(60)
    assert inspecting.ask(77) is None  # nobody listens any more
    assert inspecting.ask(78) is None


def test_other_files_in_the_folder(place: Path) -> None:
    """Are no processes."""
    place.mkdir(mode=0o700)
    for one in ("top-.sock", "top-x.sock", "top-5", "top-٣.sock", "top-7.sock"):
        (place / one).write_text("")
    assert inspecting.processes() == [7]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_fork_leaves_the_socket_to_the_parent(place: Path, tmp_path: Path) -> None:
    """The child shows itself if it makes a runtime of its own, and takes nothing of its parent's away."""
    program = """
import os, sys, cloche
from cloche._runtime import inspecting
first = cloche.Runtime(inspectable=True)
node = first.load(cloche.Source("def f(x): return x"))
child = os.fork()
if not child:
    assert inspecting.ask(os.getpid()) is None
    second = cloche.Runtime(inspectable=True)
    assert len(inspecting.processes()) == 2
    assert inspecting.ask(os.getpid())["runtimes"][0]["nodes"] == []
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert inspecting.processes() == [os.getpid()], inspecting.processes()
assert len(inspecting.ask(os.getpid())["runtimes"][0]["nodes"]) == 1
node.close()
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert list(place.iterdir()) == []
