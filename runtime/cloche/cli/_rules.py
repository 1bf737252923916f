"""What ``cloche check`` looks for in a source beside imports: uses of functions that may do something else in the sandbox.

A rule is no claim. Its lines are run in a sandbox like the node's, and there is a finding only if they raise. So a rule never says
of a function that it fails where it works: the image, the grants and the limits decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cloche.limits import Limits

__all__ = ["RULES", "Rule", "is_opened", "lines_for"]

_HOST: Final = (
    "Do that part on the host: pass its result to process(), or offer a function of yours with Grants(services=...)."
)
_FETCH: Final = (
    "Let the host fetch, and pass the data to process(), or offer a function of yours with Grants(services=...)."
)
_MOUNT: Final = "Grant the folder: Grants(mounts={...}), --mount on the command line."
_WRITE: Final = (
    "Grant a folder with Mount(path, writable=True), --mount HOST:GUEST:rw; or write below /tmp, which is the node's own "
    "(Grants(scratch_bytes=...), --scratch)."
)
_SLEEP: Final = Limits().deadline_s or 0.0


@dataclass(frozen=True, slots=True)
class Rule:
    """A function or class, and what tells how it behaves in the sandbox.

    Attributes:
        kind: what the finding is about, for programs that read it.
        lines: raise what a call would raise, or an exception that says what is different.
        remedy: what to do.
    """

    kind: str
    lines: str
    remedy: str


def _rules(kind: str, remedy: str, table: Mapping[str, str]) -> dict[str, Rule]:
    """Rules of one kind: names, separated by spaces -> lines. In the lines ``{}`` stands for the name, whose module is imported."""
    found = {}
    for names, lines in table.items():
        for name in names.split():
            module = "pathlib" if name.startswith("pathlib.") else name.rpartition(".")[0]
            found[name] = Rule(kind, f"import {module}\n{lines.replace('{}', name)}", remedy)
    return found


_RAISES_NOTHING: Final = """
old = numpy.seterr(all="raise")
try:
    numpy.float64(1) / numpy.float64(0)
except FloatingPointError:
    pass
else:
    raise AssertionError("numpy notices no division by zero and no overflow here")
finally:
    numpy.seterr(**old)
"""
_DAEMON: Final = """
import threading
ran = []
threading.Thread(target=ran.append, args=(1,), daemon=True).start()
if not ran:
    raise AssertionError("a daemon thread is skipped: its function never runs")
"""
_DIFFERS: Final = "raise AssertionError({!r})"
RULES: Final[dict[str, Rule]] = {
    **_rules("thread", "Call the function directly, or use concurrent.futures.ThreadPoolExecutor, which calls it at once.", {
        "threading.Thread": "{}(target=int).start()",
        "threading.Timer": "{}(0, int).start()",
        "_thread.start_new_thread": "{}(int, ())",
    }),
    **_rules("process", _HOST, {
        "subprocess.run subprocess.Popen subprocess.call subprocess.check_call subprocess.check_output": "{}(['true'])",
        "subprocess.getoutput subprocess.getstatusoutput os.popen": "{}('true')",
        "os.system": "if {}('true'): raise OSError('it returns an error code, and runs nothing')",
        "os.fork": "{}()",
        "os.execv": "{}('/bin/true', ['true'])",
        "os.kill": "{}(1, 0)",
        "multiprocessing.Process": "{}(target=int).start()",
        "multiprocessing.Pool multiprocessing.pool.Pool": "{}(1).close()",
        "concurrent.futures.ProcessPoolExecutor concurrent.futures.process.ProcessPoolExecutor": "{}(1).submit(int).result()",
        "asyncio.create_subprocess_exec asyncio.create_subprocess_shell": "import asyncio\nasyncio.run({}('true'))",
    }),
    **_rules("network", _FETCH, {
        "socket.socket": "{}()",
        "socket.create_connection": "{}(('127.0.0.1', 9))",
        "socket.getaddrinfo": "{}('127.0.0.1', 9)",
        "urllib.request.urlopen urllib.request.urlretrieve": "{}('http://127.0.0.1:9/')",
        "http.client.HTTPConnection http.client.HTTPSConnection": "{}('127.0.0.1', 9).connect()",
        "ftplib.FTP smtplib.SMTP poplib.POP3 imaplib.IMAP4": "{}('127.0.0.1')",
        "http.server.HTTPServer http.server.ThreadingHTTPServer socketserver.TCPServer socketserver.UDPServer":
            "{}(('127.0.0.1', 0), None)",
        "asyncio.open_connection": "import asyncio\nasyncio.run({}('127.0.0.1', 9))",
        "asyncio.start_server": "import asyncio\nasyncio.run({}(None, '127.0.0.1', 0))",
        "requests.get requests.post requests.put requests.delete requests.head requests.patch httpx.get httpx.post":
            "{}('http://127.0.0.1:9/')",
    }),
    **_rules("temporary file", "Grant a private /tmp: Grants(scratch_bytes=...), --scratch on the command line.", {
        "tempfile.TemporaryFile tempfile.NamedTemporaryFile": "{}().close()",
        "tempfile.SpooledTemporaryFile": "{}().fileno()",
        "tempfile.TemporaryDirectory": "{}().cleanup()",
        "tempfile.mkstemp tempfile.mkdtemp tempfile.gettempdir": "{}()",
    }),
    **_rules("file", _MOUNT, {
        "builtins.open io.open numpy.load numpy.loadtxt numpy.genfromtxt numpy.fromfile os.listdir os.scandir": "{}(PATH)",
        "pathlib.Path().open pathlib.Path().read_text pathlib.Path().read_bytes": "open(PATH)",
        "numpy.memmap": "open(PATH)",
    }),
    **_rules("file", _WRITE, {
        "numpy.save numpy.savez numpy.savetxt logging.FileHandler logging.handlers.RotatingFileHandler":
            "open(PATH, 'ab').close()",
        "pathlib.Path().write_text pathlib.Path().write_bytes pathlib.Path().touch": "open(PATH, 'ab').close()",
        "os.mkdir os.makedirs pathlib.Path().mkdir": "import os\nos.makedirs(PATH)",
    }),
    **_rules("memory map", "Read the file instead.", {"mmap.mmap": "{}(-1, 4096)"}),
    **_rules("native code", _HOST, {
        "ctypes.CDLL ctypes.PyDLL ctypes.cdll.LoadLibrary": "{}('libc.so.6')",
    }),
    **_rules("input", "Pass what the node needs to process(), or as parameters.", {
        "builtins.input": "{}()",
        "getpass.getpass": "{}()",
    }),
    **_rules("signal", "Nothing outside of the sandbox sends it signals. For a time limit set Limits(deadline_s=...).", {
        "signal.alarm": "{}(0)",
        "signal.setitimer": "{}(signal.ITIMER_REAL, 0)",
        "signal.pause": "{}",
        "signal.signal": _DIFFERS.format("no signal ever arrives from outside"),
    }),
    **_rules("exit", "Return, or raise an exception: os._exit ends the node's whole sandbox, which has to be loaded again.", {
        "os._exit": _DIFFERS.format("it ends the sandbox, and the caller gets a GuestExitError"),
        "os.abort": _DIFFERS.format("it crashes the sandbox, and the caller gets a GuestTrapError"),
    }),
    **_rules("exit", "Give the node a cleanup() method: the host calls it when it closes the node.", {
        "atexit.register": _DIFFERS.format("what is registered never runs, because the sandbox is dropped when the node is closed"),
    }),
    **_rules("sleep", "Raise Limits(deadline_s=...), or sleep for a shorter time.", {
        "time.sleep": _DIFFERS.format(f"it passes the default deadline of a call, {_SLEEP:g} s, and ends with a DeadlineError"),
    }),
    **_rules("numbers", "Do not rely on numpy's floating-point errors: test the results with numpy.isfinite.", {
        "numpy.errstate numpy.seterr":
            _RAISES_NOTHING,
    }),
    **_rules("numbers", "Use float64, which is the same everywhere.", {
        "numpy.longdouble numpy.clongdouble numpy.float128 numpy.complex256":
            "if numpy.finfo(numpy.longdouble).nmant != 63:\n raise AssertionError('it has 128 bits, in software')",
    }),
    "os.environ[]": Rule(
        "variable", "import os\nos.environ[NAME]", "Grant the variable: Grants(env={...}), --env on the command line."
    ),
}  # fmt: skip


def is_opened(name: str, mode: Any) -> bool | None:
    """Whether `open` or its like opens for writing; None if the source does not say."""
    if name not in ("builtins.open", "io.open", "pathlib.Path().open"):
        return RULES[name].remedy == _WRITE
    if mode is None:
        return False
    return any(letter in mode for letter in "wax+") if isinstance(mode, str) else None


def lines_for(name: str, first: Any, mode: Any, daemon: bool, writable: list[str]) -> tuple[str, str] | None:
    """The lines that try one use, and the advice if they raise; None if the use cannot be tried, or needs no attempt.

    Args:
        name: full name of what is used.
        first: its first argument, if that is a literal.
        mode: its mode, likewise; "raise" if numpy shall raise floating-point errors.
        daemon: whether it is a daemon thread.
        writable: the folders of the node in which an attempt would write files of the host: nothing is tried there.
    """
    rule = RULES[name]
    if rule.kind == "sleep":
        return (rule.lines, rule.remedy) if isinstance(first, (int, float)) and first > _SLEEP else None
    if name in ("numpy.errstate", "numpy.seterr") and mode != "raise":
        return None
    if rule.kind == "variable":
        return (f"NAME = {first!r}\n{rule.lines}", rule.remedy) if isinstance(first, str) else None
    if rule.kind == "thread" and daemon:
        return _DAEMON, rule.remedy
    if rule.kind != "file":
        return rule.lines, rule.remedy
    writes = is_opened(name, mode)
    if writes is None or not isinstance(first, str) or not first:
        return None
    if writes and any(first == folder or first.startswith(f"{folder}/") for folder in writable):
        return None
    if writes and name.endswith("open"):
        return f"PATH = {first!r}\nopen(PATH, 'ab').close()", _WRITE
    return f"PATH = {first!r}\n{rule.lines}", rule.remedy
