"""What a worker gives up, tried from inside: each attempt is refused by the kernel."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cloche._isolation import seccomp as _seccomp

pytestmark = pytest.mark.skipif(bool(_seccomp.unavailable()), reason=_seccomp.unavailable() or "-")

PROGRAM = """
import ctypes, mmap, os, resource, signal, socket, sys, threading
from cloche._isolation import confine
libc = ctypes.CDLL(None, use_errno=True)
def errno(result):
    if result == -1: raise OSError(ctypes.get_errno(), "refused")
libc.mmap.restype = ctypes.c_ssize_t
page = libc.mmap(None, ctypes.c_size_t(4096), 3, 0x22, -1, ctypes.c_long(0))
channel, other = socket.socketpair()
in_force, missing = confine.when_ready()
assert "seccomp" in in_force and not missing, missing
try:
    {attempt}
except (PermissionError, ValueError):  # resource says ValueError
    print("refused")
else:
    print("done")
os._exit(0)
"""

REFUSED = {
    "open": "os.open('/etc/passwd', os.O_RDONLY)",
    "write-file": "os.open('/tmp/cloche-test', os.O_CREAT | os.O_WRONLY)",
    "list": "os.listdir('/')",
    "remove": "os.unlink('/tmp/nothing')",
    "socket": "socket.socket()",
    "connect": "channel.connect('/run/x')",
    "fork": "os.fork()",
    "exec": "os.execv('/bin/true', ['true'])",
    "kill-host": "os.kill(os.getppid(), 0)",
    "kill-group": "os.kill(-1, 0)",
    "thread-signal-elsewhere": "errno(libc.syscall(234, os.getppid(), os.getppid(), 0))",
    "ptrace": "errno(libc.ptrace(16, os.getppid(), 0, 0))",
    "read-other-memory": "errno(libc.process_vm_readv(os.getppid(), None, 0, None, 0, 0))",
    "raise-a-limit": "resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))",
    "shared-map": "mmap.mmap(-1, 4096)",
    "map-that-grows": "mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100)",
    "executable-map": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
    "executable-protect": "errno(libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(4096), 5))",
    "undo": "errno(libc.prctl(1, 0, 0, 0, 0))",
    "memfd": "os.memfd_create('x')",
    "chdir": "os.chdir('/')",
    "mount": "errno(libc.mount(b'/', b'/', None, 0, None))",
    "unshare": "errno(libc.unshare(0x10000000))",
    "io-uring": "errno(libc.syscall(425, 1, None))",
    "bpf": "errno(libc.syscall(321, 0, None, 0))",
    "x32": "errno(libc.syscall(0x40000000 + 39))",
}
ALLOWED = {
    "thread": "t = threading.Thread(target=print); t.start(); t.join()",
    "memory": "bytearray(64 << 20)",
    "map": "mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)",
    "send": "channel.send(b'x'); assert other.recv(1) == b'x'",
    "random": "os.urandom(16)",
    "time": "import time; time.sleep(0.001)",
    "abort-itself": "signal.signal(signal.SIGUSR1, signal.SIG_IGN); signal.raise_signal(signal.SIGUSR1)",
}


def run(attempt: str) -> str:
    return subprocess.check_output(
        [sys.executable, "-c", PROGRAM.format(attempt=attempt)], text=True, timeout=300
    ).split()[-1]


@pytest.mark.parametrize("attempt", REFUSED.values(), ids=REFUSED)
def test_refused(attempt):
    """With EPERM, which is an ordinary error: what is refused by mistake does not end the process."""
    assert run(attempt) == "refused"


@pytest.mark.parametrize("attempt", ALLOWED.values(), ids=ALLOWED)
def test_allowed(attempt):
    """What running a guest takes."""
    assert run(attempt) == "done"
