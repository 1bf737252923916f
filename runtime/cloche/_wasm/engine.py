"""A wasmtime engine with the guest image compiled and linked. All nodes of a `Runtime` share one."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any, Final, get_args

from cloche._wasm import bindings, targets
from cloche._wasm.bindings import EngineError, library
from cloche._wasm.core import IMPORTS, METERINGS, Image, core
from cloche._wasm.fault_handlers import note_fault_handlers
from cloche._wasm.memory import WASM_PAGE
from cloche._wasm.stores import StorePool
from cloche.errors import ImageError
from cloche.metering import Metering
from cloche_wire import abi

__all__ = ["Engine", "Module", "check_abi", "delete_engine", "new_engine", "options"]

GUEST_STACK_BYTES: Final = 4 << 20
"""Native stack that a guest may use, in bytes: enough for the 500 levels of C recursion that CPython allows on WASI."""
_MEMORY_RESERVATION: Final = 4 << 30
"""Bytes of address space reserved for each linear memory: all that 32-bit addresses reach, so that a memory grows in place."""
_OPT_LEVEL_SPEED: Final = 1
"""WASMTIME_OPT_LEVEL_SPEED of wasmtime's config.h."""
_RING_OFFSETS: Final = {name: 4 * index for index, name in enumerate(abi.RING_WORDS)}
"""Byte offset of each word in the header of the log ring."""


def options(metering: Metering) -> dict[str, Any]:
    """The engine options that compiled code depends on. They are a part of an AOT artifact's key.

    Args:
        metering: how the guest's time is bounded.

    Raises:
        ValueError: the metering is unknown, or does not work on this platform.
    """
    if metering not in get_args(Metering):
        raise ValueError(f"metering is {metering!r}: give one of {', '.join(map(repr, get_args(Metering)))}")
    if metering == "guard" and sys.platform == "win32":
        raise ValueError(f"metering='guard' does not work on {sys.platform}: give 'epoch'")
    return {
        "epoch_interruption": metering == "epoch",
        "consume_fuel": metering == "fuel",
        # wasmtime executes bulk-memory instructions in its own native code, where a fault on the stop page would end the process
        "bulk_memory": False,
        "cranelift_opt_level": "speed",
        "memory_may_move": False,
        "memory_reservation": _MEMORY_RESERVATION,
        "stack": GUEST_STACK_BYTES,
    }


def new_engine(metering: Metering, target: str | None = None) -> int:
    """Make a ``wasm_engine_t`` with the options of `options`. The caller deletes it.

    In a process that runs guests the core must be loaded before: wasmtime installs its fault handlers with the first engine, and
    the core has to get the faults.

    Args:
        metering: how the guest's time is bounded.
        target: a level of `targets`, to compile for; None: the processor of this machine.
    """
    chosen, lib = options(metering), library()
    config = lib.wasm_config_new()
    lib.wasmtime_config_epoch_interruption_set(config, chosen["epoch_interruption"])
    lib.wasmtime_config_consume_fuel_set(config, chosen["consume_fuel"])
    lib.wasmtime_config_wasm_bulk_memory_set(config, chosen["bulk_memory"])
    lib.wasmtime_config_cranelift_opt_level_set(config, _OPT_LEVEL_SPEED)
    lib.wasmtime_config_memory_may_move_set(config, chosen["memory_may_move"])
    lib.wasmtime_config_memory_reservation_set(config, chosen["memory_reservation"])
    # wasmtime aborts the process if its async stack, which is not used here, is not the larger one
    lib.wasmtime_config_async_stack_size_set(config, chosen["stack"] + (2 << 20))
    lib.wasmtime_config_max_wasm_stack_set(config, chosen["stack"])
    if target is not None:
        # with a target that is named, Cranelift does not look at this machine's processor
        bindings.check(lib.wasmtime_config_target_set(config, targets.triple(target).encode()))
        for flag in targets.flags(target):
            lib.wasmtime_config_cranelift_flag_enable(config, flag.encode())
    # the new engine owns the configuration: deleting it here would free it twice
    return int(lib.wasm_engine_new_with_config(config))


def delete_engine(engine: int) -> None:
    """Delete an engine that `new_engine` made. Its modules hold on to what they need of it."""
    library().wasm_engine_delete(engine)


class Module:
    """A compiled module, made by `compiled` or `from_file` and used by `Engine`. Owns the ``wasmtime_module_t``.

    Args:
        address: address of the ``wasmtime_module_t``.
    """

    def __init__(self, address: int) -> None:
        self.address = address

    @classmethod
    def compiled(cls, engine: int, wasm: bytes) -> Module:
        """Compile a module. A guest image takes about ten seconds.

        Args:
            engine: address of the ``wasm_engine_t``.
            wasm: the module's bytes.

        Raises:
            EngineError: the module is not valid, or uses a feature that the engine's options turn off.
        """
        made = ctypes.c_void_p()
        bindings.check(library().wasmtime_module_new(engine, wasm, len(wasm), ctypes.byref(made)))
        return cls(made.value or 0)

    @classmethod
    def from_file(cls, engine: int, path: str) -> Module:
        """Map an AOT artifact: native code that `serialized` returned. The code is trusted, see `cloche._wasm.image`.

        Args:
            engine: address of the ``wasm_engine_t``.
            path: the artifact's file.

        Raises:
            EngineError: the artifact was made by another version of wasmtime or with other options.
        """
        made = ctypes.c_void_p()
        bindings.check(library().wasmtime_module_deserialize_file(engine, os.fsencode(path), ctypes.byref(made)))
        return cls(made.value or 0)

    @classmethod
    def from_bytes(cls, engine: int, code: bytes) -> Module:
        """As `from_file`, from native code in memory, which is copied."""
        made = ctypes.c_void_p()
        bindings.check(library().wasmtime_module_deserialize(engine, code, len(code), ctypes.byref(made)))
        return cls(made.value or 0)

    def serialized(self) -> bytes:
        """The module's native code, for `from_file`."""
        vector = bindings.Bytes()
        bindings.check(library().wasmtime_module_serialize(self.address, ctypes.byref(vector)))
        code = ctypes.string_at(vector.data, vector.size)
        library().wasm_byte_vec_delete(ctypes.byref(vector))
        return code

    def __del__(self) -> None:
        address, self.address = self.address, 0
        if address:
            library().wasmtime_module_delete(address)


def check_abi(module: Module) -> int:
    """Check that a module has exactly the imports and exports of `cloche_wire.abi`.

    Returns:
        bytes of linear memory with which a guest begins.

    Raises:
        ImageError: an import or export is missing, additional, or has another signature. The message names the first one.
    """
    found, exports, pages = bindings.types_of(module.address)
    wanted = {(abi.IMPORT_MODULE, name): signature for name, signature in abi.IMPORTS.items()}
    differences: list[tuple[str, Any, Any]] = [("import", found, wanted), ("export", exports, abi.EXPORTS)]
    for what, have, want in differences:
        if have != want:
            names = sorted(map(str, have.keys() ^ want.keys())) or sorted(str(n) for n in have if have[n] != want[n])
            raise ImageError(
                f"the guest image does not fit ABI {abi.VERSION} of this version of Cloche: {what} {names[0]} differs. "
                "Build or install the image that belongs to it: cloche image build"
            )
    return pages * WASM_PAGE


class Engine:
    """A wasmtime engine, the image's compiled module, and the idle stores.

    Args:
        metering: how the guest's time is bounded.
        load: returns the module, from the AOT cache or by compiling. Its argument is the address of the ``wasm_engine_t``.
        image: the image's digest. A snapshot has it, too, and is restored only by an engine with the same one.

    Attributes:
        module: the compiled image.
        stores: the idle stores.
        image_address: address of the ``struct cloche_image`` that the core makes guests from.
        image_bytes: bytes of linear memory with which a guest begins.
        layout: the interpreter's addresses, offsets and sizes that `cloche._wasm.frames` needs, by name (``abi.LAYOUT_WORDS``).

    Raises:
        ImageError: the image does not compile, or has another ABI.
        ClocheError: this process has no memory, address space or open files left.
    """

    def __init__(self, metering: Metering, load: Callable[[int], Module], image: str = "") -> None:
        self._instance_pre = self._engine = 0
        self.metering: Metering = metering
        self.image = image
        core()
        self._engine = engine = new_engine(metering)
        note_fault_handlers()
        try:
            self.module = load(engine)
        except EngineError as error:
            raise ImageError(f"the guest image does not compile with metering={metering!r}: {error}") from error
        self.image_bytes = check_abi(self.module)
        self._instance_pre = _linked(engine, self.module)
        self._image = Image(
            engine=engine,
            instance_pre=self._instance_pre,
            metering=METERINGS.index(metering),
            wasm_stack_bytes=GUEST_STACK_BYTES,
            ring_bytes=abi.RING_HEADER_BYTES + abi.RING_CAPACITY + 2 * abi.RING_HELD_BYTES,
            ring_used_at=_RING_OFFSETS["used"],
            ring_dropped_at=_RING_OFFSETS["dropped"],
            ring_held_at=_RING_OFFSETS["held1"],
            ring_header_bytes=abi.RING_HEADER_BYTES,
            ring_capacity=abi.RING_CAPACITY,
            request_buffer_bytes=abi.REQUEST_BUFFER_BYTES,
        )
        self.image_address = ctypes.addressof(self._image)
        self.stores = StorePool(self)
        self.layout = self._layout()

    def _layout(self) -> dict[str, int]:
        """Read the layout table from the image's own memory, and tell the core which bit of which word announces a notice."""
        memory = self.stores.pristine()
        numbers = memory.words_at(memory.layout_at, len(abi.LAYOUT_WORDS))
        layout = dict(zip(abi.LAYOUT_WORDS, numbers, strict=True))
        self._image.notice_bit, self._image.notice_bit_at = layout["breaker_bit"], layout["breaker"]
        return layout

    def end_starts(self) -> None:
        """Do nothing: an engine starts no worker processes, which `cloche._isolation.worker_pool.WorkerPool.end_starts` ends."""

    def close(self) -> None:
        """Free the idle stores. The engine itself is freed with the last instance that uses it."""
        self.stores.close()

    def __del__(self) -> None:
        pre, self._instance_pre = self._instance_pre, 0
        engine, self._engine = self._engine, 0
        if pre:
            library().wasmtime_instance_pre_delete(pre)
        if engine:
            library().wasm_engine_delete(engine)


def _linked(engine: int, module: Module) -> int:
    """Link a module with the core's imports: the address of a new ``wasmtime_instance_pre_t``."""
    lib, functions = library(), core().imports
    linker = lib.wasmtime_linker_new(engine)
    try:
        space = abi.IMPORT_MODULE.encode()
        for name in IMPORTS:
            if name not in abi.IMPORTS:
                continue
            kind = bindings.function_type(*abi.IMPORTS[name])
            label = name.encode()
            error = lib.wasmtime_linker_define_func_unchecked(
                linker, space, len(space), label, len(label), kind, functions[name], None, None
            )
            lib.wasm_functype_delete(kind)
            bindings.check(error)
        made = ctypes.c_void_p()
        bindings.check(lib.wasmtime_linker_instantiate_pre(linker, module.address, ctypes.byref(made)))
        return made.value or 0
    finally:
        lib.wasmtime_linker_delete(linker)
