"""The standard library in the image: every module and name that CPython has natively, what works without a system, and clear refusals."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import cloche
from tests import native_names
from tests.guest.test_library import SYSTEM_CHECKS
from tests.limits import patient
from tests.reference import SYSTEM_NODE
from tests.runtime.test_mounts import EXEC

pytestmark = pytest.mark.isolation("none", reason="a worker has the same image")

NATIVE = Path(native_names.__file__).with_suffix(".txt")

MISSING_MODULES = {
    "ensurepip": "pip cannot install anything; Grants(packages=...) gives packages",
    "ensurepip.*": "as ensurepip",
    "pydoc_data": "the texts of help('keyword'): half a megabyte of no use to a node",
    "pydoc_data.*": "as pydoc_data",
}
"""Public modules that the image does not have, with the reason; docs/reference/standard-library.md has them as well."""

MISSING_NAMES = {
    "hashlib": {
        "scrypt": "OpenSSL's; in Python it would take minutes. Tests for it (hasattr) find that it is absent, as natively without it"
    },
    "asyncio.events": {"on_fork": "as os.register_at_fork"},
    "ctypes": {"pythonapi": "libraries ask for it before they call the interpreter's C functions"},
    "os": {
        "register_at_fork": "without fork, nothing would be called; what finds it expects locks that can be reset",
        "fwalk": "needs folders to be listed by descriptor, which WASI has not",
    },
    "posix": {"register_at_fork": "as os.register_at_fork"},
}
"""Names that a module has natively and not in the image, with the reason."""

NAMES = """
import importlib, types, warnings
warnings.simplefilter("ignore")
def names(module):
    return dir(importlib.import_module(module))
"""


def natively() -> dict[str, list[str]]:
    """Module -> names, as recorded."""
    rows = (line.partition(":") for line in NATIVE.read_text().splitlines())
    return {name: names.split() for name, _, names in rows}


@pytest.fixture(scope="module")
def names(runtime):
    """One node for all modules."""
    with runtime.load(cloche.Source(NAMES, "names.py"), "names") as node:
        yield node


@pytest.mark.parametrize("module", natively())
def test_every_module_has_its_names(names, module):
    """All public modules can be imported, and have all of their public names."""
    top = module.partition(".")[0]
    reasons = MISSING_MODULES.get(module) or MISSING_MODULES.get(f"{top}.*")
    if reasons:
        with pytest.raises(cloche.NodeRaisedError, match=f"No module named .{top}"):
            names.process(module)
        return
    lacking = set(natively()[module]) - set(names.process(module))
    assert lacking == set(MISSING_NAMES.get(module, {}))


@pytest.mark.skipif(
    sys.version_info[:3] != (3, 13, 0) or sys.platform != "linux",
    reason="the names are those of CPython 3.13.0 on Linux",
)
def test_the_recorded_names_are_those_of_cpython():
    """`tests/native_names.txt` is what `tests/native_names.py` writes."""
    found = native_names.modules()
    recorded = natively()
    assert found.keys() == recorded.keys()
    assert {name: found[name] for name in found if found[name] != recorded[name]} == {}


@pytest.fixture(scope="module")
def checks(runtime):
    """One node for all."""
    with runtime.load(SYSTEM_NODE, "Checks", limits=patient(deadline_s=60)) as node:
        yield node


@pytest.mark.parametrize("check", SYSTEM_CHECKS)
def test_what_needs_no_system_is_as_natively(checks, check):
    """The same checks pass natively: tests/guest/test_library.py."""
    assert checks.process(check) == check


NO_NETWORK, NO_PROCESSES, NO_TERMINAL = "no network|no sockets", "no processes", "no terminal"
REFUSED = {
    "socket": ("import socket; socket.socket()", "OSError", NO_NETWORK),
    "create_connection": ("import socket; socket.create_connection(('example.com', 80))", "gaierror", NO_NETWORK),
    "urlopen": ("import urllib.request; urllib.request.urlopen('https://example.com')", "URLError", NO_NETWORK),
    "http.client": ("import http.client; http.client.HTTPSConnection('127.0.0.1').request('GET', '/')", "OSError", NO_NETWORK),
    "http.server": ("import http.server; http.server.HTTPServer(('127.0.0.1', 0), None)", "OSError", NO_NETWORK),
    "smtplib": ("import smtplib; smtplib.SMTP('127.0.0.1')", "OSError", NO_NETWORK),
    "wrap_socket": ("import ssl; c = ssl.create_default_context(); c.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname='x')", "SSLError", NO_NETWORK),
    "fork": ("import os; os.fork()", "OSError", NO_PROCESSES),
    "system": ("import os; os.system('ls')", "OSError", NO_PROCESSES),
    "execv": ("import os; os.execv('/bin/ls', ['ls'])", "OSError", NO_PROCESSES),
    "spawn": ("import os; os.spawnl(os.P_WAIT, '/bin/ls', 'ls')", "OSError", NO_PROCESSES),
    "pipe": ("import os; os.pipe()", "OSError", NO_PROCESSES),
    "subprocess": ("import subprocess; subprocess.run(['ls'])", "OSError", "process"),
    "asyncio.subprocess": ("import asyncio; asyncio.run(asyncio.create_subprocess_exec('ls'))", "OSError", "process"),
    "Process": ("import multiprocessing as m; m.Process(target=print).start()", "OSError", NO_PROCESSES),
    "Pool": ("import multiprocessing as m; m.Pool(1)", "OSError", NO_PROCESSES),
    "Queue": ("import multiprocessing as m; m.Queue()", "OSError", NO_PROCESSES),
    "Manager": ("import multiprocessing as m; m.Manager()", "OSError", NO_PROCESSES),
    "ProcessPoolExecutor": ("from concurrent.futures import ProcessPoolExecutor as P\nwith P(1) as p: p.submit(abs, 1).result()", "OSError", NO_PROCESSES),
    "shared_memory": ("from multiprocessing.shared_memory import SharedMemory; SharedMemory(create=True, size=10)", "OSError", NO_PROCESSES),
    "a held lock": ("import multiprocessing as m; l = m.Lock(); l.acquire(); l.acquire()", "OSError", NO_PROCESSES),
    "thread": ("import threading; threading.Thread(target=print).start()", "RuntimeError", "no threads"),
    "alarm": ("import signal; signal.alarm(1)", "OSError", "deadline"),
    "setitimer": ("import signal; signal.setitimer(signal.ITIMER_REAL, 1)", "OSError", "deadline"),
    "curses": ("import curses; curses.initscr()", "error", NO_TERMINAL),
    "curses.wrapper": ("import curses; curses.wrapper(print)", "error", NO_TERMINAL),
    "termios": ("import termios; termios.tcgetattr(0)", "error", NO_TERMINAL),
    "openpty": ("import pty; pty.openpty()", "OSError", "pty"),
    "CDLL": ("import ctypes; ctypes.CDLL('libc.so.6')", "OSError", "shared library"),
    "LoadLibrary": ("import ctypes; ctypes.cdll.LoadLibrary('x')", "OSError", "shared library"),
    "CDLL(None)": ("import ctypes; ctypes.CDLL(None).printf", "AttributeError", "no C functions"),
    "pythonapi": ("import ctypes; ctypes.pythonapi.PyThreadState_SetAsyncExc", "AttributeError", "no C functions"),
    "setuid": ("import os; os.setuid(0)", "PermissionError", "user .node."),
    "setrlimit": ("import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1))", "PermissionError", "Limits"),
    "lock of a mount": ("import fcntl; fcntl.flock(open('/data/f'), fcntl.LOCK_EX)", "OSError", "host"),
    "load_extension": ("import sqlite3; sqlite3.connect(':memory:').enable_load_extension(True)", "AttributeError", "enable_load_extension"),
    "tkinter": ("import tkinter", "ModuleNotFoundError", "tkinter"),
}  # fmt: skip


@pytest.fixture(scope="module")
def node(runtime, tmp_path_factory):
    """A node that executes what it is given, with a mount."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "f").write_text("x")
    with runtime.load(cloche.Source(EXEC), "f", grants=cloche.Grants(mounts={"/data": folder})) as loaded:
        yield loaded


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_a_system_is_refused_when_it_is_used(node, name):
    """Importing is no error; using is one, of the kind that programs catch, and it says what is not there."""
    code, kind, text = REFUSED[name]
    with pytest.raises(cloche.NodeRaisedError, match=text) as caught:
        node.process(code)
    assert caught.value.exc_type.rpartition(".")[2] == kind


@pytest.mark.parametrize("kind", ["read-only", "writable"])
def test_a_database_in_a_mount(load, tmp_path, kind):
    """SQLite's files are ordinary files: what the node writes, the host's sqlite3 reads, and the reverse."""
    import sqlite3

    with sqlite3.connect(tmp_path / "base.db") as base:
        base.execute("create table t (a)")
        base.execute("insert into t values (1), (2)")
    base.close()
    node = load(EXEC, "f", grants=cloche.Grants(mounts={"/d": cloche.Mount(tmp_path, writable=kind == "writable")}))
    read = "import sqlite3\nb = sqlite3.connect('/d/base.db'); r = b.execute('select sum(a) from t').fetchone()[0]; b.close()"
    assert node.process(read) == 3
    write = (
        "import sqlite3\nb = sqlite3.connect('/d/base.db')\nwith b: b.execute('insert into t values (10)')\nb.close()"
    )
    if kind == "read-only":
        with pytest.raises(cloche.NodeRaisedError, match="readonly database|read-only"):
            node.process(write)
        return
    node.process(write)
    base = sqlite3.connect(tmp_path / "base.db")
    assert base.execute("select sum(a) from t").fetchone() == (13,)
    assert base.execute("pragma integrity_check").fetchone() == ("ok",)
    base.close()
    assert [path.name for path in tmp_path.iterdir()] == ["base.db"]


ENDLESS = "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c"


def test_a_deadline_ends_a_query_without_end(load):
    """SQLite asks now and then whether to go on. The node stays usable, and its database as well."""
    node = load(EXEC, "f", limits=cloche.Limits(deadline_s=0.5, grace_s=30))
    node.process("import sqlite3, __main__ as m; m.b = sqlite3.connect(':memory:'); m.b.execute('create table t (a)')")
    with pytest.raises(cloche.DeadlineError) as caught:
        node.process(f"import __main__ as m; m.b.execute({ENDLESS!r}).fetchone()")
    assert not isinstance(caught.value, cloche.HardDeadlineError)
    assert node.process("import __main__ as m; r = m.b.execute('select count(*) from t').fetchone()[0]") == 0


def test_a_query_that_heeds_nothing_is_stopped(load):
    """With a progress handler of the node's own, the hard stop ends the query, and the host goes on."""
    node = load(EXEC, "f", limits=cloche.Limits(deadline_s=0.5, grace_s=0.2))
    with pytest.raises(cloche.HardDeadlineError):
        node.process(
            f"import sqlite3; b = sqlite3.connect(':memory:'); b.set_progress_handler(None, 0); b.execute({ENDLESS!r}).fetchone()"
        )
    assert node.broken


def test_a_database_is_bounded_by_the_memory(load):
    """An in-memory database that grows for ever ends in an error of the node, and the sandbox lives on or ends; the host lives."""
    node = load(EXEC, "f", limits=patient(memory_bytes=80 << 20))
    grow = "import sqlite3\nb = sqlite3.connect(':memory:'); b.execute('create table t (a)')\nwhile True: b.execute('insert into t values (zeroblob(1000000))')"
    with pytest.raises((cloche.NodeRaisedError, cloche.BrokenInstanceError)):
        node.process(grow)
    full = "import sqlite3\nb = sqlite3.connect('/tmp/x.db'); b.execute('create table t (a)')\nwhile True: b.execute('insert into t values (zeroblob(1000000))'); b.commit()"
    with load(EXEC, "f") as other, pytest.raises(cloche.NodeRaisedError, match="full|disk I/O"):
        other.process(full)


def test_scratch_by_default(load):
    """Without a grant, there is a small /tmp and a home, which are one file system with one quota, and are the node's own."""
    node = load(EXEC, "f")
    code = """
import os, pathlib, tempfile, errno
cache = pathlib.Path.home() / ".cache" / "x"
cache.mkdir(parents=True)
(cache / "f").write_text("kept")
os.rename(cache / "f", "/tmp/f")
r = [str(pathlib.Path.home()), tempfile.gettempdir(), open("/tmp/f").read(), os.listdir("/home"), os.listdir(cache)]
for path in ("/tmp", "/home", "/home/node"):
    try: os.rmdir(path)
    except OSError as e: r.append(e.errno in (errno.EBUSY, errno.ENOTEMPTY))
try: open("/tmp/big", "wb", 0).write(bytes(9 << 20)); r.append(os.path.getsize("/tmp/big") <= 8 << 20)
except OSError as e: r.append(e.errno == errno.ENOSPC)
"""
    assert node.process(code) == ["/home/node", "/tmp", "kept", ["node"], [], True, True, True, True]
    with node.clone() as twin:
        assert twin.process("open('/tmp/g', 'w').close(); r = open('/tmp/f').read()") == "kept"
        assert node.process("import os; r = os.path.exists('/tmp/g')") is False


def test_a_mount_takes_the_place_of_scratch(load, tmp_path):
    """What is mounted at /tmp or at the home is what the node finds there."""
    (tmp_path / "f").write_text("mounted")
    for point in ("/tmp", "/tmp/deep", "/home/node", "/home", "/home/node/deep"):
        node = load(EXEC, "f", grants=cloche.Grants(mounts={point: tmp_path}))
        assert node.process(f"r = open('{point}/f').read()") == "mounted"
        with pytest.raises(cloche.NodeRaisedError):
            node.process(f"open('{point}/g', 'w')")


def test_syslog_becomes_log_records(load, logs):
    """The system's log is the node's log."""
    node = load(EXEC, "f")
    logs.take()
    node.process("import syslog; syslog.openlog('prog'); syslog.syslog(syslog.LOG_ERR, 'bad'); syslog.syslog('fine')")
    assert [event[:2] for event in logs.take()] == [("error", "prog: bad"), ("info", "prog: fine")]


def test_devices_of_output_become_log_records(load, logs):
    """What is written to /dev/stdout goes where stdout goes, and counts as output."""
    node = load(EXEC, "f")
    logs.take()
    node.process("f = open('/dev/stderr', 'w'); f.write('said'); f.close(); assert open('/dev/stdin').read() == ''")
    assert [event[1] for event in logs.take()] == ["said"]
    small = load(EXEC, "f", limits=patient(output_bytes=1000))
    with pytest.raises(cloche.LimitError):
        small.process("open('/dev/stdout', 'wb', 0).write(bytes(2000))")


def test_maps_and_their_files_do_not_disturb_each_other(load, tmp_path):
    """Pages that a map has not changed are not written back over what came into the file meanwhile."""
    (tmp_path / "f").write_bytes(bytes(3 * 4096))
    node = load(EXEC, "f", grants=cloche.Grants(mounts={"/d": cloche.Mount(tmp_path, writable=True)}))
    node.process("""
import mmap, os
fd = os.open("/d/f", os.O_RDWR)
area = mmap.mmap(fd, 0)
os.pwrite(fd, b"file", 8192)
area[0:3] = b"map"
area.close()
""")
    body = (tmp_path / "f").read_bytes()
    assert (body[:3], body[8192:8196], len(body)) == (b"map", b"file", 3 * 4096)
    node.process("import numpy as np; a = np.memmap('/d/f', 'u1', 'r+', shape=(10,)); a[5] = 7; a.flush()")
    assert (tmp_path / "f").read_bytes()[5] == 7
