"""Which lines of nodes have run in their sandboxes, as coverage.py shows it."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import cloche
from cloche.testing import coverage
from tests.limits import patient

NODE = """\
import json

class Work:
    \"\"\"A node.\"\"\"

    def __init__(self, first=1):
        self.first = first

    def process(self, data):
        if data == "other":
            return self.other(
                data,
                1,
            )
        match data:
            case "spin":
                while True:
                    pass
            case "yield":
                return (n for n in range(3))
            case "end":
                import os
                os._exit(1)
        return json.dumps(data)

    def other(self, *args):
        try:
            return [
                self.missing for _ in args
            ]
        except AttributeError:
            return None

    def cleanup(self):
        self.first = 2


if __name__ == "__main__":
    print(1)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "work.py"
    path.write_text(NODE)
    return path


def numbers(text: str, *starts: str) -> set[int]:
    """Numbers of the lines that begin like this."""
    found = {number for number, line in enumerate(text.splitlines(), 1) if line.strip().startswith(starts)}
    assert len(found) >= len(starts)
    return found


def test_lines_of_a_node_are_noted_from_its_import_on(runtime: cloche.Runtime, file: Path) -> None:
    """After the end of the block, no more."""
    with coverage(runtime, data_file=None) as covered:
        node = runtime.load(file)
        lines = covered.lines[str(file)]
        assert lines >= numbers(NODE, "import json", "class", "def", "self.first = first", "if __name__")
        assert not lines & numbers(NODE, "if data", "print", "self.first = 2")
        node.process(1)
        assert covered.lines[str(file)] - lines == numbers(NODE, "if data", "match", "case", "return json")
        with pytest.raises(cloche.ClocheError, match="are being followed already"), coverage(runtime, data_file=None):
            pass
    seen = covered.lines
    node.process("yield")
    assert node.__cloche__.sandbox.observer is None  # type: ignore[attr-defined]
    with cloche.profile(node):  # it could be observed again
        node.process(1)
    node.close()
    assert covered.lines == seen and covered.problems == ()


def test_nodes_that_are_closed_interrupted_broken_and_cloned(runtime: cloche.Runtime, file: Path) -> None:
    """All that ran in a call that the guest survived."""
    with coverage(runtime, data_file=None) as covered:

        def ran(*starts: str) -> bool:
            return numbers(NODE, *starts) <= covered.lines[str(file)]

        with runtime.load(file, limits=patient(deadline_s=0.05, grace_s=60)) as node:
            with pytest.raises(cloche.DeadlineError):
                node.process("spin")
            assert ran("while", "pass")
        assert ran("self.first = 2")
        with runtime.load(file, on_break="restart") as node:
            with pytest.raises(cloche.BrokenInstanceError):
                node.process("end")
            assert not ran("return (n")
            assert node.process("yield") == [0, 1, 2]
            assert ran("return (n")
        with runtime.load(file) as node, node.clone() as clone:
            assert clone.process("other") is None
            assert ran("return self.other", "return None")
        with runtime.pool(file, size=1) as pool:
            assert list(pool.map(["other"])) == [None]
    assert covered.problems == ()


def test_a_package_and_text(runtime: cloche.Runtime, tmp_path: Path) -> None:
    """Files that were never imported are there, too. A text counts if it is that of a file."""
    folder = tmp_path / "pkg"
    folder.mkdir()
    (folder / "__init__.py").write_text("from .one import f\n")
    (folder / "one.py").write_text("def f(x):\n    return x\n")
    (folder / "two.py").write_text("y = 1\n")
    with coverage(runtime, data_file=None) as covered:
        with runtime.load(folder, "f") as node:
            node.process(1)
        with runtime.load(cloche.Source("def g(x): return x\n", str(folder / "two.py"))) as node:
            node.process(1)
        with runtime.load(cloche.Source("y = 1\ndef f(x): return x", "node.py")) as node:
            node.process(1)
    assert {Path(path).name: sorted(lines) for path, lines in covered.lines.items()} == {
        "__init__.py": [1], "one.py": [1, 2], "two.py": []
    }  # fmt: skip


HOSTILE = """
import sys
class Liar:
    def process(self, data):
        import cloche_guest.coverage as mine
        mine.Coverage.take = lambda self: {answer}
        return 1
class Deaf:
    def process(self, data):
        for tool in range(6):
            if sys.monitoring.get_tool(tool):
                sys.monitoring.set_events(tool, 0)
                sys.monitoring.free_tool_id(tool)
        return self.later()
    def later(self):
        return 2
"""


@pytest.mark.parametrize(
    "answer",
    [
        struct.pack("<2I", 1, 1),
        struct.pack("<2I", 0, 0),
        struct.pack("<2I", 0, 10**6),
        struct.pack("<2I", 2**32 - 1, 2**32 - 1),
        b"odd",
        "text",
        None,
        [1],
        {"x": 1},
        bytes(64),
    ],
    ids=repr,
)
def test_a_guest_names_no_other_lines(runtime: cloche.Runtime, tmp_path: Path, answer: object) -> None:
    """What it says wrong ends its coverage, and costs no call."""
    file = tmp_path / "liar.py"
    file.write_text(HOSTILE.replace("{answer}", repr(answer)))
    with coverage(runtime, data_file=None) as covered, runtime.load(file, "Liar") as node:
        before = covered.lines
        with pytest.warns(RuntimeWarning, match="lines of node 'Liar' may be missing"):
            assert node.process(1) == 1
        assert node.process(1) == 1
        assert covered.lines == before
    assert len(covered.problems) == 1
    assert list(covered.lines) == [str(file)]


def test_a_node_that_takes_the_tool_away(runtime: cloche.Runtime, tmp_path: Path) -> None:
    """It can hide its lines, as it can run none."""
    file = tmp_path / "deaf.py"
    file.write_text(HOSTILE.replace("{answer}", "b''"))
    with coverage(runtime, data_file=None) as covered, runtime.load(file, "Deaf") as node:
        assert node.process(1) == 2
    assert covered.lines[str(file)]


def test_a_node_in_a_worker_process(runtimes: Callable[[str], cloche.Runtime]) -> None:
    """Its host cannot observe its calls."""
    with pytest.raises(cloche.ClocheError, match="isolation='none'"), coverage(runtimes("process"), data_file=None):
        pass


def test_without_coverage_py(runtime: cloche.Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything has run."""
    monkeypatch.setitem(sys.modules, "coverage", None)
    with pytest.raises(cloche.ClocheError, match="pip install coverage"), coverage(runtime):
        pass


def executed(data_file: Path) -> tuple[set[int], set[int]]:
    """The lines of the one file in the data that have run, and those that have not, as coverage.py reports them."""
    tool = pytest.importorskip("coverage")
    report = data_file.with_suffix(".json")
    measured = tool.Coverage(data_file=str(data_file))
    measured.load()
    measured.json_report(outfile=str(report))
    (one,) = json.loads(report.read_text())["files"].values()
    return set(one["executed_lines"]), set(one["missing_lines"])


def test_the_report_is_that_of_a_native_run(
    runtime: cloche.Runtime, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same calls; and it is added to what is there."""
    pytest.importorskip("coverage")
    calls = ("process", 1), ("process", "other"), ("process", "yield"), ("cleanup",)
    monkeypatch.chdir(tmp_path)
    driver = f"import work\nnode = work.Work()\nfor name, *data in {calls!r}: list(getattr(node, name)(*data) or ())\n"
    (tmp_path / "driver.py").write_text(driver)
    command = [sys.executable, "-m", "coverage", "run", "--data-file=native", "--include=work.py", "driver.py"]
    subprocess.run(command, check=True)
    with coverage(runtime, "sandboxed"), runtime.load(file) as node:
        for _, *data in calls[:3]:
            node.process(*data)
    assert executed(tmp_path / "sandboxed") == executed(tmp_path / "native")
    missing = executed(tmp_path / "native")[1]
    brief = patient(deadline_s=0.05, grace_s=60)
    with coverage(runtime, "sandboxed"), runtime.load(file, limits=brief) as node, pytest.raises(cloche.DeadlineError):
        node.process("spin")
    assert missing - executed(tmp_path / "sandboxed")[1] == numbers(NODE, "while", "pass")


def test_a_file_that_is_none(runtime: cloche.Runtime, file: Path, tmp_path: Path) -> None:
    """The error says what to do."""
    pytest.importorskip("coverage")
    (tmp_path / "data").write_text("not a database" * 100)
    with pytest.raises(cloche.ClocheError, match="give another data_file"), coverage(runtime, tmp_path / "data"):
        runtime.load(file).close()
