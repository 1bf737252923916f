"""Wheels of strangers as trees, and the compiler that makes bytecode of them. Natively: both are pure functions of bytes."""

from __future__ import annotations

import importlib.util
import marshal
import struct
import sys
import zipfile
from collections.abc import Callable

import pytest

from cloche_guest.compiling import compile_package
from cloche_guest.wheels import tree_of
from cloche_wire import tree
from tests import wheels


def archive(*members: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    return wheels.archive(members, compression)


def contents(block: bytes) -> dict[str, bytes]:
    return {path: file.content() for path, file in tree.files(block).items()}


def compiled(block: bytes) -> set[str]:
    """Modules with compiled code."""
    return {
        path.replace("/__pycache__/", "/").partition(".cpython")[0] for path in contents(block) if "__pycache__" in path
    }


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_file_is_in_the_tree(compression: int) -> None:
    """Whatever its compression; purelib is unpacked as by pip; stale bytecode is left out."""
    content = archive(
        ("p/__init__.py", b"x" * 1000), ("p/empty", b""), ("p-1.data/purelib/q.py", b"q"), ("p-1.data/scripts/s", b"s"),
        ("p/__pycache__/a.cpython-313.pyc", b"old"), ("p/q/__pycache__", b"a file"), ("d/", b""), ("ü/é.txt", b"e"),
        ("p/own.data/purelib/f", b"data"), compression=compression,
    )  # fmt: skip
    assert contents(tree_of("p.whl", content)) == {
        "p/__init__.py": b"x" * 1000,
        "p/empty": b"",
        "q.py": b"q",
        "p-1.data/scripts/s": b"s",
        "p/own.data/purelib/f": b"data",
        "ü/é.txt": b"e",
    }


def test_an_archive_behind_other_bytes() -> None:
    """As Python's zip applications have it."""
    assert contents(tree_of("p.whl", b"#!/usr/bin/python\n" + archive(("a", b"abc")))) == {"a": b"abc"}


def changed(old: bytes, new: bytes, content: bytes, count: int = -1) -> bytes:
    assert old in content
    return content.replace(old, new, count)


def with_sizes(size: int, content: bytes) -> bytes:
    """The archive with another uncompressed size in its central directory."""
    at = content.index(b"PK\1\2")
    return content[: at + 24] + struct.pack("<I", size) + content[at + 28 :]


ONE = archive(("a.py", b"x = 1\n" * 100))
HOSTILE = {
    "up": (archive(("p/../../x", b"")), "no plain relative path"),
    "absolute": (archive(("/etc/x", b"")), "no plain relative path"),
    "dot": (archive(("./x", b"")), "no plain relative path"),
    "twice": (changed(b"bbb", b"aaa", archive(("aaa", b"1"), ("bbb", b"2"))), "'aaa' twice"),
    "nul": (changed(b"a@py", b"a\0py", archive(("a@py", b""))), "NUL"),
    "file and folder": (archive(("a", b""), ("a/b", b"")), "a file and a folder"),
    "long name": (archive(("n" * 300, b"")), "too long"),
    "encrypted": (ONE[: ONE.index(b"PK\1\2") + 8] + b"\1" + ONE[ONE.index(b"PK\1\2") + 9 :], "encrypted"),
    "bomb": (with_sizes(1 << 31, ONE), "cannot have the size"),
    "no zip": (b"junk", "is not a wheel or zip"),
    "cut off": (ONE[: len(ONE) // 2], "is not a wheel or zip"),
    "no local header": (changed(b"PK\3\4", b"PK\3\5", ONE), "does not lie in the archive"),
    "stored with another size": (with_sizes(9, archive(("a", b"abc"), compression=zipfile.ZIP_STORED)), "not the size"),
}


@pytest.mark.parametrize("case", HOSTILE, ids=str)
def test_a_hostile_archive_is_refused(case: str) -> None:
    """With the package's name and the reason."""
    content, reason = HOSTILE[case]
    with pytest.raises(ImportError, match=r"package 'p\.whl' ") as refused:
        tree_of("p.whl", content)
    assert reason in str(refused.value)


def test_a_lie_within_the_possible_is_found_when_the_file_is_read() -> None:
    """The tree is made without decompressing anything."""
    file = tree.files(tree_of("p.whl", with_sizes(50, ONE)))["a.py"]
    with pytest.raises(ValueError, match="damaged"):
        file.content()


def test_any_damage_ends_in_an_import_error_or_a_tree() -> None:
    """Each byte changed once."""
    for at in range(len(ONE)):
        damaged = ONE[:at] + bytes((ONE[at] ^ 0xFF,)) + ONE[at + 1 :]
        try:
            block = tree_of("p.whl", damaged)
        except ImportError:
            continue
        tree.files(block)


PACKAGE = {
    "p/__init__.py": "from . import a\nfrom .sub import *\n",
    "p/a.py": "import os, p.b\ndef f():\n    import p.lazy\n",
    "p/b.py": "from .c import d\nfrom p import e as other, nothing\n",
    "p/c/__init__.py": "if True:\n    import other.deep.er\nelse:\n    pass\n",
    "p/c/d.py": "",
    "p/e.py": "from ........ import x\n",
    "p/lazy.py": "",
    "p/sub.py": "class C:\n    import p.inner\n",
    "p/inner.py": "",
    "p/bad.py": "x = (\n",
    "other/__init__.py": "",
    "other/deep/er.py": "import p.bad\nimport p.latin",
    "p/latin.py": "# coding: latin-1\nNAME = '\xe9'\n",
    "p/tests/test_p.py": "",
}


@pytest.fixture
def package() -> bytes:
    return archive(*((path, text.encode("latin-1")) for path, text in PACKAGE.items()))


def test_what_an_import_imports_is_compiled(package: bytes) -> None:
    """And nothing else: a first load takes no longer than the imports themselves. What does not compile is left out."""
    made = compile_package("p.whl", package, ["p"], 60)
    assert compiled(made) == {
        "p/__init__", "p/a", "p/b", "p/c/__init__", "p/c/d", "p/e", "p/sub", "other/__init__", "other/deep/er", "p/latin",
    }  # fmt: skip
    assert {path: data for path, data in contents(made).items() if "__pycache__" not in path} == contents(
        tree_of("p.whl", package)
    )


def test_code_that_is_there_is_kept(package: bytes) -> None:
    """A later node imports more."""
    first = compile_package("p.whl", package, ["other"], 60)
    again = compile_package("p.whl", first, ["p.lazy", "no.such.module", "", "..", "p.bad"], 60)
    assert compiled(again) == {"other/__init__", *compiled(compile_package("p.whl", package, ["p"], 60)), "p/lazy"}


def test_no_time(package: bytes) -> None:
    """Then the tree has no code."""
    assert compiled(compile_package("p.whl", package, ["p"], 0)) == set()


def test_the_code_is_what_python_would_have_written(package: bytes) -> None:
    """Unchecked (PEP 552), with the path that tracebacks show."""
    cached = f"p/__pycache__/a.{sys.implementation.cache_tag}.pyc"
    data = contents(compile_package("p.whl", package, ["p.a"], 60))[cached]
    assert data[:4] == importlib.util.MAGIC_NUMBER
    assert data[4:8] == b"\1\0\0\0"
    assert data[8:16] == importlib.util.source_hash(PACKAGE["p/a.py"].encode())
    assert marshal.loads(data[16:]).co_filename == "/packages/p.whl/p/a.py"


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(lambda: "(" * 5000 + ")" * 5000, id="deep"),
        pytest.param(lambda: "x = " + "-" * 100_000 + "1", id="operators"),
        pytest.param(lambda: "x = " + "1" * 10_000, id="digits"),
        pytest.param(lambda: "\0", id="nul"),
        pytest.param(lambda: "# coding: nonsense\n", id="coding"),
        pytest.param(lambda: "x = '\\ud800'\n", id="surrogate"),
    ],
)
def test_a_module_that_hurts_the_compiler(source: Callable[[], str]) -> None:
    """The others are compiled."""
    content = archive(("p/__init__.py", b"import p.bad, p.good"), ("p/bad.py", source().encode()), ("p/good.py", b""))
    assert {"p/__init__", "p/good"} <= compiled(compile_package("p.whl", content, ["p"], 60))


def test_a_very_large_module_is_left_to_the_node() -> None:
    """It alone would keep the compiler busy beyond its deadline, and the package's other modules would be lost with it."""
    members = (("p/__init__.py", b"from p import a, b\n"), ("p/a.py", b"# " + b"x" * (4 << 20)), ("p/b.py", b"B = 1\n"))
    assert compiled(compile_package("p.whl", archive(*members), ["p"], 60.0)) == {"p/__init__", "p/b"}
