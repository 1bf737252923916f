"""Everything that touches the engine, a store, linear memory or time; written for a stranger to read.

Start with `core`: every call into a guest goes through it. `engine`, `slot`, `stores` and `memory` are the parts of a living
sandbox; `image`, `artifacts` and `checkout` find its code. A function with a general name is used with its module's: `core.core`,
`image.find`, `engine.options`, `clocks.clone_seed`, `pagemap.keep_open`.
"""

import fcntl as _fcntl  # noqa: F401  # missing, it is missed at once: worker processes need it

from cloche._wasm import clocks, core, engine, image, memory, pagemap
from cloche._wasm.bindings import TRAP_CODES
from cloche._wasm.call_state import CallState, HasCallState, Stop, Stopped
from cloche._wasm.checkout import cache_folder, source_tree
from cloche._wasm.clocks import ClockAndRandomState
from cloche._wasm.core import Reason, State, Status, Word
from cloche._wasm.engine import GUEST_STACK_BYTES, Engine
from cloche._wasm.frames import MAX_FRAMES, FrameInfo, python_frames
from cloche._wasm.image import Image
from cloche._wasm.journal import JOURNAL_BYTES, Journal
from cloche._wasm.memory import MASK_BYTES, PAGE_BYTES, Memory, NoRoomError, Trapped, address_of, no_room
from cloche._wasm.scarce import EXHAUSTED_ERRNOS, no_thread, out_of_resources

__all__ = [
    "EXHAUSTED_ERRNOS",
    "GUEST_STACK_BYTES",
    "JOURNAL_BYTES",
    "MASK_BYTES",
    "MAX_FRAMES",
    "PAGE_BYTES",
    "TRAP_CODES",
    "CallState",
    "ClockAndRandomState",
    "Engine",
    "FrameInfo",
    "HasCallState",
    "Image",
    "Journal",
    "Memory",
    "NoRoomError",
    "Reason",
    "State",
    "Status",
    "Stop",
    "Stopped",
    "Trapped",
    "Word",
    "address_of",
    "cache_folder",
    "clocks",
    "core",
    "engine",
    "image",
    "memory",
    "no_room",
    "no_thread",
    "out_of_resources",
    "pagemap",
    "python_frames",
    "source_tree",
]
