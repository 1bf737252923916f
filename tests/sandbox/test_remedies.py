"""What an error recommends is true of the module in question, whatever kind of module that is."""

from __future__ import annotations

import sys

import pytest

from cloche import remedies
from cloche.remedies import Surroundings, for_failure, for_module
from cloche_wire import Failure, Frame

PACKAGE = Surroundings(
    "mine", frozenset({"mine", "mine.utils", "mine.deep.tools"}), {"lib-1.whl": frozenset({"lib", "lib.core"})}
)
KINDS = {
    "cgi": "cgi was removed from Python in 3.13, and the sandbox runs 3.13. Use urllib.parse, email and html instead. PyPI has a copy",
    "distutils.core": "distutils was removed from Python in 3.12",
    "_crypt": "crypt was removed from Python in 3.13, and the sandbox runs 3.13. Use hashlib instead.",
    "compression.zstd": "compression is new in Python 3.14",
    "urllib2": "urllib2 is a name of Python 2, and the sandbox runs 3.13. Use urllib.request.",
    "winreg": "winreg is there on Windows only.",
    "_tkinter": "_tkinter is in Python's standard library, but not in the sandbox. The sandbox has no window.",
    "turtle": "turtle is in Python's standard library, but not in the sandbox. The sandbox has no window.",
    "json.decode": "json of Python 3.13, which the sandbox runs, has no module decode.",
    "xml.etree.cElementTree": "xml.etree of Python 3.13, which the sandbox runs, has no module cElementTree.",
    "_private": "_private is a private part of another module or package, often compiled code, and not in the sandbox.",
    "_gdbm": "_gdbm is a private part of another module or package, often compiled code, and not in the sandbox.",
    "pip": "Nothing can be installed in the sandbox.",
    "numpy.distutils.core": "The sandbox has numpy, but not numpy.distutils: it is not in numpy for Python 3.12 and newer either.",
    "numpy.nothing": "The sandbox's numpy has no numpy.nothing.",
    "torch.nn": "torch is compiled code, which the sandbox cannot run. Do that part on the host: pass its result to process()",
    "pandas": "pandas is compiled code, which the sandbox cannot run. Pass columns as lists or numpy arrays. Or do that part on",
    "PIL.Image": "PIL (Pillow) is compiled code, which the sandbox cannot run. Decode on the host",
    "transformers": "transformers needs compiled packages, which the sandbox cannot run.",
    "yaml": "The sandbox has the standard library, numpy and cloudpickle.",
    "requests": "The sandbox has the standard library, numpy and cloudpickle.",
    "requets": "There is no requets in the sandbox. Did you mean requests?",
    "jsn": "There is no jsn in the sandbox. Did you mean json?",
    "nummpy": "There is no nummpy in the sandbox. Did you mean numpy?",
    "mine.utlis": "The node's package has no module mine.utlis (did you mean mine.utils?).",
    "utils": "The node's package has mine.utils: write `import mine.utils`",
    "deep.tools": "The node's package has mine.deep.tools: write `import mine.deep.tools`",
    "lib.cores": "The granted package lib-1.whl has no module lib.cores (did you mean lib.core?): is it another version?",
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_module_has_advice_of_its_own(name: str) -> None:
    assert for_module(name, PACKAGE).startswith(KINDS[name])


def test_the_project_is_named_as_on_pypi() -> None:
    assert "`pip download --no-deps --only-binary=:all: PyYAML`" in for_module("yaml.loader")
    assert "`pip download --no-deps --only-binary=:all: typing-inspect`" in for_module("typing_inspect")


def test_what_is_of_no_use_without_a_network_says_so() -> None:
    assert "The sandbox has no network, though. Let the host fetch" in for_module("requests")
    assert "network" not in for_module("yaml")


def test_every_module_of_the_standard_library_is_known_as_that() -> None:
    """In the library of whatever Python the host runs."""
    for name in sys.stdlib_module_names:
        assert "Other packages have to be granted" not in for_module(name), name


def test_no_module_is_in_two_tables() -> None:
    """A name that is compiled cannot be a pure package on the network as well."""
    tables = [
        remedies._COMPILED,
        remedies._ON_COMPILED,
        remedies._REMOVED,
        remedies._PYTHON_2,
        remedies._WINDOWS,
        remedies._STANDARD,
    ]
    names = [name for table in tables for name in table]
    assert len(names) == len(set(names))
    assert not set(remedies._COMPILED) & set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    ("kind", "message", "advice"),
    [
        ("ImportError", "cannot import name 'Mapping' from 'collections' (x.py)", "In Python 3.13 it is not in collections: its place is collections.abc."),
        ("ImportError", "cannot import name 'float_' from 'numpy' (x.py)", "The sandbox has numpy 2, which removed some names"),
        ("ImportError", "cannot import name 'a' from 'mine.utils' (x.py)", ""),
        ("ImportError", "lib._fast is a compiled extension (lib/_fast.so): only ...", "The sandbox cannot run compiled code. Grant a pure-Python version"),
        ("ImportError", "attempted relative import with no known parent package", "The node was loaded as a single module. Load the folder"),
        ("ImportError", "attempted relative import beyond top-level package", "The import leads out of the folder that was loaded (mine)"),
        ("ModuleNotFoundError", "No module named 'mine.utils.x'; 'mine.utils' is not a package", "The node's package has no module mine.utils.x"),
        ("FileNotFoundError", "[Errno 44] No such file or directory: 'a.txt'", "Of the host's files a node sees only the folders of Grants(mounts=...)."),
        ("FileNotFoundError", "the node's own words", ""),
        ("ImportError", "please install the extra", ""),
        ("ValueError", "No module named 'json'", ""),
    ],
)  # fmt: skip
def test_messages_of_python_are_understood(kind: str, message: str, advice: str) -> None:
    found = for_failure(Failure("import", kind, message), PACKAGE)
    assert found.startswith(advice)
    assert bool(found) == bool(advice)


def test_the_cause_of_a_packages_own_error_counts() -> None:
    """Many packages catch the ModuleNotFoundError, and raise an ImportError that says what to install."""
    cause = Failure("import", "ModuleNotFoundError", "No module named 'torch'")
    assert for_failure(Failure("import", "ImportError", "please install it", cause=cause)).startswith(
        "torch is compiled code"
    )
    assert for_failure(Failure("import", "RuntimeError", "please install it", cause=cause)) == ""


def test_a_syntax_error_names_the_file_if_it_is_not_the_nodes_own() -> None:
    frames = (Frame("/packages/old.whl/old.py", 1, "<module>", "print 1"),)
    assert for_failure(Failure("import", "SyntaxError", "x", frames)) == (
        "The source in /packages/old.whl/old.py has to be valid Python 3.13, which the sandbox runs."
    )
    assert (
        for_failure(Failure("compile", "TabError", "x", frames))
        == "The source has to be valid Python 3.13, which the sandbox runs."
    )
    assert for_failure(Failure("call", "SyntaxError", "x", frames)) == ""


@pytest.mark.parametrize(
    "message", ["No module named '" + "a." * 5000 + "'", "No module named '\u202e'", "No module named ''", "a" * 16384]
)
def test_a_message_can_be_anything(message: str) -> None:
    """A node chooses it."""
    assert len(for_failure(Failure("import", "ModuleNotFoundError", message), PACKAGE)) < 70_000
