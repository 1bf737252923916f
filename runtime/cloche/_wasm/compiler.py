"""Compiles a guest image in a process of its own, which Ctrl-C ends at once, and whose lack of memory ends nothing else.

wasmtime's compiler cannot be interrupted, and ends its process when memory runs out.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from cloche._wasm import engine as _engine
from cloche._wasm.bindings import EngineError
from cloche._wasm.core import core
from cloche.errors import ClocheError
from cloche.metering import Metering

if TYPE_CHECKING:
    import subprocess

__all__ = ["child", "compiled"]

_BOOT: Final = """\
import json, sys
boot = json.loads(sys.argv[1])
sys.path[:] = boot["path"]
from cloche._wasm.compiler import child
child(boot)
"""
_NESTED: Final = "CLOCHE_COMPILING"
"""Environment variable of the child. An interpreter that starts the whole program anew, whatever its arguments, finds it."""
_REFUSED: Final = 3
"""Exit code of a child whose engine has refused the image."""
_TELL_EVERY_S: Final = 5.0


def compiled(wasm: Path, metering: Metering, target: str | None, progress: Callable[[str], None]) -> bytes:
    """Compile a module: its native code, for `Module.from_bytes` and `artifacts.keep`.

    Args:
        wasm: the module's file.
        metering: which decides the checks in the native code.
        target: a level of `targets`; None: this machine's processor.
        progress: called with a line of text before, every few seconds, and after.

    Raises:
        EngineError: the engine refuses the module, or the target.
        ClocheError: the compiler's process was ended, for example because there was no memory left.
    """
    size, processors = (
        wasm.stat().st_size / 1e6,
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    )
    progress(
        f"compiling the guest image for {target or 'this machine'}, once: {size:.0f} MB of WebAssembly on {processors} processors"
    )
    began = time.monotonic()
    code = _compiled_in_a_process(wasm, metering, target, progress) if _has_processes() else None
    if code is None:
        core()  # before the first engine of a process that may run guests
        code = _compiled_here(wasm, metering, target)
    progress(f"compiled in {time.monotonic() - began:.1f} s")
    return code


def _has_processes() -> bool:
    """Whether this program runs in an interpreter that can be started by its path: not frozen into one file, not embedded."""
    name = Path(sys.executable or "").name
    return "python" in name.lower() and not getattr(sys, "frozen", False) and _NESTED not in os.environ


def _compiled_here(wasm: Path, metering: Metering, target: str | None) -> bytes:
    made = _engine.new_engine(metering, target)
    try:
        return _engine.Module.compiled(made, wasm.read_bytes()).serialized()
    finally:
        _engine.delete_engine(made)


def _compiled_in_a_process(
    wasm: Path, metering: Metering, target: str | None, progress: Callable[[str], None]
) -> bytes | None:
    """See `compiled`. None: no process can be started, or it is not one of Python."""
    import subprocess

    with _scratch_file() as file:
        boot = {
            "path": [os.path.abspath(entry) for entry in sys.path],  # noqa: PTH100  # "" is the current folder
            "wasm": str(wasm.absolute()),
            "metering": metering,
            "target": target,
            "file": file.fileno(),
        }
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT, json.dumps(boot)],
                stdin=subprocess.PIPE,  # which the child reads: its end says that this process has ended
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[file.fileno()],
                env={**os.environ, _NESTED: "1"},
            )
        except OSError:
            return None
        with process:
            try:
                _wait(process, progress)
            except BaseException:
                process.kill()
                raise
            assert process.stderr is not None
            words = process.stderr.read(4096).decode(errors="replace").strip()
        if process.returncode == _REFUSED:
            raise EngineError(words)
        if process.returncode < 0:
            raise ClocheError(
                f"the compiler of the guest image was ended by signal {-process.returncode}; it needs about 1 GB of memory. "
                f"{words[-500:]}".rstrip()
            )
        file.seek(0)
        code = file.read()
    return code if process.returncode == 0 and code else None


def _wait(process: subprocess.Popen[bytes], progress: Callable[[str], None]) -> None:
    import subprocess

    began = time.monotonic()
    while True:
        try:
            process.wait(_TELL_EVERY_S)
            return
        except subprocess.TimeoutExpired:
            spent = _processor_seconds(process.pid)
            used = f", {spent:.0f} s of processor time" if spent is not None else ""
            progress(f"compiling: {time.monotonic() - began:.0f} s so far{used}")


def _processor_seconds(pid: int) -> float | None:
    """Processor time of a process, with all its threads; None where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def _scratch_file() -> IO[bytes]:
    """A file without a name, in memory if the system has such files."""
    if hasattr(os, "memfd_create"):
        try:
            return open(os.memfd_create("cloche-image"), "w+b")
        except OSError:
            pass
    import tempfile

    return tempfile.TemporaryFile()


def child(boot: dict[str, Any]) -> None:
    """The compiler's process: compile, and write the native code to the parent's file."""
    import signal
    import threading

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both: the parent ends this process

    def end_with_the_parent() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=end_with_the_parent, daemon=True).start()
    code = 1
    try:
        native = _compiled_here(Path(boot["wasm"]), boot["metering"], boot["target"])
        with open(boot["file"], "wb", closefd=False) as file:
            file.write(native)
        code = 0
    except EngineError as error:
        os.write(2, f"{error}".encode())
        code = _REFUSED
    except Exception as error:
        os.write(2, f"{error!r}".encode())
    finally:
        os._exit(code)  # the thread reads, and the compiler's idle threads wait
