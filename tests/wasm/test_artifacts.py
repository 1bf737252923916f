"""The cache of compiled images: a file that is damaged is never run, and a cache that cannot be used is not an error."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import wasmtime

from cloche._wasm import artifacts as _artifacts
from cloche._wasm import bindings
from cloche._wasm import engine as _engine
from cloche._wasm import image as _image
from cloche._wasm.checkout import cache_folder
from cloche._wasm.core import core
from cloche.errors import ImageError
from cloche_wire import abi

NOBODY = 65534


@pytest.fixture(scope="module", autouse=True)
def core_is_loaded() -> None:
    """The core of a checkout lies in the cache, which some of these tests take away; an engine is not made without it."""
    core()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, with no compiled image in it; its native core is the one of this user."""
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "native").symlink_to(cache_folder() / "native")
    monkeypatch.setenv("CLOCHE_CACHE", str(folder))
    return folder


def make_image(folder: Path) -> _image.Image:
    """A module that is compiled in a millisecond, as an image."""
    wasm = bytes(wasmtime.wat2wasm('(module (func (export "answer") (result i32) i32.const 42))'))
    folder.mkdir(exist_ok=True)
    (folder / "cloche.wasm").write_bytes(wasm)
    about = {"abi": abi.VERSION, "image": {"bytes": len(wasm), "sha256": hashlib.sha256(wasm).hexdigest()}}
    (folder / "manifest.json").write_text(json.dumps(about))
    return _image.Image.open(folder)


@pytest.fixture
def image(tmp_path: Path) -> _image.Image:
    return make_image(tmp_path / "image")


class Loads:
    """Loads an image as a new process would, and keeps what it was told."""

    def __init__(self, image: _image.Image) -> None:
        self.image = image
        self.lines: list[str] = []

    def __call__(self) -> list[str]:
        """The lines of one load, without those about a compilation's time."""
        self.lines = []
        engine = _engine._new_engine("none")
        try:
            module = _image.load(self.image, "none", engine, self.lines.append)
        finally:
            bindings.library().wasm_engine_delete(engine)  # a module holds on to what it needs of it
        _, exports, _ = bindings.types_of(module.address)
        assert list(exports) == ["answer"]
        return [line for line in self.lines if not line.startswith("compiled in ")]


@pytest.fixture
def load(image: _image.Image) -> Loads:
    return Loads(image)


COMPILING = "compiling the guest image for this machine: about 10 seconds"


def artifact(cache: Path) -> Path:
    (path,) = (cache / "aot").glob("*.cwasm")
    return path


def test_an_image_is_compiled_once(cache: Path, load: Loads) -> None:
    assert load() == [COMPILING]
    assert load() == []
    assert _image.kept(load.image, "none") == artifact(cache)
    assert artifact(cache).stat().st_mode & 0o777 == 0o600
    assert sorted(path.suffix for path in (cache / "aot").iterdir()) == [".cwasm", ".lock"]


def _flip(at: int) -> Callable[[bytes], bytes]:
    return lambda body: body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :] if at >= 0 else _flip(len(body) + at)(body)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "zeros, as after a power cut": lambda body: bytes(len(body)),
    "empty": lambda body: b"",
    "shorter than the trailer": lambda body: body[:10],
    "truncated": lambda body: body[: len(body) // 2],
    "the last byte lost": lambda body: body[:-1],
    "no trailer": lambda body: body[:-32],
    "a byte more": lambda body: body + b"\0",
    "a page of zeros": lambda body: body[:4096] + bytes(4096) + body[8192:],
    "a bit of the first byte": _flip(0),
    "a bit in the code": _flip(5000),
    "a bit of the trailer's magic": _flip(-32),
    "a bit of the trailer's length": _flip(-16),
    "a bit of the trailer's checksum": _flip(-8),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_artifact_is_compiled_anew(cache, load, damage, monkeypatch):
    """wasmtime runs whatever it finds in a well-formed file, so it must not even be asked."""
    load()
    path = artifact(cache)
    whole = path.read_bytes()
    damaged = damage(whole)
    assert damaged != whole
    path.write_bytes(damaged)
    with monkeypatch.context() as patched:
        patched.setattr(_engine.Module, "from_file", lambda *_: pytest.fail("a damaged artifact was loaded"))
        assert load() == [f"the compiled image {path} is damaged: it is compiled anew", COMPILING]
    assert load() == []


def test_every_bit_of_an_artifact_is_under_the_checksum(tmp_path: Path) -> None:
    """The chunks as well: two of them exchanged, or the same twice, is damage."""
    path = tmp_path / "a.cwasm"
    body = b"".join(bytes([n]) * _artifacts._CHUNK_BYTES for n in range(3)) + b"rest"
    _artifacts.keep(path, body)
    assert _artifacts.intact(path)
    whole = path.read_bytes()
    size = _artifacts._CHUNK_BYTES
    for at in (0, size - 1, size, 2 * size, 3 * size - 1, 3 * size, 3 * size + 3, *range(len(body), len(whole))):
        path.write_bytes(_flip(at)(whole))
        assert not _artifacts.intact(path), at
    path.write_bytes(whole[size : 2 * size] + whole[:size] + whole[2 * size :])
    assert not _artifacts.intact(path)


def test_an_artifact_of_another_engine_is_compiled_anew(cache: Path, load: Loads) -> None:
    """It is whole, but wasmtime refuses it."""
    load()
    path = artifact(cache)
    _artifacts.keep(path, b"\x7fELF of something else")
    first, second = load()
    assert first.startswith(f"the compiled image {path} is not for this engine (") and second == COMPILING
    assert load() == []


def test_an_artifact_that_cannot_be_read_is_compiled_anew(cache: Path, load: Loads) -> None:
    """A folder in its place stands for a disk that gives an error."""
    load()
    path = artifact(cache)
    path.unlink()
    path.mkdir()
    first, second, third = load()
    assert first.startswith(f"the compiled image {path} cannot be read (") and second == COMPILING
    assert third.startswith("the compiled image cannot be kept (")


def test_what_is_kept_is_on_the_disk_before_it_has_its_name(cache, load, monkeypatch):
    """File, rename, folder, in this order: after a power cut the file is whole, or not there."""
    done = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        done.append(f"fsync {str(Path(f'/proc/self/fd/{descriptor}').readlink()).rpartition('.')[2]}")
        fsync(descriptor)

    def note_replace(path: Path, target: Path) -> Path:
        done.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    load()
    assert done[:2] == ["fsync part", "rename"] and done[2].endswith("aot") and len(done) == 3


def _warned(lines: list[str], reason: str) -> None:
    """One warning, with the reason and the remedy."""
    assert lines[0] == COMPILING and len(lines) == 2
    assert lines[1].startswith("the compiled image cannot be kept (") and reason in lines[1]
    assert lines[1].endswith("each start compiles it again. Set CLOCHE_CACHE to a folder that you can write")


def test_no_home_compiles_without_keeping(load, monkeypatch):
    """HOME is not set, and the user is in no list: a container that runs as some number."""
    for name in ("CLOCHE_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    _warned(load(), "set CLOCHE_CACHE to one")
    assert _image.kept(load.image, "none") is None


def test_a_home_that_is_a_file_compiles_without_keeping(load, tmp_path, monkeypatch):
    for name in ("CLOCHE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    _warned(load(), "Not a directory")


AS_NOBODY = """
import json, os, sys
from pathlib import Path
from cloche._wasm.core import core
from tests.wasm.test_artifacts import Loads, _image
core()
os.environ.update(json.loads(sys.argv[2]))
load = Loads(_image.Image.open(Path(sys.argv[1])))
load.image.verify(), _image.kept(load.image, "none")  # imports what a stranger may not read
if os.getuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
json.dump(load(), sys.stdout)
"""


@pytest.fixture
def open_space() -> Iterator[Path]:
    """A folder that every user can reach; pytest's own belong to one."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


def as_nobody(space: Path, **environment: str) -> list[str]:
    """What a load tells a user without rights."""
    make_image(space / "image")
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, space / "image", json.dumps(environment)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE, timeout=300, check=True,
    )  # fmt: skip
    return list(json.loads(done.stdout))


def give(folder: Path, mode: int) -> None:
    """To the user of `as_nobody`."""
    folder.mkdir(exist_ok=True, parents=True)
    if os.getuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    folder.chmod(mode)


def test_a_home_that_cannot_be_written_compiles_without_keeping(open_space: Path) -> None:
    give(open_space / "home", 0o500)
    environment = {"HOME": str(open_space / "home"), "CLOCHE_CACHE": "", "XDG_CACHE_HOME": ""}
    _warned(as_nobody(open_space, **environment), "Permission denied")


def test_a_cache_that_became_read_only_is_still_used(open_space: Path) -> None:
    """Neither the lock nor the artifact can be written; what is there is taken, and a damaged one is not."""
    cache = open_space / "cache"
    give(cache, 0o700)
    environment = {"CLOCHE_CACHE": str(cache)}
    assert as_nobody(open_space, **environment) == [COMPILING]
    path = artifact(cache)
    path.with_suffix(".lock").unlink()
    path.parent.chmod(0o500)
    assert as_nobody(open_space, **environment) == []
    path.parent.chmod(0o700)
    path.write_bytes(bytes(path.stat().st_size))
    path.parent.chmod(0o500)
    first, *rest = as_nobody(open_space, **environment)
    assert first == f"the compiled image {path} is damaged: it is compiled anew"
    _warned(rest, "Permission denied")


@contextmanager
def no_room(image: _image.Image) -> Iterator[None]:
    """A bound on the size of files, which ends a write in its middle as a full disk does; in the block alone, as pytest writes files too.

    The engine maps files of its own while it compiles, so it has done that once before.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN
    engine = _engine._new_engine("none")
    _engine.Module.compiled(engine, image.wasm.read_bytes())
    bindings.library().wasm_engine_delete(engine)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_without_room_compiles_without_keeping(cache: Path, load: Loads) -> None:
    """What was written of the draft is removed, or it would take the room for ever."""
    with no_room(load.image):
        said = load()
    _warned(said, "File too large")
    assert [path.suffix for path in (cache / "aot").iterdir()] == [".lock"]


def test_a_disk_that_turns_out_to_be_full_at_the_end_compiles_without_keeping(cache, load, monkeypatch):
    """Some file systems find room for a file only when it is synced."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    _warned(load(), "No space left on device")
    assert [path.suffix for path in (cache / "aot").iterdir()] == [".lock"]


def test_an_interrupt_while_writing_leaves_no_draft(cache, load, monkeypatch):
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load()
    assert [path.suffix for path in (cache / "aot").iterdir()] == [".lock"]


@pytest.mark.parametrize("code", [37, 95], ids=["no locks available", "not supported"])
def test_a_file_system_without_locks_keeps_the_image_all_the_same(cache, load, code, monkeypatch):
    def no_lock(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", no_lock)
    assert load() == [COMPILING]
    assert load() == []


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_can_write_is_refused(cache: Path, load: Loads, mode: int) -> None:
    """They could plant code in it. This is an error and no warning: the user has to know."""
    load()
    (cache / "aot").chmod(mode)
    with pytest.raises(ImageError, match="holds native code, but belongs to or can be written by another user"):
        load()


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives folders away")
def test_a_folder_of_another_user_is_refused(cache: Path, load: Loads) -> None:
    load()
    os.chown(cache / "aot", NOBODY, NOBODY)
    with pytest.raises(ImageError, match="holds native code, but belongs to or can be written by another user"):
        load()


CRASH = """
import os, sys
from pathlib import Path
from cloche._wasm import artifacts as _artifacts
os.fsync = lambda descriptor: os._exit(9)
_artifacts.keep(Path(sys.argv[1]), b"half an artifact")
"""


def run(program: str, *arguments: object) -> int:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, env=environment, timeout=300, check=False).returncode


def test_the_draft_of_a_crashed_process_is_removed_by_the_next(cache: Path, load: Loads) -> None:
    """Even that of another image, which nobody will compile again: each takes 60 MB."""
    (cache / "aot").mkdir(parents=True, mode=0o700)
    assert run(CRASH, cache / "aot" / "other.cwasm") == 9
    assert len(list((cache / "aot").glob("*.part"))) == 1
    load()
    assert list((cache / "aot").glob("*.part")) == []


def test_a_draft_that_is_being_written_is_left_alone(tmp_path, monkeypatch):
    """One process keeps its artifact while another is in the middle of writing its own."""
    fsync = os.fsync
    first, second = tmp_path / "first.cwasm", tmp_path / "second.cwasm"

    def meanwhile(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        _artifacts.keep(second, b"second")
        assert len(list(tmp_path.glob("*.part"))) == 1
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", meanwhile)
    _artifacts.keep(first, b"first")
    assert _artifacts.intact(first) and _artifacts.intact(second)
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_a_draft_is_not_written_through_a_file_that_lies_there(tmp_path, monkeypatch):
    """Its name cannot be foreseen; if it could, O_EXCL refuses the link that waits under it."""
    monkeypatch.setattr(os, "urandom", lambda count: bytes(count))
    target = tmp_path / "target"
    (tmp_path / f".a.cwasm.{'00' * 8}.part").symlink_to(target)
    with pytest.raises(FileExistsError):
        _artifacts.keep(tmp_path / "a.cwasm", b"code")
    assert not target.exists()


TOGETHER = """
import sys
from pathlib import Path
from tests.wasm.test_artifacts import Loads, _image
load = Loads(_image.Image.open(Path(sys.argv[1])))
print("ready", flush=True)
sys.stdin.readline()
print(len(load()), flush=True)
"""


def test_processes_that_start_at_once_compile_once(cache: Path, image: _image.Image) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, image.folder], text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for _ in range(4)
    ]  # fmt: skip
    try:
        for process in started:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        told = [process.communicate("\n", timeout=300)[0] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert sorted(told) == ["0\n", "0\n", "0\n", "1\n"]
    assert _artifacts.intact(artifact(cache))


def test_a_process_that_waited_for_the_lock_finds_the_artifact(cache, image, monkeypatch):
    """The second has reached the lock before the first has compiled."""
    at_the_lock = threading.Semaphore(0)
    lock, compile_ = _artifacts._lock, _engine.Module.compiled
    compiled = []

    def note_lock(descriptor: int, operation: int) -> bool:
        at_the_lock.release()
        return lock(descriptor, operation)

    def slow(engine: int, wasm: bytes) -> _engine.Module:
        compiled.append(wasm)
        other.start()
        assert at_the_lock.acquire(timeout=300) and at_the_lock.acquire(timeout=60)  # its own, and the other's
        return compile_(engine, wasm)

    loads = [Loads(image), Loads(image)]
    other = threading.Thread(target=loads[1])
    monkeypatch.setattr(_artifacts, "_lock", note_lock)
    monkeypatch.setattr(_engine.Module, "compiled", slow)
    assert loads[0]() == [COMPILING]
    other.join(60)
    assert compiled == [image.wasm.read_bytes()] and loads[1].lines == []


def test_a_child_forked_meanwhile_does_not_hold_the_lock(tmp_path: Path) -> None:
    """A descriptor that a child has inherited keeps a lock that was only closed."""
    path = tmp_path / "a.cwasm"
    with _artifacts.locked(path):
        (held,) = [int(name) for name in os.listdir("/proc/self/fd") if _is_lock(int(name), tmp_path)]
        inherited = os.dup(held)  # as a child's is
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pytest.fail("the inherited descriptor holds the lock")
    finally:
        os.close(inherited)
        os.close(descriptor)


def _is_lock(descriptor: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/self/fd/{descriptor}").readlink() == folder / "a.lock"
    except OSError:
        return False
