"""``cloche check`` finds what does not work in the sandbox, by reading and by trying, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloche
from cloche.cli import _check
from cloche.cli._app import app
from cloche.cli._input import Form
from cloche.cli._options import NodeOptions
from cloche.cli._report import Report
from cloche.cli._rules import RULES
from cloche.metering import DEFAULT_METERING
from tests.reference import CASES
from tests.reference import NODES as REFERENCE

EXAMPLES = Path(__file__).parents[2] / "examples"
Check = Callable[..., Report]

FORM = Form(shape="array", input_format=None, chunk=4096, dtype="float32", rate=None, channels=1)


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Check a source, or several as a package, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def made(text: str | dict[str, str], entry: str | None = None, **options: Any) -> Report:
        path = "nodes.py"
        if isinstance(text, str):
            Path(path).write_text(text)
        else:
            path = "package"
            for file, content in text.items():
                (tmp_path / path / file).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / path / file).write_text(content)
        return checked(path, entry, **options)

    return made


def checked(
    path: str,
    entry: str | None = None,
    *,
    params: Any = None,
    grants: Any = None,
    deadline_s: float = 10.0,
    source: str | None = None,
) -> Report:
    node = NodeOptions(path=path, entry=entry, params=params or {}, grants=grants or cloche.Grants())
    limits = cloche.Limits(deadline_s=deadline_s)
    return _check.check(node, limits, DEFAULT_METERING, "none", source=source, form=FORM)


def run(line: str) -> int:
    """A command line in this process: its exit code."""
    with pytest.raises(SystemExit) as ended:
        app(line.split(), prog_name="cloche")
    assert isinstance(ended.value.code, int)
    return ended.value.code


def imports(report: Report) -> dict[str, str]:
    """Module -> "works", "needed" or "optional"."""
    return {i.module: "works" if not i.problem else "optional" if i.optional else "needed" for i in report.imports}


def uses(report: Report) -> list[tuple[int, str]]:
    return [(found.line, found.use) for found in report.findings]


# ---- imports


def test_imports_are_found_wherever_they_are(check: Check) -> None:
    report = check(
        "import json, not_here_1\n"
        "class A:\n"
        "    import not_here_2\n"
        "    def process(self, x):\n"
        "        if x:\n"
        "            from not_here_3.deep import name\n"
        "        return [__import__('not_here_4') for _ in x]\n"
        "import importlib\n"
        "def later(): return importlib.import_module('not_here_5')\n"
        "async def last():\n"
        "    async with x: import not_here_6\n"
        "match 1:\n"
        "    case 1:\n"
        "        import not_here_7\n"
    )
    assert imports(report) == {"json": "works", "importlib": "works", "not_here_3.deep": "needed"} | {
        f"not_here_{number}": "needed" for number in (1, 2, 4, 5, 6, 7)
    }
    assert {item.module: item.line for item in report.imports}["not_here_6"] == 11


OPTIONAL = """
from __future__ import annotations
import sys, os, contextlib, importlib.util, platform
from typing import TYPE_CHECKING
import typing as t
if TYPE_CHECKING:
    import not_here_a
if t.TYPE_CHECKING:
    import not_here_b
if not TYPE_CHECKING:
    import json
else:
    import not_here_c
if __name__ == "__main__":
    import not_here_d
if sys.platform == "win32":
    import not_here_e
elif os.name == "nt":
    import not_here_f
if platform.system() == "Windows":
    import not_here_i
if sys.platform.startswith("darwin"):
    import not_here_j
if thing.name == "nt":
    import not_here_10
if sys.version_info < (3, 11):
    import not_here_g
if sys.version_info >= (3, 15):
    import not_here_h
"""
HANDLED = """
try:
    import not_here_1
except ImportError:
    not_here_1 = None
try:
    import not_here_2
except (ModuleNotFoundError, ValueError):
    import not_here_3
try:
    import json as fast
except ImportError:
    import not_here_4 as fast
try:
    import not_here_5
except:
    pass
with contextlib.suppress(ImportError):
    import not_here_6
if importlib.util.find_spec("not_here_7") is not None:
    import not_here_7
try:
    import not_here_8
except ValueError:
    pass
try:
    pass
except ImportError:
    pass
else:
    import not_here_9
def process(x): pass
"""


def test_what_a_source_can_do_without_is_optional(check: Check) -> None:
    """Branches for type checkers, scripts and other platforms never run; a failure that is handled is no failure."""
    found = imports(check(OPTIONAL + HANDLED))
    missing = {module: kind for module, kind in found.items() if kind != "works"}
    assert missing == {
        "not_here_1": "optional",
        "not_here_2": "optional",
        "not_here_3": "needed",
        "not_here_4": "optional",
        "not_here_5": "optional",
        "not_here_6": "optional",
        "not_here_7": "optional",
        "not_here_8": "needed",
        "not_here_9": "needed",
        "not_here_10": "needed",
    }


def test_a_name_that_a_module_does_not_have(check: Check) -> None:
    report = check(
        "from collections import Mapping, OrderedDict\nfrom os import path\nfrom json import decoder\ndef process(x): pass\n"
    )
    (missing,) = [item for item in report.imports if item.problem]
    assert missing.problem is not None
    assert missing.problem.startswith("ImportError: cannot import name 'Mapping' from 'collections'")
    assert missing.remedy == "In Python 3.13 it is not in collections: its place is collections.abc."
    assert report.load is not None


def test_each_module_of_a_package_has_its_verdict(check: Check) -> None:
    """Also one that nothing imports, and whatever the others do."""
    report = check(
        {
            "__init__.py": "from .good import process\n",
            "good.py": "def process(x): return x\n",
            "unused.py": "import torch\n",
            "crash.py": "import os\nos._exit(3)\n",
            "hang.py": "while True: pass\n",
            "rude.py": "import builtins, importlib\nimportlib.import_module = lambda *a: None\nbuiltins.hasattr = None\n",
            "deep/__init__.py": "from ..good import process\nfrom . import lower\n",
            "deep/lower.py": "from .. import missing\n",
            "__main__.py": "raise SystemExit\n",
        },
        "process",
        deadline_s=0.5,
    )
    found = {trouble.module: trouble.problem for trouble in report.modules}
    found |= {item.module: item.problem for item in report.imports if item.problem}
    assert sorted(found) == [
        "package", "package.crash", "package.deep", "package.deep.lower", "package.hang", "package.unused", "torch",
    ]  # fmt: skip
    assert found["package.unused"] == "ModuleNotFoundError: No module named 'torch'"
    assert "ended its own process with code 3" in found["package.crash"]
    assert "(Limits.deadline_s=0.5)" in found["package.hang"]
    assert found["package"] is not None
    assert "cannot import name 'missing' from 'package'" in found["package"]
    assert report.load is None
    assert report.entry is not None


def test_granted_packages_count(check: Check, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "granted.py").write_text("")
    grants = cloche.Grants(packages=[tmp_path / "lib"])
    assert imports(check("import granted\ndef process(x): pass\n", grants=grants)) == {"granted": "works"}


# ---- uses

USES = """
import asyncio, atexit, http.client as hc, io, os, signal, socket, subprocess, sys, threading, time
import concurrent.futures
import numpy as np
from pathlib import Path
from subprocess import run as execute
from threading import Thread
from urllib import request
def process(x):
    Thread(target=print).start()
    threading.Timer(1, print)
    execute(["ls"])
    subprocess.Popen("ls", shell=True)
    os.system("ls")
    os.fork()
    socket.socket()
    request.urlopen("http://localhost")
    hc.HTTPConnection("localhost")
    open("/data/model.bin", "rb")
    open("/data/out.txt", "w")
    Path("/data/out.txt").write_text("x")
    np.load("/data/a.npy")
    input()
    signal.signal(signal.SIGTERM, print)
    os._exit(1)
    time.sleep(60)
    os.environ["TOKEN"]
    np.dtype(np.longdouble)
    threading.Thread(target=print, daemon=True).start()
    atexit.register(print)
    asyncio.open_connection("localhost", 80)
class Worker(threading.Thread):
    pass
"""
FOUND = [
    (10, "threading.Thread"), (11, "threading.Timer"), (12, "subprocess.run"), (13, "subprocess.Popen"), (14, "os.system"),
    (15, "os.fork"), (16, "socket.socket"), (17, "urllib.request.urlopen"), (18, "http.client.HTTPConnection"), (19, "open"),
    (20, "open for writing"), (21, "Path(...).write_text"), (22, "numpy.load"), (23, "input"), (24, "signal.signal"), (25, "os._exit"),
    (26, "time.sleep"), (27, "os.environ[...]"), (28, "numpy.longdouble"), (29, "threading.Thread"), (30, "atexit.register"),
    (31, "asyncio.open_connection"), (32, "threading.Thread"),
]  # fmt: skip


def test_uses_are_found_with_line_and_remedy(check: Check) -> None:
    report = check(USES)
    assert uses(report) == FOUND
    assert all(found.problem and found.remedy and found.file == "nodes.py" for found in report.findings)
    assert not report.fails(strict=False)
    assert report.fails(strict=True)


def test_what_is_granted_is_no_finding(check: Check, tmp_path: Path) -> None:
    """The attempts have the node's grants, and write nothing on the host."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "model.bin").touch()
    text = (
        "import os, tempfile\nfrom pathlib import Path\n"
        "def process(x):\n"
        "    open('/data/model.bin')\n    open('/data/out.txt', 'w')\n    Path('/data/other').write_text('')\n"
        "    os.environ['TOKEN']\n    tempfile.TemporaryFile()\n    open('/tmp/x', 'w')\n    os.listdir('/data')\n"
    )
    grants = cloche.Grants(
        mounts={"/data": cloche.Mount(data, writable=True)}, env={"TOKEN": ""}, scratch_bytes=1 << 20
    )
    assert uses(check(text, grants=grants)) == []
    assert [path.name for path in data.iterdir()] == ["model.bin"]
    read_only = cloche.Grants(mounts={"/data": data})
    assert (5, "open for writing") in uses(check(text, grants=read_only))


HARMLESS = """
import io, os, signal, socket, subprocess, sys, threading, time, contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
def connect(socket):
    return socket.socket()
def read(open):
    return open("model.bin")
class Popen: pass
def handled():
    try:
        subprocess.run(["ls"])
        open("model.bin")
        threading.Thread(target=print).start()
    except (OSError, RuntimeError):
        pass
    with contextlib.suppress(OSError):
        open("model.bin")
    try:
        os.fork()
    except Exception:
        pass
def process(x, path="model.bin"):
    lock = threading.Lock()
    with ThreadPoolExecutor(2) as pool:
        pool.submit(print)
    time.sleep(0.1)
    time.sleep(x)
    os.environ["NEW"] = "1"
    os.environ.get("TOKEN")
    os.getenv("TOKEN")
    open(path)
    io.BytesIO(b"").read()
    Path(path).read_text()
    Path("a").with_suffix(".b")
    with np.errstate(divide="ignore"):
        np.float64(1) / 1
    return x.open("model.bin"), x.run(["ls"]), Popen()
if __name__ == "__main__":
    subprocess.run(["ls"])
    input()
if sys.platform == "win32":
    os.system("cls")
"""


def test_what_works_or_is_handled_is_no_finding(check: Check) -> None:
    assert uses(check(HARMLESS)) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.entry)
def test_no_false_alarm_on_the_reference_nodes(case: Any) -> None:
    report = checked(str(REFERENCE), case.entry, params=case.params)
    assert (uses(report), report.modules, report.unread, report.load) == ([], [], [], None)
    assert set(imports(report).values()) == {"works"}


@pytest.mark.parametrize(
    ("path", "grants"),
    [
        ("audio/denoise.py", cloche.Grants()),
        ("nodes/basket.py", cloche.Grants()),
        ("files/nearest.py", cloche.Grants(scratch_bytes=1 << 20)),
    ],
)
def test_no_false_alarm_on_the_examples(path: str, grants: cloche.Grants) -> None:
    report = checked(str(EXAMPLES / path), grants=grants)
    assert (uses(report), report.modules, report.unread) == ([], [], [])
    assert set(imports(report).values()) == {"works"}


@pytest.mark.parametrize("name", RULES)
def test_the_lines_of_a_rule_say_nothing_of_themselves(runtime: cloche.Runtime, name: str) -> None:
    """Lines with a mistake in them would raise a NameError or SyntaxError, and pass for a finding."""
    lines = RULES[name].lines
    with runtime.load(Path(_check.__file__).with_name("_imports.py"), "attempt") as node:
        try:
            answer = node.process("NAME = PATH = 'x'\n" + lines, "", [])
        except cloche.ClocheError:  # it was stopped: no mistake
            return
    assert answer is None or answer["kinds"][0] not in (
        "NameError",
        "SyntaxError",
        "IndentationError",
        "UnboundLocalError",
    ), answer


# ---- hostile sources


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = " + "(" * 5000 + ")" * 5000, ""),
        ("x = " + "-" * 100_000 + "1", ""),
        ("x = " + "+".join(["1"] * 100_000), ""),
        ("x = " + "a." * 100_000 + "b", ""),
        ("\n".join("    " * depth + "if x:" for depth in range(99)) + "\n" + "    " * 99 + "pass", None),
        ("x = '\0'", ""),
        ("# " + "x" * (2 << 20) + "\n", None),
        ("import " + ", ".join(f"m{n}" for n in range(3000)), None),
    ],
    ids=["brackets", "signs", "sum", "attributes", "blocks", "null", "long", "many"],
)  # fmt: skip
def test_a_hostile_source_hurts_nobody(check: Check, text: str, problem: str | None) -> None:
    """It is read in a sandbox. What cannot be read is said; the rest of the package is checked."""
    report = check({"__init__.py": "import json\ndef process(x): return x\n", "hostile.py": text + "\n"})
    assert report.entry is not None
    assert imports(report)["json"] == "works"
    assert [unread.file for unread in report.unread] == ([] if problem is None else ["package/hostile.py"])


def test_more_attempts_than_can_be_made_are_said(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    """An import that was not tried is not said to work."""
    report = check("def process(x): pass\ndef f():\n" + "".join(f" import m{n}\n" for n in range(1200)))
    assert report.skipped == 200
    assert len(report.imports) == 1200
    tried = [item.tried for item in report.imports]
    assert tried == [True] * 1000 + [False] * 200
    assert all(bool(item.problem) is item.tried for item in report.imports)
    capsys.readouterr()
    report.show()
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["imports:", "none"]
    [row] = [line for line in shown if line.startswith("not tried:")]
    assert row == f"not tried:      {', '.join(f'm{n}' for n in range(1000, 1020))}, 180 more"


@pytest.mark.parametrize(
    "cookie", ["idna", "punycode", "rot13", "utf-7", "unicode_escape", "hex", "nonsense", "utf-16"]
)
def test_an_encoding_that_is_none_for_sources_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cookie: str
) -> None:
    """Some of them take quadratic time."""
    monkeypatch.chdir(tmp_path)
    Path("nodes.py").write_text(f"# coding: {cookie}\ndef process(x): return x\n")
    assert run("check nodes.py") == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_bytes_that_do_not_fit_their_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nodes.py").write_bytes(b"# coding: ascii\nx = '\xff'\n")
    assert run("check nodes.py") == 1
    assert "error: nodes.py is not in the encoding that it declares" in capsys.readouterr().err


# ---- the command


def test_json_is_one_object_with_these_fields(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    check("import threading, torch\ndef process(x):\n    threading.Thread(target=print).start()\n")
    assert run("check nodes.py --json") == 1
    report = json.loads(capsys.readouterr().out)
    assert list(report) == [
        "version",
        "ok",
        "node",
        "imports",
        "modules",
        "findings",
        "unread",
        "skipped",
        "load",
        "entry",
        "call",
        "nodes",
    ]
    assert (report["version"], report["ok"], report["node"], report["entry"], report["call"]) == (
        1,
        False,
        "nodes.py",
        None,
        None,
    )
    assert report["imports"][1] | {"remedy": ""} == {
        "module": "torch", "file": "nodes.py", "line": 1, "optional": False, "tried": True,
        "problem": "ModuleNotFoundError: No module named 'torch'", "remedy": "",
    }  # fmt: skip
    assert set(report["findings"][0]) == {"kind", "file", "line", "use", "problem", "remedy"}
    assert set(report["load"]) == {"module", "file", "problem", "remedy", "traceback"}


def test_the_exit_code(check: Check, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0: it works, whatever else was found, unless --strict is given. 1: it does not work. 2: wrong options."""
    check(
        "import os\ndef process(x):\n    if x == 'fork': os.fork()\n    if x == 'bad': raise ValueError('no')\n    return x\n"
    )
    (tmp_path / "good.jsonl").write_text('1\n"two"\n')
    (tmp_path / "bad.jsonl").write_text('1\n"bad"\n3\n')
    assert run("check nodes.py") == 0
    assert run("check nodes.py --strict") == 1
    assert run("check nodes.py --input good.jsonl") == 0
    assert "called:         2 items in, 2 out" in capsys.readouterr().out
    assert run("check nodes.py --input bad.jsonl") == 1
    assert "called:         2 items in, 1 out: ValueError: no" in capsys.readouterr().out
    assert run("check nodes.py --as dict") == 2
    assert run("check nowhere.py") == 1
