"""`Grants(mounts=..., scratch_bytes=...)`: what a node's ordinary file functions reach, and keep."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

import cloche
from tests.limits import patient

EXEC = "def f(code, *values):\n    env = {'values': values}\n    exec(code, env)\n    return env.get('r')\n"


@pytest.fixture
def folder(tmp_path):
    """A folder with a few files, to be mounted."""
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.bin").write_bytes(bytes(range(256)) * 20_000)
    np.save(tmp_path / "model.npy", np.arange(10_000.0))
    return tmp_path


@pytest.fixture
def node(load, folder):
    """A node that executes what it is given, with the folder at /data, read-only, at /out/w, writable, and a /tmp."""
    mounts = {"/data": folder, "/out/w": cloche.Mount(folder, writable=True)}
    return load(EXEC, "f", grants=cloche.Grants(mounts=mounts, scratch_bytes=1 << 20))


READS = {
    "open": ("r = open('/data/a.txt').read()", "hello"),
    "binary": ("r = len(open('/data/sub/b.bin', 'rb').read())", 256 * 20_000),
    "seek": ("f = open('/data/a.txt', 'rb'); f.seek(-2, 2); r = [f.read(), f.tell()]", [b"lo", 5]),
    "readline": ("r = list(open('/data/a.txt'))", ["hello"]),
    "pread": ("import os; r = os.pread(os.open('/data/a.txt', os.O_RDONLY), 3, 1)", b"ell"),
    "listdir": ("import os; r = sorted(os.listdir('/data'))", ["a.txt", "model.npy", "sub"]),
    "root": ("import os; r = sorted(os.listdir('/'))", ["data", "out", "tmp"]),
    "between": ("import os; r = [os.listdir('/out'), os.path.isdir('/out')]", [["w"], True]),
    "walk": ("import os; r = [p for p, _, _ in os.walk('/data')]", ["/data", "/data/sub"]),
    "stat": ("import os; s = os.stat('/data/a.txt'); r = [s.st_size, s.st_mtime > 1e9, s.st_uid == os.getuid()]", [5, True, True]),
    "exists": ("import os; r = [os.path.exists(p) for p in ('/data/a.txt', '/data/b', '/dat', '/')]", [True, False, False, True]),
    "pathlib": ("import pathlib; r = sorted(p.name for p in pathlib.Path('/data').rglob('*'))", ["a.txt", "b.bin", "model.npy", "sub"]),
    "glob": ("import glob; r = glob.glob('/data/*.txt')", ["/data/a.txt"]),
    "relative": ("import os; os.chdir('/data/sub'); r = [os.getcwd(), open('../a.txt').read()]; os.chdir('/')", ["/data/sub", "hello"]),
    "dir_fd": ("import os; d = os.open('/data/sub', os.O_RDONLY); r = os.stat('b.bin', dir_fd=d).st_size", 256 * 20_000),
    "numpy.load": ("import numpy as np; r = float(np.load('/data/model.npy').sum())", 49_995_000.0),
    "numpy.fromfile": ("import numpy as np; r = int(np.fromfile('/data/sub/b.bin', 'u1').sum())", 20_000 * 32_640),
    "same file": ("import os; r = [os.path.samefile('/data/a.txt', '/data/./a.txt'), os.path.samefile('/data/a.txt', '/data/sub')]", [True, False]),
    "import": ("import sys; open('/tmp/own.py', 'w').write('X = 5'); sys.path.append('/tmp'); import own; r = own.X", 5),
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_a_mount_is_read_with_the_usual_functions(node, name):
    """The node's code is ordinary Python."""
    code, expected = READS[name]
    assert node.process(code) == expected


WRITES = {
    "write": ("open('{0}/x', 'w').write('text'); r = open('{0}/x').read()", "text"),
    "append": ("for _ in range(2): open('{0}/x', 'a').write('ab')\nr = open('{0}/x').read()", "abab"),
    "update": ("open('{0}/x', 'w').write('abcdef'); f = open('{0}/x', 'r+'); f.seek(2); f.write('X'); f.close(); r = open('{0}/x').read()", "abXdef"),
    "exclusive": ("open('{0}/x', 'x').close()\ntry: open('{0}/x', 'x')\nexcept FileExistsError: r = True", True),
    "truncate": ("import os; open('{0}/x', 'w').write('abcdef'); os.truncate('{0}/x', 3); r = open('{0}/x').read()", "abc"),
    "sparse": ("f = open('{0}/x', 'w+b'); f.seek(9000); f.write(b'z'); f.seek(0); r = f.read() == bytes(9000) + b'z'", True),
    "large": ("b = bytes(range(256)) * 2000; open('{0}/x', 'wb').write(b); r = open('{0}/x', 'rb').read() == b", True),
    "mkdir": ("import os; os.makedirs('{0}/p/q'); os.makedirs('{0}/p/q', exist_ok=True); r = os.listdir('{0}/p')", ["q"]),
    "rename": ("import os; open('{0}/x', 'w').write('1'); os.replace('{0}/x', '{0}/y'); r = [os.path.exists('{0}/x'), open('{0}/y').read()]", [False, "1"]),
    "remove": ("import os; open('{0}/x', 'w').close(); os.remove('{0}/x'); os.mkdir('{0}/d'); os.rmdir('{0}/d'); r = os.path.exists('{0}/x')", False),
    "unlink open": ("import os; f = open('{0}/x', 'w+'); os.remove('{0}/x'); f.write('kept'); f.seek(0); r = [f.read(), os.path.exists('{0}/x')]", ["kept", False]),
    "utime": ("import os; open('{0}/x', 'w').close(); os.utime('{0}/x', (1, 2)); r = os.stat('{0}/x').st_mtime", 2.0),
    "copy": ("import shutil; shutil.copy2('/data/a.txt', '{0}/x'); r = open('{0}/x').read()", "hello"),
    "copytree": ("import shutil, os; shutil.copytree('/data/sub', '{0}/t') if '{0}' == '/out/w' else os.makedirs('{0}/t'); shutil.rmtree('{0}/t'); r = os.path.exists('{0}/t')", False),
    "move": ("import shutil; open('{1}/x', 'w').write('m'); shutil.move('{1}/x', '{0}/x'); r = open('{0}/x').read()", "m"),
    "numpy.save": ("import numpy as np; np.save('{0}/n.npy', np.arange(100)); r = int(np.load('{0}/n.npy').sum())", 4950),
    "numpy.savez": ("import numpy as np; np.savez('{0}/n.npz', a=np.arange(10)); r = int(np.load('{0}/n.npz')['a'].sum())", 45),
    "zip": ("import zipfile; z = zipfile.ZipFile('{0}/z.zip', 'w'); z.writestr('a', 'b'); z.close(); r = zipfile.ZipFile('{0}/z.zip').read('a')", b"b"),
    "names": ("import os; n = ['a\\nb', '\\u00fc', '\\udcff', ' ', 'x' * 255]; [open('{0}/' + s, 'w').close() for s in n]; r = set(n) <= set(os.listdir('{0}'))", True),
}  # fmt: skip


@pytest.mark.parametrize("place", ["/out/w", "/tmp"])
@pytest.mark.parametrize("name", WRITES)
def test_writable_places_are_written_with_the_usual_functions(node, name, place):
    """A writable mount and the node's own /tmp behave alike."""
    code, expected = WRITES[name]
    other = "/tmp" if place == "/out/w" else "/out/w"
    assert node.process(code.replace("{0}", place).replace("{1}", other)) == expected


@pytest.mark.parametrize(
    "code",
    ["open('/data/a.txt', 'w')", "open('/data/a.txt', 'a')", "open('/data/a.txt', 'r+')", "open('/data/new', 'w')", "open('/data/new', 'x')",
     "os.open('/data/a.txt', os.O_RDONLY | os.O_TRUNC)", "os.open('/data/a.txt', os.O_RDONLY | os.O_CREAT | os.O_TRUNC)", "os.mkdir('/data/d')",
     "os.remove('/data/a.txt')", "os.rmdir('/data/sub')", "os.rename('/data/a.txt', '/data/b')", "os.rename('/out/w/a.txt', '/data/b')",
     "os.truncate('/data/a.txt', 0)", "os.utime('/data/a.txt')", "open('/new', 'w')", "os.mkdir('/new')", "os.mkdir('/out/new')", "os.rename('/data', '/d')"],
)  # fmt: skip
def test_what_is_not_writable_stays_as_it_is(node, folder, code):
    """Whoever asks, and however."""
    before = sorted((p.relative_to(folder), p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*"))
    with pytest.raises(cloche.NodeRaisedError) as caught:
        node.process(f"import os\n{code}")
    assert caught.value.exc_type in ("OSError", "FileNotFoundError")
    assert sorted((p.relative_to(folder), p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*")) == before


def test_temporary_files_are_made_in_tmp(load):
    """`tempfile` finds the one folder that it can use."""
    node = load(EXEC, "f", grants=cloche.Grants(scratch_bytes=1 << 20))
    code = """
import os, tempfile
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "x")
    open(path, "w").write("1")
    inside = os.listdir(folder)
with tempfile.NamedTemporaryFile() as named, tempfile.TemporaryFile() as unnamed:
    named.write(b"12"), unnamed.write(b"345")
    named.flush(), unnamed.seek(0)
    sizes = [os.path.getsize(named.name), len(unnamed.read())]
descriptor, path = tempfile.mkstemp()
os.close(descriptor)
os.remove(path)
r = [tempfile.gettempdir(), inside, sizes, os.listdir("/tmp"), os.getcwd(), os.listdir("/")]
"""
    assert node.process(code) == ["/tmp", ["x"], [2, 3], [], "/", ["tmp"]]


def test_with_scratch_of_no_bytes_there_is_nothing(load):
    """Neither /tmp nor a home."""
    node = load(EXEC, "f", grants=cloche.Grants(scratch_bytes=0))
    assert node.process("import os; r = os.path.exists('/home')") is False
    assert node.process("import os; r = [os.listdir('/'), os.path.exists('/tmp')]") == [[], False]
    with pytest.raises(cloche.NodeRaisedError, match="Read-only"):
        node.process("open('/tmp/x', 'w')")


def test_scratch_has_a_quota(load):
    """Beyond it is ENOSPC, what is removed is free again, and holes take nothing."""
    node = load(EXEC, "f", grants=cloche.Grants(scratch_bytes=1 << 20))
    code = """
import errno, os
def fill():
    try:
        with open("/tmp/x", "wb", 0) as file:
            while True: file.write(bytes(1000))
    except OSError as error:
        return [error.errno == errno.ENOSPC, os.path.getsize("/tmp/x") // 100_000]
r = [fill(), fill()]
os.remove("/tmp/x")
with open("/tmp/hole", "wb") as file: file.truncate(1 << 30)
r += [fill(), os.path.getsize("/tmp/hole")]
"""
    assert node.process(code) == [[True, 10], [True, 10], [True, 10], 1 << 30]


def test_a_mount_has_quotas(load, tmp_path):
    """Bytes and files; what the node has added and removes again counts no longer, what was there before does not help."""
    (tmp_path / "old").write_bytes(bytes(50_000))
    mount = cloche.Mount(tmp_path, writable=True, quota_bytes=100_000, max_files=3)
    node = load(EXEC, "f", grants=cloche.Grants(mounts={"/out": mount}))
    code = """
import errno, os
def attempt(action):
    try: action()
    except OSError as error: return errno.errorcode[error.errno]
def write(size, path="/out/x", mode="wb", offset=0):
    with open(path, mode, 0) as file:
        file.seek(offset)
        n = file.write(bytes(size))
        if n != size: raise OSError(errno.EDQUOT, "short")
r = [attempt(lambda: write(100_001)), attempt(lambda: write(1, "/out/x", "ab")), attempt(lambda: write(1, "/out/y", "wb", 100_000))]
r += [attempt(lambda: os.truncate("/out/x", 200_000)), attempt(lambda: os.truncate("/out/x", 0)), attempt(lambda: write(100_000))]
os.remove("/out/x"); os.remove("/out/y")
r += [attempt(lambda: os.remove("/out/old")), attempt(lambda: write(100_000)), attempt(lambda: write(1, "/out/x", "ab"))]
r += [attempt(lambda: os.mkdir("/out/d")), attempt(lambda: open("/out/d/e", "w").close()), attempt(lambda: open("/out/f", "w").close())]
r += [attempt(lambda: os.mkdir("/out/g")), attempt(lambda: os.remove("/out/d/e")), attempt(lambda: os.mkdir("/out/g"))]
"""
    full = "EDQUOT"
    assert node.process(code) == [
        full, full, full,
        full, None, None,
        None, None, full,
        None, None, full,
        full, None, None,
    ]  # fmt: skip


def test_what_is_unlinked_while_it_is_open_counts_until_it_is_closed(load, tmp_path):
    """Or sixty-four open files would be sixty-four quotas."""
    mount = cloche.Mount(tmp_path, writable=True, quota_bytes=1000, max_files=2)
    node = load(EXEC, "f", grants=cloche.Grants(mounts={"/out": mount}))
    code = """
import os
def size():
    with open("/out/y", "wb", 0) as file:
        try: return file.write(bytes(1000))
        except OSError: return 0
held = open("/out/x", "wb", 0); held.write(bytes(600)); os.remove("/out/x")
r = [size()]
held.close()
r += [size()]
"""
    assert node.process(code) == [400, 1000]


def test_files_that_a_node_makes_are_its_owners_alone(node, folder):
    """No other account can read them, and nobody can run them."""
    node.process("import os; open('/out/w/made', 'w').close(); os.mkdir('/out/w/d'); os.chmod('/out/w/made', 0o777)")
    assert [(folder / name).stat().st_mode & 0o7777 for name in ("made", "d")] == [0o600, 0o700]


def test_a_snapshot_has_scratch_files_and_no_mount(runtime, load, folder):
    """/tmp is memory. Mounts are the host's: they come with the grants of whoever restores, and open files do not."""
    grants = cloche.Grants(mounts={"/data": folder}, scratch_bytes=1 << 20)
    node = load(EXEC, "f", grants=grants)
    node.process(
        "import __main__ as m\nm.d = open('/data/a.txt'); m.t = open('/tmp/x', 'w+'); m.t.write('kept'); m.t.flush()"
    )
    saved = cloche.Snapshot.from_bytes(node.snapshot().to_bytes())
    scratch = "import __main__ as m\nm.t.seek(0); r = [m.t.read(), open('/tmp/x').read()]"
    with runtime.restore(saved) as bare, runtime.restore(saved, grants=grants) as granted:
        assert bare.process(scratch) == granted.process(scratch) == ["kept", "kept"]
        assert bare.process("import os; r = os.listdir('/')") == ["tmp"]
        assert granted.process("r = open('/data/a.txt').read()") == "hello"
        for each in (bare, granted):
            with pytest.raises(cloche.NodeRaisedError, match="Bad file descriptor"):
                each.process("import __main__ as m; m.d.read()")
            assert each.process("import __main__ as m; m.d.close(); r = m.d.closed")
    assert node.process("import __main__ as m; r = m.d.read()") == "hello"


def test_clones_have_their_own_files(load, folder):
    """A clone has the node's grants and a copy of its /tmp, and no descriptor of its twin's."""
    node = load(EXEC, "f", grants=cloche.Grants(mounts={"/data": folder}, scratch_bytes=1 << 20))
    node.process("import __main__ as m; m.d = open('/data/a.txt'); open('/tmp/x', 'w').write('1')")
    with node.clone() as twin:
        twin.process("open('/tmp/x', 'w').write('2'); m = open('/data/a.txt')")
        with pytest.raises(cloche.NodeRaisedError, match="Bad file descriptor"):
            twin.process("import __main__ as m; m.d.read()")
        assert [each.process("r = open('/tmp/x').read()") for each in (node, twin)] == ["1", "2"]
    assert node.process("import __main__ as m; r = m.d.read()") == "hello"


def descriptors(folder) -> int:
    """How many this process has of what lies in a folder."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            found += link.readlink().is_relative_to(folder)
        except FileNotFoundError:  # that of the listing itself
            pass
    return found


@pytest.mark.sampled
@pytest.mark.parametrize("end", ["close", "trap", "deadline", "discard", "drop", "load"])
def test_the_hosts_descriptors_are_closed_with_the_instance(runtime, folder, end):
    """However it ends."""
    grants = cloche.Grants(mounts={"/data": folder, "/more": folder})
    hold = (
        "import os\nheld = [os.open('/data', os.O_RDONLY) for _ in range(20)] + [os.open('/data/a.txt', os.O_RDONLY)]\n"
    )
    hold += "lists = [os.scandir('/data') for _ in range(5)]\n[next(each) for each in lists]\n"
    limits = cloche.Limits(deadline_s=1.0 if end == "deadline" else 20, grace_s=0)
    if end == "load":
        with pytest.raises(cloche.NodeLoadError):
            runtime.load(cloche.Source(hold + "1 / 0\ndef f(): pass"), "f", grants=grants)
        assert descriptors(folder) == 0
        return
    source = hold + "def f(x):\n    if x == 'trap': os.abort()\n    while x == 'deadline': pass\n"
    node = runtime.load(cloche.Source(source), "f", grants=grants, limits=limits)
    assert descriptors(folder) >= 2 + 26
    if end == "close":
        node.close()
    elif end == "discard":
        node.__cloche__.discard()
    elif end == "drop":
        del node
        gc.collect()
    else:
        with pytest.raises(cloche.BrokenInstanceError):
            node.process(end)
    assert descriptors(folder) == 0


def test_a_runtime_that_cannot_make_the_instance_closes_the_mounts(runtime, folder):
    """The handler is made first."""
    with pytest.raises(ValueError, match="memory_bytes"):
        runtime.load(
            cloche.Source(EXEC),
            "f",
            grants=cloche.Grants(mounts={"/data": folder}),
            limits=patient(memory_bytes=32 << 20),
        )
    assert descriptors(folder) == 0


def test_a_folder_that_is_not_there_is_the_callers_error(runtime, tmp_path):
    """With its path: it is the host's own."""
    (tmp_path / "file").write_text("")
    for path, kind in ((tmp_path / "missing", FileNotFoundError), (tmp_path / "file", NotADirectoryError)):
        with pytest.raises(kind) as caught:
            runtime.load(cloche.Source(EXEC), "f", grants=cloche.Grants(mounts={"/data": path}))
        assert caught.value.filename == str(path)


def test_small_limits_on_messages_do_not_break_files(load, folder):
    """What one question may carry is bounded by the node's limits; a file is read and written in as many as it takes."""
    limits = patient(request_bytes=40_000, reply_bytes=40_000)
    grants = cloche.Grants(mounts={"/out": cloche.Mount(folder, writable=True)})
    node = load(EXEC, "f", grants=grants, limits=limits)
    code = "b = open('/out/sub/b.bin', 'rb').read(); open('/out/c', 'wb').write(b); import os; r = [len(b), os.listdir('/out/sub')]"
    assert node.process(code) == [256 * 20_000, ["b.bin"]]
    assert (folder / "c").read_bytes() == (folder / "sub" / "b.bin").read_bytes()


def test_a_file_that_was_there_is_rewritten_as_often_as_one_likes(load, tmp_path):
    """A node that is loaded again and keeps one file up to date must not run into its quota."""
    (tmp_path / "state").write_bytes(bytes(900))
    mount = cloche.Mount(tmp_path, writable=True, quota_bytes=1000)
    node = load(EXEC, "f", grants=cloche.Grants(mounts={"/out": mount}))
    rewrite = "for i in range(20):\n    with open('/out/state', 'wb') as file: file.write(bytes(1000 - i))\n"
    replace = (
        "import os\nfor i in range(20):\n    open('/out/new', 'w').close(); os.replace('/out/new', '/out/state')\n"
    )
    node.process(rewrite + replace + rewrite)
    assert (tmp_path / "state").stat().st_size == 981
    with pytest.raises(cloche.NodeRaisedError, match="Quota"):
        node.process("with open('/out/more', 'wb') as file: file.write(bytes(100))")
