"""Checked access to one guest's linear memory. No other module reads or writes it.

The host may read a guest's memory at any time, even while the guest runs or is being stopped. A stop makes only the stop page
inaccessible. The stop page holds no data, and every range that overlaps it is refused.
"""

from __future__ import annotations

import ctypes
import struct
import weakref
from array import array
from typing import TYPE_CHECKING, Any, Final

from cloche._wasm import pagemap
from cloche._wasm.core import Function, Status, Word, core
from cloche._wasm.pagemap import PAGE_BYTES
from cloche.errors import ClocheError, EncodeError, ProtocolError
from cloche_wire import abi

if TYPE_CHECKING:
    from collections.abc import Buffer  # type: ignore[attr-defined, unused-ignore]  # 3.12

    from cloche._wasm.slot import Slot

__all__ = ["MASK_BYTES", "PAGE_BYTES", "WASM_PAGE", "Memory", "NoRoomError", "Trapped", "address_of", "no_room"]

WASM_PAGE: Final = 65536
"""Bytes of a WebAssembly page, the unit in which linear memory grows."""
MASK_BYTES: Final = PAGE_BYTES // 64
"""Bytes of a page's mask: one bit for each word of 8 bytes."""
_U32: Final = 0xFFFF_FFFF
_LOWEST_ADDRESS: Final = abi.STOP_PAGE + abi.STOP_PAGE_BYTES
"""The first address behind the stop page."""
_RESERVED_BYTES: Final = 1 << 32
"""Bytes of address space that the engine reserves for each linear memory, whose address therefore never changes."""
_RING_HEADER: Final = struct.Struct("<8I")
_EMPTY_RING: Final = struct.pack("<4I", 0, 0, 0, 0)  # head, used, records, dropped
_RING_OFFSETS: Final = {name: 4 * index for index, name in enumerate(abi.RING_WORDS)}
"""Byte offset of each word in the header of the log ring."""
_PAUSE_OFFSET: Final = 4 * abi.NOTICE_WORDS.index("pause")
_LIVE_OFFSET: Final = 4 * abi.NOTICE_WORDS.index("live")
_MEMORY_BYTES: Final = int(Word.MEMORY_BYTES)
_RESULT: Final = int(Word.RESULT)
# Plain numbers: ctypes calls Python code to convert a member of an enum, which may fail at the end of Python's stack.
_ALLOC, _FREE, _CHECK = int(Function.NODE_ALLOC), int(Function.NODE_FREE), int(Function.NODE_CHECK)
_DONE, _TRAPPED = int(Status.DONE), int(Status.TRAPPED)


def address_of(view: memoryview) -> int:
    """Address of a contiguous view in this process; 0 if unknown, for a read-only view of anything but a numpy array."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(view))
    except TypeError:  # raised for a read-only view, whose address only numpy tells
        interface = getattr(view.obj, "__array_interface__", None)
        return int(interface["data"][0]) if interface else 0


class NoRoomError(EncodeError):
    """The guest's allocator has no block of the wanted size left."""


class Trapped(Exception):
    """The guest was stopped, or trapped, before its function returned. `cloche._wasm.slot.Slot.words` say why."""


def no_room(length: int, size: int) -> NoRoomError:
    """The error of a guest whose allocator has no block left.

    Args:
        length: bytes of the wanted block.
        size: bytes of the guest's linear memory.
    """
    return NoRoomError(
        f"the guest has no {length} bytes left for this value, beside the {size} that it has: raise Limits.memory_bytes",
        limit="memory_bytes",
        reached=size + length,
    )


class Memory:
    """The linear memory of one guest, with the guest's exports that allocate and free blocks and validate messages.

    Addresses are the guest's: offsets in linear memory. No method can be used after `close`.

    Args:
        slot: the guest.
    """

    __slots__ = ("_base", "_pinned", "_ring", "_shared", "_slot", "_view", "_words")

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        self._words = slot.words
        self._base = slot.words[Word.BASE]
        self._ring = slot.words[Word.RING]
        self._view = memoryview((ctypes.c_char * _RESERVED_BYTES).from_address(self._base)).cast("B")
        self._shared: list[tuple[int, int]] = []
        self._pinned: dict[int, weakref.ref[Any]] = {}

    @property
    def layout_at(self) -> int:
        """Address of the layout table, whose entries are ``abi.LAYOUT_WORDS``."""
        return int(self._words[Word.LAYOUT])

    @property
    def size(self) -> int:
        """Size of linear memory in bytes, as of the guest's last return to the host."""
        return int(self._words[_MEMORY_BYTES])

    def _range(self, address: int, length: int, limit: int) -> int:
        """Check a range that the guest named.

        Args:
            address: the first byte.
            length: number of bytes.
            limit: the largest `length` that is accepted.

        Returns:
            the address behind the range.

        Raises:
            ProtocolError: the range is longer than `limit`, overlaps the stop page, or does not lie inside linear memory.
        """
        end = address + length
        # a read of the stop page, which the timer may make inaccessible at any moment, would end the process
        if not 0 <= length <= limit or not _LOWEST_ADDRESS <= address <= _U32:
            raise ProtocolError(f"guest range [{address}, +{length}) refused (limit {limit})")
        if end > self._words[_MEMORY_BYTES]:
            raise ProtocolError(f"guest range [{address}, +{length}) lies outside its {self.size} bytes")
        return end

    def read(self, address: int, length: int, limit: int) -> bytes:
        """Copy `length` bytes out of linear memory.

        Raises:
            ProtocolError: the range is longer than `limit`, or does not lie inside linear memory.
        """
        end = self._range(address, length, limit)
        # without the check of the range a memoryview would return fewer bytes silently: it slices like a list
        return bytes(self._view[address:end])

    def view(self, address: int, length: int, limit: int) -> memoryview:
        """A view of `length` bytes. Copy them before the guest runs again or the instance is closed.

        Raises:
            ProtocolError: the range is longer than `limit`, or does not lie inside linear memory.
        """
        end = self._range(address, length, limit)
        return self._view[address:end]

    def _enter(self, function: int, a: int, b: int = 0, c: int = 0, d: int = 0) -> int:
        """Call one of the guest's exports with up to four arguments; its result.

        Raises:
            Trapped: the guest was stopped, or trapped.
            ClocheError: the guest could not be entered.
        """
        status = core().enter(self._slot.handle.value, function, a, b, c, d)
        if status == _DONE:
            return int(self._words[_RESULT])
        if status == _TRAPPED:
            raise Trapped
        raise self._slot.failure(status)

    def check(self, address: int, length: int, nodes: int, depth: int) -> bool:
        """Whether a range holds exactly one item of the CBOR profile in docs/reference/wire.md, and lies inside linear memory.

        The guest's own validator decides. Its result can be trusted: the validator is compiled code, which nothing in linear memory
        can change.

        Args:
            address: the first byte.
            length: number of bytes.
            nodes: number of values that the item may have at most.
            depth: number of containers that may be nested at most.

        Raises:
            Trapped: the guest was stopped meanwhile.
        """
        return bool(self._enter(_CHECK, address, length, nodes, depth) & _U32)

    def allocate(self, length: int) -> int:
        """Have the guest allocate a block of `length` bytes; its address.

        Raises:
            Trapped: the guest was stopped, or trapped.
            ProtocolError: the guest returned a block that does not lie inside linear memory.
            NoRoomError: the guest has no block of that size left.
        """
        address = self._enter(_ALLOC, max(1, length)) if length <= _U32 else 0
        if not address:
            raise self.no_room(length)
        self._range(address, length, length)
        return address

    def no_room(self, length: int) -> NoRoomError:
        """The error for a block of `length` bytes that the guest does not have left."""
        return no_room(length, self.size)

    def checked(self, address: int, length: int) -> int:
        """Check that `length` bytes at an address lie inside linear memory; the same address.

        Raises:
            ProtocolError: they do not.
        """
        self._range(address, length, length)
        return address

    def free(self, address: int) -> None:
        """Give a block back to the guest's allocator."""
        self._enter(_FREE, address)

    def place(self, data: Buffer) -> int:
        """Copy a contiguous buffer into a new block, which the guest owns from then on; the block's address.

        Raises:
            NoRoomError: the guest has no block of that size left.
        """
        source = memoryview(data).cast("B")
        address = self.allocate(source.nbytes)
        self._view[address : address + source.nbytes] = source
        return address

    def write(self, address: int, data: bytes) -> None:
        """Copy bytes into a block that this object has given out.

        Raises:
            ProtocolError: the range does not lie inside linear memory.
        """
        self._view[address : self._range(address, len(data), len(data))] = data

    def drain(self) -> tuple[list[bytes], int]:
        """Take all records out of the log ring. Works after a trap, too.

        Returns:
            the records' bytes, oldest first; and the number of records that the guest has overwritten or garbled.
        """
        start = self._ring
        _magic, _capacity, head, used, records, dropped, *_ = _RING_HEADER.unpack(
            self._view[start : start + abi.RING_HEADER_BYTES]
        )
        is_damaged = (
            used > abi.RING_CAPACITY or head >= abi.RING_CAPACITY
        )  # the guest has overwritten the ring's header
        data = b""
        if not is_damaged:
            ring = self._view[start + abi.RING_HEADER_BYTES : start + abi.RING_HEADER_BYTES + abi.RING_CAPACITY]
            data = bytes(ring[head : head + used])
            data += bytes(ring[: used - len(data)])
        self._view[start + _RING_OFFSETS["head"] : start + _RING_OFFSETS["held1"]] = _EMPTY_RING
        if is_damaged:
            return [], dropped + max(1, min(records, abi.RING_CAPACITY))
        taken: list[bytes] = []
        at = 0
        while at + 4 <= used:
            length = int.from_bytes(data[at : at + 4], "little")
            if length > used - at - 4:
                return taken, dropped + 1
            taken.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        return taken, dropped

    def want_live(self, wanted: bool) -> None:
        """Set whether the guest waits after each log record until the host has taken it. Only for a guest at rest."""
        at = self._words[Word.NOTICE] + _LIVE_OFFSET
        self._view[at : at + 4] = wanted.to_bytes(4, "little")

    def want_pause(self) -> None:
        """Have the guest, which waits inside `poll`, call its debugger next."""
        at = self._words[Word.NOTICE] + _PAUSE_OFFSET
        self._view[at : at + 4] = (1).to_bytes(4, "little")

    def held(self) -> list[bytes]:
        """Records of lines that the node had flushed, but not ended, when its guest broke. Of a guest at rest there are none."""
        start = self._ring + abi.RING_HEADER_BYTES
        lengths = _RING_HEADER.unpack(self._view[self._ring : start])[-2:]
        places = (start + abi.RING_CAPACITY + number * abi.RING_HELD_BYTES for number in range(len(lengths)))
        return [
            bytes(self._view[place : place + length])
            for place, length in zip(places, lengths, strict=True)
            if 0 < length <= abi.RING_HELD_BYTES
        ]

    def pin(self, address: int, length: int, limit: int) -> memoryview:
        """A read-only view that keeps linear memory mapped as long as the view lives, even after `close`.

        The guest may change the bytes whenever it runs.

        Raises:
            ProtocolError: the range is longer than `limit`, or does not lie inside linear memory.
        """
        self._range(address, length, limit)
        return self._keep(address, length).toreadonly()

    def share(self, length: int) -> memoryview:
        """A writable view of a new block, which host and guest use together and which is never freed.

        The view keeps linear memory mapped as long as it lives, even after `close`.

        Raises:
            NoRoomError: the guest has no block of that size left.
        """
        address = self.allocate(length)
        self._shared.append((self._base + address, length))
        return self._keep(address, length)

    def shared(self, view: memoryview) -> int:
        """Address in linear memory of a contiguous view that lies in a block of `share`; 0 for any other view."""
        if not self._shared or not view.nbytes:
            return 0
        address = address_of(view)
        for start, length in self._shared:
            if start <= address and address + view.nbytes <= start + length:
                return int(address - self._base)
        return 0

    def _keep(self, address: int, length: int) -> memoryview:
        """A writable view of a checked range that keeps linear memory mapped as long as it lives."""
        array: Any = (ctypes.c_ubyte * length).from_address(self._base + address)
        # without this reference linear memory may be unmapped while the view lives: a read would be a SIGSEGV
        array.slot = self._slot
        key, pinned = id(array), self._pinned
        pinned[key] = weakref.ref(array, lambda _: pinned.pop(key, None))
        return memoryview(array).cast("B")

    @property
    def is_pinned(self) -> bool:
        """Whether a view that `pin` or `share` returned still lives."""
        return bool(self._pinned)

    def dirty_runs(self) -> list[tuple[int, int]]:
        """The runs of pages that the guest has written to, as pairs of (first page, number of pages), in pages of PAGE_BYTES.

        The image is mapped copy on write, so a page that was written to has become anonymous memory, as the kernel's pagemap shows.

        Raises:
            ClocheError: the kernel's pagemap cannot be read.
        """
        return pagemap.dirty_runs(self._base, self.size)

    @property
    def private_bytes(self) -> int:
        """Bytes of linear memory that are this guest's alone, as the kernel counts: see `dirty_runs`. Any thread may ask."""
        try:
            return PAGE_BYTES * sum(count for _, count in self.dirty_runs())
        except ClocheError as error:
            if isinstance(error.__cause__, FileNotFoundError | PermissionError):
                return 0
            raise

    def reset(self, image: Memory) -> None:
        """Overwrite every page that this guest has written to with the image's page.

        Args:
            image: linear memory of a guest that has never run, of the same size.
        """
        view, source = self._view, image._view
        for first, count in self.dirty_runs():
            start, end = PAGE_BYTES * first, PAGE_BYTES * (first + count)
            view[start:end] = source[start:end]

    def differences(self, image: Memory, also: bytes = b"") -> tuple[bytes, bytes, bytes]:
        """Where this memory differs from another, as columns for `patch`; docs/reference/recordings.md explains them.

        What calls have left where nobody reads it any more (the stack, the log ring, the notice) is overwritten with the image's
        bytes.

        Args:
            image: linear memory of a guest that has never run: the image's own bytes, or those with differences of its own.
            also: numbers of pages, ascending, in which `image` has differences of its own, as `patch` takes them.

        Returns:
            the numbers of the pages that differ; their masks; and their words that differ.

        Raises:
            ClocheError: the guest is not at rest, or the kernel's pagemap cannot be read.
        """
        written = array("I")
        for first, count in self.dirty_runs():
            written.extend(range(first, first + count))
        if also and (missing := set(memoryview(also).cast("I")).difference(written)):
            written = array("I", sorted((*written, *missing)))
        masks = memoryview(bytearray(MASK_BYTES * len(written)))
        masks_at = address_of(masks) if written else 0
        found = (ctypes.c_uint64 * 2)()
        handle, other = self._slot.handle.value, image._slot.handle.value
        if status := core().compare(handle, other, written.buffer_info()[0], len(written), masks_at, found):
            raise self._slot.failure(status)
        count, length = found
        columns = written[:count].tobytes(), bytes(masks[: MASK_BYTES * count])
        # filled by the core, before anything else refers to it: the state of a node may be gigabytes, and is copied once
        words = bytes(length)
        if status := core().gather(handle, columns[0], count, columns[1], words, length):
            raise self._slot.failure(status)
        return *columns, words

    def patch(self, pages: bytes, masks: bytes, words: bytes) -> None:
        """Write differences into linear memory, which is as the image's and which `grow_to` has made large enough.

        Args:
            pages: the columns of `differences`. They may be a stranger's.
            masks: see there.
            words: see there.

        Raises:
            ProtocolError: they do not fit each other or this memory, of which a part may have been written.
        """
        count = len(pages) // 4
        if len(pages) % 4 or len(masks) != MASK_BYTES * count:
            raise ProtocolError(f"{len(pages)} bytes of pages have {len(masks)} bytes of masks")
        status = core().patch(self._slot.handle.value, pages, count, masks, words, len(words))
        if status == Status.REFUSED:
            raise ProtocolError(f"a snapshot's differences do not fit a memory of {self.size} bytes")
        if status:
            raise self._slot.failure(status)

    def grow_to(self, size: int) -> None:
        """Grow linear memory to at least `size` bytes.

        Raises:
            ClocheError: the instance's limit of memory is smaller.
        """
        if size > self.size and core().grow(self._slot.handle.value, size):
            raise ClocheError(f"the snapshot needs {size} bytes of memory: raise Limits.memory_bytes")

    def words_at(self, address: int, count: int) -> tuple[int, ...]:
        """`count` 32-bit words at an address. For the image's own tables, in a guest that has never run.

        Raises:
            ProtocolError: they do not lie inside linear memory.
        """
        return struct.unpack_from(f"<{count}I", self.read(address, 4 * count, 4 * count))

    def close(self) -> None:
        """Drop the view of linear memory. Call it before the slot is freed: a read afterwards would be a SIGSEGV."""
        self._view = memoryview(b"")
