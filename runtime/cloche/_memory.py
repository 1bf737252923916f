"""Checked access to one guest's linear memory. No other module reads or writes it."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import wasmtime

from cloche import _ffi
from cloche.errors import ClocheError, EncodeError, InternalError, ProtocolError
from cloche_wire import abi

if TYPE_CHECKING:
    from collections.abc import Buffer  # type: ignore[attr-defined, unused-ignore]  # 3.12

__all__ = ["Memory", "NoRoomError"]

WASM_PAGE: Final = 65536
_PAGE: Final = mmap.PAGESIZE
_U32: Final = 0xFFFF_FFFF
# Flags of a page in the highest byte of its pagemap entry: 0x80 present, 0x40 swapped, 0x20 file-mapped.
_IS_DIRTY: Final = bytes(bool(flags & 0xC0 and not flags & 0x20) for flags in range(256))
_HEADER: Final = struct.Struct("<8I")
_EMPTY: Final = struct.pack("<5I", 0, 0, 0, 0, 0)  # head, used, records, dropped, reserved0
_RING_OFFSETS: Final = {name: 4 * index for index, name in enumerate(abi.RING_WORDS)}
_USED_WORD: Final = abi.RING_WORDS.index("used")
_DROPPED_WORD: Final = abi.RING_WORDS.index("dropped")


def address_of(view: memoryview) -> int:
    """Where a contiguous view lies in this process."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(view))
    except TypeError:  # read-only: ask what it is a view of
        interface = getattr(view.obj, "__array_interface__", None)
        return int(interface["data"][0]) if interface else 0


class NoRoomError(EncodeError):
    """The guest's allocator has no block of that size left."""


_pagemap = -1


def keep_pagemap() -> None:
    """Open the kernel's pagemap for good, in a process that is about to lose the right to open files, and never forks."""
    global _pagemap
    _pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)


def _read_pagemap(start: int, size: int) -> bytes:
    if _pagemap >= 0:
        return os.pread(_pagemap, size, start)
    with open("/proc/self/pagemap", "rb", buffering=0) as file:
        file.seek(start)
        return file.read(size)


class Memory:
    """The linear memory of one instance, and the guest's functions that hand out pieces of it and look at what lies there.

    The memory's address never changes (the engine reserves all that it may grow to), but its size does, so the view
    is made anew when something lies beyond it. After `close` nothing here can be used.
    """

    __slots__ = (
        "_alloc",
        "_base",
        "_check",
        "_free",
        "_memory",
        "_pinned",
        "_ring",
        "_ring_words",
        "_shared",
        "_size",
        "_store",
        "_view",
    )

    def __init__(
        self,
        store: wasmtime.Store,
        memory: wasmtime.Memory,
        ring: int,
        alloc: _ffi.Call,
        free: _ffi.Call,
        check: _ffi.Call,
    ) -> None:
        self._store = store
        self._memory = memory
        self._alloc = alloc
        self._free = free
        self._check = check
        self._base = _ffi.memory_base(store, memory)
        self._size = 0
        self._view = memoryview(b"")
        self._grown()
        self._shared: list[tuple[int, int]] = []
        self._pinned: dict[int, weakref.ref[Any]] = {}
        self._ring = ring
        if not 0 < ring <= self._size - abi.RING_HEADER_BYTES - abi.RING_CAPACITY:
            raise ProtocolError(f"the log ring at {ring} lies outside the memory of {self._size} bytes")
        self._ring_words = self._view[ring : ring + abi.RING_HEADER_BYTES].cast("I")

    @property
    def size(self) -> int:
        """Bytes that the guest's memory has now."""
        self._grown()
        return self._size

    def _grown(self) -> None:
        size = _ffi.memory_size(self._store, self._memory)
        if size != self._size:
            self._view = memoryview((ctypes.c_char * size).from_address(self._base)).cast("B")
            self._size = size

    def _range(self, address: int, length: int, limit: int) -> int:
        """Check a range that the guest named; its end."""
        end = address + length
        if not 0 <= length <= limit or not 0 < address <= _U32:
            raise ProtocolError(f"guest range [{address}, +{length}) refused (limit {limit})")
        if end > self._size:
            self._grown()
            if end > self._size:
                raise ProtocolError(f"guest range [{address}, +{length}) lies outside its {self._size} bytes")
        return end

    def read(self, address: int, length: int, limit: int) -> bytes:
        """Copy `length` bytes out.

        Raises:
            ProtocolError: they do not lie inside the memory, or are more than `limit`.
        """
        end = self._range(address, length, limit)
        # the range is checked: a memoryview slices like a list and would truncate silently
        return bytes(self._view[address:end])

    def check(self, address: int, length: int, nodes: int, depth: int) -> bool:
        """Have the guest's validator look at bytes of the guest: whether they are exactly one item of docs/wire.md's profile, and
        lie inside its memory. It is code that nothing in memory can change, so the answer can be trusted.

        Raises:
            Trapped: the guest was stopped meanwhile.
        """
        return bool(self._check.four(address, length, nodes, depth) & _U32)

    def view(self, address: int, length: int, limit: int) -> memoryview:
        """A view of guest bytes, to be copied before the guest runs again or the instance is closed."""
        end = self._range(address, length, limit)
        return self._view[address:end]

    def allocate(self, length: int) -> int:
        """Have the guest allocate `length` bytes.

        Raises:
            Trapped: the guest did not return.
            ProtocolError: it returned a block that lies outside its memory.
            NoRoomError: it has no such block left.
        """
        address = self._alloc(max(1, length)) & _U32
        if not address:
            raise NoRoomError(
                f"the guest has no {length} bytes left for this value, beside the {self.size} that it has: raise "
                "Limits.memory_bytes",
                limit="memory_bytes",
                reached=self.size + length,
            )
        self._range(address, length, length)
        return address

    def checked(self, address: int, length: int) -> int:
        """The address, if that many bytes lie there."""
        self._range(address, length, length)
        return address

    def free(self, address: int) -> None:
        """Give a block back to the guest's allocator."""
        self._free(address)

    def write(self, address: int, data: bytes) -> None:
        """Copy `data` in, to a block that `allocate` returned."""
        end = address + len(data)
        if end > self._size:
            raise InternalError(f"a write to [{address}, +{len(data)}) passes the memory's {self._size} bytes")
        self._view[address:end] = data

    def place(self, data: Buffer) -> int:
        """Copy a contiguous buffer into a block of its own, which then belongs to the guest; its address."""
        source = memoryview(data).cast("B")
        address = self.allocate(source.nbytes)
        self._view[address : address + source.nbytes] = source
        return address

    @property
    def has_records(self) -> bool:
        """Whether the log ring holds anything, or has dropped something. Costs a tenth of a microsecond."""
        words = self._ring_words
        return bool(words[_USED_WORD] or words[_DROPPED_WORD])

    def drain(self) -> tuple[list[bytes], int]:
        """Take all records out of the log ring. It works after a trap too.

        Returns:
            the records, oldest first, and how many the guest had overwritten or garbled.
        """
        start = self._ring
        _magic, _capacity, head, used, records, dropped, _, _ = _HEADER.unpack(
            self._view[start : start + abi.RING_HEADER_BYTES]
        )
        self._view[start + _RING_OFFSETS["head"] : start + _RING_OFFSETS["reserved1"]] = _EMPTY
        if used > abi.RING_CAPACITY or head >= abi.RING_CAPACITY:  # the guest has overwritten its own ring
            return [], dropped + max(1, min(records, abi.RING_CAPACITY))
        ring = self._view[start + abi.RING_HEADER_BYTES : start + abi.RING_HEADER_BYTES + abi.RING_CAPACITY]
        data = bytes(ring[head : head + used])
        data += bytes(ring[: used - len(data)])
        taken: list[bytes] = []
        at = 0
        while at + 4 <= used:
            length = int.from_bytes(data[at : at + 4], "little")
            if length > used - at - 4:
                return taken, dropped + 1
            taken.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        return taken, dropped

    def pin(self, address: int, length: int, limit: int) -> memoryview:
        """A read-only view that keeps the memory mapped for as long as it lives, also after `close`.

        What it shows changes as the guest runs on.
        """
        self._range(address, length, limit)
        return self._keep(address, length).toreadonly()

    def share(self, length: int) -> memoryview:
        """A writable view of a new block that is never freed, for host and guest to use together. Pins as `pin` does."""
        address = self.allocate(length)
        self._shared.append((self._base + address, length))
        return self._keep(address, length)

    def shared(self, view: memoryview) -> int:
        """The guest's address of a contiguous view, if it lies in a block that `share` made; else 0."""
        if not self._shared or not view.nbytes:
            return 0
        address = address_of(view)
        for start, length in self._shared:
            if start <= address and address + view.nbytes <= start + length:
                return address - self._base
        return 0

    def _keep(self, address: int, length: int) -> memoryview:
        array: Any = (ctypes.c_ubyte * length).from_address(self._base + address)
        array._store = self._store  # numpy does not keep the store alive, and reading after its end would be a SIGSEGV
        key, pinned = id(array), self._pinned
        pinned[key] = weakref.ref(array, lambda _: pinned.pop(key, None))
        return memoryview(array).cast("B")

    def stretches(self, reach: int = 0, *, unpinned: bool = False) -> list[tuple[int, int]]:
        """Where the memory lies in this process, for `Guard` to lock it: (address, bytes) of whole pages.

        Args:
            reach: how far, also beyond its present size; 0: as far as it goes now.
            unpinned: leave out the pages of views that live.
        """
        end = self._base + (reach or self.size)
        pinned = [view() for view in list(self._pinned.values())] if unpinned else []  # list: no collection in between
        holes = sorted((ctypes.addressof(view), ctypes.sizeof(view)) for view in pinned if view is not None)
        found, start = [], self._base
        for address, size in holes:
            if start < (stop := address & -_PAGE):
                found.append((start, stop - start))
            start = max(start, -(-(address + size) // _PAGE) * _PAGE)
        if start < end:
            found.append((start, end - start))
        return found

    @property
    def is_pinned(self) -> bool:
        """Whether a view of `pin` or `share` still lives."""
        return bool(self._pinned)

    def dirty_runs(self) -> list[tuple[int, int]]:
        """The stretches of pages that differ from the image, or may: (first page, number of pages).

        The image is mapped copy on write: a page that was written to has become anonymous memory, and the kernel's
        pagemap tells (Documentation/admin-guide/mm/pagemap.rst: bit 61 file-mapped, 62 swapped, 63 present).
        """
        self._grown()
        first, count = self._base // _PAGE, self._size // _PAGE
        flags = _read_pagemap(8 * first, 8 * count)[7::8]  # the highest byte of each little-endian entry
        marks = flags.translate(_IS_DIRTY)
        runs = []
        start = marks.find(1)  # four times as fast as a regular expression
        while start >= 0:
            end = marks.find(0, start)
            if end < 0:
                end = count
            runs.append((start, end - start))
            start = marks.find(1, end)
        return runs

    def reset(self, image: Memory) -> None:
        """Overwrite every page that this guest has written to with the image's.

        Args:
            image: the memory of an instance that has never run, of the same size.
        """
        view, source = self._view, image._view
        for first, count in self.dirty_runs():
            start, end = _PAGE * first, _PAGE * (first + count)
            view[start:end] = source[start:end]

    def save(self, runs: Iterable[tuple[int, int]]) -> bytes:
        """Copy stretches of pages out, one behind the other."""
        view = self._view
        return b"".join([view[_PAGE * first : _PAGE * (first + count)] for first, count in runs])

    def overwrite(self, runs: Iterable[tuple[int, int]], pages: bytes | memoryview) -> None:
        """Copy stretches of pages in. The memory has been grown to hold them."""
        self._grown()
        at, source = 0, memoryview(pages)
        for first, count in runs:
            start, length = _PAGE * first, _PAGE * count
            if start + length > self._size:
                raise InternalError(f"pages [{first}, +{count}) lie outside a memory of {self._size} bytes")
            self._view[start : start + length] = source[at : at + length]
            at += length

    def grow_to(self, size: int) -> None:
        """Grow to at least `size` bytes.

        Raises:
            ClocheError: the instance's memory limit is smaller.
        """
        self._grown()
        if size > self._size:
            try:
                self._memory.grow(self._store, -(-(size - self._size) // WASM_PAGE))
            except wasmtime.WasmtimeError as error:
                raise ClocheError(f"the snapshot needs {size} bytes of memory: raise Limits.memory_bytes") from error
            self._grown()

    def close(self) -> None:
        """Drop every view, before the store goes."""
        self._ring_words = self._view = memoryview(b"")
        self._size = 0
