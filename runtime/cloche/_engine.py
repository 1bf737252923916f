"""One wasmtime engine with the guest image loaded: what all the nodes of a `Runtime` share."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any, Final, Literal, get_args

import wasmtime

from cloche import _ffi, _guard, _host
from cloche._cell import Cells
from cloche._memory import WASM_PAGE
from cloche._outside import Outside
from cloche._signals import handlers
from cloche._stack import GUEST_STACK_BYTES
from cloche._watchdog import Watchdog
from cloche.errors import ImageError
from cloche_wire import abi

__all__ = ["DEFAULT_METERING", "Engine", "Metering", "check_abi", "config", "options"]

Metering = Literal["epoch", "guard", "fuel", "none"]
DEFAULT_METERING: Final[Metering] = "guard" if sys.platform == "linux" and os.uname().machine == "x86_64" else "epoch"
"""Where it has been tested by the hundred thousand, the one that makes guests faster."""

_MEMORY_RESERVATION: Final = 4 << 30
"""All that a 32-bit memory can grow to, so that it never moves."""


def options(metering: Metering) -> dict[str, Any]:
    """The engine options that compiled code depends on: part of an AOT artifact's key.

    Raises:
        ValueError: there is no such metering, or not on this platform.
    """
    if metering not in get_args(Metering):
        raise ValueError(f"metering is {metering!r}: give one of {', '.join(map(repr, get_args(Metering)))}")
    if metering == "guard" and sys.platform != "linux":
        raise ValueError(f"metering='guard' works on Linux only, not on {sys.platform}: give 'epoch'")
    return {
        "epoch_interruption": metering == "epoch",
        "consume_fuel": metering == "fuel",
        "bulk_memory": metering != "guard",  # see _guard
        "cranelift_opt_level": "speed",
        "memory_may_move": False,
        "memory_reservation": _MEMORY_RESERVATION,
        "stack": GUEST_STACK_BYTES,
    }


def config(metering: Metering) -> wasmtime.Config:
    """A fresh wasmtime configuration with those options."""
    chosen = options(metering)
    made = wasmtime.Config()
    made.epoch_interruption = chosen["epoch_interruption"]
    made.consume_fuel = chosen["consume_fuel"]
    made.wasm_bulk_memory = chosen["bulk_memory"]
    made.cranelift_opt_level = chosen["cranelift_opt_level"]
    made.memory_may_move = chosen["memory_may_move"]
    made.memory_reservation = chosen["memory_reservation"]
    _ffi.set_stack_size(made, chosen["stack"])
    return made


def _signature(kind: Any) -> tuple[tuple[str, ...], tuple[str, ...]] | str:
    match kind:
        case wasmtime.FuncType():
            return tuple(map(str, kind.params)), tuple(map(str, kind.results))
        case wasmtime.MemoryType():
            return "memory"
        case wasmtime.GlobalType():
            return "global"
        case _:
            return "something else"


def check_abi(module: wasmtime.Module) -> None:
    """Compare a module's imports and exports with `cloche_wire.abi`: nothing more, nothing less.

    Raises:
        ImageError: they differ; the message names the first difference.
    """
    wanted = {(abi.IMPORT_MODULE, name): signature for name, signature in abi.IMPORTS.items()}
    found = {(i.module, i.name or ""): _signature(i.type) for i in module.imports}
    exports = {e.name: _signature(e.type) for e in module.exports}
    for what, have, want in (("import", found, wanted), ("export", exports, abi.EXPORTS)):
        if have != want:
            names = sorted(str(n) for n in have.keys() ^ want.keys()) or sorted(
                str(n)
                for n in have
                if have[n] != want[n]  # type: ignore[index]  # both dicts have the same kind of key
            )
            raise ImageError(
                f"the guest image does not fit ABI {abi.VERSION} of this version of Cloche: {what} {names[0]} differs. "
                "Build or install the image that belongs to it: cloche image build"
            )


class Engine:
    """A wasmtime engine, the image's compiled module, the deadline thread and the imports.

    Args:
        metering: how the guest's time is bounded.
        load: makes the module, given the engine (from the AOT cache, or by compiling).
        image: digest of the image: what snapshots belong to.
    """

    def __init__(self, metering: Metering, load: Any, image: str = "") -> None:
        self.metering: Metering = metering
        self.image = image
        self.wasmtime = wasmtime.Engine(config(metering))
        self.handlers = handlers()
        try:
            self.module: wasmtime.Module = load(self.wasmtime)
        except wasmtime.WasmtimeError as error:
            raise ImageError(f"the guest image does not compile with metering={metering!r}: {error}") from error
        check_abi(self.module)
        linker = wasmtime.Linker(self.wasmtime)
        guarded = metering == "guard"
        functions = _guard.GUARDED_FUNCTIONS if guarded else _host.FUNCTIONS
        self._callbacks = _ffi.define_imports(linker, abi.IMPORT_MODULE, abi.IMPORTS, functions)
        self.template = linker.instantiate_pre(self.module)
        tick = self.wasmtime.increment_epoch
        self.watchdog = Watchdog(
            _guard.stopper(partial(self.handlers.ensure, closely=True)) if guarded else lambda _: tick()
        )
        memory = next(e.type for e in self.module.exports if e.name == "memory")
        self.image_bytes: int = memory.limits.min * WASM_PAGE  # its type: see check_abi
        self.cells = Cells(self)

    def host(self, node: str, outside: Outside = _host.REAL) -> _host.Host:
        """What a guest on this engine sees of the outside.

        Args:
            node: the node's name.
            outside: what its clocks and its random source start from.
        """
        return (_guard.GuardedHost if self.metering == "guard" else _host.Host)(node, outside)

    def close(self) -> None:
        """Free the idle cells, end the deadline thread. Instances that still live keep the engine's memory alive."""
        self.cells.close()
        self.watchdog.close()
