"""The one module that names private or unstable parts of wasmtime-py.

wasmtime-py's public `Func.__call__` costs 25-37 us and its host functions pass exceptions through a process global,
which two threads garble. So calls go through a prepared `wasmtime_func_call_unchecked`, and the host functions are
plain C callbacks that never raise: a fault is recorded where the caller finds it, and the guest is stopped by a trap.

Importing this module checks that each name is where wasmtime-py 50 has it, and says which one moved.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import wasmtime
from wasmtime import _ffi as _wt

if TYPE_CHECKING:
    from cloche._host import Host

__all__ = [
    "Call",
    "Trapped",
    "bind",
    "define_imports",
    "library_bytes",
    "memory_base",
    "memory_size",
    "set_stack_size",
    "unbind",
]

_NAMES: Final = (
    "dll",
    "filename",
    "wasm_functype_t",
    "wasm_trap_t",
    "wasmtime_caller_context",
    "wasmtime_config_async_stack_size_set",
    "wasmtime_context_get_data",
    "wasmtime_context_set_data",
    "wasmtime_error_delete",
    "wasmtime_error_new",
    "wasmtime_func_call_unchecked",
    "wasmtime_func_unchecked_callback_t",
    "wasmtime_linker_define_func_unchecked",
    "wasmtime_memory_data",
    "wasmtime_memory_data_size",
    "wasmtime_store_epoch_deadline_callback",
    "wasmtime_trap_new",
    "wasmtime_val_raw_t",
)
_missing = [name for name in _NAMES if not hasattr(_wt, name)]
_missing += [
    f"{owner.__name__}.{name}"
    for owner, name in ((wasmtime.Store, "_context"), (wasmtime.Func, "_as_extern"), (wasmtime.Trap, "_from_ptr"))
    if not hasattr(owner, name)
]
if _missing:
    raise ImportError(
        f"the installed wasmtime lacks {', '.join(_missing)}, which Cloche uses: install the version that "
        "its metadata pins (pip install --force-reinstall cloche)"
    )


def _raw(name: str, *argtypes: Any, restype: Any = ctypes.c_void_p) -> Any:
    """A second, looser prototype of a C function: plain addresses instead of pointer objects, which are slow."""
    function = _wt.dll[name]  # indexing makes a new function object each time: the original keeps its prototype
    function.argtypes, function.restype = argtypes, restype
    return function


_call_unchecked = _raw(
    "wasmtime_func_call_unchecked",
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_void_p,
)
_caller_context = _raw("wasmtime_caller_context", ctypes.c_void_p)
_get_data = _raw("wasmtime_context_get_data", ctypes.c_void_p)
_set_data = _raw("wasmtime_context_set_data", ctypes.c_void_p, ctypes.c_void_p, restype=None)
_trap_new = _raw("wasmtime_trap_new", ctypes.c_char_p, ctypes.c_size_t)
_error_new = _raw("wasmtime_error_new", ctypes.c_char_p)
_EPOCH_CALLBACK: Final = ctypes.CFUNCTYPE(
    ctypes.c_size_t,  # an error, or 0
    ctypes.c_void_p,  # context
    ctypes.c_void_p,  # data: the Host's key
    ctypes.POINTER(ctypes.c_uint64),  # epochs to go on for
    ctypes.POINTER(ctypes.c_uint8),  # kind of answer
)
_set_epoch_callback = _raw(
    "wasmtime_store_epoch_deadline_callback",
    ctypes.c_void_p,
    _EPOCH_CALLBACK,
    ctypes.c_void_p,
    ctypes.c_void_p,
    restype=None,
)
_error_delete = _raw("wasmtime_error_delete", ctypes.c_void_p, restype=None)

VAL_BYTES: Final = ctypes.sizeof(_wt.wasmtime_val_raw_t)


def _address(pointer: Any) -> int:
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0


class Trapped(Exception):
    """The guest stopped before it returned. What it stopped for is on its `Host`, or else in `code`."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Call:
    """An exported function, prepared: about 1 us a call, integers in and one integer out.

    The buffer of arguments is reused, so only one thread may call at a time, which a store demands anyway.
    """

    __slots__ = ("_args", "_context", "_count", "_func", "_keep", "_slots", "_trap", "_trap_slot")

    def __init__(self, store: wasmtime.Store, func: wasmtime.Func, parameters: int) -> None:
        self._count = max(1, parameters)  # slot 0 also takes the result
        buffer = (ctypes.c_int64 * (self._count * VAL_BYTES // 8))()
        trap = ctypes.c_void_p()
        extern = func._as_extern()  # its union holds the wasmtime_func_t by value
        self._keep = (buffer, trap, extern)
        self._args = ctypes.addressof(buffer)
        self._slots = memoryview(buffer).cast("B").cast("q")
        self._func = ctypes.addressof(extern.of.func)
        self._trap = ctypes.addressof(trap)
        self._trap_slot = trap
        self._context = _address(store._context())

    def __call__(self, *arguments: int) -> int:
        """Call it.

        Returns:
            the result as a signed 64-bit integer; for an i32, `& 0xFFFF_FFFF` gives the unsigned value.

        Raises:
            Trapped: the guest did not return.
        """
        slots = self._slots
        index = 0
        for argument in arguments:
            slots[index] = argument
            index += 2  # a raw value takes 16 bytes
        error = _call_unchecked(self._context, self._func, self._args, self._count, self._trap)
        if error or self._trap_slot.value:
            raise self._trapped(error)
        return slots[0]

    def four(self, a: int, b: int, c: int, d: int) -> int:
        """As `__call__` with four arguments, for the one call that is timed in microseconds."""
        slots = self._slots
        slots[0], slots[2], slots[4], slots[6] = a, b, c, d
        error = _call_unchecked(self._context, self._func, self._args, 4, self._trap)
        if error or self._trap_slot.value:
            raise self._trapped(error)
        return slots[0]

    def _trapped(self, error: int | None) -> Trapped:
        if error:  # made by one of our callbacks: the Host has the reason
            _error_delete(error)
            return Trapped("stopped by the host", "")
        pointer = ctypes.cast(self._trap_slot, ctypes.POINTER(_wt.wasm_trap_t))
        self._trap_slot.value = None
        trap = wasmtime.Trap._from_ptr(pointer)
        code = trap.trap_code
        return Trapped(trap.message, code.name if code else "")


# The imports. A store carries its Host's key; a callback finds the Host by it.
_hosts: dict[int, Host] = {}
_keys = itertools.count(1)  # next() is atomic: two threads never share a key, and so a Host


def bind(store: wasmtime.Store, host: Host, epoch: bool) -> int:
    """Make `host` answer the imports of whatever runs in `store`. Returns a key for `unbind`."""
    key = next(_keys)
    _hosts[key] = host
    _set_data(_address(store._context()), key)
    if epoch:
        _set_epoch_callback(_address(store.ptr()), _on_epoch, key, None)
        store.set_epoch_deadline(1)
    return key


def unbind(key: int) -> None:
    """Forget the Host of a store that is being closed."""
    _hosts.pop(key, None)


_NO_FINALIZER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(0)


def _stop_epoch(context: Any, key: int | None, delta: Any, kind: Any) -> int:
    """Some deadline has come, perhaps another store's: stop this one only if it is its own."""
    try:
        host = _hosts.get(key or 0)
        if host is not None and not host.must_stop():
            delta[0] = 1
            kind[0] = 0  # WASMTIME_UPDATE_DEADLINE_CONTINUE
            return 0
    except BaseException as error:  # e.g. KeyboardInterrupt: the caller raises it once the guest has stopped
        _record(key, error)
    return _error_new(b"stopped") or 0


_on_epoch = _EPOCH_CALLBACK(_stop_epoch)


def _record(key: int | None, error: BaseException) -> None:
    host = _hosts.get(key or 0)
    if host is not None and host.error is None:
        host.error = error


Import = Callable[["Host", Any], bool]
"""Reads its arguments from, and writes its result to, slot i at index 2*i; False stops the guest."""


def _callback(function: Import) -> Any:
    def call(_env: Any, caller: Any, values: Any, _count: Any) -> int:
        key = None
        try:
            key = _get_data(_caller_context(caller))
            slots = ctypes.cast(values, ctypes.POINTER(ctypes.c_int64))
            if function(_hosts[key], slots):
                return 0
        except BaseException as error:  # never out of here: it would surface in another thread, or nowhere
            _record(key, error)
        return _trap_new(b"stopped", 7) or 0

    return _wt.wasmtime_func_unchecked_callback_t(call)


_VALTYPES: Final = {"i32": wasmtime.ValType.i32, "i64": wasmtime.ValType.i64}


def define_imports(
    linker: wasmtime.Linker,
    module: str,
    imports: dict[str, tuple[tuple[str, ...], tuple[str, ...]]],
    functions: Mapping[str, Import],
) -> list[Any]:
    """Define each of `imports` in `linker`. The callbacks returned must live as long as the linker's instances."""
    kept = []
    for name, (params, results) in imports.items():
        callback = _callback(functions[name])
        signature = wasmtime.FuncType([_VALTYPES[t]() for t in params], [_VALTYPES[t]() for t in results])
        space, label = module.encode(), name.encode()
        error: Any = _wt.wasmtime_linker_define_func_unchecked(
            linker.ptr(),
            ctypes.create_string_buffer(space),
            len(space),
            ctypes.create_string_buffer(label),
            len(label),
            signature.ptr(),
            callback,
            None,
            _NO_FINALIZER,
        )
        if error:
            raise wasmtime.WasmtimeError._from_ptr(error)
        kept.append(callback)
    return kept


def library_bytes() -> int:
    """Size of wasmtime's library: with an AOT artifact's other keys it tells versions apart; wasmtime itself checks as well.

    Its version is in the package's metadata only, and reading that takes 10 ms.
    """
    return int(_wt.filename.stat().st_size)


def set_stack_size(config: wasmtime.Config, wasm_bytes: int) -> None:
    """Bound the native stack that a guest may use. wasmtime aborts the process if its async stack is not larger."""
    _wt.wasmtime_config_async_stack_size_set(config.ptr(), wasm_bytes + (2 << 20))
    config.max_wasm_stack = wasm_bytes


def memory_base(store: wasmtime.Store, memory: wasmtime.Memory) -> int:
    """Address, in this process, of byte 0 of a linear memory. It never moves: the engine reserves all of it."""
    return _address(memory.data_ptr(store))


def memory_size(store: wasmtime.Store, memory: wasmtime.Memory) -> int:
    """Bytes that the linear memory has now."""
    return memory.data_len(store)
