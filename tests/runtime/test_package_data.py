"""Packages and the node's own folder are folders of files: what native Python finds in them, a node finds in the sandbox."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloche
from tests.wheels import write_wheel

pytestmark = pytest.mark.isolation("none", reason="the files lie in the guest's memory, which is the same in a worker")

FILES = {
    "lib/__init__.py": "from . import plugins\n__path__.append(__path__[0] + '/more')\nHERE = __file__\n",
    "lib/plugins/__init__.py": "",
    "lib/plugins/one.py": "class Point:\n    def __init__(self, x):\n        self.x = x\n\n    def __eq__(self, other):\n        return self.x == other.x\n",
    "lib/plugins/two.py": "from ..inner.deep.est import VALUE\n",
    "lib/inner/deep/est.py": "VALUE = __name__\n",
    "lib/more/extra.py": "EXTRA = 1\n",
    "lib/__main__.py": "import sys\nRESULT = sys.argv[0][-11:], __name__\n",
    "lib/data/a.txt": "hello",
    "lib/data/sub/b.bin": "bytes\0\n",
    "space/part/thing.py": "X = 1\n",
    "space/part/words.txt": "words",
    "lib-1.5.dist-info/METADATA": "Metadata-Version: 2.1\nName: lib\nVersion: 1.5\nRequires-Dist: other>=1\n",
    "lib-1.5.dist-info/RECORD": "lib/__init__.py,,\nlib/data/a.txt,,\n",
    "lib-1.5.dist-info/entry_points.txt": "[lib.plugins]\nsecond = lib.plugins.one:Point\n",
}

LOOKS: dict[str, str] = {
    "iter_modules": "sorted((m.name, m.ispkg) for m in pkgutil.iter_modules(lib.plugins.__path__))",
    "walk_packages": "sorted(m.name for m in pkgutil.walk_packages(lib.__path__, 'lib.'))",
    "get_data": "pkgutil.get_data('lib', 'data/a.txt')",
    "resolve_name": "pkgutil.resolve_name('lib.plugins.one:Point').__name__",
    "beside": "open(os.path.join(os.path.dirname(lib.__file__), 'data', 'a.txt')).read()",
    "path": "sorted(p.relative_to(Path(lib.HERE).parent).as_posix() for p in Path(lib.HERE).parent.rglob('*') if p.suffix in ('.txt', '.bin'))",
    "glob": "[os.path.basename(p) for p in sorted(glob.glob(os.path.dirname(lib.HERE) + '/plugins/[ot]*.py'))]",
    "walk": "sorted((os.path.basename(top), sorted(set(folders) - {'__pycache__'}), sorted(files)) for top, folders, files in os.walk(os.path.dirname(lib.HERE) + '/data'))",
    "scandir": "sorted((e.name, e.is_dir(), e.is_file()) for e in os.scandir(os.path.dirname(lib.HERE) + '/data'))",
    "stat": "(os.path.getsize(os.path.dirname(lib.HERE) + '/data/a.txt'), os.path.isdir(os.path.dirname(lib.HERE)), os.path.exists(lib.HERE + 'x'))",
    "files": "resources.files('lib').joinpath('data/a.txt').read_text()",
    "files of a data folder": "resources.files('lib.data').joinpath('sub/b.bin').read_bytes()",
    "files of a namespace": "resources.files('space.part').joinpath('words.txt').read_text()",
    "contents": "sorted(set(p.name for p in resources.files('lib').iterdir()) - {'__pycache__'})",
    "as_file": "use(resources.as_file(resources.files('lib') / 'data/a.txt'), lambda p: (p.read_text(), p.name))",
    "as_file of a folder": "use(resources.as_file(resources.files('lib') / 'data'), lambda p: sorted(q.name for q in p.iterdir()))",
    "version": "metadata.version('lib')",
    "entry points": "[e.load().__qualname__ for e in metadata.entry_points(group='lib.plugins')]",
    "distribution": "(metadata.distribution('lib').metadata['Name'], metadata.requires('lib'))",
    "distribution's files": "[(str(f), f.read_text() if f.suffix == '.txt' else '') for f in metadata.files('lib')]",
    "packages": "metadata.packages_distributions()['lib']",
    "no distribution": "error(lambda: metadata.version('nope'))",
    "source": "inspect.getsource(importlib.import_module('lib.plugins.one').Point)",
    "source file": "os.path.basename(inspect.getsourcefile(importlib.import_module('lib.plugins.one')))",
    "relative import": "importlib.import_module('lib.plugins.two').VALUE",
    "__path__": "importlib.import_module('lib.extra').EXTRA",
    "missing": "error(lambda: importlib.import_module('lib.nope'))",
    "run_module": "runpy.run_module('lib')['RESULT'][1]",
    "run_path": "runpy.run_path(importlib.import_module('lib.extra').__file__)['EXTRA']",
    "pickle": "pickle.loads(pickle.dumps(importlib.import_module('lib.plugins.one').Point(3))).x",
    "find_spec": "(importlib.util.find_spec('space').loader.__class__.__name__, importlib.util.find_spec('lib.plugins.one').has_location)",
    "write": "error(lambda: open(lib.HERE, 'a'), True)",
    "create": "error(lambda: open(os.path.dirname(lib.HERE) + '/new', 'w'), True)",
    "remove": "error(lambda: os.remove(lib.HERE), True)",
    "mkdir": "error(lambda: os.mkdir(os.path.dirname(lib.HERE) + '/new'), True)",
    "rename": "error(lambda: os.rename(lib.HERE, lib.HERE + '2'), True)",
    "mkdir of what is there": "error(lambda: os.mkdir(os.path.dirname(lib.HERE)), True)",
    "no such folder": "error(lambda: os.listdir(os.path.dirname(lib.HERE) + '/nope'), True)",
}  # fmt: skip
READ_ONLY = ("write", "create", "remove", "mkdir", "rename")

HELPERS = """
import errno, glob, importlib, importlib.util, inspect, os, pickle, pkgutil, runpy
from importlib import metadata, resources
from pathlib import Path
import lib

def use(context, function):
    with context as value:
        return function(value)

def error(function, number=False):
    try:
        function()
    except Exception as error:
        return [type(error).__name__, errno.errorcode.get(error.errno)] if number else [type(error).__name__, str(error)]

def look(expression):
    return eval(expression)
"""


def write(folder: Path) -> Path:
    for path, text in FILES.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode())
    return folder


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What this Python gives for each expression, in a process of its own with the package on its path."""
    folder = write(tmp_path_factory.mktemp("native"))
    script = f"{HELPERS}\nimport sys\nexpressions = eval(sys.argv[1])\nprint(repr({{k: look(e) for k, e in expressions.items()}}))"
    wanted = {name: text for name, text in LOOKS.items() if name not in READ_ONLY}
    done = subprocess.run(
        [sys.executable, "-Wignore", "-c", script, repr(wanted)], cwd=folder, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, check=False, text=True,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    found: dict[str, Any] = eval(done.stdout)
    return found | {name: ["OSError", "EROFS"] for name in READ_ONLY}


def wheel(folder: Path) -> Path:
    return write_wheel(folder / "lib-1.5-py3-none-any.whl", FILES)


def granted_folder(folder: Path) -> Path:
    return write(folder / "site")


def plain(value: Any) -> Any:
    """Tuples and lists alike."""
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("grant", [wheel, granted_folder], ids=["wheel", "folder"])
def test_a_granted_package_is_what_it_is_natively(
    load: Callable[..., cloche.Node], tmp_path: Path, native: dict[str, Any], grant: Callable[[Path], Path]
) -> None:
    """pkgutil, importlib.resources, importlib.metadata, inspect, files beside ``__file__``; on a read-only file system."""
    node = load(HELPERS, "look", grants=cloche.Grants(packages=[grant(tmp_path)]))
    assert {name: plain(node.process(text)) for name, text in LOOKS.items()} == {
        name: plain(value) for name, value in native.items()
    }


def test_the_nodes_own_folder_is_what_it_is_natively(
    runtime: cloche.Runtime, tmp_path: Path, native: dict[str, Any]
) -> None:
    """But for the metadata, which lies beside the folder."""
    folder = write(tmp_path) / "lib"
    with (folder / "__init__.py").open("a") as file:
        file.write(textwrap.dedent(HELPERS).replace("import lib\n", "import sys\nlib = sys.modules[__name__]\n"))
    outside = ("space", "metadata.", "contents")
    wanted = {name: text for name, text in LOOKS.items() if not any(word in name + text for word in outside)}
    with runtime.load(folder, "look") as node:
        found = {name: plain(node.process(text)) for name, text in wanted.items()}
    assert found == {name: plain(native[name]) for name in wanted}


def test_tracebacks_show_the_path_below_the_package(runtime: cloche.Runtime, tmp_path: Path) -> None:
    """And the line, for the node's own modules and for a package's."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("from .other import f\n")
    (tmp_path / "mine" / "other.py").write_text("from lib.plugins.one import Point\ndef f(x):\n    return Point()\n")
    with (
        runtime.load(tmp_path / "mine", "f", grants=cloche.Grants(packages=[granted_folder(tmp_path)])) as node,
        pytest.raises(cloche.NodeRaisedError) as raised,
    ):
        node.process(0)
    assert [(frame.file, frame.line, frame.text) for frame in raised.value.frames] == [
        ("mine/other.py", 3, "return Point()")
    ]


def test_the_nodes_own_module_comes_before_a_package(runtime: cloche.Runtime, tmp_path: Path) -> None:
    """As what lies beside a script does."""
    write(tmp_path / "site")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "__init__.py").write_text("def f(x): return 'mine'\n")
    with runtime.load(tmp_path / "lib", "f", grants=cloche.Grants(packages=[tmp_path / "site"])) as node:
        assert node.process(0) == "mine"


def test_a_package_does_not_hide_the_standard_library(load: Callable[..., cloche.Node], tmp_path: Path) -> None:
    """It comes behind it, as site-packages do."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "json.py").write_text("dumps = None\n")
    assert load("import json\ndef f(x): return json.dumps(x)", "f", grants=cloche.Grants(packages=[tmp_path / "site"])).process(1) == "1"  # fmt: skip


def test_nothing_else_is_there(load: Callable[..., cloche.Node], tmp_path: Path) -> None:
    """Only the granted folder, whatever path is asked for."""
    (tmp_path / "secret").write_text("s")
    site = write(tmp_path / "site")
    node = load(
        "import os\ndef f(p):\n    try: return sorted(os.listdir(p))\n    except OSError as e: return type(e).__name__",
        "f",
        grants=cloche.Grants(packages=[site]),
    )
    assert "site" in node.process("/packages")
    assert node.process("/packages/site/../..") == node.process("/")
    assert node.process(f"/packages/site{tmp_path}") == "FileNotFoundError"
    assert node.process("/packages/site/../site/../../packages/site/lib/data") == ["a.txt", "sub"]


def test_a_link_out_of_a_granted_folder_is_refused(load: Callable[..., cloche.Node], tmp_path: Path) -> None:
    """When the node is loaded."""
    site = write(tmp_path / "site")
    (site / "lib" / "data" / "link").symlink_to("/etc/passwd")
    with pytest.raises(cloche.ClocheError, match="is a link out of the package"):
        load("def f(x): return x", "f", grants=cloche.Grants(packages=[site]))


def test_a_folder_that_changes_later_changes_nothing(load: Callable[..., cloche.Node], tmp_path: Path) -> None:
    """It was read when the node was loaded."""
    import shutil

    site = write(tmp_path / "site")
    node = load("def f(x):\n    import lib.plugins.one as o\n    return open(o.__file__).read()", "f", grants=cloche.Grants(packages=[site]))  # fmt: skip
    shutil.rmtree(site)
    assert node.process(0) == FILES["lib/plugins/one.py"]


def test_files_come_along_in_snapshots_and_clones(runtime: cloche.Runtime, tmp_path: Path) -> None:
    """They are part of the node's memory: nothing has to be granted again, and the package may be gone."""
    path = wheel(tmp_path)
    source = cloche.Source("def f(name):\n    import pkgutil\n    return pkgutil.get_data('lib', name)")
    with runtime.load(source, "f", grants=cloche.Grants(packages=[path])) as node:
        data = node.snapshot().to_bytes()
        with node.clone() as clone:
            assert clone.process("data/a.txt") == b"hello"
    path.unlink()
    with runtime.restore(cloche.Snapshot.from_bytes(data)) as later:
        assert later.process("data/sub/b.bin") == b"bytes\0\n"


def test_large_and_deep_files(load: Callable[..., cloche.Node], tmp_path: Path) -> None:
    """10 MB of data, and twenty folders."""
    folder = tmp_path / "site" / "big"
    deep = folder.joinpath(*(f"d{number}" for number in range(20)))
    deep.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "data.bin").write_bytes(bytes(range(256)) * 40_960)
    (deep / "leaf").write_text("leaf")
    source = """
import os, zlib, big
def f(part):
    folder = os.path.dirname(big.__file__)
    if part == "leaf":
        return [open(os.path.join(top, "leaf")).read() for top, _, files in os.walk(folder) if "leaf" in files]
    with open(folder + "/data.bin", "rb") as file:
        file.seek(5_000_000)
        piece = file.read(4)
        file.seek(0)
        return piece, zlib.crc32(file.read())
"""
    node = load(source, "f", grants=cloche.Grants(packages=[tmp_path / "site"]))
    import zlib

    whole = bytes(range(256)) * 40_960
    assert node.process("data") == (whole[5_000_000:5_000_004], zlib.crc32(whole))
    assert node.process("leaf") == ["leaf"]


def test_a_mount_at_the_place_of_packages_is_refused(tmp_path: Path) -> None:
    """It would hide them."""
    for point in ("/packages", "/packages/mine"):
        with pytest.raises(ValueError, match=f"{point} is mounted, and granted packages are at /packages"):
            cloche.Grants(packages=["x.whl"], mounts={point: tmp_path})


def test_a_mount_at_the_place_of_the_nodes_folder_is_refused(runtime: cloche.Runtime, tmp_path: Path) -> None:
    """A node of one file has no such folder."""
    folder = write(tmp_path) / "lib"
    (folder / "__init__.py").write_text("def f(x): return open('/node/a').read()")
    (tmp_path / "a").write_text("mounted")
    grants = cloche.Grants(mounts={"/node": tmp_path})
    with pytest.raises(cloche.ClocheError, match="/node is mounted, and the files of the node's own folder are there"):
        runtime.load(folder, "f", grants=grants)
    with runtime.load(folder / "__init__.py", "f", grants=grants) as node:
        assert node.process(0) == "mounted"
