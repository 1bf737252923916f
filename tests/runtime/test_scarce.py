"""A process that has no memory, address space or files left: an error that says so, never the end of the process."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

import cloche
from cloche._wasm import artifacts, image
from cloche._wasm.bindings import EngineError
from cloche._wasm.engine import Module

A_NEW_THREAD = """
import resource, threading
import cloche

runtime = cloche.Runtime(limits=cloche.Limits(deadline_s=120))
node = runtime.load(cloche.Source("def f(x):\\n    return x\\n"))
node.process(1)
go, outcome = threading.Event(), []

def work():
    go.wait()
    try:
        outcome.append(node.process(2))
    except cloche.ClocheError as error:
        outcome.append(type(error).__name__)

thread = threading.Thread(target=work)
thread.start()
before = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (1, before[1]))  # from here on the system gives no memory at all
go.set()
thread.join()
resource.setrlimit(resource.RLIMIT_AS, before)
print(outcome, node.process(3))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS")
def test_a_thread_that_gets_no_stack_for_signals_gets_an_error():
    """wasmtime would allocate one when the thread first enters a guest, and end the process if it got none."""
    done = subprocess.run([sys.executable, "-c", A_NEW_THREAD], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, "['ClocheError'] 3"), done.stderr


@pytest.mark.parametrize(
    "error",
    [
        EngineError("Failed to create file mapping\nmmap failed to allocate 0x42d00f8 bytes\nno memory (os error 12)"),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
@pytest.mark.isolation("none", reason="an image is compiled in this process")
def test_an_image_that_finds_no_memory_is_not_compiled_anew(runtime, monkeypatch, error):
    """Compiling takes gigabytes, and the compiler ends the process when it gets none."""

    def refuse(*_):
        raise error

    monkeypatch.setattr(artifacts, "intact", lambda path: True)
    monkeypatch.setattr(Module, "from_file", refuse)
    monkeypatch.setattr(Module, "compiled", lambda *_: pytest.fail("it was compiled"))
    with pytest.raises(cloche.ClocheError, match="no memory, address space or open files left"):
        image.load(runtime.image, "guard", 0)


NO_FILES = """
import os, resource, sys, tempfile
import numpy  # imports open files, too
import cloche, cloche._files.handler, cloche._sandbox.snapshot

SOURCE = cloche.Source("def f(x):\\n    return x\\n")
runtime = cloche.Runtime(isolation=sys.argv[1], limits=cloche.Limits(deadline_s=120))
folder = tempfile.mkdtemp()
WORK = {
    "call": lambda node: node.process(1),
    "large": lambda node: node.process(bytes(3_000_000)),
    "buffer": lambda node: node.buffer(100_000),
    "snapshot": lambda node: node.snapshot(),
    "clone": lambda node: node.clone(),
    "load": lambda node: runtime.load(SOURCE),
    "mount": lambda node: runtime.load(SOURCE, grants=cloche.Grants(mounts={"/data": folder})),
    "scratch": lambda node: runtime.load(SOURCE, grants=cloche.Grants(scratch_bytes=100_000)),
    "where": lambda node: node.where(),
    "close": lambda node: node.close(),
}
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
for name, work in WORK.items():
    node = runtime.load(SOURCE)
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    try:
        work(node)
    except cloche.ClocheError as error:
        assert "open files left" in str(error), error
    finally:
        for descriptor in taken:
            os.close(descriptor)
    if not (node.broken or name == "close"):
        assert node.process(2) == 2
    assert runtime.load(SOURCE).process(3) == 3
    print(name, end=" ")
"""


def test_without_open_files_left_everything_works_or_says_so(isolation):
    """Also afterwards, when there are some again."""
    command = [sys.executable, "-c", NO_FILES, isolation]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    names = "call large buffer snapshot clone load mount scratch where close"
    assert (done.returncode, done.stdout.strip()) == (0, names), done.stderr
