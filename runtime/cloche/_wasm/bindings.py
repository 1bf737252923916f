"""wasmtime's C library: the functions that Python calls to configure, compile and link. Calls into guests go through `core`.

The C library comes with the Python package `wasmtime`. That package's own modules are not imported: importing them takes 60 ms, and
they declare ten times as many functions as Cloche uses. The first call of `library` loads the C library and checks that every
function is there. Addresses of C objects are plain ints.
"""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

__all__ = [
    "TRAP_CODES",
    "Bytes",
    "EngineError",
    "address_of_function",
    "check",
    "library",
    "library_path",
    "types_of",
    "version",
]

_P: Final = ctypes.c_void_p
_SIZE: Final = ctypes.c_size_t
_BOOL: Final = ctypes.c_bool


class Bytes(ctypes.Structure):
    """``wasm_byte_vec_t``. wasmtime's vectors of pointers have the same layout, and are read as `Bytes`, too.

    Attributes:
        size: number of bytes, or of pointers.
        data: address of the first.
    """

    _fields_ = (("size", _SIZE), ("data", _P))


_FUNCTIONS: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    # name: (result, parameters); every typed pointer is declared as a plain address
    "wasm_config_new": (_P, ()),
    "wasmtime_config_epoch_interruption_set": (None, (_P, _BOOL)),
    "wasmtime_config_consume_fuel_set": (None, (_P, _BOOL)),
    "wasmtime_config_wasm_bulk_memory_set": (None, (_P, _BOOL)),
    "wasmtime_config_cranelift_opt_level_set": (None, (_P, ctypes.c_uint8)),
    "wasmtime_config_memory_may_move_set": (None, (_P, _BOOL)),
    "wasmtime_config_memory_reservation_set": (None, (_P, ctypes.c_uint64)),
    "wasmtime_config_max_wasm_stack_set": (None, (_P, _SIZE)),
    "wasmtime_config_async_stack_size_set": (None, (_P, _SIZE)),
    "wasm_engine_new_with_config": (_P, (_P,)),
    "wasm_engine_delete": (None, (_P,)),
    "wasmtime_module_new": (_P, (_P, _P, _SIZE, _P)),
    "wasmtime_config_target_set": (_P, (_P, ctypes.c_char_p)),
    "wasmtime_config_cranelift_flag_enable": (None, (_P, ctypes.c_char_p)),
    "wasmtime_module_deserialize": (_P, (_P, ctypes.c_char_p, _SIZE, _P)),
    "wasmtime_module_deserialize_file": (_P, (_P, ctypes.c_char_p, _P)),
    "wasmtime_module_serialize": (_P, (_P, _P)),
    "wasmtime_module_delete": (None, (_P,)),
    "wasmtime_module_imports": (None, (_P, _P)),
    "wasmtime_module_exports": (None, (_P, _P)),
    "wasm_importtype_module": (_P, (_P,)),
    "wasm_importtype_name": (_P, (_P,)),
    "wasm_importtype_type": (_P, (_P,)),
    "wasm_importtype_vec_delete": (None, (_P,)),
    "wasm_exporttype_name": (_P, (_P,)),
    "wasm_exporttype_type": (_P, (_P,)),
    "wasm_exporttype_vec_delete": (None, (_P,)),
    "wasm_externtype_kind": (ctypes.c_uint8, (_P,)),
    "wasm_externtype_as_functype": (_P, (_P,)),
    "wasm_externtype_as_memorytype": (_P, (_P,)),
    "wasm_functype_new": (_P, (_P, _P)),
    "wasm_functype_delete": (None, (_P,)),
    "wasm_functype_params": (_P, (_P,)),
    "wasm_functype_results": (_P, (_P,)),
    "wasm_valtype_new": (_P, (ctypes.c_uint8,)),
    "wasm_valtype_kind": (ctypes.c_uint8, (_P,)),
    "wasm_valtype_vec_new": (None, (_P, _SIZE, _P)),
    "wasmtime_memorytype_minimum": (ctypes.c_uint64, (_P,)),
    "wasmtime_linker_new": (_P, (_P,)),
    "wasmtime_linker_define_func_unchecked": (
        _P,
        (_P, ctypes.c_char_p, _SIZE, ctypes.c_char_p, _SIZE, _P, _P, _P, _P),
    ),
    "wasmtime_linker_instantiate_pre": (_P, (_P, _P, _P)),
    "wasmtime_linker_delete": (None, (_P,)),
    "wasmtime_instance_pre_delete": (None, (_P,)),
    "wasmtime_error_message": (None, (_P, _P)),
    "wasmtime_error_delete": (None, (_P,)),
    "wasm_byte_vec_delete": (None, (_P,)),
}

VALUE_TYPES: Final = ("i32", "i64", "f32", "f64")
"""Names of the value types; the index is the ``wasm_valkind_t``."""
_FUNCTION, _GLOBAL, _TABLE, _MEMORY = range(4)
"""``wasm_externkind_t``: the kinds of imports and exports."""

TRAP_CODES: Final = (
    "STACK_OVERFLOW",
    "MEMORY_OUT_OF_BOUNDS",
    "HEAP_MISALIGNED",
    "TABLE_OUT_OF_BOUNDS",
    "INDIRECT_CALL_TO_NULL",
    "BAD_SIGNATURE",
    "INTEGER_OVERFLOW",
    "INTEGER_DIVISION_BY_ZERO",
    "BAD_CONVERSION_TO_INTEGER",
    "UNREACHABLE",
    "INTERRUPT",
    "OUT_OF_FUEL",
)
"""Names of the traps; the index is the ``wasmtime_trap_code_t``. Higher codes belong to WebAssembly proposals that the image does
not use."""


class EngineError(Exception):
    """wasmtime refused an operation. The message is wasmtime's own."""


def library_path() -> Path:
    """Path of wasmtime's C library, found without importing the package.

    Raises:
        ImportError: the package is not installed, or has no library for this platform.
    """
    spec = importlib.util.find_spec("wasmtime")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("the package wasmtime is missing: install Cloche with its dependencies (pip install cloche)")
    machine = {"AMD64": "x86_64", "arm64": "aarch64", "ARM64": "aarch64"}.get(platform.machine(), platform.machine())
    name = {"linux": "_libwasmtime.so", "darwin": "_libwasmtime.dylib", "win32": "_wasmtime.dll"}.get(sys.platform, "")
    path = Path(next(iter(spec.submodule_search_locations))) / f"{sys.platform}-{machine}" / name
    if not path.is_file():
        raise ImportError(f"the package wasmtime has no library for {sys.platform} on {machine}")
    return path


@cache
def version() -> str:
    """The version of the installed package wasmtime. `importlib.metadata` would say it, too, and takes long to import."""
    package = library_path().parents[1]
    found = [entry.name for entry in package.parent.glob("wasmtime-*.dist-info")]
    if len(found) == 1:
        return found[0].removeprefix("wasmtime-").removesuffix(".dist-info")
    import importlib.metadata

    return importlib.metadata.version("wasmtime")


@cache
def library() -> Any:
    """Wasmtime's C library, loaded by the first call, with a prototype for each function that Cloche calls.

    Raises:
        ImportError: wasmtime is missing, or the installed version lacks a function.
    """
    loaded = ctypes.CDLL(str(library_path()))
    for name, (result, parameters) in _FUNCTIONS.items():
        function = _function(loaded, name)
        function.restype, function.argtypes = result, parameters
    return loaded


def _function(loaded: Any, name: str) -> Any:
    try:
        return getattr(loaded, name)
    except AttributeError:
        raise ImportError(
            f"the installed wasmtime lacks {name}, which Cloche uses: install the version that its metadata pins "
            "(pip install --force-reinstall cloche)"
        ) from None


def address_of_function(name: str) -> int:
    """The address of a function of wasmtime's C library, which the native core calls.

    Raises:
        ImportError: the installed version lacks the function.
    """
    return ctypes.cast(_function(library(), name), _P).value or 0


def _text(vector: Bytes) -> str:
    return ctypes.string_at(vector.data, vector.size).decode(errors="replace") if vector.size else ""


def check(error: int | None) -> None:
    """Raise the error that a function of the C library returned, and free it. None and 0 mean success.

    Args:
        error: address of a ``wasmtime_error_t``.

    Raises:
        EngineError: there was an error.
    """
    if not error:
        return
    message = Bytes()
    library().wasmtime_error_message(error, ctypes.byref(message))
    text = _text(message)
    library().wasm_byte_vec_delete(ctypes.byref(message))
    library().wasmtime_error_delete(error)
    raise EngineError(text)


def _addresses(vector: Bytes) -> Iterator[int]:
    return iter((_P * vector.size).from_address(vector.data)) if vector.size else iter(())


def _text_at(address: int) -> str:
    return _text(Bytes.from_address(address))


def _signature(kind: int) -> tuple[tuple[str, ...], tuple[str, ...]] | str:
    lib = library()
    match lib.wasm_externtype_kind(kind):
        case 0:
            function = lib.wasm_externtype_as_functype(kind)
            parameters, results = (
                tuple(_value_type(part) for part in _addresses(Bytes.from_address(part)))
                for part in (lib.wasm_functype_params(function), lib.wasm_functype_results(function))
            )
            return parameters, results
        case 1:
            return "global"
        case 3:
            return "memory"
        case _:
            return "something else"


def _value_type(address: int) -> str:
    kind = library().wasm_valtype_kind(address)
    return VALUE_TYPES[kind] if kind < len(VALUE_TYPES) else "another type"


Signature = tuple[tuple[str, ...], tuple[str, ...]] | str


def types_of(module: int) -> tuple[dict[tuple[str, str], Signature], dict[str, Signature], int]:
    """The types of a module's imports and exports.

    Args:
        module: address of a ``wasmtime_module_t``.

    Returns:
        signatures of the imports, by module and name; signatures of the exports, by name; the smallest size of the exported memory,
        in pages of 64 KiB. The signature of a function is (types of the parameters, types of the results); of anything else it is
        "memory", "global" or "something else".
    """
    lib = library()
    found, offered, pages = {}, {}, 0
    vector = Bytes()
    lib.wasmtime_module_imports(module, ctypes.byref(vector))
    for item in _addresses(vector):
        key = _text_at(lib.wasm_importtype_module(item)), _text_at(lib.wasm_importtype_name(item))
        found[key] = _signature(lib.wasm_importtype_type(item))
    lib.wasm_importtype_vec_delete(ctypes.byref(vector))
    vector = Bytes()
    lib.wasmtime_module_exports(module, ctypes.byref(vector))
    for item in _addresses(vector):
        kind = lib.wasm_exporttype_type(item)
        offered[_text_at(lib.wasm_exporttype_name(item))] = _signature(kind)
        if lib.wasm_externtype_kind(kind) == _MEMORY:
            pages = int(lib.wasmtime_memorytype_minimum(lib.wasm_externtype_as_memorytype(kind)))
    lib.wasm_exporttype_vec_delete(ctypes.byref(vector))
    return found, offered, pages


def function_type(parameters: tuple[str, ...], results: tuple[str, ...]) -> int:
    """Make a ``wasm_functype_t``, which the caller deletes with ``wasm_functype_delete``.

    Args:
        parameters: names of types (`VALUE_TYPES`).
        results: names of types.
    """
    lib = library()

    def vector(types: tuple[str, ...]) -> Bytes:
        made = Bytes()
        values = (_P * len(types))(*(lib.wasm_valtype_new(VALUE_TYPES.index(name)) for name in types))
        lib.wasm_valtype_vec_new(ctypes.byref(made), len(types), values)
        return made

    return int(lib.wasm_functype_new(ctypes.byref(vector(parameters)), ctypes.byref(vector(results))))
