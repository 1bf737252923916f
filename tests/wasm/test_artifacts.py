"""The cache of compiled images: a file that is damaged is never run, and a cache that cannot be used is not an error."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import wasmtime

from cloche._wasm import artifacts as _artifacts
from cloche._wasm import bindings, targets
from cloche._wasm import compiler as _compiler
from cloche._wasm import engine as _engine
from cloche._wasm import image as _image
from cloche._wasm import ownership as _ownership
from cloche._wasm.bindings import EngineError
from cloche._wasm.checkout import cache_folder
from cloche._wasm.core import core
from cloche.errors import ClocheError, ImageError
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
        """The lines of one load, without those about a compilation's progress."""
        self.lines.clear()
        engine = _engine.new_engine("none")
        try:
            module = _image.load(self.image, "none", engine, self.lines.append)
        finally:
            _engine.delete_engine(engine)
        _, exports, _ = bindings.types_of(module.address)
        assert list(exports) == ["answer"]
        told = [COMPILING if line.startswith(COMPILING) else line for line in self.lines]
        return [line for line in told if not line.startswith(("compiled in ", "compiling: ", WAITING))]


@pytest.fixture
def load(image: _image.Image) -> Loads:
    return Loads(image)


COMPILING = "compiling the guest image for this machine, once: "
WAITING = "another process compiles the guest image: waiting for it"


def artifact(cache: Path) -> Path:
    (path,) = (cache / "aot").glob("*.cwasm")
    return path


def test_an_image_is_compiled_once(cache: Path, load: Loads) -> None:
    assert load() == [COMPILING]
    assert load() == []
    assert _image.kept(load.image, "none") == artifact(cache)
    assert not artifact(cache).stat().st_mode & 0o022
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


@pytest.mark.few(4)
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
        from_file = _engine.Module.from_file

        def checked(engine: int, file: str) -> _engine.Module:
            assert Path(file).read_bytes() != damaged
            return from_file(engine, file)

        patched.setattr(_engine.Module, "from_file", checked)
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
    assert lines[0] == COMPILING and len(lines) == 2, lines
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
import filelock, subprocess, grp, pwd  # what a stranger may not read
load.image.verify(), _image.kept(load.image, "none")
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
    engine = _engine.new_engine("none")
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


@pytest.mark.skipif(os.getuid() != 0, reason="root fills a cache, and another user uses it")
def test_a_cache_that_root_has_filled_is_used_by_others(open_space: Path) -> None:
    """As in the image of a container: readable, writable by root alone. Nothing is compiled, and nothing is said."""
    make_image(open_space / "image")
    cache = open_space / "cache"
    as_root = subprocess.run(
        [sys.executable, "-c", AS_NOBODY.replace("os.getuid() == 0", "False"), open_space / "image", json.dumps({"CLOCHE_CACHE": str(cache)})],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, stdout=subprocess.PIPE, timeout=300, check=True, umask=0o022,
    )  # fmt: skip
    assert json.loads(as_root.stdout) == [COMPILING]
    before = sorted(cache.rglob("*"))
    assert as_nobody(open_space, CLOCHE_CACHE=str(cache), HOME="/nonexistent") == []
    assert sorted(cache.rglob("*")) == before
    for mode, place in ((0o666, artifact(cache)), (0o777, cache / "aot")):
        kept = place.stat().st_mode & 0o777
        place.chmod(mode)
        if place.is_dir():
            with pytest.raises(subprocess.CalledProcessError):
                as_nobody(open_space, CLOCHE_CACHE=str(cache))
        else:
            first, *_ = as_nobody(open_space, CLOCHE_CACHE=str(cache))
            assert first == (
                f"the compiled image {place} cannot be read (it belongs to or can be written by another user): it is compiled anew"
            )
        place.chmod(kept)


@pytest.mark.parametrize("mode", [0o777, 0o757], ids=oct)
def test_a_folder_above_that_others_can_write_is_not_trusted(tmp_path, load, monkeypatch, mode):
    """They could put another folder of this user's in its place. With the sticky bit, as /tmp has it, they cannot."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(mode)
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "shared" / "cache"))
    _warned(load(), "shared can be written by every user, who can replace what is in it")
    (tmp_path / "shared").chmod(mode | 0o1000)
    assert load() == [COMPILING]
    assert load() == []


def test_a_folder_above_that_a_group_can_write(tmp_path, load, monkeypatch):
    """A group that is this user's alone is as good as the user: such is the home folder of many."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o775)
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "shared" / "cache"))
    monkeypatch.setattr(_ownership, "_is_private_group", lambda group: True)
    assert load() == [COMPILING]
    monkeypatch.setattr(_ownership, "_is_private_group", lambda group: False)
    _warned(load(), "shared can be written by a group, which can replace what is in it")


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives folders away")
def test_a_folder_above_of_another_user_is_not_trusted(tmp_path, load, monkeypatch):
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", NOBODY - 1, NOBODY - 1)
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "theirs" / "cache"))
    _warned(load(), "theirs belongs to another user, who can replace what is in it")


def test_folders_are_made_so_that_others_cannot_write_them(tmp_path, load, monkeypatch):
    """Whatever the umask: otherwise the next start would not trust them."""
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "a" / "b"))
    before = os.umask(0)
    try:
        assert load() == [COMPILING]
    finally:
        os.umask(before)
    for folder in (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "aot"):
        assert folder.stat().st_mode & 0o777 == 0o755
    assert load() == []


def test_another_version_of_wasmtime_has_another_artifact(cache, load, monkeypatch):
    load()
    monkeypatch.setattr(bindings, "version", lambda: "0.0.1")
    assert load() == [COMPILING]
    assert len(list((cache / "aot").glob("*.cwasm"))) == 2


def test_the_version_of_wasmtime_is_that_of_its_metadata() -> None:
    assert bindings.version() == importlib.metadata.version("wasmtime")


LEVELS = [level for level in targets.LEVELS if not targets.lacking(level)]


@pytest.mark.skipif(not LEVELS, reason="the levels are those of x86-64")
@pytest.mark.parametrize("level", LEVELS)
def test_an_image_for_a_level_is_used_by_every_processor_that_has_it(cache, image, load, level, tmp_path, monkeypatch):
    """Its name depends on the level, not on the machine that compiled it."""
    path = _image.prepare(image, "none", level, tmp_path / "out")
    assert path.parent == tmp_path / "out" / "aot" and level in path.name
    monkeypatch.setattr(targets, "processor_features", lambda: frozenset((*targets.LEVELS[level].values(), "another")))
    assert _image.prepare(image, "none", level, tmp_path / "out") == path
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "out"))
    assert load() == []
    assert _image.kept(image, "none") == path


@pytest.mark.skipif("x86-64-v3" not in LEVELS, reason="compiles for x86-64-v3")
def test_a_processor_that_lacks_what_was_compiled_in_is_refused(cache, image, load, monkeypatch):
    """With an error that says what it lacks, and what to do; and never by an illegal instruction."""
    _image.prepare(image, "none", "x86-64-v3", None)
    few = frozenset(targets.LEVELS["x86-64-v2"].values())
    monkeypatch.setattr(targets, "processor_features", lambda: few)
    with pytest.raises(ImageError) as refused:
        load()
    assert str(refused.value) == (
        f"{cache} has the guest image compiled for x86-64-v3, and this machine's processor lacks abm, avx, avx2, bmi1, bmi2, fma: "
        "prepare it for a lower level (cloche image prepare --target), or for this machine (cloche image prepare)"
    )
    _image.prepare(image, "none", "x86-64-v2", None)
    assert load() == []


@pytest.mark.skipif("avx512f" in targets.processor_features() or not LEVELS, reason="a processor without AVX-512")
def test_wasmtime_itself_refuses_code_for_another_processor(cache, image, load):
    """The wall behind: an artifact under a name that is not its own. Its metadata say that AVX-512 is needed."""
    load()
    path = artifact(cache)
    code = path.read_bytes()[:-32]
    at = code.index(b"has_avx512f") + len(b"has_avx512f")
    needing = [code[: at + n] + bytes([code[at + n] ^ 1]) + code[at + n + 1 :] for n in range(2)]
    refusals = []
    for each in needing:
        _artifacts.keep(path, each)
        refusals.append(load()[0])
    assert any('"has_avx512f" is enabled, but not available on the host' in text for text in refusals), refusals


@pytest.mark.parametrize(
    ("level", "kind", "message"),
    [("x86-64-v9", ValueError, "there is no target 'x86-64-v9': give one of x86-64-v4, x86-64-v3, x86-64-v2, x86-64")],
)
def test_an_unknown_level_is_refused(image, tmp_path, level, kind, message):
    with pytest.raises(kind, match=message):
        _image.prepare(image, "none", level, tmp_path)


def test_a_level_of_another_kind_of_machine_is_refused(image, tmp_path, monkeypatch):
    here = os.uname()
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="aarch64", sysname=here.sysname))
    with pytest.raises(ValueError, match="the target x86-64-v3 is for Linux on x86-64, and this machine is"):
        _image.prepare(image, "none", "x86-64-v3", tmp_path)
    assert targets.runnable() == []


def test_a_machine_that_lacks_what_a_level_needs_cannot_compile_for_it(image, tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "processor_features", frozenset)
    with pytest.raises(ImageError, match="this one lacks abm, avx,"):
        _image.prepare(image, "none", "x86-64-v3", tmp_path)


INTERRUPTED = """
import signal, sys
from pathlib import Path
from cloche._wasm import compiler
signal.signal(signal.SIGINT, signal.default_int_handler)
compiler._TELL_EVERY_S = 0.1
try:
    compiler.compiled(Path(sys.argv[1]), "none", None, lambda line: print(line, flush=True))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_an_interrupt_ends_a_compilation_at_once(tmp_path: Path) -> None:
    """Its process is gone when the interrupt has been raised; so it is if this process is killed. The image is a pipe that gives nothing."""
    os.mkfifo(tmp_path / "cloche.wasm")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for number in (signal.SIGINT, signal.SIGKILL):
        with subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED, tmp_path / "cloche.wasm"],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(COMPILING)
            assert process.stdout.readline().startswith("compiling: 0 s so far")
            (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            pidfd = os.pidfd_open(int(child))
            process.send_signal(number)
            assert process.stdout.read() == ("interrupted\n" if number == signal.SIGINT else "")
            assert select.select([pidfd], [], [], 300)[0], "the compiler goes on"
            os.close(pidfd)


def test_a_compiler_that_is_killed_is_an_error(image, monkeypatch):
    """As by the kernel, when memory runs out. This process goes on."""
    monkeypatch.setattr(_compiler, "_BOOT", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(
        ClocheError, match=r"^the compiler of the guest image was ended by signal 9; it needs about 1 GB of memory\.$"
    ):
        _compiler.compiled(image.wasm, "none", None, lambda line: None)


def test_a_module_that_is_none_is_refused_by_the_compilers_process(tmp_path: Path) -> None:
    (tmp_path / "bad.wasm").write_bytes(b"\0asm\1\0\0\0\7")
    with pytest.raises(EngineError, match="unexpected end"):
        _compiler.compiled(tmp_path / "bad.wasm", "none", None, lambda line: None)


@pytest.mark.parametrize("why", ["frozen", "embedded", "nested", "no processes"])
def test_without_a_process_of_its_own_the_image_is_compiled_here(image, monkeypatch, why):
    """A program in one file, or one that embeds Python, would be started anew by its own path."""
    match why:
        case "frozen":
            monkeypatch.setattr(sys, "frozen", True, raising=False)
        case "embedded":
            monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
        case "nested":
            monkeypatch.setenv("CLOCHE_COMPILING", "1")
        case _:
            monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert _compiler.compiled(image.wasm, "none", None, lambda line: None).startswith(b"\x7fELF")


def run(program: str, *arguments: object) -> int:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, env=environment, timeout=300, check=False).returncode


def test_the_draft_of_a_crashed_process_is_removed_by_the_next(cache: Path, load: Loads) -> None:
    """Even that of another image, which nobody will compile again: each takes 60 MB. It is told by its age."""
    (cache / "aot").mkdir(parents=True, mode=0o700)
    assert run(CRASH, cache / "aot" / "other.cwasm") == 9
    (draft,) = (cache / "aot").glob(".*.part")
    load()
    assert draft.exists()  # for all that is known, it is being written
    old = time.time() - _artifacts.DRAFT_S - 1
    os.utime(draft, (old, old))
    artifact(cache).unlink()
    load()
    assert not draft.exists()


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
    """The second waits, and says so, before the first has compiled."""
    waits, compiled, original = threading.Event(), [], _compiler.compiled

    class Lines(list):
        def append(self, line: str) -> None:
            super().append(line)
            if line == WAITING:
                waits.set()

    def slow(wasm: Path, *rest: object) -> bytes:
        compiled.append(wasm)
        other.start()
        assert waits.wait(300)
        return original(wasm, *rest)

    loads = [Loads(image), Loads(image)]
    loads[1].lines = Lines()
    other = threading.Thread(target=loads[1])
    monkeypatch.setattr(_compiler, "compiled", slow)
    assert loads[0]() == [COMPILING]
    other.join(60)
    assert compiled == [image.wasm] and loads[1].lines == [WAITING]


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


def test_the_cache_is_a_real_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the owner of a link to a folder that is trusted could lead elsewhere between the check and the use."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    for chosen in (tmp_path / "link", "link", "real/../link/."):
        monkeypatch.setenv("CLOCHE_CACHE", str(chosen))
        assert cache_folder() == tmp_path.resolve() / "real"
    monkeypatch.setenv("CLOCHE_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "link"))
    assert cache_folder() == tmp_path.resolve() / "real" / "cloche"


def test_a_relative_cache_without_a_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setenv("CLOCHE_CACHE", "cache")
    with pytest.raises(ImageError, match="CLOCHE_CACHE is 'cache', which leads nowhere .*: give an absolute path"):
        cache_folder()
