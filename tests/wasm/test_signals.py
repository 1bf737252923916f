"""Handlers of faults that the host's code installs: a trap stays a trap, and a crash of the host itself ends it as without Cloche.

Each case is a process of its own: a failure would end this one.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

from cloche._wasm.core import core

REDIRECTS = sys.platform == "linux"

BEGIN = """
import ctypes, faulthandler, os, signal, subprocess, sys
"""
FOREIGN_ENGINE = """
import wasmtime
foreign = wasmtime.Store()
wasmtime.Instance(foreign, wasmtime.Module(foreign.engine, "(module)"), [])
"""
ENGINE = """
from cloche import GuestTrapError, Limits
from cloche._sandbox.instance import Instance
from cloche._wasm.core import core
from cloche._wasm.engine import Engine, Module
from cloche_wire import Op
from tests.fake_guests import guest

bodies = ["(drop (i32.load (i32.const -16))) (unreachable)", "(unreachable)",
          "(drop (i32.div_s (i32.const 1) (i32.const 0))) (unreachable)"]
engines = [Engine("guard", lambda engine: Module.compiled(engine, bytes(guest(body)))) for body in bodies]
def trap():
    for engine in engines:
        try:
            instance = Instance(engine, Limits(memory_bytes=32 << 20), "fake", lambda records, name: None)
            instance.exchange(Op.PROCESS, [], "")
        except GuestTrapError:
            instance.close()
        else:
            raise AssertionError("no trap")
trap()
"""
ON, OFF = "faulthandler.enable()\n", "faulthandler.disable()\n"


def ran(*parts: str) -> subprocess.CompletedProcess[str]:
    code = BEGIN + "".join(parts)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)


def ends_well(*parts: str) -> None:
    done = ran(*parts)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("how", ["faulthandler", "signal"])
def test_a_trap_is_a_trap_while_handlers_change(how):
    """faulthandler, or a test that does, may be switched at any moment: the process would end at the next trap."""
    traps = 100
    command = [sys.executable, "-m", "tests.wasm.toggling", how, str(traps)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"({traps} ){{4}}traps, [1-9]\d* changes, 0 put back\n", done.stdout)


CRASHES = {
    "ctypes.string_at(8)": -signal.SIGSEGV,
    "faulthandler._sigsegv()": -signal.SIGSEGV,
    "faulthandler._sigfpe()": -signal.SIGFPE,
    "os.kill(os.getpid(), signal.SIGSEGV)": -signal.SIGSEGV,
    "os.kill(os.getpid(), signal.SIGILL)": -signal.SIGILL,
}
EACH_CRASHES = f"""
for crash in {list(CRASHES)}:
    child = os.fork()
    if not child:
        signal.alarm(20)
        exec(crash)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.sampled
@pytest.mark.parametrize("engine", [ENGINE, FOREIGN_ENGINE + ENGINE], ids=["own", "foreign"])
@pytest.mark.parametrize("after", ["", ON, OFF], ids=["-", "enable", "disable"])
@pytest.mark.parametrize("before", ["", ON, ON + OFF], ids=["-", "enable", "enable-disable"])
def test_a_crash_of_the_host_is_not_swallowed(before, after, engine):
    """It ends the process at once, and faulthandler tells of it if it is enabled: once."""
    done = ran(before, engine, after, "trap()", EACH_CRASHES, "trap()")
    assert [int(line) for line in done.stdout.split()] == list(CRASHES.values())
    assert done.returncode == 0
    enabled = after == ON or (before == ON and after != OFF)
    assert done.stderr.count("Fatal Python error") == len(CRASHES) * enabled


@pytest.mark.parametrize("after", ["", ON, OFF], ids=["-", "enable", "disable"])
def test_faulthandler_enabled_between_a_foreign_engine_and_ours(after):
    """It hides wasmtime's handlers: they are looked for beneath it."""
    done = ran(FOREIGN_ENGINE, ON, ENGINE, after, "trap()\nctypes.string_at(8)")
    assert done.returncode == -signal.SIGSEGV
    assert done.stderr.count("Fatal Python error") == (after != OFF)


def test_handlers_of_python_are_called():
    """For a signal that somebody sends. `signal` gives what was installed, as without Cloche."""
    ends_well(
        ENGINE,
        """
for number in (signal.SIGSEGV, signal.SIGILL, signal.SIGFPE, signal.SIGBUS, signal.SIGUSR1):
    assert signal.getsignal(number) == signal.SIG_DFL
    got = []
    handler = lambda *arguments: got.append(arguments[0])
    assert signal.signal(number, handler) == signal.SIG_DFL
    trap()
    os.kill(os.getpid(), number)
    assert got == [number]
    assert signal.getsignal(number) == handler
    assert signal.signal(number, signal.SIG_IGN) == handler
    trap()
    os.kill(os.getpid(), number)
    assert signal.signal(number, signal.SIG_DFL) == signal.SIG_IGN
    trap()
""",
    )


def test_handlers_that_were_installed_before_are_called():
    """The core finds them when it is loaded."""
    ends_well(
        "got = []\nhandler = lambda *arguments: got.append(arguments[0])\nsignal.signal(signal.SIGSEGV, handler)\n",
        ENGINE,
        "os.kill(os.getpid(), signal.SIGSEGV)\nassert got == [signal.SIGSEGV]\n"
        "assert signal.signal(signal.SIGSEGV, signal.SIG_DFL) == handler\n",
    )


@pytest.mark.skipif(not REDIRECTS, reason="nothing is redirected there")
def test_a_signal_that_is_sent_while_a_guest_runs_is_no_trap():
    """It is the handler's, wherever the guest is; and the guest goes on."""
    ends_well(
        ENGINE,
        """
got = []
signal.signal(signal.SIGSEGV, lambda *arguments: got.append(arguments[0]))
spins = "(local $i i32) (loop $on (drop (i32.load (i32.const 64))) (br_if $on (i32.lt_u (local.tee $i (i32.add (local.get $i) \
(i32.const 1))) (i32.const 100000000)))) (i64.const 0x1040000000003)"
engine = Engine("guard", lambda engine: Module.compiled(engine, bytes(guest(spins))))
instance = Instance(engine, Limits(deadline_s=None, memory_bytes=32 << 20), "fake", lambda records, name: None)
sender = subprocess.Popen([sys.executable, "-c", f"import os\\nfor i in range(200): os.kill({os.getpid()}, {signal.SIGSEGV})"])
while sender.poll() is None:
    instance.exchange(Op.PROCESS, [], "")
assert set(got) == {signal.SIGSEGV}
""",
    )


def test_a_forked_child_crashes_as_its_parent_would():
    """It has the same handlers; a program that it starts has the default."""
    ends_well(
        ENGINE,
        """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on, of a fork beside the core's own threads

def status_of_child(work):
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

crash = lambda: ctypes.string_at(8)
assert status_of_child(trap) == 0
assert status_of_child(crash) == -signal.SIGSEGV
faulthandler.enable()
assert status_of_child(crash) == -signal.SIGSEGV
assert status_of_child(lambda: (faulthandler.disable(), trap(), crash())) == -signal.SIGSEGV
got = []
signal.signal(signal.SIGSEGV, lambda *arguments: got.append(arguments[0]))
program = [sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"]
assert subprocess.run(program).returncode == -signal.SIGSEGV
assert subprocess.run(program, preexec_fn=lambda: signal.signal(signal.SIGSEGV, signal.SIG_DFL)).returncode == -signal.SIGSEGV
trap()
os.kill(os.getpid(), signal.SIGSEGV)
assert got == [signal.SIGSEGV]  # in a child of vfork, subprocess has reset all handlers
""",
    )


def test_other_signals_of_faulthandler_are_its_own():
    """`faulthandler.register` and SIGABRT."""
    done = ran(
        ENGINE, ON, "faulthandler.register(signal.SIGUSR1)\nos.kill(os.getpid(), signal.SIGUSR1)\ntrap()\nos.abort()"
    )
    assert done.returncode == -signal.SIGABRT
    assert done.stderr.count("most recent call first") == 2


def test_a_call_that_is_not_redirected_is_made_good():
    """ctypes finds the C library's own function. The handler is put back before the next call; what was installed before still counts."""
    ends_well(
        ENGINE,
        """
got = []
signal.signal(signal.SIGSEGV, lambda *arguments: got.append(arguments[0]))
ctypes.CDLL(None).signal(signal.SIGSEGV, 0)
trap()
assert core().handlers_replaced[0] == 1
os.kill(os.getpid(), signal.SIGSEGV)
assert got == [signal.SIGSEGV]
""",
    )


@pytest.mark.skipif(not REDIRECTS, reason="nothing is redirected there")
def test_this_process_has_had_nothing_to_put_back():
    """pytest's faulthandler is among those whose handlers go beneath the engine's."""
    core().keep_handlers()
    assert core().handlers_replaced[0] == 0
