"""Packages are compiled once, in a sandbox that runs no stranger's code, and kept where nobody else can write."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloche
from cloche._runtime import compiled_packages
from cloche._runtime.compiled_packages import CompiledPackages, imported_names
from cloche._runtime.package_files import PackageFiles
from cloche.errors import ClosedError
from cloche.source import Modules
from cloche_wire import Failure, tree
from tests.wheels import write_wheel

pytestmark = pytest.mark.isolation("none", reason="the compiler is a node like any other")

SOURCE = cloche.Source(
    "import lib\ndef f(x): return lib.__spec__.cached, __import__('os').path.exists(lib.__spec__.cached), lib.g(x)"
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; the folder of compiled packages in it."""
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packages"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return write_lib(tmp_path / "lib-1-py3-none-any.whl", "def g(x): return x + 1\n")


def write_lib(path: Path, text: str, **others: str) -> Path:
    """A wheel of one package, `lib`, with other modules in it."""
    return write_wheel(path, {"lib/__init__.py": text} | {f"lib/{name}.py": other for name, other in others.items()})


def used(runtime: cloche.Runtime, path: Path, source: cloche.Source = SOURCE, entry: str | None = "f") -> Any:
    """Whether a node finds compiled code of the package, and what it computes with it."""
    with runtime.load(source, entry, grants=cloche.Grants(packages=[path])) as node:
        return tuple(node.process(1))[1:]


def kept(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.tree"))


def test_the_first_load_compiles_and_the_second_finds_it(runtime: cloche.Runtime, cache: Path, wheel: Path) -> None:
    """One file, for this user alone."""
    assert used(runtime, wheel) == (True, 2)
    [file] = kept(cache)
    before = file.read_bytes()
    assert used(runtime, wheel) == (True, 2)
    assert kept(cache) == [file]
    assert file.read_bytes() == before
    assert not (stat.S_IMODE(file.stat().st_mode) | stat.S_IMODE(cache.stat().st_mode)) & 0o022


def test_another_content_is_another_file(runtime: cloche.Runtime, cache: Path, wheel: Path) -> None:
    """Although it has the same name: the digest decides."""
    used(runtime, wheel)
    write_lib(wheel, "def g(x): return x + 2\n")
    assert used(runtime, wheel) == (True, 3)
    assert len(kept(cache)) == 2


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-1], id="cut off"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data[:60] + bytes((data[60] ^ 1,)) + data[61:], id="altered"),
        pytest.param(lambda data: data + b"x", id="longer"),
        pytest.param(lambda data: data[:48] + tree.pack({"lib/__init__.py": tree.File(b"g = None", 8)}), id="forged"),
    ],
)
def test_a_damaged_file_is_compiled_again(
    runtime: cloche.Runtime, cache: Path, wheel: Path, damage: Callable[[bytes], bytes]
) -> None:
    """Never used."""
    used(runtime, wheel)
    [file] = kept(cache)
    good = file.read_bytes()
    file.write_bytes(damage(good))
    assert used(runtime, wheel) == (True, 2)
    assert len(file.read_bytes()) == len(good)


def test_a_file_of_another_package_is_not_taken(
    runtime: cloche.Runtime, cache: Path, tmp_path: Path, wheel: Path
) -> None:
    """The digest in a file covers its name."""
    used(runtime, wheel)
    [mine] = kept(cache)
    (tmp_path / "b").mkdir()
    used(runtime, write_lib(tmp_path / "b" / wheel.name, "def g(x): return 'other'\n"))
    [other] = set(kept(cache)) - {mine}
    mine.write_bytes(other.read_bytes())
    assert used(runtime, wheel) == (True, 2)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o602], ids=oct)
def test_what_others_could_have_written_is_not_trusted(
    runtime: cloche.Runtime, cache: Path, wheel: Path, mode: int
) -> None:
    """Neither the folder nor a file; nothing is written into such a folder."""
    used(runtime, wheel)
    [file] = kept(cache)
    (file if mode == 0o602 else cache).chmod(mode)
    assert PackageFiles(cache).read(file.stem) is None
    assert used(runtime, wheel) == (mode == 0o602, 2)


def test_a_link_in_the_cache_is_not_followed(runtime: cloche.Runtime, cache: Path, wheel: Path, tmp_path: Path) -> None:
    """It is replaced."""
    used(runtime, wheel)
    [file] = kept(cache)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert PackageFiles(cache).read(file.stem) is None


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written(runtime: cloche.Runtime, cache: Path, wheel: Path) -> None:
    """Nodes load as well, and use what is there."""
    cache.parent.mkdir()
    cache.parent.chmod(0o500)
    assert used(runtime, wheel) == (False, 2)


def test_no_cache_at_all(runtime: cloche.Runtime, cache: Path, wheel: Path) -> None:
    """A file is where the folder should be."""
    cache.parent.write_text("")
    assert used(runtime, wheel) == (False, 2)


def test_a_module_that_does_not_compile_spoils_no_other(runtime: cloche.Runtime, cache: Path, tmp_path: Path) -> None:
    """Whoever imports it gets the error, as natively."""
    path = write_lib(tmp_path / "lib.zip", "try:\n    from . import bad\nexcept SyntaxError as e:\n    E = str(e)\ndef g(x): return E\n", bad="x = (\n")  # fmt: skip
    for _ in range(2):
        assert used(runtime, path) == (True, "'(' was never closed (bad.py, line 1)")


def test_what_only_a_later_node_imports_is_compiled_then(runtime: cloche.Runtime, cache: Path, tmp_path: Path) -> None:
    """Seen by the import system of the node that imported it, for the one after it."""
    path = write_lib(tmp_path / "lib.zip", "def g(x):\n    from . import lazy\n    return x\n", lazy="")
    late = cloche.Source(
        "import lib, os\nlib.g(0)\nHAS = os.path.exists(lib.lazy.__spec__.cached)\ndef f(x): return 0, HAS, x"
    )
    assert used(runtime, path, SOURCE) == (True, 1)
    assert used(runtime, path, late) == (False, 1)
    assert used(runtime, path, late) == (True, 1)


def test_a_node_cannot_change_what_the_next_one_gets(runtime: cloche.Runtime, cache: Path, wheel: Path) -> None:
    """It compiles in its own sandbox, and names modules at most."""
    evil = cloche.Source("""
import builtins, marshal, sys, importlib.util, lib, cloche_guest.dispatch
lib.g = lambda x: "poisoned"
cloche_guest.compiling = sys.modules["cloche_guest.compiling"] = None
def f(x): return 0, 0, lib.g(x)
from cloche_guest.modules import Imports
Imports.uncompiled = lambda self, most: {"lib-1-py3-none-any.whl": ["lib", "../x", "/etc/passwd", "", "lib." * 50, "x" * 300]}
""")
    assert used(runtime, wheel, evil) == (0, "poisoned")
    assert used(runtime, wheel) == (True, 2)


@pytest.mark.parametrize(
    "report",
    ["'text'", "{'lib-1-py3-none-any.whl': 'text'}", "{'lib-1-py3-none-any.whl': [1]}", "{'lib-1-py3-none-any.whl': ['x' * 201]}",
     "{'lib-1-py3-none-any.whl': ['x'] * 5000}", "{1: 2}", "[]", "{'other.whl': ['lib']}"],
)  # fmt: skip
def test_a_lie_about_modules_is_ignored(runtime: cloche.Runtime, cache: Path, wheel: Path, report: str) -> None:
    """What a guest reports is data of a stranger."""
    source = f"import lib\nfrom cloche_guest.modules import Imports\nImports.uncompiled = lambda self, most: {report}\ndef f(x): return 0, 0, x"  # fmt: skip
    assert used(runtime, wheel, cloche.Source(source)) == (0, 1)


def test_small_folders_are_not_kept(runtime: cloche.Runtime, cache: Path, tmp_path: Path) -> None:
    """They are being worked on; a large one is compiled like a wheel."""
    folder = tmp_path / "site" / "lib"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("def g(x): return x + 1\n")
    assert used(runtime, folder.parent) == (False, 2)
    assert kept(cache) == []
    (folder / "data").write_bytes(bytes(100_000))
    assert used(runtime, folder.parent) == (True, 2)
    assert len(kept(cache)) == 1


def test_a_package_that_breaks_the_compiler_is_left_to_the_node(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The load says what is wrong with it, and nothing is kept."""
    said: list[str] = []

    def compile_one(*_: object) -> bytes:
        asked.append(1)
        raise error

    error: Exception = cloche.BrokenInstanceError("the worker died\nand so on")
    asked: list[int] = []
    packages = CompiledPackages("image", compile_one, said.append)
    assert packages.prepared({"a.whl": b"PK"}, ["a"]) == {"a.whl": b"PK"}
    assert said == ["a.whl is not compiled ahead: the worker died"]
    assert kept(cache) == []
    error = cloche.GuestTrapError("it crashed")
    for _ in range(3):
        assert packages.prepared({"a.whl": b"PK"}, ["a"]) == {"a.whl": b"PK"}
    assert len(asked) == 2, "what has crashed the compiler is not given to it again"
    assert CompiledPackages("other image", compile_one, said.append).prepared({"a.whl": b"PK"}, []) == {"a.whl": b"PK"}
    assert len(asked) == 3, "but to that of another image"
    monkeypatch.setattr(compiled_packages, "_GIVEN_UP_UNDER", b"more time")
    assert packages.prepared({"a.whl": b"PK"}, ["a"]) == {"a.whl": b"PK"}
    assert len(asked) == 4, "and by a version of Cloche with other limits"


@pytest.mark.parametrize("answer", [None, b"", b"PK", "text", [b"x"]], ids=repr)
def test_an_answer_that_is_no_tree_is_not_kept(cache: Path, answer: Any) -> None:
    """The compiler has read a stranger's bytes."""
    packages = CompiledPackages("image", lambda *_: answer, lambda _: None)
    assert packages.prepared({"a.whl": b"PK"}, ["a"]) == {"a.whl": b"PK"}
    assert kept(cache) == []


def test_a_load_does_not_wait_for_the_compiler_of_another(cache: Path) -> None:
    """It takes the package as it is."""
    begun, may_end = threading.Event(), threading.Event()
    made = tree.pack({})

    def compile_one(*_: object) -> bytes:
        begun.set()
        assert may_end.wait(60)
        return made

    packages = CompiledPackages("image", compile_one, lambda _: None)
    first: list[dict[str, bytes]] = []
    thread = threading.Thread(target=lambda: first.append(packages.prepared({"a.whl": b"PK"}, [])))
    thread.start()
    assert begun.wait(60)
    assert packages.prepared({"a.whl": b"PK"}, []) == {"a.whl": b"PK"}
    may_end.set()
    thread.join()
    assert first == [{"a.whl": made}] == [packages.prepared({"a.whl": b"PK"}, [])]


def test_a_runtime_that_is_closed_meanwhile(cache: Path) -> None:
    """The load ends, too."""

    def compile_one(*_: object) -> bytes:
        raise ClosedError("the runtime is closed")

    with pytest.raises(ClosedError):
        CompiledPackages("image", compile_one, lambda _: None).prepared({"a.whl": b"PK"}, [])


def test_a_full_cache_removes_nothing_but_its_own_files(tmp_path: Path) -> None:
    """$CLOCHE_CACHE may be a folder that has one called "packages" already. Drafts that a kill has left are its own."""
    files = PackageFiles(tmp_path / "packages", most_bytes=1000)
    assert files.can_write
    others = ["thesis.txt", "notes.tree.txt", "lib-1-py3-none-any.whl", ".hidden"]
    drafts = [f".{'a' * 40}.{'0' * 16}.part", ".k.0123456789abcdef.part"]
    for number, name in enumerate([*others, *drafts]):
        (files.folder / name).write_bytes(bytes(600))
        os.utime(files.folder / name, (number + 1, number + 1))
    files.write("k0", bytes(900))
    assert sorted(path.name for path in files.folder.iterdir()) == sorted([*others, "k0.tree"])


def test_a_full_cache_forgets_what_was_not_used_for_the_longest_time(tmp_path: Path) -> None:
    """So that what is in use stays."""
    files = PackageFiles(tmp_path / "packages", most_bytes=1000)
    assert files.can_write
    for number in range(3):
        files.write(f"k{number}", bytes(250))
        os.utime(files.folder / f"k{number}.tree", (number + 1, number + 1))
    assert files.read("k0") == bytes(250)  # used now
    files.write("k3", bytes(250))
    assert [files.read(f"k{number}") is not None for number in range(4)] == [True, False, True, True]


def test_writers_and_readers_at_the_same_time(tmp_path: Path) -> None:
    """A reader sees a whole file or none."""
    files = PackageFiles(tmp_path / "packages")
    assert files.can_write
    contents = {bytes((number,)) * 100_000 for number in range(4)}

    def work(content: bytes) -> None:
        for _ in range(50):
            files.write("key", content)
            found = files.read("key")
            if found not in contents:
                wrong.append(found)

    wrong: list[bytes | None] = []
    threads = [threading.Thread(target=work, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert [path.name for path in files.folder.iterdir()] == ["key.tree"]


def test_many_threads_load_the_same_package(runtime: cloche.Runtime, cache: Path, wheel: Path) -> None:
    """Each gets a node that works; one file is kept."""
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(used(runtime, wheel)[1])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [2] * 8
    assert len(kept(cache)) == 1


def test_a_pool_uses_what_is_kept(runtime: cloche.Runtime, cache: Path, wheel: Path) -> None:
    """Its clones come from one loaded node."""
    with runtime.pool(SOURCE, "f", size=2, grants=cloche.Grants(packages=[wheel])) as pool:
        assert [list(result)[1:] for result in pool.map([1, 2, 3])] == [[True, 2], [True, 3], [True, 4]]


def test_limits_that_leave_no_room_for_a_report(runtime: cloche.Runtime, tmp_path: Path, cache: Path) -> None:
    """The node loads."""
    cache.parent.write_text("")  # nothing is compiled ahead
    path = write_lib(tmp_path / "lib.whl", "".join(f"from . import m{n}\n" for n in range(100)), **{f"m{n}": "" for n in range(100)})  # fmt: skip
    limits = cloche.Limits(value_nodes=60, reply_bytes=1024)
    with runtime.load(cloche.Source("import lib\ndef f(x): return x"), grants=cloche.Grants(packages=[path]), limits=limits) as node:  # fmt: skip
        assert node.process(1) == 1


def test_a_message_that_would_be_too_large_has_the_package_as_it_is(
    runtime: cloche.Runtime, cache: Path, wheel: Path
) -> None:
    """Compiled code never makes a load fail that worked without."""
    write_lib(wheel, f"TEXT = {os.urandom(2000).hex()!r}\ndef g(x): return x + 1\n")
    limits = cloche.Limits(request_bytes=8000)
    with runtime.load(SOURCE, "f", grants=cloche.Grants(packages=[wheel]), limits=limits) as node:
        assert list(node.process(1))[1:] == [False, 2]
    assert used(runtime, wheel) == (True, 2)


def test_names_are_searched_in_the_text() -> None:
    """As import statements begin, and with what comes from a package: it may be a module of it."""
    text = """import a, b.c
from d.e import f
    from g import (h,
i as x, # the rest is not read
j)
x = 1; import k
'''
import l
'''
from . import m
from n import o as p, q
from r import *
"""
    found = imported_names(Modules("main", {"main": ("main.py", text, False)}))
    assert found == {"main", "a", "b.c", "d.e", "d.e.f", "g", "g.h", "g.i", "l", "n", "n.o", "n.q", "r"}


@pytest.mark.parametrize(
    "text",
    [
        "import " + "a" * 1_000_000 + "\n" + "import a" + ", a" * 300_000 + ",\n" + "from \t" * 200_000,
        "from a import (" * 100_000,
        "from a import (\n" * 100_000,
        "from a import (" + " " * 1_000_000,
        "from a import " + " as " * 300_000,
        ("from a import (" + "a," * 1000 + "\n") * 500,
        "from a" + " \t" * 500_000,
    ],
    ids=range(7),
)
def test_a_text_that_is_slow_to_search(text: str) -> None:
    """None is: it costs no more than its length."""
    assert imported_names(Modules("m", {"m": ("m.py", text, False)}))


def test_what_comes_from_a_package_is_compiled_ahead(runtime: cloche.Runtime, cache: Path, tmp_path: Path) -> None:
    """The first node that imports it finds its code."""
    path = write_lib(tmp_path / "lib.whl", "", part="from . import inner", inner="")
    source = cloche.Source("from os.path import exists\nfrom lib import part\ndef f(x): return x, exists(part.__spec__.cached), exists(part.inner.__spec__.cached)")  # fmt: skip
    assert used(runtime, path, source) == (True, True)


def test_a_compiler_that_ran_out_of_time_continues_at_the_next_load(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From what it has made; and not for ever: a package may be made to be slow."""
    monkeypatch.setattr(compiled_packages, "_SECONDS", 0.0)
    given: list[bytes] = []

    def compile_one(name: str, content: bytes, names: list[str], seconds: float) -> bytes:
        given.append(content)
        return tree.pack({str(len(given)): tree.File(b"", 0)})

    packages = CompiledPackages("image", compile_one, lambda _: None)
    before = b"PK"
    for number in range(1, 30):
        now = packages.prepared({"a.whl": b"PK"}, [])["a.whl"]
        if len(given) == number:
            assert given[-1] == before
            before = now
        assert now == before
    assert len(given) == 8
    monkeypatch.setattr(compiled_packages, "_SECONDS", 60.0)
    packages.prepared({"b.whl": b"PK"}, [])
    packages.prepared({"b.whl": b"PK"}, [])
    assert len(given) == 9


def test_a_node_cannot_have_the_compiler_run_at_every_load(cache: Path) -> None:
    """Only for modules that are there and have no code, once each."""
    empty = tree.File(b"", 0)
    files = {"lib/__init__.py": empty, "lib/a.py": empty, "lib/bad.py": empty, "one.py": empty}
    made = tree.pack(files | {"lib/__pycache__/a.cpython-313.pyc": empty})
    asked: list[list[str]] = []

    def compile_one(name: str, content: bytes, names: list[str], seconds: float) -> bytes:
        asked.append(names)
        return made

    packages = CompiledPackages("image", compile_one, lambda _: None)
    sent = packages.prepared({"a.whl": b"PK"}, [])
    for _ in range(3):
        for lie in ("nothing", "lib.a", "lib/bad", "lib.bad", "lib", "one", "../lib.bad", ""):
            packages.extend({"a.whl": b"PK"}, sent, {"a.whl": [lie]})
    assert asked == [[], ["lib.bad"], ["lib"], ["one"]]


def test_a_hostile_wheel_says_why(runtime: cloche.Runtime, cache: Path, tmp_path: Path) -> None:
    """The host does not read it: the error is the guest's."""
    path = write_wheel(tmp_path / "evil.whl", {"../../etc/passwd": "x"})
    with pytest.raises(
        cloche.NodeLoadError, match=r"package 'evil\.whl' cannot be used: '\.\./\.\./etc/passwd' is no plain"
    ):
        runtime.load(cloche.Source("def f(x): return x"), grants=cloche.Grants(packages=[path]))
    [marker] = kept(cache)  # it is not given to the compiler again
    assert marker.name.endswith("-given-up.tree")


def test_an_archive_that_is_refused_is_given_to_the_compiler_once(cache: Path) -> None:
    """Each load says why it is refused, and none takes longer for it."""
    asked: list[str] = []

    def compile_one(name: str, *_: object) -> bytes:
        asked.append(name)
        raise cloche.NodeLoadError(Failure("init", "ImportError", "it is no archive"), "compiler")

    for _ in range(3):
        packages = CompiledPackages("image", compile_one, lambda _: None)
        assert packages.prepared({"a.whl": b"PK"}, ["a"]) == {"a.whl": b"PK"}
    assert asked == ["a.whl"]
