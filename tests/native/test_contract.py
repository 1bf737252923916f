"""The numbers and layouts that the core's headers share with Python, with the guest and with wasmtime are the same on each side."""

from __future__ import annotations

import ctypes
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cloche._wasm import core
from cloche_wire import abi

from . import build


def header(name: str) -> str:
    """A header without its comments."""
    return re.sub(r"/\*.*?\*/", "", (build.CORE / name).read_text(encoding="utf-8"), flags=re.DOTALL)


def enums(name: str) -> dict[str, dict[str, int]]:
    """The enums of a header: names and numbers; those without a name under "" together."""
    found: dict[str, dict[str, int]] = {}
    for tag, body in re.findall(r"enum (\w*)\s*\{(.*?)\}", header(name), re.DOTALL):
        for item, number in re.findall(r"(\w+)\s*=\s*(-?\d+)", body):
            found.setdefault(tag, {})[item] = int(number)
    return found


def test_the_numbers_are_pythons() -> None:
    """numbers.h is what Python's enums and constants make it."""
    made = runpy.run_path(str(build.CORE / "write_numbers.py"))["text"]()
    assert (build.CORE / "numbers.h").read_text(encoding="utf-8") == made, "run python runtime/native/write_numbers.py"


def test_the_numbers_are_distinct() -> None:
    """Two words in one place, or a word beyond the last one, would be written over."""
    assert len(core.Word.__members__) == len(core.Word)
    assert max(core.Word) < core.WORDS
    assert len(core.METERINGS) == len(core.Metering)


def test_imports() -> None:
    """The core offers the imports in the order in which Python names them."""
    assert set(core.IMPORTS) == set(abi.IMPORTS)
    listed = re.search(r"cloche_imports\[\] = \{(.*?)\}", header("imports.c"), re.DOTALL)
    assert listed is not None
    assert tuple(name.strip().removesuffix("_import") for name in listed[1].split(",")) == core.IMPORTS


def test_the_images_fields() -> None:
    body = re.search(r"struct cloche_image \{(.*?)\};", header("cloche.h"), re.DOTALL)
    assert body is not None
    fields = [name for line in body[1].split(";") for name in re.findall(r"(\w+)\s*(?:,|$)", line.strip())]
    assert fields == [field[0] for field in core.Image._fields_]
    assert ctypes.sizeof(core.Image) == 8 * len(fields)


C_TYPES: dict[str, set[Any]] = {
    "int": {ctypes.c_int},
    "uint64_t": {ctypes.c_uint64},
    "uint32_t": {ctypes.c_uint32},
    "size_t": {ctypes.c_size_t},
    "*": {ctypes.c_void_p, ctypes.c_char_p},
}


def test_prototypes() -> None:
    """Each exported function has the result and the parameters that Python gives it."""
    text = header("cloche.h")
    found = re.findall(r"CLOCHE_EXPORT (\w+) cloche_(\w+)\((.*?)\);", text, re.DOTALL)
    assert {name for _, name, _ in found} == set(core._FUNCTIONS)
    for result, name, listed in found:
        kind, parameters = core._FUNCTIONS[name]
        assert kind in C_TYPES[result], name
        types = [] if listed == "void" else ["*" if "*" in one else one.split()[-2] for one in listed.split(",")]
        assert len(types) == len(parameters), name
        for c_type, given in zip(types, parameters, strict=True):
            assert given in C_TYPES[c_type], name


def engine_functions() -> list[tuple[str, str, list[str]]]:
    """(wasmtime's name, result, parameters) of each member of ``struct cloche_engine``, in order."""
    text = (build.CORE / "engine.h").read_text(encoding="utf-8")
    body = re.sub(r",\s+", ", ", text[text.index("struct cloche_engine {") :])  # one line for each function
    found = []
    for name, result, listed in re.findall(r"/\* (wasm\w+) \*/\n    (.*?)\(\*\w+\)\((.*)\);", body):
        flat = re.sub(r"void \(\*(\w+)\)\(void \*\)", r"void *\1", listed)
        found.append((name, result.strip(), flat.split(", ")))
    return found


def kind_of(c_type: str) -> str:
    if "*" in c_type or "callback" in c_type:
        return "pointer"
    for name in ("bool", "int64_t", "uint64_t", "size_t"):
        if name in c_type.split():
            return {"bool": "1", "void": "none"}.get(name, "8")
    return "none" if "void" in c_type else "?"


def kind_of_ctypes(kind: Any) -> str:
    if kind is None:
        return "none"
    pointer = isinstance(kind, type) and issubclass(kind, (ctypes._Pointer, ctypes.c_void_p, ctypes._CFuncPtr))
    return "pointer" if pointer else str(ctypes.sizeof(kind))


def test_engine_functions() -> None:
    """The table is filled in the header's order, and each entry has the parameters that wasmtime-py declares."""
    bindings = pytest.importorskip("wasmtime._bindings")
    table = engine_functions()
    assert [name for name, _, _ in table] == list(core._ENGINE_FUNCTIONS)
    for name, result, parameters in table:
        declared = getattr(bindings, f"_{name}")
        assert [kind_of(one) for one in parameters] == [kind_of_ctypes(one) for one in declared.argtypes], name
        assert kind_of(result) == kind_of_ctypes(declared.restype), name


STRUCTURES = {
    # ours: (wasmtime-py's, {our field: theirs})
    "struct engine_func": ("wasmtime_func", {"store_id": "store_id", "private_": "__private"}),
    "struct engine_global": (
        "wasmtime_global",
        {"store_id": "store_id", "private1": "__private1", "private2": "__private2", "private3": "__private3"},
    ),
    "struct engine_instance": ("wasmtime_instance", {"store_id": "store_id", "private_": "__private"}),
    "struct engine_extern": ("wasmtime_extern", {"kind": "kind", "of": "of"}),
    "union engine_raw": ("wasmtime_val_raw", {"i32": "i32", "i64": "i64", "v128": "v128"}),
    "struct engine_val": ("wasmtime_val", {"kind": "kind", "of": "of"}),
    "struct engine_bytes": ("wasm_byte_vec_t", {"size": "size", "data": "data"}),
}


def test_engine_structures(tmp_path: Path) -> None:
    """Sizes and offsets, as the compiler lays them out."""
    bindings = pytest.importorskip("wasmtime._bindings")
    lines, expected = [], []
    for ours, (theirs, fields) in STRUCTURES.items():
        kind = getattr(bindings, theirs)
        lines.append(f'printf("%zu\\n", sizeof({ours}));')
        expected.append((ours, ctypes.sizeof(kind)))
        for field, other in fields.items():
            lines.append(f'printf("%zu\\n", offsetof({ours}, {field}));')
            expected.append((f"{ours}.{field}", getattr(kind, other).offset))
    lines.append('printf("%zu\\n", sizeof ((struct engine_extern *)0)->of.memory);')
    expected.append(("memory", ctypes.sizeof(bindings.wasmtime_memory)))
    source, program = tmp_path / "layout.c", tmp_path / "layout"
    text = '#include "engine.h"\n#include <stdio.h>\nint main(void) {\n' + "\n".join(lines) + "\nreturn 0;\n}\n"
    source.write_text(text, encoding="utf-8")
    try:
        command = [*build.compiler(), f"-I{build.CORE}", str(source), "-o", str(program)]
    except build.Unavailable as reason:
        pytest.skip(str(reason))
    subprocess.run(command, check=True)
    found = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout.split()
    assert list(zip([name for name, _ in expected], map(int, found), strict=True)) == expected


def test_kinds_of_externs() -> None:
    names = pytest.importorskip("wasmtime._ffi")
    numbers = {name: number for name, number in enums("engine.h")[""].items() if name.startswith("ENGINE_")}
    assert len(numbers) == 4
    for name, number in numbers.items():
        assert number == getattr(names, name.replace("ENGINE_", "WASMTIME_EXTERN_")).value
