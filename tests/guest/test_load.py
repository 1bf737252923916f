"""LOAD: modules and packages from memory, the entry, the constructor, and what each failure says."""

from __future__ import annotations

import importlib.machinery
import random
import sys

import pytest

from cloche_guest import modules
from cloche_wire import Op, Reply, tree
from tests.wheels import archive

LIBRARY = {
    "helper/__init__.py": "from .core import double\nfrom importlib.metadata import version\n__version__ = version('helper')",
    "helper/core.py": "from importlib.resources import files\nfrom pkgutil import get_data\nFACTOR = int(files('helper').joinpath('data/factor.txt').read_text())\n"
                      "assert get_data('helper', 'data/factor.txt') == b'2'\ndef double(x):\n    return FACTOR * x\n",
    "helper/data/factor.txt": "2",
    "helper/latin.py": "# coding: latin-1\nNAME = '\xe9'\n".encode("latin-1"),
    "helper/speed.py": "try:\n    from helper import _fast\nexcept ImportError as error:\n    REASON = str(error)\n",
    "helper/_fast.cpython-313-x86_64-linux-gnu.so": b"\x7fELF",
    "space/inner/thing.py": "X = __name__",
    "helper-1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: helper\nVersion: 1.2\n",
    "helper-1.2.data/purelib/extra.py": "Y = 5",
}  # fmt: skip


def folder(files):
    """The tree of a node's own package."""
    return tree.pack({path: tree.File(text.encode(), len(text.encode())) for path, text in files.items()})


PACKAGES = {"helper-1.2-py3-none-any.whl": archive(LIBRARY)}


def refused(bench, *args, **fields):
    """Phase, type and message of a load that fails."""
    kind, failure = bench.load(*args, **fields)
    assert kind is Reply.FAILURE
    return failure["phase"], failure["type"], failure["message"]


def test_package_with_relative_imports_and_data(load):
    """The node's own package, sent whole."""
    files = {
        "pack/__init__.py": "from .sub.deep import N",
        "pack/sub/__init__.py": "",
        "pack/sub/deep.py": "from ..base import K\nfrom importlib.resources import files\nfrom pathlib import Path\n"
                            "def N(x): return [x * K, files('pack').joinpath('t/table.txt').read_text(), "
                            "Path(__file__).parent.joinpath('../t/table.txt').read_text(), __package__]",
        "pack/base.py": "K = 7",
        "pack/t/table.txt": "ruler",
    }  # fmt: skip
    bench = load("", "N", modules={}, main="pack", tree=folder(files))
    assert bench.process(6) == [42, "ruler", "ruler", "pack.sub"]


@pytest.mark.parametrize(
    ("expression", "value"),
    [("__import__('helper').double(4)", 8), ("__import__('helper').__version__", "1.2"), ("__import__('helper').double.__code__.co_filename", "/packages/helper-1.2-py3-none-any.whl/helper/core.py"), ("__import__('pathlib').Path(__import__('helper').core.__file__).read_text()[:4]", "from"),
     ("__import__('helper.latin').latin.NAME", "é"), ("__import__('space.inner.thing').inner.thing.X", "space.inner.thing"), ("__import__('extra').Y", 5),
     ("__import__('inspect').getsource(__import__('helper').double)", "def double(x):\n    return FACTOR * x\n"),
     ("sorted(p.name for p in __import__('importlib.resources').resources.files('helper').iterdir())[:2]", ["__init__.py", "_fast.cpython-313-x86_64-linux-gnu.so"])],
    ids=["package", "metadata", "code", "file", "encoding", "namespace", "purelib", "source", "listing"],
)  # fmt: skip
def test_wheel_in_memory(load, expression, value):
    """Importable, inspectable, with its data and metadata."""
    assert load("def N(x): return eval(x)", packages=PACKAGES).process(expression) == value


def test_compiled_extension_is_refused_by_name(load):
    """As an ImportError, which packages with a fallback catch."""
    message = load("import helper.speed\ndef N(x): return helper.speed.REASON", packages=PACKAGES).process(0)
    assert (
        "compiled extension (/packages/helper-1.2-py3-none-any.whl/helper/_fast.cpython-313-x86_64-linux-gnu.so)"
        in message
    )


def test_entry_in_a_granted_package(load):
    """main need not be one of the node's own modules."""
    packages = {"n.zip": archive({"lib/nodes.py": "class N:\n def process(self, x): return x * 3"})}
    assert load("", modules={}, main="lib.nodes", packages=packages).process(2) == 6


def test_frames_of_a_package_have_their_text(load):
    """Read from the archive."""
    packages = {"n.zip": archive({"lib.py": "def f():\n    raise ValueError\n"})}
    assert load("import lib\ndef N(x): lib.f()", packages=packages).failure(0)["frames"][-1] == [
        "/packages/n.zip/lib.py",
        2,
        "f",
        "raise ValueError",
    ]


def test_what_is_no_archive_is_named(bench):
    """With the package's name."""
    phase, kind, message = refused(bench, "def N(x): pass", packages={"bad.whl": b"junk"})
    assert (phase, kind) == ("import", "ImportError")
    assert message.startswith("package 'bad.whl' is not a wheel or zip")


def test_missing_module(bench):
    """Phase "import", and the name."""
    assert refused(bench, "import torch") == ("import", "ModuleNotFoundError", "No module named 'torch'")


def test_module_that_raises_while_it_is_imported(bench):
    """Its own frame."""
    kind, failure = bench.load("x = 1\nraise SystemExit('no')")
    assert (kind, failure["phase"], failure["type"]) == (Reply.FAILURE, "import", "SystemExit")
    assert failure["frames"] == [["node.py", 2, "<module>", "raise SystemExit('no')"]]


def test_syntax_error_in_a_submodule_is_phase_compile(bench):
    """It is in the node's own sources."""
    files = {"pack/__init__.py": "import pack.bad", "pack/bad.py": "x = ("}
    assert refused(bench, "", modules={}, main="pack", tree=folder(files)) == (
        "compile",
        "SyntaxError",
        "'(' was never closed",
    )


def test_future_imports_of_the_runtime_are_not_inherited(load):
    """The node's annotations are evaluated as its own module says."""
    assert load("def f(x: int): pass\ndef N(x): return f.__annotations__['x'] is int", "N").process(0) is True


@pytest.mark.parametrize("name", ["types", "queue", "asyncio", "pytest"])
def test_module_named_like_another_one_breaks_nothing(load, name):
    """nodes/types.py is a natural name; the library must stay itself."""
    bench = load(
        "",
        modules={
            name: [
                "n.py",
                f"import {name}\nclass N:\n def process(self, x): return [__name__, hasattr({name}, 'N')]",
            ]
        },
        main=name,
    )
    assert bench.process(0) == [f"node_{name}", False]


def test_a_free_name_is_kept(monkeypatch):
    """It is what tracebacks and logs show."""
    monkeypatch.delitem(sys.modules, "denoise", raising=False)  # another test may have loaded the example
    assert modules.unshadowed("denoise") == "denoise"


ENTRIES = """
import json
from collections import OrderedDict
class Denoise:
    def process(self, x): return x
class Abstract(__import__('abc').ABC):
    @__import__('abc').abstractmethod
    def process(self, x): ...
class _Private:
    def process(self, x): return x
class NotANode: pass
class Outer:
    class Inner:
        def process(self, x): return 'inner'
LIMIT = 5
def helper(x): return x
"""


@pytest.mark.parametrize(
    ("entry", "kind", "message"),
    [("Denois", "LookupError", "node has no 'Denois': did you mean 'Denoise'? it defines Denoise"),
     ("Nothing", "LookupError", "node has no 'Nothing': it defines Denoise"),
     ("Outer.Nothing", "LookupError", "node has no 'Outer.Nothing': it defines Denoise"),
     ("NotANode", "TypeError", "class 'NotANode' has neither process() nor aprocess(): give it a method process(self, data) (it defines Denoise)"),
     ("LIMIT", "TypeError", "'LIMIT' is int, not a class or a function (it defines Denoise)")],
)  # fmt: skip
def test_wrong_entry_says_what_there_is(bench, entry, kind, message):
    """Candidates, and the closest one."""
    assert refused(bench, ENTRIES, entry) == ("entry", kind, message)


@pytest.mark.parametrize(
    ("entry", "name"),
    [(None, "Denoise"), ("helper", "helper"), ("Outer.Inner", "Outer.Inner"), ("_Private", "_Private")],
)
def test_entry(bench, entry, name):
    """None is the only candidate; a name may be anything that works."""
    kind, value = bench.load(ENTRIES, entry)
    assert (kind, value["entry"]) == (Reply.RESULT, name)


def test_functions_are_candidates_where_there_is_no_class(load):
    """A module of one function."""
    assert load("import json\nfrom math import sqrt\ndef double(x): return 2 * x\ndef _helper(): pass").process(4) == 8


NODE_CLASS = "class N:\n def process(self, x): return ['N', x]\n"
BESIDE = {
    "functions": "def clean(x): return x\ndef process(x): return ['process', x]\ndef after(x): return x",
    "async function": "def clean(x): return x\nasync def aprocess(x): return ['process', x]",
    "lambda": "def clean(x): return x\nprocess = lambda x: ['process', x]",
    "partial": "import functools\ndef join(a, x): return [a, x]\nprocess = functools.partial(join, 'process')",
    "cached": "import functools\ndef clean(x): return x\n@functools.lru_cache\ndef process(x): return ['process', x]",
    "bound method": "class M:\n def run(self, x): return ['process', x]\nprocess = M().run",
    "a decorated one": "import functools\ndef deco(f):\n @functools.wraps(f)\n def inner(*a): return f(*a)\n return inner\n@deco\ndef process(x): return ['process', x]",
    "only function, cached": "import functools\n@functools.lru_cache\ndef only(x): return ['process', x]",
    "class and functions": f"def clean(x): return x\n{NODE_CLASS}def main(): pass",
    "class and a function of that name": f"def process(x): return x\n{NODE_CLASS}",
    "class and kin": f"import enum, dataclasses\nclass E(Exception): pass\nclass K(enum.Enum): A = 1\n@dataclasses.dataclass\nclass D:\n a: int = 0\n{NODE_CLASS}",
    "base class": "class Base:\n def process(self, x): raise NotImplementedError\nclass N(Base):\n def process(self, x): return ['N', x]",
    "base classes": "class A:\n def process(self, x): return x\nclass B(A): pass\nclass N(B):\n def process(self, x): return ['N', x]",
    "abstract base": f"import abc\nclass Base(abc.ABC):\n @abc.abstractmethod\n def process(self, x): ...\n{NODE_CLASS.replace('N:', 'N(Base):')}",
    "protocol": f"import typing\nclass P(typing.Protocol):\n def process(self, x): ...\n{NODE_CLASS}",
    "mixin": "class Mixin:\n def aprocess(self, x): return ['N', x]\nclass N(Mixin): pass",
    "imported class": f"from collections import OrderedDict\nfrom queue import Queue\n{NODE_CLASS}",
    "second name": f"{NODE_CLASS}Node = N",
    "dataclass": "import dataclasses\n@dataclasses.dataclass\nclass N:\n a: int = 0\n def process(self, x): return ['N', x]",
    "__all__": f"__all__ = ['N', 'LIMIT']\nLIMIT = 1\nclass Other:\n def process(self, x): return x\n{NODE_CLASS}",
    "__all__ of functions": "__all__ = ['run']\ndef clean(x): return x\ndef run(x): return ['process', x]",
    "odd __all__": f"__all__ = [[], 'N']\n{NODE_CLASS}",
}  # fmt: skip


@pytest.mark.parametrize("case", BESIDE)
def test_entry_is_found_beside_other_names(load, case):
    """The class, or what is called process."""
    assert load(BESIDE[case]).process(5) in (["process", 5], ["N", 5])


FOLDERS = {
    "class of a submodule": ("from .impl import N", NODE_CLASS),
    "and a helper": ("from .impl import N\ndef make(): return N()", NODE_CLASS),
    "all of a submodule": ("from .impl import *", f"class Base:\n def process(self, x): return x\n{NODE_CLASS.replace('N:', 'N(Base):')}"),
    "base of a submodule": ("from .impl import Base\nclass N(Base): pass", "class Base:\n def process(self, x): return ['N', x]"),
    "chosen by __all__": ("from .impl import N, Other\n__all__ = ['N']", f"{NODE_CLASS}class Other(object):\n def process(self, x): return x"),
    "function of a submodule": ("from .impl import run", "def run(x): return ['process', x]"),
    "process of a submodule": ("from .impl import clean, process", "def clean(x): return x\ndef process(x): return ['process', x]"),
    "own process beside an imported class": ("from .impl import Words\ndef process(x): return Words().process(x)", "class Words:\n def process(self, x): return ['process', x]"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDERS)
def test_entry_of_a_package(load, case):
    """A node that lives in a module of the package is found, if the package's own names have none."""
    init, impl = FOLDERS[case]
    own = folder({"p/__init__.py": init, "p/impl.py": impl})
    assert load("", modules={}, main="p", tree=own).process(5) in (["process", 5], ["N", 5])


@pytest.mark.parametrize(
    ("source", "message"),
    [("class A:\n def process(self, x): pass\nclass B:\n def process(self, x): pass",
      "node has more than one node: name the entry, as in load(source, 'A') or nodes.py:A (it defines A, B)"),
     ("def a(x): pass\ndef b(x): pass", "node has more than one node: name the entry, as in load(source, 'a') or nodes.py:a (it defines a, b)"),
     ("class Base:\n def process(self, x): pass\nclass A(Base): pass\nclass B(Base): pass",
      "node has more than one node: name the entry, as in load(source, 'A') or nodes.py:A (it defines A, B)"),
     ("X = 1", "node has no class with process() and no function: name the entry (it defines no node)"),
     ("class Model: pass\nfrom queue import Queue", "node has no class with process() (not Model) and no function: name the entry (it defines no node)"),
     ("import abc\nclass A(abc.ABC):\n def process(self, x): pass\n @abc.abstractmethod\n def size(self): ...",
      "node has no node but the abstract class A, which lacks size: name the entry (it defines no node)")],
    ids=["classes", "functions", "subclasses", "nothing", "no process", "abstract"],
)  # fmt: skip
def test_entry_left_out_where_it_is_not_clear(bench, source, message):
    """Never a guess."""
    assert refused(bench, source) == ("entry", "LookupError", message)


def test_params_are_keyword_arguments(load):
    """For a class its constructor's, for a function its own."""
    assert load("class N:\n def __init__(self, a, *, b=2, **rest): self.p = [a, b, rest]\n def process(self, x): return self.p",
                params={"a": 1, "c": 3}).process(0) == [1, 2, {"c": 3}]  # fmt: skip
    assert load("def N(x, factor=1): return x * factor", params={"factor": 3}).process(5) == 15


@pytest.mark.parametrize(
    ("source", "params", "notes"),
    [("class N:\n def __init__(self, factor=1.0): pass\n def process(self, x): pass", {"fcator": 1},
      ["'fcator' is not a parameter: did you mean 'factor'?", "parameters: N(factor=1.0)"]),
     ("class N:\n def __init__(self, factor): pass\n def process(self, x): pass", {}, ["parameters: N(factor)"]),
     ("class N:\n def __init__(self): len(5)\n def process(self, x): pass", {}, []),
     ("def N(x, factor=1): pass", {"gain": 1}, ["'gain' is not a parameter", "parameters: N(x, factor=1)"])],
    ids=["typo", "missing", "from inside", "function"],
)  # fmt: skip
def test_params_that_do_not_fit(bench, source, params, notes):
    """The signature as a remedy, but only where the signature is the reason."""
    kind, failure = bench.load(source, None, params)
    assert (kind, failure["phase"], failure["type"], failure["notes"]) == (Reply.FAILURE, "init", "TypeError", notes)


def test_init_that_raises(bench):
    """Its own frames, phase "init"."""
    kind, failure = bench.load("class N:\n def __init__(self): {}['k']\n def process(self, x): pass")
    assert (kind, failure["phase"], failure["type"]) == (Reply.FAILURE, "init", "KeyError")
    assert failure["frames"] == [["node.py", 2, "__init__", "def __init__(self): {}['k']"]]


def test_abstract_class_says_what_is_missing(bench):
    """Python's own message."""
    phase, kind, message = refused(bench, ENTRIES, "Abstract")
    assert (phase, kind) == ("init", "TypeError")
    assert "abstract" in message


@pytest.mark.parametrize(
    "body",
    ["def __init__(self, session_id=None): self.s = session_id", "session_id = None\n @property\n def s(self): return self.session_id"],
    ids=["parameter", "attribute"],
)  # fmt: skip
def test_session_id_for_nodes_that_want_it(load, body):
    """As a parameter or an attribute that is None."""
    assert load(f"class N:\n {body}\n def process(self, x): return self.s", session_id="s1").process(0) == "s1"


@pytest.mark.parametrize(
    "body", ["s = None", "def __init__(self, **kw): self.s = kw.get('session_id')", "session_id = 'mine'\n s = 'mine'"]
)
def test_session_id_is_not_forced_on_others(load, body):
    """Nor does it replace one that is set."""
    assert load(f"class N:\n {body}\n def process(self, x): return self.s", session_id="s1").process(0) in (
        None,
        "mine",
    )


def test_seed_makes_the_generators_this_instances_own(load):
    """The snapshot holds one state for all; natively an empty seed leaves the process alone."""
    state = random.getstate()
    source = "import random\ndef N(x): return random.random()"
    draws = [load(source, seed=bytes([i]) * 32).process(0) for i in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    random.setstate(state)
    load(source).guest.handle([Op.GET, 1, "x"])
    assert random.getstate() == state


def test_second_load_is_refused(load):
    """An instance holds one node."""
    bench = load("def N(x): return x")
    assert refused(bench, "def M(x): return x") == ("call", "RuntimeError", "a node is loaded: an instance holds one")
    assert bench.process(1) == 1


@pytest.mark.parametrize("op", [Op.PROCESS, Op.INVOKE, Op.GET, Op.STREAM_OPEN])
def test_calls_before_load_fail(bench, op):
    """And say why."""
    kind, failure = bench.send(op, "x")
    assert (kind, failure["message"]) == (Reply.FAILURE, "no node is loaded")


@pytest.mark.parametrize("op", [-1, 99])
def test_unknown_operation(load, op):
    """A newer host's message is a failure, not a crash."""
    kind, failure = load("def N(x): return x").guest.handle([op, 1])
    assert (kind, failure["message"]) == (1, f"unknown operation {op}") or failure[
        "message"
    ] == "no stream is open on this node"


@pytest.mark.parametrize("file", ["m.py", "folder/m.py", "/a/b.c.py", "strange"])
def test_cached_is_what_the_import_system_would_say(file):
    """Found without the import system's help, which takes longer than the rest of the import."""
    spec = modules.TextFinder("m", file, "").find_spec("m")
    by_the_system = importlib.machinery.ModuleSpec("m", None, origin=file)
    by_the_system.has_location = True
    assert spec is not None
    assert spec.cached == by_the_system.cached
