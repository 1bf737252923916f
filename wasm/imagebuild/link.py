"""C sources that are generated for linking the image, and checks of the linked module."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import wasmtime

from imagebuild import wasmcode, wasmfile
from imagebuild.driver import Abi
from imagebuild.stages import BuildError

# Modules that CPython's core initialises itself, with what does it.
CORE_MODULES = {
    "marshal": "PyMarshal_Init",
    "_imp": "PyInit__imp",
    "_ast": "PyInit__ast",
    "_tokenize": "PyInit__tokenize",
    "builtins": None,
    "sys": None,
    "gc": "PyInit_gc",
    "_warnings": "_PyWarnings_Init",
    "_string": "PyInit__string",
}
# C++ exceptions are compiled out (-fignore-exceptions): what would throw ends the guest.
CXX_RUNTIME = """#include <stdlib.h>
void *__cxa_allocate_exception(size_t n) { return malloc(n); }
void __cxa_throw(void *thrown, void *type, void (*destroy)(void *)) { abort(); }
"""


def shim_flags(shim: Path, made: Path, includes: Sequence[str]) -> list[str]:
    """The flags for wasm/shim's C files at `shim`; `made` has the generated headers, `includes` are CPython's."""
    return [f"-I{made}", f"-I{shim}", *includes, "-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"]


def inittab(builtin: list[str], extra: dict[str, str]) -> str:
    """C source of the table of built-in modules, and of image_inittab, which adds `extra` (name: suffix of PyInit_)."""
    functions = [*(f"PyInit_{name}" for name in builtin), *(f"PyInit_{suffix}" for suffix in extra.values())]
    functions += [function for function in CORE_MODULES.values() if function]
    rows = {name: f"PyInit_{name}" for name in builtin} | CORE_MODULES
    lines = ["/* Generated. */", "#include <Python.h>"]
    lines += [f"extern PyObject *{function}(void);" for function in functions]
    lines += ["struct _inittab _PyImport_Inittab[] = {"]
    lines += [f'    {{"{name}", {function or "NULL"}}},' for name, function in rows.items()]
    lines += ["    {0, 0}", "};", "void image_inittab(void) {"]
    lines += [f'    PyImport_AppendInittab("{name}", PyInit_{suffix});' for name, suffix in extra.items()]
    return "\n".join([*lines, "}", ""])


def check_validator(body: bytes) -> None:
    """Check that the reply validator's object (check.c) has no data, and only reads the memory whose address it is given.

    Raises:
        BuildError: it does, so that a node that overwrites memory could deceive it.
    """
    module = wasmfile.Module.parse(body)
    data = wasmfile.Reader(module.section(wasmfile.DATA)).unsigned()
    writes, symbols = wasmcode.writes_memory(module), set(wasmcode.memory_symbols(module)) - {"__heap_base"}
    uses_stack = any(found.name == "__stack_pointer" for found in module.imports())
    if data or writes or symbols or uses_stack:
        what = f"{data} data segments, writes {writes}, addresses of {sorted(symbols)}, shadow stack: {uses_stack}"
        raise BuildError(f"check.c must not depend on linear memory, but has: {what}")


def check_entry(module: wasmfile.Module) -> None:
    """Check that node_call keeps the reply's address and length in WebAssembly locals: that it neither writes to linear memory nor
    has a stack frame there.

    Raises:
        BuildError: it does either, so that a node could change the values between the check and the return.
    """
    imported = sum(1 for found in module.imports() if found.kind == "function")
    entry = next(found.index for found in module.exports() if found.name == "node_call")
    body = next(body for index, body in enumerate(wasmcode.bodies(module), imported) if index == entry)
    for opcode, sub in wasmcode.instructions_of(body):
        if wasmcode.is_write(opcode, sub) or opcode in wasmcode.GLOBALS:
            raise BuildError(f"node_call uses linear memory or a global itself (opcode {opcode:#x} {sub})")


def check_no_bulk_memory(wasm: bytes) -> None:
    """Check that the image has no bulk-memory instruction: those would touch its memory in wasmtime's native code, where a page
    guard must never stop it (docs/explanation/architecture.md, "Time").

    Raises:
        BuildError: it has one; compile with toolchain.FEATURES, and see shim/mem.c.
    """
    config = wasmtime.Config()
    config.wasm_bulk_memory = False
    try:
        wasmtime.Module.validate(wasmtime.Engine(config), wasm)
    except wasmtime.WasmtimeError as error:
        raise BuildError(f"the image is not valid without bulk memory: {error}") from error


def check_interface(module: wasmfile.Module, abi: Abi) -> None:
    """Check that the image imports and exports exactly what the ABI names.

    Raises:
        BuildError: it does not; the message has both lists.
    """
    types = module.types()
    functions = [found.type for found in module.imports() if found.kind == "function"]
    imports = {(found.module, found.name): found.type for found in module.imports()}
    wanted = {(abi["IMPORT_MODULE"], name): signature for name, signature in abi["IMPORTS"].items()}
    if imports != wanted:
        raise BuildError(f"the image's imports are {imports}, not {wanted}")
    declared = wasmfile.Reader(module.section(3))
    functions += [types[declared.unsigned()] for _ in range(declared.unsigned())]
    exports = {
        found.name: functions[found.index] if found.kind == "function" else found.kind for found in module.exports()
    }
    if exports != abi["EXPORTS"]:
        raise BuildError(f"the image's exports are {exports}, not {abi['EXPORTS']}")
