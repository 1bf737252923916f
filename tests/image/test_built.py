"""The image of this tree: what it imports, what its manifest says, and that it is the same each time."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from cloche._wasm import image as artifact
from cloche._wasm.checkout import cache_folder
from imagebuild import compiledcheck, stopcheck
from imagebuild.gate import check_compiled_stops
from imagebuild.inputs import inputs_digest
from imagebuild.link import check_interface, check_no_bulk_memory
from imagebuild.wasmfile import Module
from tests.image.conftest import TREE

pytestmark = pytest.mark.image

JUMPS = {
    36: "RETURN_VALUE", 71: "EXTENDED_ARG", 77: "JUMP_BACKWARD", 78: "JUMP_BACKWARD_NO_INTERRUPT", 79: "JUMP_FORWARD",
    97: "POP_JUMP_IF_FALSE", 98: "POP_JUMP_IF_NONE", 99: "POP_JUMP_IF_NOT_NONE", 100: "POP_JUMP_IF_TRUE", 101: "RAISE_VARARGS",
    102: "RERAISE", 103: "RETURN_CONST", 104: "SEND", 118: "YIELD_VALUE", 149: "RESUME", 177: "CALL_PY_EXACT_ARGS",
    247: "INSTRUMENTED_INSTRUCTION", 254: "INSTRUMENTED_LINE",
}  # fmt: skip
"""Opcodes of CPython 3.13 that can lead back, by number."""


@pytest.fixture(scope="module")
def image() -> artifact.Image:
    return artifact.find()


def test_it_imports_and_exports_the_abi_and_nothing_else(image: artifact.Image, abi: dict[str, Any]) -> None:
    """The whole attack surface of the host: six functions, one of which takes an address."""
    module = Module.parse(image.wasm.read_bytes())
    check_interface(module, abi)
    assert {found.name for found in module.imports()} == {"clock", "random", "sleep", "poll", "exit", "call"}


@pytest.mark.thorough  # a minute; each build checks the same (imagebuild/gate.py), and test_stops.py checks the check
def test_it_can_be_stopped_anywhere(image: artifact.Image) -> None:
    """No instruction that runs in native code on its memory; a load from the stop page on every way round, in the module and in what
    the installed wasmtime makes of it. Of the bytecodes, no jump, no call and nothing that leads to another frame is without."""
    wasm = image.wasm.read_bytes()
    check_no_bulk_memory(wasm)
    check_compiled_stops(compiledcheck.engine(), wasm, list(range(256)))
    assert not stopcheck.check(wasm, range(256)).unstopped & JUMPS.keys()


def test_its_manifest_says_what_it_is(image: artifact.Image, abi: dict[str, Any]) -> None:
    """Enough to reproduce it and to name its licences."""
    manifest = image.manifest
    assert manifest["format"] == 1
    assert manifest["abi"] == abi["VERSION"]
    assert manifest["inputs"]["digest"] == inputs_digest(TREE)
    assert manifest["memory"]["density"] >= 0.5
    assert set(manifest["versions"]) >= {"cpython", "numpy", "cloudpickle", "tzdata", "clang", "wasi-libc"}
    assert set(manifest["licences"]) >= {
        "cpython",
        "numpy",
        "cloudpickle",
        "tzdata",
        "wasi-libc",
        "zlib",
        "bzip2",
        "xz-utils",
    }


def test_it_names_no_folder_of_the_machine_that_built_it(image: artifact.Image) -> None:
    """Neither the cache nor the checkout nor the building Python."""
    wasm = image.wasm.read_bytes()
    system = "/usr"  # a word that the standard library itself has
    for path in {str(cache_folder()), str(TREE), sys.prefix, sys.base_prefix} - {system}:
        assert path.encode() not in wasm


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_the_same_inputs_give_the_same_bytes() -> None:
    """Freezing, linking and the snapshot, again and in another folder. `verify --full` compiles again too."""
    command = [sys.executable, str(TREE / "wasm/build.py"), "verify"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == artifact.find().sha256
